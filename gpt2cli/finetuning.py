"""finetune(...): a model learns texts. For whoever writes Python; needs PyTorch, which comes with the extra `train`."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt2cli.errors import StorageError, UsageError

if TYPE_CHECKING:
    from gpt2cli.training.recipe import Shape
    from gpt2cli.training.run import Event


def finetune(
    sources: str | Path | Iterable[str | Path],
    output: str | Path,
    model: str | None = None,
    *,
    validation: str | Path | None = None,
    shape: "Shape | None" = None,
    resume: bool = False,
    device: str = "auto",
    **wishes: Any,
) -> "Iterator[Event]":
    """Let a model learn the texts of files and folders; yields what happens: steps, losses, samples, the end.

    `output` is a name, or with a slash a folder: what `load` takes afterwards. With a `shape` a new model is made.
    `validation` is a file to measure the loss on instead of the last 5 % of the texts. `wishes` are the fields of
    `gpt2cli.training.recipe.Wishes`: steps, epochs, minutes, rate, batch, lora and others; what is left out follows
    from the sizes of texts and model. With `resume` a run that is in `output` goes on as it was begun, exactly as if
    it had not been cut; closing the iterator saves it.

    Raises UserError."""
    check_torch()
    from gpt2cli.training import start
    from gpt2cli.training.folder import Folder
    from gpt2cli.training.recipe import Shape, Wishes

    folder, asked = Folder(place(str(output))), Wishes(**wishes)

    def begin() -> None:
        paths = [sources] if isinstance(sources, str | Path) else sources
        name, base = ("", None) if shape else _base(model)
        begin_run(
            folder,
            start.Asked(
                sources=tuple(map(Path, paths)),
                base=base,
                base_name=name,
                shape=shape or Shape(),
                validation=None if validation is None else Path(validation),
                wishes=asked,
                device=device,
            ),
        )

    with folder.entered(begin, resume=resume):
        run, _ = start.opened(folder)
        try:
            yield from run.events()
        finally:  # also where the iterator is closed
            if run.open:
                run.save()


def begin_run(folder: Any, asked: Any, *more: Any) -> None:
    """training.start.begin; a base that was merged from an adapter for it goes."""
    from gpt2cli.store import adapters
    from gpt2cli.training import start

    try:
        start.begin(folder, asked, *more)
    finally:
        if asked.base:
            adapters.discard(asked.base)


def place(output: str) -> Path:
    """The folder that is meant by a name, or by a path, which has a slash. Raises UsageError and StorageError."""
    from gpt2cli import paths
    from gpt2cli.store import own

    if "/" not in output and "\\" not in output:
        return own.place(output)
    folder = paths.user_path(output)
    if output.startswith("~") and str(folder).startswith("~"):
        raise StorageError(f"'{output}': there is no such home folder", "name the path from the root")
    paths.check_text(folder)
    return folder


def check_torch() -> None:
    """Raises UsageError where PyTorch is missing."""
    from importlib.util import find_spec

    if find_spec("torch") is None:
        raise UsageError("PyTorch is not installed, and nothing else here can train", "pip install 'gpt2cli[train]'")


def _base(model: str | None) -> tuple[str, Path]:
    from gpt2cli.model import logged
    from gpt2cli.store.choice import Choice

    return located(model, Choice(prefer="checkpoint"), logged(None))


def located(model: str | None, choice: Any, listener: Any) -> tuple[str, Path]:
    """(how the card calls a model that is learnt from, the folder of its checkpoint). Raises UserError."""
    from gpt2cli.export.export import notes
    from gpt2cli.store import own, store

    source = store.find(model, choice, listener)
    folder = source.folder if source.entry is None and own.find(source.name) != source.folder else None
    checkpoint = store.located(source, choice, listener)
    for text in notes(checkpoint):
        listener.note(f"{source.name}: {text}")
    return str(folder.resolve()) if folder else source.name, checkpoint
