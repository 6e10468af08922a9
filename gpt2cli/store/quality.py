"""The gate: what rounding costs a checkpoint, measured on the calibration text before the export is used.

The quantised graph is run on ONNX Runtime, the checkpoint as it is in NumPy (export/reference.py). The text is
models/calibration.txt: story, report, explanation, code, list, questions."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gpt2cli import paths
from gpt2cli.errors import CorruptFile

# the records of cached exports are read where nothing is measured: what is heavy is imported by who measures
if TYPE_CHECKING:
    import numpy as np

    from gpt2cli.engine.engine import Engine

# Of calibration text. All of it is one context, from the first position on, where GPT-2's activations are largest.
TOKENS = 256
# Nats a token. A KL divergence of 0.01 moves the perplexity of a text by about 1 % and the choice of greedy decoding
# where two tokens are nearly as probable.
MOST_KL = 0.01
MOST_RATIO = 1.01


@dataclass(frozen=True)
class Quality:
    """Of a quantised export against its checkpoint in float32, teacher-forced over `tokens` tokens."""

    tokens: int
    loss: float | None  # mean negative log-probability of the text, in nats; None where the logits are no numbers
    loss_fp32: float | None
    kl: float | None  # mean KL divergence from the checkpoint's distribution to the export's, in nats
    top1: float  # how often the most probable token is the same
    weight_bits: int
    activation_bits: int

    @property
    def perplexity(self) -> float | None:
        return _perplexity(self.loss)

    @property
    def perplexity_fp32(self) -> float | None:
        return _perplexity(self.loss_fp32)

    def __str__(self) -> str:
        if self.loss is None or self.loss_fp32 is None or self.kl is None:
            return "its logits are not finite numbers"
        return (
            f"perplexity {self.perplexity:.2f} (fp32 {self.perplexity_fp32:.2f}), KL {self.kl:.4f},"
            f" {self.top1:.0%} of the likeliest tokens the same"
        )

    @property
    def passed(self) -> bool:
        if self.loss is None or self.loss_fp32 is None or self.kl is None:
            return False
        return self.kl <= MOST_KL and self.loss - self.loss_fp32 <= math.log(MOST_RATIO)


def _perplexity(loss: float | None) -> float | None:
    return None if loss is None else math.exp(min(loss, 700))  # beyond that no double holds it


def measure(checkpoint: Path, export: Path, *, weight_bits: int, activation_bits: int) -> Quality:
    """Run both. Raises CorruptFile."""
    import numpy as np

    from gpt2cli.engine.engine import Engine
    from gpt2cli.export import reference
    from gpt2cli.export.checkpoint import Checkpoint

    engine = Engine(export)
    ids = _calibration(checkpoint, engine)
    bits = {"weight_bits": weight_bits, "activation_bits": activation_bits}
    try:
        got = engine.feed([ids[:-1]], every=True)
    except CorruptFile:  # rounding overflows where the checkpoint may not
        return Quality(len(ids) - 1, None, None, None, 0.0, **bits)
    del engine  # the reference needs memory too
    with np.errstate(all="ignore"):  # a checkpoint that overflows is told by whoever runs it
        expected = reference.logits(Checkpoint(checkpoint), ids[:-1], every=True)
        return compare(expected, got, ids[1:], **bits)


def compare(
    expected: "np.ndarray", got: "np.ndarray", targets: list[int], *, weight_bits: int, activation_bits: int
) -> Quality:
    """Of two tables of logits [tokens, vocabulary] and the tokens that follow."""
    import numpy as np

    places = np.arange(len(targets))
    kl, top1 = 0.0, 0
    losses = [0.0, 0.0]
    for place, target in zip(places, targets, strict=True):  # row by row: a table of float64 would be large
        right, rounded = _log_softmax(expected[place]), _log_softmax(got[place])
        kl += float((np.exp(right) * (right - rounded)).sum())
        top1 += int(right.argmax() == rounded.argmax())
        losses[0] -= float(right[target])
        losses[1] -= float(rounded[target])
    count = len(targets)
    values = [losses[1] / count, losses[0] / count, max(kl / count, 0.0)]
    loss, loss_fp32, mean = [value if math.isfinite(value) else None for value in values]
    return Quality(count, loss, loss_fp32, mean, top1 / count, weight_bits, activation_bits)


def _log_softmax(logits: "np.ndarray") -> "np.ndarray":
    import numpy as np

    shifted = logits.astype(np.float64) - logits.max()
    result: np.ndarray = shifted - np.log(np.exp(shifted).sum())
    return result


def _calibration(folder: Path, engine: "Engine") -> list[int]:
    """The tokens of the calibration text; without a tokenizer, any."""
    from gpt2cli.tokenizer.files import present
    from gpt2cli.tokenizer.tokenizer import Tokenizer

    count = min(TOKENS + 1, engine.window)
    if present(folder):
        text = (paths.data("models") / "calibration.txt").read_text(encoding="utf-8")
        ids = [token for token in Tokenizer(folder).encode(text) if token < engine.vocabulary][:count]
        if len(ids) > 1:
            return ids
    return engine.any_ids(max(count, 2))
