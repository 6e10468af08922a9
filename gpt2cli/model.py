"""load(name) -> Model: the only place that knows all the pieces."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from gpt2cli.engine.engine import Engine
from gpt2cli.engine.runtime import check_cuda
from gpt2cli.engine.scheduler import Scheduler
from gpt2cli.errors import CannotMeet, CorruptFile, UsageError
from gpt2cli.export.names import DEVICES
from gpt2cli.store import builds, sources, store
from gpt2cli.store.hub import Listing
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
    progress: builds.Progress | None = None,
    listener: store.Listener | None = None,
) -> Model:
    """Open a model by catalogue name, owner/name[@revision] on the hub, or folder; download and export it first where
    that has not been done.

    Without a name it is gpt2, or the built-in model where that is not downloaded and the hub cannot be reached.
    `source` "onnx" prefers a ready-made graph; `threads` 0 uses every core; `device` "auto" is CUDA where that works;
    `alternating` is for two models that run in turns. With `text` false a model without a tokenizer is opened too: its
    ids are its text.

    `progress(title, bytes done, in all)` is called while something is downloaded or exported. Without it a line is
    logged before (by the logger "gpt2cli"), as is what there is to note; a `listener` gets all that instead. Raises
    UserError."""
    _check(name, threads)
    listener = listener or _logging(progress)
    listing, note = None, listener.note
    if name is None:
        name, listing = store.default(precision, listener, offline=offline)
        note = store.SILENT.note
    found = sources.resolve(name, note)
    preparing = partial(prepare, found, precision, listener, prefer=source, offline=offline, listing=listing)
    opening = partial(_engine, threads=threads, alternating=alternating)
    runnable, why_cpu = preparing(device=device)
    with ThreadPoolExecutor(1) as pool:  # both load in native code, side by side
        text_side = pool.submit(_tokenizer, runnable, text)
        try:
            engine = opening(runnable, device="cpu" if why_cpu else "cuda")
        except CannotMeet as problem:
            if why_cpu or device == "cuda":
                raise
            runnable, _ = preparing(device="cpu")  # the GPU's memory is too small, or taken
            engine, why_cpu = opening(runnable, device="cpu"), problem.message
        return Model(
            name=name,
            revision=runnable.revision,
            folder=runnable.folder if runnable.graph is None else runnable.graph.parent,
            precision=engine.facts.precision,
            device="cpu" if why_cpu else "cuda",
            why_cpu=why_cpu,
            tokenizer=text_side.result(),
            engine=engine,
            scheduler=Scheduler(engine),
        )


def _check(name: object, threads: object) -> None:
    if name is not None and not isinstance(name, str):
        raise UsageError(f"`name` is {name!r}", "`name` must be a text: 'tiny', 'owner/name', or a folder's path")
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 0:
        raise UsageError(f"`threads` is {threads!r}", "`threads` must be a whole number; 0: every core")


def _logging(progress: builds.Progress | None) -> store.Listener:
    """A listener for those who have none."""
    import logging

    log, told = logging.getLogger("gpt2cli"), set[str]()

    def tell(title: str, done: int, total: int) -> None:
        if title not in told and done < total:
            told.add(title)
            # a warning, for it may take minutes: the others are not shown where nobody has asked for them
            log.warning("%s (%.1f MB)", title, total / 1e6)

    return store.Listener(progress or tell, log.info, log.warning)


def prepare(
    source: sources.Source,
    precision: str = "auto",
    listener: store.Listener = store.SILENT,
    *,
    prefer: str = "auto",
    device: str = "auto",
    offline: bool = False,
    listing: Listing | None = None,
) -> tuple[store.Runnable, str | None]:
    """What runs the model on the device, downloaded and exported where that has not been done; and why that is not
    CUDA, None where it is. Raises UserError."""
    ensure = partial(store.ensure, source, listener=listener, prefer=prefer, offline=offline, listing=listing)
    why_cpu = why_not_cuda(device, precision, prefer)
    if why_cpu is None:
        try:
            return ensure("fp16"), None
        except store.OnlyReadyMade:
            if precision == "fp16":
                raise
            why_cpu = READY_MADE
            if device == "cuda":
                raise CannotMeet(f"'{source.name}' has no checkpoint, and {READY_MADE}", "use --device cpu") from None
    return ensure(precision), why_cpu


def why_not_cuda(device: str, precision: str = "auto", prefer: str = "auto") -> str | None:
    """What speaks against CUDA; None where it can be used. Raises UsageError and CannotMeet where it was asked for."""
    if device not in DEVICES:
        raise UsageError(f"no device '{device}'", f"choose {', '.join(DEVICES[:-1])} or {DEVICES[-1]}")
    if device == "cpu":
        return "it was asked for"
    try:
        if precision not in ("auto", "fp16"):
            raise CannotMeet(f"CUDA runs fp16, not {precision}", "leave out --precision, or use --device cpu")
        if prefer == "onnx":
            raise CannotMeet(READY_MADE, "leave out --source onnx, or use --device cpu")
        check_cuda()
    except CannotMeet as problem:
        if device == "cuda":
            raise
        return problem.message
    return None


def _tokenizer(runnable: store.Runnable, text: bool) -> Tokenizer:
    folder = runnable.folder
    if runnable.graph and not files.present(folder):
        folder = runnable.graph.parent
    return Tokenizer(folder) if text or files.present(folder) else IdsAsText()


# Tokens need no meaning to be computed: these are spread over any vocabulary by a fixed rule.
_TEST_TOKENS = 12
# Rounding of activations moves int8 logits by a few hundredths of their spread, anything broken by all of it.
_TOLERANCE = {"fp32": 1e-3, "int8": 0.3, "int4": 0.3, "fp16": 0.05}


def self_test(runnable: store.Runnable, device: str = "cpu") -> str:
    """Open the tokenizer, where there is one; run a few tokens through the engine and compare with NumPy's result from
    the stored weights (of a ready-made graph: that it says anything); returns the precision. Raises CorruptFile."""
    _tokenizer(runnable, text=False)
    engine = _engine(runnable, threads=0, device=device)
    count = min(_TEST_TOKENS, engine.window)
    ids = [(7919 * number + 13) % engine.vocabulary for number in range(count)]
    logits = engine.feed([ids])[0].astype(np.float64)
    name, precision = runnable.graph or runnable.folder, engine.facts.precision
    del engine  # the reference needs memory too
    if logits.std() == 0:
        raise CorruptFile(f"the self-test of {name} failed: every token gets the same logit", "use another export")
    if runnable.graph is None:
        from gpt2cli.export import reference  # imports safetensors, which a cached model does not need
        from gpt2cli.export.checkpoint import Checkpoint

        expected = reference.logits(Checkpoint(runnable.folder), ids)
        error = float(np.sqrt(((logits - expected) ** 2).mean()) / expected.std())
        if not error < _TOLERANCE[precision]:
            raise CorruptFile(
                f"the self-test of {name} failed: its logits differ from the weights' by {error:.0%}",
                "gpt2 rm and gpt2 pull make it anew; if that does not help, report it with your processor's name",
            )
    return precision


def _engine(runnable: store.Runnable, *, threads: int, device: str = "cpu", alternating: bool = False) -> Engine:
    if runnable.graph is None:
        return Engine(runnable.folder, threads=threads, device=device, alternating=alternating)
    from gpt2cli.engine.readymade import (
        ReadyEngine,  # with the readers of checkpoints: 14 ms that an export does not pay
    )

    return ReadyEngine(runnable.graph, runnable.folder, threads=threads, alternating=alternating)
