"""What --help prints: usage, a sentence and examples, then the options under their headings, the everyday ones above
the others. Of an option's names the short and the main one are shown."""

from collections.abc import Iterable, Mapping
from typing import Any

from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

WIDTH = 100  # columns at most; what is read in longer lines is read less well
_NAMES = 28  # columns for the names of an option
_WHOLE = "\0"  # a blank at which no line ends

Row = tuple[str, str]


class Command(TyperCommand):
    """A command with such a page."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]  # Typer's mark of what is required

    def format_help(self, ctx: Any, formatter: Any) -> None:
        _begin(self, ctx, formatter)
        _write_options(self, ctx, formatter)


class Group(TyperGroup):
    """A command with commands, and such a page."""

    lines: Mapping[str, str] = {}  # of commands that are not built for the page
    besides: Mapping[str, Iterable[str]] = {}  # commands of which the page has only the names, under these titles

    def format_help(self, ctx: Any, formatter: Any) -> None:
        _begin(self, ctx, formatter)
        named = {name for names in self.besides.values() for name in names}
        shown = [name for name in self.commands if name not in named]
        room = formatter.width - max(map(len, shown)) - 4
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, self.lines.get(name) or self.commands[name].get_short_help_str(room)) for name in shown]
            )
        if ctx.parent is not None:
            _write_options(self, ctx, formatter)
            return
        # in lines: all of it is to stand on a screen of 24, and their names say enough
        formatter.write_paragraph()
        for title, names in self.besides.items():
            formatter.write_text(f"{title}: {', '.join(names)}")
        formatter.write_text(f"Options: {'; '.join(map(_names, self.get_params(ctx)))}")


def _begin(command: Any, context: Any, formatter: Any) -> None:
    command.format_usage(context, formatter)
    command.format_help_text(context, formatter)
    command.format_epilog(context, formatter)


def _write_options(command: Any, context: Any, formatter: Any) -> None:
    """All in columns of the same width. --help is at the end, and has no heading to itself."""
    sections: dict[str, list[Any]] = {}
    *parameters, page = command.get_params(context)
    for parameter in parameters:
        sections.setdefault(getattr(parameter, "rich_help_panel", None) or "Options", []).append(parameter)
    sections.setdefault(list(sections)[-1] if sections else "Options", []).append(page)
    rows = {
        heading: [_row(one, context) for one in sorted(found, key=lambda one: 3 if one is page else _rank(one))]
        for heading, found in sections.items()
    }
    widest = max(len(names) for section in rows.values() for names, _ in section if len(names) <= _NAMES)
    for heading, section in rows.items():
        with formatter.section(heading):
            formatter.write_dl([(names.ljust(widest), meaning) for names, meaning in section], col_max=widest)
    formatter.buffer = [part.replace(_WHOLE, " ") for part in formatter.buffer]


def _rank(parameter: Any) -> int:
    """Arguments, then what is worth a letter, then the rest."""
    if isinstance(parameter, TyperArgument):
        return 0
    return 1 if _short(parameter) else 2


def _row(parameter: Any, context: Any) -> Row:
    if isinstance(parameter, TyperArgument):
        return parameter.make_metavar(context), parameter.help or ""
    return _names(parameter), _meaning(parameter)


def _short(option: Any) -> list[str]:
    return [name for name in option.opts if not name.startswith("--")][:1]


def _names(option: Any) -> str:
    names = ", ".join(_short(option) + [name for name in option.opts if name.startswith("--")][:1])
    names += "".join(f" / {name}" for name in option.secondary_opts[:1])
    return names if option.is_flag or not option.metavar else f"{names} {option.metavar}"


def _meaning(option: Any) -> str:
    """What it does, its default and its variable."""
    facts: list[str] = []
    if isinstance(option, TyperOption) and option.show_default and not option.is_flag:
        default = option.default
        facts.append(f"default: {default:g}" if isinstance(default, float) else f"default: {default}")
    if option.envvar:
        facts.append(str(option.envvar))
    known = f"[{', '.join(facts)}]".replace(" ", _WHOLE) if facts else ""
    return f"{option.help or ''} {known}".rstrip()
