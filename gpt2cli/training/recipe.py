"""What was asked for becomes a plan: what nobody named follows from the sizes of the text and of the model."""

import math
from dataclasses import dataclass

from gpt2cli.errors import UsageError
from gpt2cli.training.lora import LoRA
from gpt2cli.training.optimizers import Rates
from gpt2cli.training.training import Plan

_MOST = 1e9  # of any number that is asked for; infinity and NaN are not below it


@dataclass(frozen=True)
class Wishes:
    """None is for whatever suits. Of `steps`, `epochs` and `minutes` at most one is given."""

    steps: int | None = None
    epochs: float | None = None
    minutes: float | None = None
    rate: float | None = None
    batch: int | None = None  # tokens of a step
    length: int | None = None  # of a window
    warmup: int | None = None
    dropout: float = 0.0
    weight_decay: float = 0.0
    clip: float = 1.0
    optimizer: str = "adamw"
    patience: int = 5
    freeze: int = 0
    lora: LoRA | None = None
    seed: int = 0
    compiled: bool = False

    def __post_init__(self) -> None:
        """Raises UsageError for what is no number, or larger than anything that makes sense."""
        values = vars(self) | ({"lora_alpha": self.lora.alpha} if self.lora else {})
        for name, value in values.items():
            if isinstance(value, float) and not abs(value) <= _MOST:
                raise UsageError(f"--{name.replace('_', '-')} {value:g} is out of all reason", "choose a usual number")
        if not 0 <= self.seed < 2**63:
            raise UsageError(f"--seed {self.seed} is too large", "choose one below 2^63")


@dataclass(frozen=True)
class Shape:
    """Of a model that is made anew; None is for whatever suits the text."""

    layers: int | None = None
    heads: int | None = None
    width: int | None = None
    positions: int | None = None
    vocabulary: int | None = None


@dataclass(frozen=True)
class Sizes:
    """What a recipe depends on."""

    tokens: int  # to learn from
    held: int  # of the text that is not learnt from
    parameters: int
    positions: int
    fresh: bool  # from random weights


def chosen(wishes: Wishes, sizes: Sizes, device: str) -> Plan:
    """The plan, but for how many windows fit at once. docs/finetune.md says how these numbers were found."""
    steps, epochs = wishes.steps, wishes.epochs
    if steps is None and epochs is None and wishes.minutes is None:
        epochs = _epochs(sizes)
    known = epochs * sizes.tokens if epochs else None
    batch = wishes.batch or _batch(known or 200 * 4096)
    amount = max(1, round(known / batch)) if known else steps or 200
    return Plan(
        steps=steps,
        epochs=epochs,
        minutes=wishes.minutes,
        tokens=batch,
        length=min(wishes.length or 512, sizes.positions),
        optimizer=wishes.optimizer,
        rates=_rates(wishes, sizes),
        warmup=min(100, max(1, amount // 20)) if wishes.warmup is None else wishes.warmup,
        dropout=wishes.dropout,
        clip=wishes.clip,
        seed=wishes.seed,
        evaluations=_evaluations(amount * batch, sizes.held),
        patience=wishes.patience,
        freeze=wishes.freeze,
        lora=wishes.lora,
        device=device,
        compiled=wishes.compiled,
    )


def _epochs(sizes: Sizes) -> float:
    """The less text, the more often it is read: ten times what is short, once what is long; three times as often where
    nothing was known before."""
    often: float = 3 * (250_000 / sizes.tokens) ** 0.4
    return round(max(3.0, min(30.0, 3 * often)) if sizes.fresh else max(1.0, min(10.0, often)), 1)


def _batch(tokens: float) -> int:
    """A power of two, for some 200 steps."""
    return int(max(1024, min(16384, 2 ** round(math.log2(tokens / 200)))))


def _rates(wishes: Wishes, sizes: Sizes) -> Rates:
    """Large models take small steps; LoRA and Muon larger ones."""
    smaller = 124e6 / sizes.parameters
    rate: float = 6e-4 * smaller**0.25 if sizes.fresh else 1e-4 * smaller**0.5
    rate = min(3e-3, rate * (5 if wishes.lora else 1))
    muon = 0.02 if sizes.fresh else 0.005
    if wishes.rate is not None:
        rate, muon = wishes.rate, wishes.rate
    if wishes.optimizer == "muon" and wishes.rate is not None:
        rate = wishes.rate * 0.15
    return Rates(float(f"{rate:.2g}"), muon, wishes.weight_decay)


def _evaluations(learnt: int, held: int) -> int:
    """So many that a tenth of the time goes into them: what is only read costs a third."""
    return max(4, min(20, round(0.3 * learnt / max(1, held))))
