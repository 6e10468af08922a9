"""gpt2 export: a model as a folder of ONNX, to run without this program."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from gpt2cli.console import bars, terminal
from gpt2cli.console import options as o
from gpt2cli.errors import UsageError

# \b keeps the lines as they are
EXAMPLES = """\b
Examples:
  gpt2 export gpt2 ./gpt2-onnx
  gpt2 export ./my-finetune ./small --precision int8
"""


def export(
    name: o.Name,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder that is not there yet.")],
    precision: o.Precision = "auto",
    offline: o.Offline = False,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> int:
    from gpt2cli import model, paths
    from gpt2cli.store import adapters, builds, sources, store
    from gpt2cli.store.choice import Choice, Listener

    paths.check_text(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"'{folder}' exists and is not an empty folder", "name a folder that is not there yet")
    choice = Choice(precision, "checkpoint", offline=offline)
    note = terminal.silent if quiet else terminal.note
    with bars.progress(quiet=quiet) as update:
        listener = Listener(update, note, terminal.note)
        checkpoint = store.located(sources.resolve(name, note), choice, listener)
        try:
            chosen, quality = builds.write(
                checkpoint,
                folder,
                listener,
                precision=precision,
                name=name,
                check=lambda part, passed: model.self_test(store.Runnable(part), passed=passed),
            )
        finally:
            adapters.discard(checkpoint)
    if quality and not quality.passed:
        what = "int8" if precision == "auto" else chosen
        note(f"{name}: {what} does not pass the quality gate: {quality}")
    size = sum(path.stat().st_size for path in folder.iterdir())
    measured = asdict(quality) if quality and chosen not in ("fp32", "fp16") else None
    if as_json:
        terminal.say_json(
            {"name": name, "precision": chosen, "folder": str(folder), "bytes": size, "quality": measured}
        )
    elif not quiet:
        terminal.say_out(f"{name}: {chosen}, {terminal.size_text(size)}, {Path(folder).resolve()}")
    return 0
