"""gpt2 pull: bring models to this machine."""

from typing import TYPE_CHECKING, Any

from gpt2cli.console import bars, terminal
from gpt2cli.console import options as o
from gpt2cli.errors import UserError

if TYPE_CHECKING:
    from gpt2cli.store.choice import Choice, Listener

# \b keeps the lines as they are
EXAMPLES = """\b
Examples:
  gpt2 pull gpt2
  gpt2 pull distilgpt2 owner/name@v1 --precision int8
  HF_TOKEN=... gpt2 pull owner/private
"""


def pull(
    names: o.Names,
    precision: o.Precision = "auto",
    source: o.Source = "auto",
    device: o.Device = "auto",
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> int:
    from gpt2cli import model
    from gpt2cli.store.choice import Choice, Listener

    choice = Choice(precision, source, device)
    model.why_not_cuda(choice)  # a choice that cannot be is told before anything is downloaded
    note = terminal.silent if quiet else terminal.note
    rows, code = [], 0
    with bars.progress(quiet=quiet) as update:
        listener = Listener(update, note, terminal.note)
        for name in names:
            try:
                rows.append(_pulled(name, choice, listener))
            except UserError as error:  # the others can still be had
                terminal.error(error.named(name), error.hint)
                code = code or error.exit_code
    if as_json:
        terminal.say_json(rows)
    elif not quiet:
        for row in rows:
            size = terminal.size_text(row["bytes"])
            terminal.say_out(f"{row['name']}: {row['precision']}, {size}, {row['folder']}")
    return code


def _pulled(name: str, choice: "Choice", listener: "Listener") -> dict[str, Any]:
    from gpt2cli import model
    from gpt2cli.store import builds, sources, store

    source = sources.resolve(name, listener.note)
    store.refresh(source, choice, listener)
    for one in builds.cached():
        if one.model == source.model and builds.damaged(one.folder, one.files):
            builds.remove(one.folder)
    runnable, why_cpu = model.prepare(source, choice, listener)
    chosen = model.self_test(runnable, "cpu" if why_cpu else "cuda")
    return {
        "name": name,
        "model": source.model,
        "revision": runnable.revision,
        "precision": chosen,
        "folder": str(runnable.place),
        "bytes": sum(path.stat().st_size for path in runnable.files()),
    }
