"""gpt2 prune: clear away what nobody needs."""

from typing import Any

from gpt2cli import options as o
from gpt2cli import terminal

HELP = "Remove stale exports, and what interrupted work left."
# \b keeps the lines as they are
EXAMPLES = """\b
Examples:
  gpt2 prune --dry-run
  gpt2 prune
"""


def prune(dry_run: o.DryRun = False, as_json: o.Json = False, quiet: o.Quiet = False) -> int:
    from gpt2cli import exports, hubcache

    rows: list[dict[str, Any]] = []
    for path in (*exports.leftovers(), *(one.folder for one in exports.cached() if one.stale)):
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        if dry_run or exports.sweep(path):
            rows.append({"path": str(path), "bytes": size})
    for path, name in hubcache.leftovers().items():
        with exports.unless_locked(hubcache.lock_path(name)) as free:
            if free:
                rows.append({"path": str(path), "bytes": path.stat().st_size})
                if not dry_run:
                    path.unlink()
    freed = sum(row["bytes"] for row in rows)
    if as_json:
        terminal.say_json({"dry_run": dry_run, "freed": freed, "removed": rows})
    elif not quiet:
        for row in rows:
            terminal.say_out(f"{terminal.size_text(row['bytes'])}  {row['path']}")
        terminal.say_out(f"{terminal.size_text(freed)} {'would be' if dry_run else ''} freed".replace("  ", " "))
    return 0
