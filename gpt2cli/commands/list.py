"""gpt2 list: the models there are."""

import builtins
from pathlib import Path
from typing import Annotated, Any

import typer

from gpt2cli import paths
from gpt2cli.console import options as o
from gpt2cli.console import settings, terminal
from gpt2cli.console.groups import given
from gpt2cli.errors import Homeless, UsageError

Rows = list[dict[str, Any]]

# \b keeps the lines as they are
EXAMPLES = """\b
Examples:
  gpt2 list
  gpt2 list --json | jq -r '.[] | select(.exports != []) | .name'
  gpt2 list --remote poetry
"""


def list(
    context: typer.Context,
    words: Annotated[
        builtins.list[str] | None,
        typer.Argument(metavar="[WORD]...", help="Only models with these words.", show_default=False),
    ] = None,
    remote: Annotated[bool, typer.Option("--remote", help="Search the hub for GPT-2 models.")] = False,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="With --remote: at most N models.")] = 20,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> int:
    if remote:
        return _search(" ".join(words or []), limit, as_json=as_json, quiet=quiet)
    if given(context, "limit"):
        raise UsageError("--limit is for a search on the hub", "add --remote, or leave it out")
    asked = [word.lower() for word in words or []]
    rows = [
        row
        for row in _rows(settings.model(context))
        if all(word in f"{row['name']} {row['description']}".lower() for word in asked)
    ]
    if as_json:
        terminal.say_json(rows)
    elif quiet:
        for row in rows:
            terminal.say_out(row["name"])
    elif rows:
        header = ("NAME", "PARAMETERS", "DOWNLOADED", "EXPORTED", "DESCRIPTION")
        terminal.say_table(header, [_cells(row) for row in rows], fold=True)
    else:
        terminal.note(f"nothing matches '{' '.join(asked)}'; on the hub: gpt2 list --remote {' '.join(asked)}")
    return 0


def _rows(chosen: str | None) -> Rows:
    """All models; the one that answers where a command names none is `chosen`, or else the program's own default."""
    from gpt2cli.store import builds, catalog, hubcache, own, sources, store

    rows: dict[str, dict[str, Any]] = {}
    entries = [catalog.find(name) for name in catalog.names()]
    aliases = {entry.name: entry.repository for entry in entries if entry.repository}
    for entry in entries:
        rows[entry.repository or entry.name] = {
            "name": entry.name,
            "repository": entry.repository,
            "description": entry.description,
            "parameters": entry.parameters,
            "bytes": entry.download,
            "built_in": entry.repository is None,
            "trained": False,
            "downloads": [],
            "exports": [],
        }

    def row(model: str) -> dict[str, Any]:
        model = aliases.get(model, model)  # the short names that transformers knows
        empty: dict[str, Any] = {
            "description": "",
            "parameters": None,
            "bytes": None,
            "built_in": False,
            "trained": False,
            "downloads": [],
            "exports": [],
        }
        repository = None if builds.is_folder(model) else model
        return rows.setdefault(model, {"name": model, "repository": repository} | empty)

    for name in own.names():
        key = str((paths.models() / name).resolve())
        row(key)["name"] = name
        rows[key] |= own.facts(name)
    for one in hubcache.downloaded():
        row(one.name)["downloads"].append(
            {
                "revision": one.commit,
                "bytes": one.nbytes,
                "folder": str(one.folder),
                "complete": sources.whole(one.folder),
            }
        )
    for export in builds.cached():
        row(export.model)["exports"].append(
            {
                "precision": export.precision,
                "revision": export.revision,
                "bytes": export.nbytes,
                "folder": str(export.folder),
                "stale": export.stale,
            }
        )
    named = store.DEFAULT if chosen is None else str(Path(chosen).resolve()) if builds.is_folder(chosen) else chosen
    for key, facts in rows.items():
        facts["default"] = named in (facts["name"], key)
    return sorted(rows.values(), key=lambda row: (row["parameters"] is None, row["parameters"], row["name"]))


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    millions = f"{row['parameters'] / 1e6:,.0f}M" if row["parameters"] else ""
    downloaded = ", ".join(
        f"{terminal.size_text(one['bytes'])}{'' if one['complete'] else ' (incomplete)'}" for one in row["downloads"]
    )
    kept = [one for one in row["exports"] if one["bytes"]]
    exported = ", ".join(f"{one['precision']}{' (stale)' if one['stale'] else ''}" for one in kept)
    if exported:
        exported += f": {terminal.size_text(sum(one['bytes'] for one in kept))}"
    size = terminal.size_text(row["bytes"]) if row["bytes"] else ""
    if not downloaded and size:
        here = "built in" if row["built_in"] else "made here" if row["trained"] else ""
        downloaded = f"{here}, {size}" if here else f"no ({size})"
    name = f"{_short(row['name'])}{' (default)' if row['default'] else ''}"
    return name, millions, downloaded, exported, row["description"]


def _short(name: str) -> str:
    """A folder below the home with ~."""
    try:
        return str(Path("~") / Path(name).relative_to(paths.home()))
    except (ValueError, Homeless):  # no folder, or elsewhere; nobody's home
        return name


def _search(words: str, limit: int, *, as_json: bool, quiet: bool) -> int:
    from gpt2cli.store import hub

    found = hub.search(words, limit)
    if as_json:
        terminal.say_json([{"name": one.name, "downloads": one.downloads, "gated": one.gated} for one in found])
    elif quiet:
        for one in found:
            terminal.say_out(one.name)
    elif not found:
        terminal.note(f"nothing on the hub matches '{words}'")
    else:
        rows = [(one.name, f"{one.downloads:,}", "gated" if one.gated else "") for one in found]
        terminal.say_table(("NAME", "DOWNLOADS A MONTH", ""), rows)
    return 0
