"""load(name) -> Model: the only place that knows all the pieces."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from gpt2cli.engine.engine import Engine
from gpt2cli.engine.runtime import check_cuda, crowded
from gpt2cli.engine.scheduler import Scheduler
from gpt2cli.errors import CannotMeet, CorruptFile, UsageError
from gpt2cli.store import store
from gpt2cli.store.choice import AUTO, SILENT, Choice, Listener, Progress
from gpt2cli.store.sources import Source
from gpt2cli.tokenizer import files
from gpt2cli.tokenizer.tokenizer import IdsAsText, Tokenizer

READY_MADE = "ready-made graphs run on the CPU"


@dataclass(frozen=True)
class Model:
    """A tokenizer and an engine that belong together, and where they came from. Safe to share between threads: what
    wants the engine asks the scheduler."""

    name: str
    revision: str | None  # None for a local folder
    folder: Path
    precision: str
    device: str  # cpu or cuda
    why_cpu: str | None  # what kept it from CUDA, where that was not excluded
    tokenizer: Tokenizer
    engine: Engine
    scheduler: Scheduler
    source: Source
    runnable: store.Runnable

    def plain(self) -> dict[str, str | None]:
        """Which model it is, for JSON."""
        return {"model": self.name, "revision": self.revision, "precision": self.precision, "device": self.device}

    @property
    def ends(self) -> tuple[int, ...]:
        """The tokens that end a text: generation_config.json's or config.json's, else the one named <|endoftext|>."""
        named = () if self.tokenizer.end is None else (self.tokenizer.end,)
        # some tokenizers have more ids than their model, and some graphs fewer than their config.json says
        return tuple(token for token in self.engine.facts.ends or named if token < self.engine.vocabulary)

    @property
    def start(self) -> int | None:
        """The token that stands before a text: the same files' bos_token_id, else an end token, which in GPT-2's own
        training separates texts."""
        start = self.engine.facts.start
        if start is not None and start < self.engine.vocabulary:
            return start
        return next(iter(self.ends), None)


# nine parameters: whoever writes Python names each by itself, and help() shows them
def load(
    name: str | None = None,
    *,
    precision: str = "auto",
    source: str = "auto",
    threads: int = 0,
    text: bool = True,
    offline: bool = False,
    device: str = "auto",
    alternating: bool = False,
    progress: Progress | None = None,
) -> Model:
    """Open a model by catalogue name, owner/name[@revision] on the hub, or folder; download and export it first where
    that has not been done.

    Without a name it is gpt2, or the built-in model where that is not downloaded and the hub cannot be reached.
    `source` "onnx" prefers a ready-made graph; `threads` 0 uses every core; `device` "auto" is CUDA where that works;
    `alternating` is for two models that run in turns. With `text` false a model without a tokenizer is opened too: its
    ids are its text.

    `progress(title, bytes done, in all)` is called while something is downloaded or exported. Without it a line is
    logged before (by the logger "gpt2cli"), as is what there is to note. Raises UserError."""
    if name is not None and not isinstance(name, str):
        raise UsageError(f"`name` is {name!r}", "`name` must be a text: 'tiny', 'owner/name', or a folder's path")
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 0:
        raise UsageError(f"`threads` is {threads!r}", "`threads` must be a whole number; 0: every core")
    choice = Choice(precision, source, device, offline)
    return open_model(name, choice, logged(progress), threads=threads, text=text, alternating=alternating)


def open_model(
    name: str | None,
    choice: Choice,
    listener: Listener,
    *,
    threads: int,
    text: bool,
    alternating: bool,
    meanwhile: Callable[[], object] | None = None,
) -> Model:
    """What `load` does, for those who have the choice and the listener; and something to do meanwhile, in a thread."""
    source = store.find(name, choice, listener)
    runnable, why_cpu = prepare(source, choice, listener)
    beside = crowded(threads)  # before a thread of ours would count as another's
    opening = partial(_engine, threads=threads, alternating=alternating, beside=beside)
    with ThreadPoolExecutor(1) as pool:  # a session is opened in native code, beside Python
        text_side = pool.submit(_beside, runnable, text, meanwhile)
        try:
            engine = opening(runnable, device="cpu" if why_cpu else "cuda")
        except CannotMeet as problem:
            if why_cpu or choice.device == "cuda":
                raise
            # the GPU's memory is too small, or taken
            runnable, _ = prepare(source, replace(choice, device="cpu"), listener)
            engine, why_cpu = opening(runnable, device="cpu"), problem.message
        return Model(
            name=source.name,
            revision=runnable.revision,
            folder=runnable.place,
            precision=engine.facts.precision,
            device="cpu" if why_cpu else "cuda",
            why_cpu=why_cpu,
            tokenizer=text_side.result(),
            engine=engine,
            scheduler=Scheduler(engine),
            source=source,
            runnable=runnable,
        )


def same_vocabulary(first: Model, second: Model) -> bool:
    """Whether the two mean the same by a token."""
    same = first.engine.vocabulary == second.engine.vocabulary
    if same and not any(isinstance(model.tokenizer, IdsAsText) for model in (first, second)):
        # what the ids mean, not how text becomes ids: one of the two may put a space before it
        ids = second.tokenizer.encode("The cat's 7 naïve\n\tdogs  — context: “nothing”.")
        same = list(map(first.tokenizer.bytes_of, ids)) == list(map(second.tokenizer.bytes_of, ids))
    return same


def logged(progress: Progress | None) -> Listener:
    """A listener for those who have none."""
    import logging

    log, told = logging.getLogger("gpt2cli"), set[str]()

    def tell(title: str, done: int, total: int) -> None:
        if title not in told and done < total:
            told.add(title)
            # a warning, for it may take minutes: the others are not shown where nobody has asked for them
            log.warning("%s (%.1f MB)", title, total / 1e6)

    return Listener(progress or tell, log.info, log.warning)


def prepare(source: Source, choice: Choice = AUTO, listener: Listener = SILENT) -> tuple[store.Runnable, str | None]:
    """What runs the model on the device, downloaded and exported where that has not been done; and why that is not
    CUDA, None where it is. Raises UserError."""
    why_cpu = why_not_cuda(choice)
    if why_cpu is None:
        try:
            return store.ensure(source, replace(choice, precision="fp16"), listener), None
        except store.OnlyReadyMade:
            if choice.precision == "fp16":
                raise
            why_cpu = READY_MADE
            if choice.device == "cuda":
                raise CannotMeet(f"'{source.name}' has no checkpoint, and {READY_MADE}", "use `device` cpu") from None
    return store.ensure(source, choice, listener), why_cpu


def why_not_cuda(choice: Choice) -> str | None:
    """What speaks against CUDA; None where it can be used. Raises CannotMeet where it was asked for."""
    if choice.device == "cpu":
        return "it was asked for"
    try:
        if choice.precision not in ("auto", "fp16"):
            raise CannotMeet(f"CUDA runs fp16, not {choice.precision}", "leave out `precision`, or use `device` cpu")
        if choice.prefer == "onnx":
            raise CannotMeet(READY_MADE, "leave out `source` onnx, or use `device` cpu")
        check_cuda()
    except CannotMeet as problem:
        if choice.device == "cuda":
            raise
        return problem.message
    return None


def _beside(runnable: store.Runnable, text: bool, meanwhile: Callable[[], object] | None) -> Tokenizer:
    """The tokenizer last: its library lets no other thread run while it reads, and the session is under way then."""
    if meanwhile:
        meanwhile()
    return _tokenizer(runnable, text)


def _tokenizer(runnable: store.Runnable, text: bool) -> Tokenizer:
    folder = runnable.tokenizer
    return Tokenizer(folder) if text or files.present(folder) else IdsAsText()


_TEST_TOKENS = 12
# Of the logits' spread. Where the gate passed, rounding of activations moves them by some hundredths of it, anything
# broken by all of it; where the gate did not pass, by any amount.
_TOLERANCE = {"fp32": 1e-3, "int8": 0.3, "int4": 0.3, "fp16": 0.05}
_UNMEASURED = _TOLERANCE | {"int8": 1.0, "int4": 1.0}
_NOTHING = 0.01  # nats: of so little between logits no text can tell


def self_test(runnable: store.Runnable, device: str = "cpu", *, passed: bool | None = None) -> str:
    """Open the tokenizer, where there is one; run a few tokens through the engine and compare with NumPy's result from
    the stored weights (of a ready-made graph: that it says anything); returns the precision. `passed`: what the gate
    said, where the export's record does not; None where it was not asked. Raises CorruptFile."""
    _tokenizer(runnable, text=False)
    engine = _engine(runnable, threads=0, device=device)
    ids = engine.any_ids(min(_TEST_TOKENS, engine.window))
    logits = engine.feed([ids])[0].astype(np.float64)
    name, precision = runnable.graph or runnable.folder, engine.facts.precision
    del engine  # the reference needs memory too
    if runnable.graph is not None:
        if logits.std() == 0:
            raise CorruptFile(f"the self-test of {name} failed: every token gets the same logit", "use another export")
        return precision
    passed = store.passed(runnable) if passed is None else passed
    if passed is not False or precision not in ("int8", "int4"):
        from gpt2cli.export import reference  # imports safetensors, which a cached model does not need
        from gpt2cli.export.checkpoint import Checkpoint

        with np.errstate(all="ignore"):
            expected = reference.logits(Checkpoint(runnable.folder), ids).astype(np.float64)
            error = float((logits - expected).std())  # what all have in common says nothing
            spread = max(float(expected.std()), _NOTHING)
        if not error <= (_UNMEASURED if passed is None else _TOLERANCE)[precision] * spread:
            part = f" by {error / spread:.0%} of their spread" if np.isfinite(error / spread) else ""
            raise CorruptFile(
                f"the self-test of {name} failed: its logits differ from the weights'{part}",
                "gpt2 rm and gpt2 pull make it anew; if that does not help, report it with your processor's name",
            )
    return precision


def _engine(
    runnable: store.Runnable,
    *,
    threads: int,
    device: str = "cpu",
    alternating: bool = False,
    beside: bool | None = None,
) -> Engine:
    if runnable.graph is None:
        return Engine(runnable.folder, threads=threads, device=device, alternating=alternating, beside=beside)
    from gpt2cli.engine.readymade import (
        ReadyEngine,  # with the readers of checkpoints: 14 ms that an export does not pay
    )

    return ReadyEngine(runnable.graph, runnable.folder, threads=threads, alternating=alternating, beside=beside)
