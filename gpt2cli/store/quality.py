"""The gate: what rounding costs a checkpoint, measured on a text before the export is used.

The quantised graph is run on ONNX Runtime, the checkpoint as it is in NumPy (export/reference.py). The text is
models/calibration.txt: story, report, explanation, code, list, questions; of a model without a tokenizer, what it
writes itself."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gpt2cli import paths
from gpt2cli.errors import CorruptFile

# the records of cached exports are read where nothing is measured: what is heavy is imported by who measures
if TYPE_CHECKING:
    import numpy as np

    from gpt2cli.export.rounding import Rounding

# Of calibration text. All of it is one context, from the first position on, where GPT-2's activations are largest.
TOKENS = 256
# Nats a token. A KL divergence of 0.01 moves the perplexity of a text by about 1 % and the choice of greedy decoding
# where two tokens are nearly as probable.
MOST_KL = 0.01
MOST_RATIO = 1.01
# Of sampled text each so many tokens one is any.
_ANEW = 16


@dataclass(frozen=True)
class Quality:
    """Of a quantised export against its checkpoint in float32, teacher-forced over `tokens` tokens."""

    tokens: int
    loss: float | None  # mean negative log-probability of the text, in nats; None where the logits are no numbers
    loss_fp32: float | None
    loss_error: float | None  # standard error of the difference of the two
    kl: float | None  # mean KL divergence from the checkpoint's distribution to the export's, in nats
    top1: float  # how often the most probable token is the same
    text: str  # what the tokens are: of the "calibration" text, or "sampled" from the model
    forms: list[dict[str, int]]  # weight_bits, activation_bits, and how many `matrices` are rounded so

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
            f"perplexity {_written(self.loss)} (fp32 {_written(self.loss_fp32)}), KL {self.kl:.4f},"
            f" {self.top1:.0%} of the likeliest tokens the same"
            f"{' (measured on text of its own)' if self.text == 'sampled' else ''}"
        )

    @property
    def passed(self) -> bool:
        if self.loss is None or self.loss_fp32 is None or self.kl is None:
            return False
        # of so short a text the difference is known to some 0.01 nats: what is no more than that is no reason
        doubt = self.loss_error or 0.0
        return self.kl <= MOST_KL and self.loss - self.loss_fp32 <= math.log(MOST_RATIO) + doubt


def _perplexity(loss: float | None) -> float | None:
    return None if loss is None else math.exp(min(loss, 700))  # beyond that no double holds it


def _written(loss: float) -> str:
    """The perplexity: of noise it may have hundreds of digits."""
    perplexity = _perplexity(loss) or 0.0
    return f"{perplexity:.2f}" if perplexity < 1e6 else f"{perplexity:.1e}"


class Gate:
    """Of one checkpoint, which the text has been through: what its exports are measured against."""

    def __init__(self, checkpoint: Path, folder: Path, precision: str) -> None:
        """Of int8 or int4. In `folder`, an empty one, an export is made where it takes one to have a text. Raises as
        `export`."""
        import numpy as np

        from gpt2cli.export import reference
        from gpt2cli.export.checkpoint import Checkpoint
        from gpt2cli.export.rounding import Study

        opened = Checkpoint(checkpoint)
        count = min(TOKENS + 1, opened.config.n_positions)
        self._ids, self._text = _calibration(checkpoint, count, opened.config.vocab_size), "calibration"
        if len(self._ids) < 2:
            self._ids, self._text = _sampled(checkpoint, folder, max(count, 2)), "sampled"
        self._matrices = opened.matrices
        self._study = Study() if precision == "int8" else None
        with np.errstate(all="ignore"):  # a checkpoint that overflows is told by whoever runs it
            self._expected = reference.logits(opened, self._ids[:-1], every=True, seen=self._study)

    def roundings(self) -> "Iterator[Rounding | None]":
        """What is worth a try, the fastest first; of int4 there is but one form."""
        if self._study is None:
            yield None
            return
        from gpt2cli.engine import runtime

        yield from self._study.roundings(saturates=runtime.saturates())

    def measure(self, export: Path, rounding: "Rounding | None") -> Quality:
        """Run an export of the checkpoint. Raises CorruptFile."""
        import numpy as np

        from gpt2cli.engine.engine import Engine

        counts = Counter(rounding.of(name) if rounding else (4, 8) for name in self._matrices)
        forms = [{"weight_bits": bits[0], "activation_bits": bits[1], "matrices": counts[bits]} for bits in counts]
        try:
            got = Engine(export).feed([self._ids[:-1]], every=True)
        except CorruptFile:  # rounding overflows where the checkpoint may not
            return Quality(len(self._ids) - 1, None, None, None, None, 0.0, self._text, forms)
        with np.errstate(all="ignore"):
            return compare(self._expected, got, self._ids[1:], self._text, forms)


def compare(
    expected: "np.ndarray", got: "np.ndarray", targets: list[int], text: str, forms: list[dict[str, int]]
) -> Quality:
    """Of two tables of logits [tokens, vocabulary] and the tokens that follow."""
    import numpy as np

    places = np.arange(len(targets))
    kl, top1 = 0.0, 0
    losses: list[list[float]] = [[], []]
    for place, target in zip(places, targets, strict=True):  # row by row: a table of float64 would be large
        right, rounded = _log_softmax(expected[place]), _log_softmax(got[place])
        kl += float((np.exp(right) * (right - rounded)).sum())
        top1 += int(right.argmax() == rounded.argmax())
        losses[0].append(-float(right[target]))
        losses[1].append(-float(rounded[target]))
    count = len(targets)
    loss_error = float(np.std(np.diff(losses, axis=0))) / math.sqrt(count)
    values = [sum(losses[1]) / count, sum(losses[0]) / count, loss_error, max(kl / count, 0.0)]
    loss, loss_fp32, error, mean = [value if math.isfinite(value) else None for value in values]
    return Quality(count, loss, loss_fp32, error, mean, top1 / count, text, forms)


def _log_softmax(logits: "np.ndarray") -> "np.ndarray":
    import numpy as np

    shifted = logits.astype(np.float64) - logits.max()
    result: np.ndarray = shifted - np.log(np.exp(shifted).sum())
    return result


def _calibration(folder: Path, count: int, vocabulary: int) -> list[int]:
    """The first tokens of the calibration text; none without a tokenizer."""
    from gpt2cli.tokenizer.files import present
    from gpt2cli.tokenizer.tokenizer import Tokenizer

    if not present(folder):
        return []
    text = (paths.data("models") / "calibration.txt").read_text(encoding="utf-8")
    return [token for token in Tokenizer(folder).encode(text) if token < vocabulary][:count]


def _sampled(checkpoint: Path, folder: Path, count: int) -> list[int]:
    """Tokens that the model draws one after another, from the finest of its int8 exports, which `folder` then holds:
    noise is no text, and says nothing about what rounding costs one. End tokens are not drawn, and each sixteenth token
    is any: of what says the same for ever rounding costs nothing."""
    import numpy as np

    from gpt2cli.engine.engine import Engine
    from gpt2cli.export.export import export
    from gpt2cli.export.rounding import Form, Rounding

    for _ in export(checkpoint, folder, "int8", Rounding(Form(8, 16))):
        pass
    engine, random = Engine(folder), np.random.default_rng(0)
    facts = engine.facts
    ids = [facts.start if facts.start is not None else next(iter(facts.ends), 0)]
    others = np.setdiff1d(np.arange(engine.vocabulary), facts.ends)
    if not len(others):
        others = np.arange(engine.vocabulary)
    try:
        while len(ids) < count:
            logits = engine.feed([ids[-1:]])[0, others]
            probabilities = None if len(ids) % _ANEW == 0 else np.exp(_log_softmax(logits))
            ids.append(int(random.choice(others, p=probabilities)))
    except CorruptFile:  # rounding overflows; where the checkpoint does not, any text shows it
        ids += engine.any_ids(count - len(ids))
    return ids
