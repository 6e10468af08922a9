"""gpt2 verify: are the models on this machine what they were?"""

from typing import Any

from gpt2cli import options as o
from gpt2cli import terminal
from gpt2cli.errors import CorruptFile, UnknownModel, UserError

# \b keeps the lines as they are
EXAMPLES = """\b
Examples:
  gpt2 verify
  gpt2 verify gpt2 || gpt2 pull gpt2
"""


def verify(names: o.OptionalNames = None, as_json: o.Json = False, quiet: o.Quiet = False) -> int:
    """Check downloads and exports: hashes, and a self-test."""
    rows = _rows(names or [])
    for row in rows:
        if row["problem"] and not as_json:
            terminal.error(row["problem"], f"gpt2 rm --downloads '{row['name']}' and gpt2 pull '{row['name']}' mend it")
        elif not quiet and not as_json:
            terminal.say_out(f"{row['name']}: {row['what']} is sound  {row['folder']}")
    if as_json:
        terminal.say_json(rows)
    return CorruptFile.exit_code if any(row["problem"] for row in rows) else 0


def _rows(names: list[str]) -> list[dict[str, Any]]:
    from gpt2cli import catalog, exports, hubcache, model, store

    sources = [store.resolve(name) for name in names]
    wanted = {source.model: source.name for source in sources}
    rows = []

    def checked(name: str, what: str, folder: object, problem: str) -> None:
        rows.append({"name": name, "what": what, "folder": str(folder), "problem": problem})

    for one in hubcache.downloaded():
        if not wanted or one.name in wanted:
            wrong = [path.name for path in hubcache.damaged(one.folder)]
            what = f"the download at {one.commit[:12]}"
            checked(wanted.get(one.name, one.name), what, one.folder, _damage(wrong, one.folder))
    for export in exports.cached():
        if not wanted or export.model in wanted:
            problem = _damage(exports.damaged(export), export.folder)
            if not problem and not export.stale:
                try:
                    model.self_test(store.Runnable(export.folder))
                except UserError as error:
                    problem = error.message
            checked(wanted.get(export.model, export.model), f"the {export.precision} export", export.folder, problem)
    built_in = store.resolve(catalog.BUILT_IN)
    if not wanted or built_in.model in wanted:
        assert built_in.folder is not None
        model.self_test(store.Runnable(built_in.folder))
        checked(built_in.name, "the built-in model", built_in.folder, "")
    missing = [source for source in sources if source.name not in {row["name"] for row in rows}]
    if missing:
        raise UnknownModel(f"nothing of '{missing[0].name}' is on this machine", f"gpt2 pull {missing[0].name}")
    return rows


def _damage(names: list[str], folder: object) -> str:
    return f"{', '.join(names)} in {folder} is damaged" if names else ""
