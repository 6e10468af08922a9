"""Measures: what a test makes of the answers to its items, with their standard errors."""

import math
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gpt2cli.analysis.evaluation.items import Choice, Continuation, Item, Pair, Passage
from gpt2cli.analysis.evaluation.likelihoods import Likelihood

RESAMPLES = 1000
Answers = Sequence[Likelihood]
Array = np.ndarray[Any, np.dtype[np.float64]]
Ratio = Callable[[Any, Answers], tuple[float, float]]
# What is made of a sum divided by a sum of weights.
FORMS: dict[str, Callable[[float], float]] = {
    "share": lambda ratio: ratio,
    "perplexity": lambda ratio: math.exp(-ratio),
    "bits": lambda ratio: -ratio / math.log(2),
}


@dataclass(frozen=True)
class Published:
    """What others have measured."""

    value: float
    source: str


@dataclass(frozen=True)
class Measure:
    """`of` makes a number and its weight of an item and its answers; their sums are divided, and put into the `form`.
    {stride} in the name is how far the window moves on. `published` has the values of models by their names."""

    name: str
    of: Ratio
    form: str = "share"
    published: Mapping[str, Published] = field(default_factory=dict)


@dataclass(frozen=True)
class Metric:
    """A measured value. `stderr` is None where there are fewer than two items. `resampled` are the values of resamples
    of the items, which are the same for each model that has seen the same number."""

    name: str
    value: float
    stderr: float | None
    n: int
    form: str
    published: Published | None = None
    resampled: Array | None = field(default=None, compare=False, repr=False)

    def gap(self, first: "Metric") -> tuple[float, float | None]:
        """The difference from another model's on the same items, and its standard error: it is smaller than theirs,
        because what is hard for one is hard for the other."""
        if self.resampled is None or first.resampled is None or self.n != first.n:
            return self.value - first.value, None
        return self.value - first.value, _deviation(self.resampled, first.resampled)

    def plain(self) -> dict[str, Any]:
        """For JSON, which knows no infinity."""
        found = {name: value if value is not None and math.isfinite(value) else None for name, value in self._numbers}
        source = None if self.published is None else self.published.source
        return {"name": self.name, "n": self.n, **found, "source": source, "to_first": None}

    @property
    def difference(self) -> float | None:
        """From what was published."""
        return None if self.published is None else self.value - self.published.value

    @property
    def _numbers(self) -> list[tuple[str, float | None]]:
        published = None if self.published is None else self.published.value
        return [
            *(("value", self.value), ("stderr", self.stderr)),
            *(("published", published), ("difference", self.difference)),
        ]


class Tally:
    """The sums of some measures; two numbers an item are kept for each."""

    def __init__(self, measures: Sequence[Measure]) -> None:
        self._measures = measures
        self._pairs = [(array("d"), array("d")) for _ in measures]

    def add(self, item: Item, answers: Answers) -> None:
        for measure, (values, weights) in zip(self._measures, self._pairs, strict=True):
            value, weight = measure.of(item, answers)
            values.append(value)
            weights.append(weight)

    def metrics(self, seed: int, model: str, **names: Any) -> list[Metric]:
        """The metrics of the model of this name; `names` stand in those of the measures. `seed` decides the resamples.
        The standard error of a share is the items' deviation by the root of their number, of the others the deviation
        of the resamples."""
        sums = [(np.array(values), np.array(weights)) for values, weights in self._pairs]
        resampled = _resampled(self._measures, sums, seed)
        found = []
        for place, (measure, (values, weights)) in enumerate(zip(self._measures, sums, strict=True)):
            several = len(values) > 1
            stderr = None
            if several and measure.form == "share":
                stderr = float(values.std(ddof=1)) / math.sqrt(len(values))
            elif several:
                stderr = _deviation(resampled[place])
            name, value = measure.name.format(**names), _formed(measure.form, sum(values), sum(weights))
            published, drawn = measure.published.get(model), resampled[place] if several else None
            found.append(Metric(name, value, stderr, len(values), measure.form, published, drawn))
        return found


def _resampled(measures: Sequence[Measure], sums: Sequence[tuple[Array, Array]], seed: int) -> Array:
    """The value of each measure on each resample, [measures, resamples]."""
    count = len(sums[0][0]) if sums else 0
    found = np.empty((len(measures), RESAMPLES if count > 1 else 0))
    random = np.random.default_rng(seed)
    for number in range(found.shape[1]):
        drawn = random.integers(0, count, count)
        for place, (measure, (values, weights)) in enumerate(zip(measures, sums, strict=True)):
            found[place, number] = _formed(measure.form, values[drawn].sum(), weights[drawn].sum())
    return found


def _formed(form: str, value: float, weight: float) -> float:
    try:
        return float(FORMS[form](value / weight)) if weight else math.nan
    except OverflowError:
        return math.inf


def _deviation(values: Array, others: Array | None = None) -> float | None:
    """Of the values, or of their differences from others; None where some are infinite."""
    with np.errstate(invalid="ignore"):
        found = float((values if others is None else values - others).std(ddof=1))
    return found if math.isfinite(found) else None


# What is made of one item


def whole_target(item: Continuation, answers: Answers) -> tuple[float, float]:
    """Whether every token is the most probable one."""
    return float(answers[0].greedy), 1


def last_token(item: Continuation, answers: Answers) -> tuple[float, float]:
    """Whether the last token is, after all before it."""
    return float(answers[0].last), 1


def per_target(item: Continuation, answers: Answers) -> tuple[float, float]:
    return answers[0].logprob, 1


def per_token(item: Item, answers: Answers) -> tuple[float, float]:
    return answers[0].logprob, answers[0].tokens


def per_word(item: Passage, answers: Answers) -> tuple[float, float]:
    return answers[0].logprob, item.words


def per_byte(item: Passage, answers: Answers) -> tuple[float, float]:
    return answers[0].logprob, item.nbytes


def _right(item: Choice, answers: Answers, lengths: Sequence[float]) -> tuple[float, float]:
    """Whether the answer has the highest log-probability for its length; of equal ones the first counts."""
    scores = [one.logprob / length for one, length in zip(answers, lengths, strict=True)]
    return float(scores.index(max(scores)) == item.answer), 1


def right(item: Choice, answers: Answers) -> tuple[float, float]:
    return _right(item, answers, [1] * len(answers))


def right_by_characters(item: Choice, answers: Answers) -> tuple[float, float]:
    return _right(item, answers, list(map(len, item.choices)))


def right_by_bytes(item: Choice, answers: Answers) -> tuple[float, float]:
    return _right(item, answers, [len(choice.encode()) for choice in item.choices])


def right_by_tokens(item: Choice, answers: Answers) -> tuple[float, float]:
    return _right(item, answers, [one.tokens for one in answers])


def _of_passages(how: str) -> tuple[Measure, ...]:
    return (
        Measure(f"perplexity (token, {how})", per_token, "perplexity"),
        Measure(f"perplexity (word, {how})", per_word, "perplexity"),
        Measure(f"perplexity (byte, {how})", per_byte, "perplexity"),
        Measure(f"bits per byte ({how})", per_byte, "bits"),
    )


# What is measured on items of one's own, of each kind, and what that is called; on passages without and with a stride.
NAMES: dict[type[Item], str] = {
    Continuation: "targets",
    Choice: "choices",
    Pair: "pairs",
    Passage: "rolling",
}
MEASURES: dict[type[Item], tuple[Measure, ...]] = {
    Continuation: (
        Measure("acc (whole target)", whole_target),
        Measure("acc (last token)", last_token),
        Measure("perplexity (target)", per_target, "perplexity"),
        Measure("perplexity (token)", per_token, "perplexity"),
    ),
    Choice: (
        Measure("acc", right),
        Measure("acc_norm (characters)", right_by_characters),
        Measure("acc_norm (bytes)", right_by_bytes),
        Measure("acc_norm (tokens)", right_by_tokens),
    ),
    Pair: (Measure("acc", right),),
    Passage: _of_passages("rolling"),
}
STRIDING = _of_passages("stride {stride}")
