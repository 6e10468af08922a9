"""gpt2 prune: clear away what nobody needs."""

from pathlib import Path
from typing import Annotated, Any

import typer

from gpt2cli.console import options as o
from gpt2cli.console import terminal
from gpt2cli.errors import UserError

# \b keeps the lines as they are
EXAMPLES = """\b
Examples:
  gpt2 prune --dry-run
  gpt2 prune
"""


def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")] = False,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> int:
    from gpt2cli.store import builds, hubcache

    rows: list[dict[str, Any]] = []
    code = 0
    folders = (*builds.leftovers(), *(one.folder for one in builds.cached() if one.stale))
    for path, lock in (*((folder, None) for folder in folders), *hubcache.leftovers().items()):
        files = [path] if lock else path.rglob("*")
        size = sum(file.stat().st_size for file in files if file.is_file())
        try:
            if _swept(path, lock, dry_run=dry_run):
                rows.append({"path": str(path), "bytes": size})
        except UserError as error:  # the others can still go
            terminal.error(error.message, error.hint)
            code = code or error.exit_code
    freed = sum(row["bytes"] for row in rows)
    if as_json:
        terminal.say_json({"dry_run": dry_run, "freed": freed, "removed": rows})
    elif not quiet:
        for row in rows:
            terminal.say_out(f"{terminal.size_text(row['bytes'])}  {row['path']}")
        terminal.say_out(f"{terminal.size_text(freed)} {'would be' if dry_run else ''} freed".replace("  ", " "))
    return code


def _swept(path: Path, lock: Path | None, *, dry_run: bool) -> bool:
    """Whether a leftover is gone, or would be: of an export, or of a download, which has a lock. Raises
    StorageError."""
    from gpt2cli import paths
    from gpt2cli.store import builds, locks

    if lock is None:
        return dry_run or builds.sweep(path)
    with locks.unless_held(lock) as free:
        if free and not dry_run:
            try:
                path.unlink()
            except OSError as error:
                raise paths.undeletable(path, error) from None
        return free
