"""A run from its beginning, or from where it was cut, to its end: what happens in it, as events."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from gpt2cli.training.documents import Corpus
from gpt2cli.training.folder import Folder
from gpt2cli.training.sampling import sample
from gpt2cli.training.training import Loss, Step, Training

_SAVED_EVERY = 60.0  # seconds, or twenty times as long as saving takes
_OVERFITS = 1.02  # times the best loss, while that of what is learnt still falls
_SAMPLE = 60  # tokens
DONE, PATIENCE, INTERRUPTED = "done", "patience", "interrupted"


@dataclass(frozen=True)
class Evaluated:
    """The loss on the texts that are not learnt from. `train` is the mean of the steps' since the one before."""

    step: int
    epochs: float
    tokens: int
    seconds: float
    train: float | None
    loss: Loss
    best: bool  # so far, and so it is kept
    overfits: bool = False  # for the first time

    def plain(self) -> dict[str, Any]:
        """As a line of metrics.jsonl."""
        return {
            "step": self.step,
            "epochs": round(self.epochs, 4),
            "tokens": self.tokens,
            "seconds": round(self.seconds, 3),
            "train": self.train,
            "validation": self.loss.mean,
            "perplexity": self.loss.perplexity,
            "bits_per_byte": self.loss.bits_per_byte,
        }


@dataclass(frozen=True)
class Sampled:
    """What the model says by now at the beginning of a text."""

    step: int
    text: str


@dataclass(frozen=True)
class Saved:
    """From here on a run that is cut goes on."""

    step: int


@dataclass(frozen=True)
class Ended:
    reason: str  # DONE, PATIENCE, INTERRUPTED
    step: int


Event = Evaluated | Step | Sampled | Saved | Ended


@dataclass
class Standing:
    """What a run remembers beside its weights, and a resumed one goes on with."""

    before: dict[str, Any] | None = None  # the first evaluation, of the model as it was
    best: dict[str, Any] | None = None
    mark: int = -1  # the last evaluation that was due
    without: int = 0  # evaluations since the best
    overfits: bool = False
    trains: list[float] = field(default_factory=list)  # the last two means of steps' losses
    nats: float = 0.0  # of the steps since the last evaluation
    steps: int = 0
    lines: int = 0  # of metrics.jsonl


class _Stopped(Exception):
    """In the middle of measuring."""


@dataclass(frozen=True)
class Texts:
    """What is not learnt from, and what is needed to measure it and to speak."""

    held: Corpus
    sizes: Any  # bytes of each token
    end: int
    decode: Callable[[list[int]], str]


class Run:
    """One run in its folder, whose lock the caller holds."""

    def __init__(
        self,
        folder: Folder,
        training: Training,
        texts: Texts,
        keep: Callable[[dict[str, Any]], None],
        *,
        samples: bool = True,
        told: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """`keep` saves the network as the best so far, with these figures; `told` hears how far measuring has come."""
        self.training, self.standing = training, Standing()
        self._folder, self._texts, self._keep = folder, texts, keep
        self._samples, self._told = samples, told
        self._stopping = False
        self._saved, self._every = time.monotonic(), _SAVED_EVERY

    @property
    def open(self) -> bool:
        """Whether it can go on: it has not come to its end."""
        return not self._folder.ended

    def stop(self) -> None:
        """After the step that is being made, the run is saved and ends."""
        self._stopping = True

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.training.restore(state["training"])
        self.standing = Standing(**state["standing"])
        self._folder.told(self.standing.lines)

    def save(self) -> None:
        """Raises StorageError."""
        started = time.monotonic()
        state = {"training": self.training.state(), "standing": vars(self.standing)}
        self._folder.save_state(state)
        self._saved = time.monotonic()
        self._every = max(_SAVED_EVERY, 20 * (self._saved - started))

    def events(self) -> Iterator[Event]:
        """What happens, up to the end. Raises CannotMeet where the loss is no number, StorageError where nothing can be
        written; what was saved before is still there."""
        training, standing = self.training, self.standing
        reason = ""
        while not reason:
            if (mark := int(training.progress * training.plan.evaluations)) > standing.mark:
                try:
                    yield from self._evaluation(mark)
                except _Stopped:
                    reason = INTERRUPTED
                    break
            if training.progress >= 1:
                reason = DONE
            elif 0 < training.plan.patience <= standing.without:
                reason = PATIENCE
            elif self._stopping:
                reason = INTERRUPTED
            else:
                step = training.advance()
                standing.nats, standing.steps = standing.nats + step.loss, standing.steps + 1
                yield step
                if time.monotonic() - self._saved > self._every:
                    self.save()
                    yield Saved(training.step)
        if reason == INTERRUPTED:
            self.save()
        else:
            self._folder.finish(training.network)
        if reason == INTERRUPTED and standing.best is None and training.step:
            self._keep({"step": training.step})
        yield Ended(reason, training.step)

    def _evaluation(self, mark: int) -> Iterator[Event]:
        training, standing = self.training, self.standing
        loss = training.loss(self._texts.held, self._texts.sizes, self._measuring)
        train = standing.nats / standing.steps if standing.steps else None
        best = training.step > 0 and loss.mean < (standing.best["validation"] if standing.best else math.inf)
        standing.trains = [*standing.trains, train][-2:] if train is not None else standing.trains
        falls = len(standing.trains) == 2 and standing.trains[1] < standing.trains[0]
        rises = standing.best is not None and loss.mean > _OVERFITS * standing.best["validation"]
        found = Evaluated(
            training.step,
            training.epochs(),
            training.tokens,
            training.seconds,
            train,
            loss,
            best,
            overfits=falls and rises and not standing.overfits,
        )
        standing.mark, standing.nats, standing.steps = mark, 0.0, 0
        standing.overfits |= found.overfits
        if training.step == 0:
            standing.before = found.plain()
        standing.without = 0 if best else standing.without + (training.step > 0)
        if best:
            standing.best = found.plain()
            self._keep(found.plain())
        self._folder.tell(found.plain())
        standing.lines += 1
        yield found
        fifth = max(1, training.plan.evaluations // 5)
        if self._samples and training.step and (mark % fifth == 0 or training.progress >= 1):
            seed = training.plan.seed + training.step
            ids = sample(training.network, [self._texts.end], _SAMPLE, seed, self._texts.end)
            yield Sampled(training.step, self._texts.decode(ids))

    def _measuring(self, done: int, total: int) -> None:
        if self._stopping:
            raise _Stopped
        self._told(done, total)
