"""gpt2 rm: remove models from this machine."""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from gpt2cli.console import options as o
from gpt2cli.console import terminal
from gpt2cli.errors import UnknownModel, UsageError, UserError

# \b keeps the lines as they are
EXAMPLES = """\b
Examples:
  gpt2 rm gpt2
  gpt2 rm --downloads distilgpt2
"""


def rm(
    names: o.Names,
    downloads: Annotated[bool, typer.Option("--downloads", help="Remove the downloaded files too.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove models that were trained here unasked.")] = False,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> int:
    note = terminal.silent if quiet else terminal.note
    rows, code = [], 0
    for name in names:
        try:
            row = _removed(name, note, downloads=downloads, yes=yes)
        except UserError as error:  # the others can still go
            terminal.error(error.named(name), error.hint)
            code = code or error.exit_code
            continue
        rows.append(row)
        if not quiet and not as_json:
            terminal.say_out(f"{name}: {terminal.size_text(row['freed'])} freed")
    if as_json:
        terminal.say_json(rows)
    return code


def _removed(name: str, note: Callable[[str], None], *, downloads: bool, yes: bool) -> dict[str, Any]:
    from gpt2cli import paths
    from gpt2cli.store import builds, hubcache, locks, own, sources

    trained = own.begun(name)
    source = sources.Source(name, trained) if trained else sources.resolve(name, note)
    if trained:
        _check_idle(trained)
        if not yes:
            _ask(name)
    known = sources.repositories(source)
    for repository in known if downloads else ():
        hubcache.check_readable(repository)
    with ExitStack() as stack:
        stack.enter_context(locks.held(source.model, note))
        mine = [one for one in builds.cached() if one.model == source.model]
        if "@" in name and source.repository:
            commit = hubcache.snapshot(source.repository)
            mine = [one for one in mine if one.revision == (commit.name if commit else source.repository.revision)]
        here = [one for one in hubcache.downloaded() if one.name in known]
        if "@" in name and source.repository:
            revision = source.repository.revision
            snapshots = [hubcache.snapshot(hubcache.Repository(repository, revision)) for repository in known]
            here = [one for one in here if one.folder in snapshots]
        if not mine and source.revision is not None:
            raise UsageError(f"'{name}' is built in", "it goes with the program: pip uninstall gpt2cli")
        if not mine and not (downloads and here) and not trained:
            hint = f"its download is: gpt2 rm --downloads {name}" if here else "gpt2 list shows what is"
            raise UnknownModel(f"no export of '{name}' is on this machine", hint)
        here = here if downloads else []
        for repository in sorted({one.name for one in here}):
            stack.enter_context(locks.held(source.model, note, hubcache.lock_path(repository)))
        for one in mine:  # all or nothing
            paths.check_removable(one.folder)
        freed = own.remove(trained) if trained else 0
        freed += hubcache.remove(hubcache.Repository(one.name, one.commit) for one in here) if here else 0
        for one in mine:
            builds.remove(one.folder)
            freed += one.nbytes
    return {"name": name, "exports": len(mine), "downloads": len(here), "freed": freed}


def _check_idle(folder: Path) -> None:
    """Raises UsageError where a run is at work in it."""
    from gpt2cli.store import locks

    if not (lock := folder / "run" / "lock").exists():
        return
    with locks.unless_held(lock) as idle:
        if not idle:
            raise UsageError(f"'{folder.name}' is being trained", "end that with Ctrl-C first, or wait for it")


def _ask(name: str) -> None:
    """What was trained here cannot be had again. Raises UsageError where nobody says yes."""
    if sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty():
        terminal.tell(f"{name} was trained here, and cannot be had again. Remove it? [y/N]")
        if sys.stdin.readline().strip().lower() in ("y", "yes"):
            return
    raise UsageError(f"'{name}' was trained here, and cannot be had again", f"to remove it: gpt2 rm --yes {name}")
