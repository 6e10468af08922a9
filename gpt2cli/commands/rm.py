"""gpt2 rm: remove models from this machine."""

from gpt2cli import options as o
from gpt2cli import terminal
from gpt2cli.errors import UnknownModel, UsageError

# \b keeps the lines as they are
EXAMPLES = """\b
Examples:
  gpt2 rm gpt2
  gpt2 rm --downloads distilgpt2
"""


def rm(names: o.Names, downloads: o.Downloads = False, as_json: o.Json = False, quiet: o.Quiet = False) -> int:
    """Remove exports of models, and with --downloads the rest."""
    from gpt2cli import exports, hubcache, store

    note = (lambda text: None) if quiet else terminal.note
    rows = []
    for name in names:
        source = store.resolve(name)
        if source.revision is not None:
            raise UsageError(f"'{name}' is built in", "it goes with the program: pip uninstall gpt2cli")
        freed = 0
        with exports.lock(source.model, note):
            mine = [one for one in exports.cached() if one.model == source.model]
            if "@" in name and source.repository:
                commit = hubcache.snapshot(source.repository)
                mine = [one for one in mine if one.revision == (commit.name if commit else source.repository.revision)]
            here = [one for one in hubcache.downloaded() if source.repository and one.name == source.repository.name]
            if source.repository and ("@" in name or source.entry):
                here = [one for one in here if one.folder == hubcache.snapshot(source.repository)]
            if not mine and not (downloads and here):
                hint = f"its download is: gpt2 rm --downloads {name}" if here else "gpt2 list shows what is"
                raise UnknownModel(f"no export of '{name}' is on this machine", hint)
            for one in mine:
                exports.remove(one.folder)
                freed += one.nbytes
            if downloads and source.repository:
                freed += hubcache.remove(source.repository.name, [one.commit for one in here])
        rows.append({"name": name, "exports": len(mine), "downloads": len(here) if downloads else 0, "freed": freed})
        if not quiet and not as_json:
            terminal.say_out(f"{name}: {terminal.size_text(freed)} freed")
    if as_json:
        terminal.say_json(rows)
    return 0
