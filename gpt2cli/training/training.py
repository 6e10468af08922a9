"""Learning: steps, the loss on texts that are not learnt from, and a state from which a cut run goes on exactly."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gpt2cli.errors import CannotMeet
from gpt2cli.training.documents import Corpus
from gpt2cli.training.lora import LoRA
from gpt2cli.training.network import IGNORED, Network
from gpt2cli.training.optimizers import Optimizers, Rates, scale_at
from gpt2cli.training.windows import Place, Windows, in_order


@dataclass(frozen=True)
class Plan:
    """How to learn. Of `steps`, `epochs` and `minutes` one is given, which says how long."""

    steps: int | None = None
    epochs: float | None = None
    minutes: float | None = None
    tokens: int = 4096  # that a step learns from
    length: int = 512  # of a window
    rows: int = 8  # windows that are computed at once; the rest of a step's follow
    optimizer: str = "adamw"
    rates: Rates = field(default_factory=lambda: Rates(3e-4))
    warmup: int = 20  # steps
    flat: float = 0.0  # part of the run whose rate does not fall yet
    dropout: float = 0.0
    clip: float = 1.0  # the norm of a gradient, 0 for any
    seed: int = 0
    evaluations: int = 20  # how often the loss on texts that are not learnt from is measured, at even distances
    patience: int = 5  # of them without a better one, and the run ends; 0: it does not
    freeze: int = 0  # so many of the first blocks stay as they are, and with them the embeddings
    lora: LoRA | None = None
    device: str = "cpu"
    checkpointed: bool = False
    compiled: bool = False

    @classmethod
    def read(cls, raw: dict[str, Any]) -> "Plan":
        """Of what `dataclasses.asdict` made. Raises TypeError, KeyError."""
        lora = raw["lora"] and LoRA(**raw["lora"] | {"targets": tuple(raw["lora"]["targets"])})
        return cls(**raw | {"rates": Rates(**raw["rates"]), "lora": lora})


@dataclass(frozen=True)
class Step:
    """A step that was made. `loss` is the mean of its tokens before it, in nats; `norm` that of its gradient."""

    number: int
    loss: float
    norm: float
    scale: float
    tokens: int  # learnt from, since the beginning
    seconds: float  # spent in steps, since the beginning


@dataclass(frozen=True)
class Loss:
    """Of a text that is not learnt from."""

    nats: float
    tokens: int
    nbytes: int

    @property
    def mean(self) -> float:
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float:
        try:
            return math.exp(self.mean)
        except OverflowError:
            return math.inf

    @property
    def bits_per_byte(self) -> float:
        return self.nats / math.log(2) / self.nbytes


class Training:
    """A network that learns from a corpus."""

    def __init__(self, network: Network, plan: Plan, corpus: Corpus) -> None:
        self.network, self.plan = network.to(plan.device), plan
        network.checkpointed = plan.checkpointed
        self._windows = Windows(corpus, plan.length, plan.seed)
        self._optimizers = Optimizers(network, plan.optimizer, plan.rates)
        self._forward: Any = torch.compile(network, dynamic=False) if plan.compiled else network
        self._place = Place()
        self.step, self.tokens = 0, 0
        self.seconds = self.elapsed = 0.0  # in steps alone; with what was measured between them
        rows = max(1, round(plan.tokens / self._windows.length))
        self._rows = min(rows, math.ceil(self._windows.per_epoch))  # of a step
        torch.manual_seed(plan.seed)

    @property
    def steps(self) -> int | None:
        """How many there will be; None where time decides."""
        plan = self.plan
        if plan.epochs is not None:
            return max(1, math.ceil(plan.epochs * self._windows.per_epoch / self._rows))
        return plan.steps

    @property
    def progress(self) -> float:
        """From 0 to 1."""
        if self.steps is not None:
            return min(1.0, self.step / max(1, self.steps))
        assert self.plan.minutes is not None
        return min(1.0, self.elapsed / (60 * self.plan.minutes))

    def epochs(self, step: int | None = None) -> float:
        """How often the text has been read, or will have been after a step."""
        return (self.step if step is None else step) * self._rows / self._windows.per_epoch

    def advance(self) -> Step:
        """One step. Raises CannotMeet where the loss is no number, or memory is used up: nothing was learnt from it."""
        try:
            return self._advanced()
        except RuntimeError as error:
            if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
                raise
            raise CannotMeet(
                f"the memory of {self.plan.device} was used up in step {self.step + 1}",
                "free some and go on with --resume; or begin again with a smaller --length, or --lora 8",
            ) from None

    def _advanced(self) -> Step:
        started = time.monotonic()
        scale = scale_at(self.step, self.progress, warmup=self.plan.warmup, flat=self.plan.flat)
        (ids, targets), place = self._windows.take(self._place, self._rows)
        counted = int((targets != IGNORED).sum())
        self.network.train()
        nats = 0.0
        for part in self._parts(ids, targets):
            with self._precision():
                loss = self._forward(*part)
            (loss / max(1, counted)).backward()
            nats += float(loss.detach())
        norm = self._norm()
        if not (math.isfinite(nats) and math.isfinite(norm)):
            raise CannotMeet(
                f"the loss at step {self.step + 1} is no number",
                f"begin again with another -o, and a lower --rate than {self.plan.rates.adam:g}",
            )
        self._optimizers.step(scale)
        self._place, self.step, self.tokens = place, self.step + 1, self.tokens + counted
        spent = time.monotonic() - started
        self.seconds, self.elapsed = self.seconds + spent, self.elapsed + spent
        return Step(self.step, nats / max(1, counted), norm, scale, self.tokens, self.seconds)

    def _parts(self, ids: Any, targets: Any) -> Iterator[tuple[Tensor, Tensor]]:
        """Of a step's windows those that are computed at once."""
        for start in range(0, len(ids), self.plan.rows):
            rows = slice(start, start + self.plan.rows)
            device = self.plan.device
            yield torch.from_numpy(ids[rows]).to(device), torch.from_numpy(targets[rows]).to(device)

    def _precision(self) -> AbstractContextManager[Any]:
        if self.plan.device == "cpu":
            return nullcontext()
        precision: AbstractContextManager[Any] = torch.autocast(self.plan.device, torch.bfloat16)
        return precision

    def _norm(self) -> float:
        limit = self.plan.clip or math.inf
        return float(nn.utils.clip_grad_norm_(self._optimizers.parameters, limit))

    @torch.no_grad()
    def loss(self, corpus: Corpus, sizes: Any, told: Callable[[int, int], None] = lambda done, total: None) -> Loss:
        """Of a corpus, in windows one after another. `sizes` [vocabulary] are the bytes of each token. `told` hears
        (tokens done, in all); what it raises ends the work."""
        started, total = time.monotonic(), len(corpus.ids)
        self.network.eval()
        nats, tokens, nbytes, done = 0.0, 0, 0, 0
        length = min(self.plan.length, len(corpus.ids) - 1)
        for ids, targets in in_order(corpus, length, self.plan.rows):
            kept = targets[targets != IGNORED]
            tokens, nbytes = tokens + len(kept), nbytes + int(sizes[kept].sum())
            for part in self._parts(ids, targets):
                with self._precision():
                    nats += float(self.network(*part))
            done += targets.size
            told(min(done, total), total)
        self.elapsed += time.monotonic() - started
        return Loss(nats, tokens, nbytes)

    def state(self) -> dict[str, Any]:
        """All that the next step depends on."""
        return {
            "network": self.network.state_dict(),
            "optimizers": self._optimizers.state(),
            "random": [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if self.plan.device != "cpu" else [])],
            "place": (self._place.epoch, self._place.window),
            "counts": (self.step, self.tokens, self.seconds, self.elapsed),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.network.load_state_dict(state["network"])
        self._optimizers.restore(state["optimizers"])
        torch.set_rng_state(state["random"][0].cpu())
        if self.plan.device != "cpu":
            torch.cuda.set_rng_state_all([one.cpu() for one in state["random"][1:]])
        self._place = Place(*state["place"])
        self.step, self.tokens, self.seconds, self.elapsed = state["counts"]
