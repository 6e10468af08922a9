"""What --help prints: examples first, then the options under their headings, the everyday ones above the others."""

from typing import Any

from typer.core import TyperCommand, TyperOption

WIDTH = 100  # columns at most


def write(command: TyperCommand, context: Any, formatter: Any) -> None:
    """The help page of a command into Typer's formatter."""
    command.format_usage(context, formatter)
    command.format_help_text(context, formatter)
    command.format_epilog(context, formatter)
    sections: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(context):
        heading = getattr(parameter, "rich_help_panel", None)
        if isinstance(parameter, TyperOption):
            record = _names(parameter), _meaning(parameter)
        else:
            record = parameter.get_help_record(context) or ("", "")
        sections.setdefault(heading or ("Options" if isinstance(parameter, TyperOption) else "Arguments"), []).append(record)
    for heading, rows in sections.items():
        with formatter.section(heading):
            formatter.write_dl(rows, col_max=28)


def _names(option: TyperOption) -> str:
    """Its short name and its own; others that it answers to are left to the documents."""
    short = [name for name in option.opts if not name.startswith("--")][:1]
    long = [f"--{option.name.replace('_', '-')}"] if option.name else []
    names = [*short, *(long if long[0] in option.opts else [name for name in option.opts if name.startswith("--")][:1])]
    names[-1] += "".join(f" / {name}" for name in option.secondary_opts[:1])
    return ", ".join(names) + (f" {option.metavar}" if option.metavar and not option.is_flag else "")


def _meaning(option: TyperOption) -> str:
    facts = []
    if option.show_default and option.default not in (None, "", [], False) and not option.is_flag:
        facts.append(f"default: {option.default}")
    if option.envvar:
        facts.append(str(option.envvar))
    return " ".join([option.help or "", *([f"[{'; '.join(facts)}]"] if facts else [])])
