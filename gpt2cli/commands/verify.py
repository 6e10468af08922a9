"""gpt2 verify: are the models on this machine what they were?"""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from gpt2cli.console import choices, terminal
from gpt2cli.console import options as o
from gpt2cli.errors import CorruptFile, UnknownModel, UserError

# \b keeps the lines as they are
EXAMPLES = """\b
Examples:
  gpt2 verify
  gpt2 verify gpt2 || gpt2 pull gpt2
"""


_REINSTALL = "reinstall gpt2cli: pip install --force-reinstall --no-deps gpt2cli"
_EXPORT = "make it again: gpt2 export MODEL FOLDER"


def verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...", help="Models. Default: all.", autocompletion=choices.models, show_default=False
        ),
    ] = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> int:
    rows = _rows(names or [], terminal.silent if quiet else terminal.note)
    for row in rows:
        if row["problem"] and not as_json:
            terminal.error(row["problem"], row["hint"])
        elif not quiet and not as_json:
            terminal.say_out(f"{row['name']}: {row['what']} is sound  {row['folder']}")
    if as_json:
        terminal.say_json(rows)
    return CorruptFile.exit_code if any(row["problem"] for row in rows) else 0


def _rows(names: list[str], note: Callable[[str], None]) -> list[dict[str, Any]]:
    from gpt2cli import model
    from gpt2cli.store import builds, catalog, hubcache, sources, store

    rows = []

    def checked(name: str, what: str, folder: Path, problem: str, hint: str = "") -> None:
        hint = (hint or f"gpt2 pull '{name}' mends it") if problem else ""
        rows.append({"name": name, "what": what, "folder": str(folder), "problem": problem, "hint": hint})

    def check_download(name: str, one: hubcache.Downloaded) -> None:
        problem = _damage(one.folder, [path.name for path in hubcache.damaged(one.folder)])
        if not problem and not sources.whole(one.folder):
            problem = f"the download in {one.folder} is incomplete"
        checked(name, f"the download at {one.commit[:12]}", one.folder, problem)

    def check_folder(name: str, what: str, folder: Path, problem: str = "", hint: str = "") -> None:
        if not problem:
            try:
                model.self_test(store.Runnable(folder))
            except UserError as error:
                problem, hint = error.message, hint or error.hint
        checked(name, what, folder, problem, hint)

    def check_built_in(entry: catalog.Entry) -> None:
        assert entry.folder is not None
        wrong = builds.damaged(entry.folder, {name: asdict(facts) for name, facts in entry.files.items()})
        check_folder(entry.name, "the built-in model", entry.folder, _damage(entry.folder, wrong), _REINSTALL)

    def check_export(name: str, one: builds.Export) -> None:
        if not one.files:  # there is but a record
            return
        problem = _damage(one.folder, builds.damaged(one.folder, one.files))
        if one.stale:  # nobody will run it
            checked(name, f"the outdated {one.precision} export", one.folder, problem)
        else:
            check_folder(name, f"the {one.precision} export", one.folder, problem)

    for name in names:
        source = sources.resolve(name, note)
        before = len(rows)
        if source.folder and (own := builds.own_precision(source.folder)):
            if source.entry:
                check_built_in(source.entry)
            else:
                check_folder(name, f"the {own} export", source.folder, hint=_EXPORT)
        for repository in sources.repositories(source):
            asked = source.repository and hubcache.snapshot(hubcache.Repository(repository, source.repository.revision))
            for one in hubcache.downloaded():
                if one.name == repository and ("@" not in name or one.folder == asked):
                    check_download(name, one)
        for export in builds.cached():
            of_revision = "@" not in name or not source.repository or source.repository.revision == export.branch
            if export.model == source.model and of_revision:
                check_export(name, export)
        if len(rows) == before:
            what = "no export" if source.folder else "nothing"
            raise UnknownModel(f"{what} of '{name}' is on this machine", f"gpt2 pull {name}")
    if not names:
        for one in hubcache.downloaded():
            check_download(one.name, one)
        for export in builds.cached():
            check_export(export.model, export)
        check_built_in(catalog.find(catalog.BUILT_IN))
    return rows


def _damage(folder: Path, names: list[str]) -> str:
    return f"{', '.join(names)} in {folder} is damaged" if names else ""
