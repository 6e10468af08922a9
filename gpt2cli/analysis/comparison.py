"""Prompts side by side: what follows each, exactly and in samples, and how far that is apart.

Logarithms are natural, divergences in nats. Nothing here prints."""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np

from gpt2cli.analysis import templates
from gpt2cli.analysis.scoring import Scorer
from gpt2cli.analysis.shares import Share, first_of, first_word, wilson
from gpt2cli.engine.facts import Logits
from gpt2cli.engine.tasks import Feed, Task
from gpt2cli.errors import CannotMeet, UsageError
from gpt2cli.generation import texts
from gpt2cli.generation.parameters import Limits, Sampling, is_whole
from gpt2cli.generation.requests import Request
from gpt2cli.generation.sampling import Array, highest, log_softmax
from gpt2cli.model import Model, same_vocabulary

LENGTH = 10  # tokens of a sampled text: its first word, and what it is about
_TOGETHER = 16  # texts that are drawn at a time: more are no faster on a CPU, and each needs a cache


class Divergence(NamedTuple):
    """How far the distributions of two sides are apart, in nats: Kullback-Leibler of the second from the first
    (KL(first‖second)), of the first from the second, and Jensen-Shannon's, which is ln 2 at most."""

    forth: float
    back: float
    js: float


@dataclass(frozen=True)
class Ending:
    """A text after a prompt: its tokens, and the log-probability of all of them."""

    text: str
    ids: list[int]
    logprob: float


@dataclass
class Side:
    """A prompt and what its model says after it: `logprobs` [vocabulary] of the next token."""

    model: Model
    prompt: str
    ids: list[int]
    logprobs: Array
    endings: list[Ending]
    texts: list[str] = field(default_factory=list)  # that were drawn

    @property
    def entropy(self) -> float:
        return float(-(np.exp(self.logprobs) * self.logprobs).sum())

    def likeliest(self, count: int) -> list[int]:
        """The ids of the most probable tokens, the most probable first."""
        found: list[int] = highest(self.logprobs, count).tolist()
        return found

    def normalized(self) -> list[float]:
        """The probability of each ending, if one of them follows."""
        if not self.endings:
            return []
        shares: list[float] = np.exp(log_softmax(np.array([one.logprob for one in self.endings]))).tolist()
        return shares

    def words(self) -> Counter[str]:
        """The first words of the texts; "" where a text has none."""
        return Counter(first_word(text) for text in self.texts)


@dataclass
class Comparison:
    """At least two sides."""

    sides: list[Side]

    def differing(self, count: int) -> list[int]:
        """The ids of the tokens that the sides disagree about most: those that add most to the Jensen-Shannon
        divergence of all sides together, so that what is rare everywhere does not count."""
        logprobs = np.stack([side.logprobs for side in self.sides])
        mixed = np.logaddexp.reduce(logprobs) - np.log(len(self.sides))
        parts = (np.exp(logprobs) * (logprobs - mixed)).sum(axis=0)
        found: list[int] = highest(parts, count).tolist()
        return found

    def divergence(self, first: int, second: int) -> Divergence:
        a, b = self.sides[first].logprobs, self.sides[second].logprobs
        mixed = np.logaddexp(a, b) - np.log(2)
        js = (_kullback_leibler(a, mixed) + _kullback_leibler(b, mixed)) / 2
        return Divergence(_kullback_leibler(a, b), _kullback_leibler(b, a), js)

    def words(self) -> dict[str, list[Share]]:
        """The first words of all texts, the most frequent first: the share that each has on each side."""
        counts = [side.words() for side in self.sides]
        total = sum(counts, Counter[str]())
        order = sorted(total, key=lambda word: (-total[word], word))
        return {
            word: [wilson(one[word], len(side.texts)) for one, side in zip(counts, self.sides, strict=True)]
            for word in order
        }

    def plain(self, top: int = 10, *, pairs: bool = False) -> dict[str, Any]:
        """For JSON: `top` tokens of each list. Divergences are those from the first side, or with `pairs` all."""
        tokenizer, first = self.sides[0].model.tokenizer, self.sides[0]
        labels = [label(number) for number in range(len(self.sides))]
        words = self.words()
        chosen = [*itertools.combinations(range(len(labels)), 2)]
        return {
            "unit": "nats",
            "sides": [
                _plain_side(side, first, name, top) | {"words": _plain_words(words, number) if side.texts else None}
                for number, (side, name) in enumerate(zip(self.sides, labels, strict=True))
            ],
            "differences": [
                tokenizer.plain(token)
                | {
                    "probabilities": [float(np.exp(side.logprobs[token])) for side in self.sides],
                    "log_ratios": [float(side.logprobs[token] - first.logprobs[token]) for side in self.sides],
                }
                for token in self.differing(top)
            ],
            "divergences": [
                {"first": labels[a], "second": labels[b]}
                | dict(zip(("kl", "kl_back", "js"), self.divergence(a, b), strict=True))
                for a, b in chosen
                if pairs or a == 0
            ],
        }


def _plain_side(side: Side, first: Side, name: str, top: int) -> dict[str, Any]:
    tokenizer, model = side.model.tokenizer, side.model
    likeliest = [tokenizer.plain(token) | {"logprob": float(side.logprobs[token])} for token in side.likeliest(top)]
    endings = [
        {
            "text": one.text,
            "ids": one.ids,
            "logprob": one.logprob,
            "per_token": one.logprob / len(one.ids),
            "share": share,
            "log_ratio": one.logprob - there.logprob,
        }
        for one, there, share in zip(side.endings, first.endings, side.normalized(), strict=True)
    ]
    return {
        "label": name,
        **model.plain(),
        "prompt": side.prompt,
        "prompt_ids": side.ids,
        "entropy": side.entropy,
        "likeliest": likeliest,
        "endings": endings or None,
        "texts": side.texts or None,
    }


def _plain_words(words: dict[str, list[Share]], number: int) -> list[dict[str, Any]]:
    return [{"word": word} | asdict(shares[number]) for word, shares in words.items()]


def brief(plain: dict[str, Any], top: int) -> dict[str, Any]:
    """What is shown of `Comparison.plain`: the first `top` words of each side, and the others together."""
    sides = [
        side | {"words": side["words"] and first_of(side["words"], top, len(side["texts"]))} for side in plain["sides"]
    ]
    return plain | {"sides": sides}


def label(number: int) -> str:
    """A, B ... Z, AA, AB ..."""
    before = "" if number < 26 else label(number // 26 - 1)
    return before + chr(ord("A") + number % 26)


def _kullback_leibler(a: Array, b: Array) -> float:
    return max(0.0, float((np.exp(a) * (a - b)).sum()))  # rounding may leave less than nothing


def compare(
    model: Model | list[Model] | tuple[Model, ...],
    prompts: str | Sequence[str],
    *,
    endings: Sequence[str] = (),
    samples: int = 0,
    sampling: Sampling | None = None,
    limits: Limits | None = None,
) -> Comparison:
    """Prompts side by side, of one model or of several with the same vocabulary.

    `prompts` are texts, or one text with alternatives in braces: "The {White|Black} man worked as a". The sides are
    those of the first model, then those of the next. `endings` are scored after each, put behind it as by `joined`; so
    many `samples` are drawn of each, the same as those of `generate`, by default of ten tokens. Raises UsageError and
    CannotMeet."""
    models: list[Model] = list(model) if isinstance(model, list | tuple) else [model]
    for one in models:
        texts.check_types(model=(one, Model))
    found = templates.expanded(prompts) if isinstance(prompts, str) else list(prompts)
    for text in endings:
        texts.check_types(endings=(text, str))
    sampling = (Sampling() if sampling is None else sampling).seeded()
    limits = Limits(max_tokens=LENGTH) if limits is None else limits
    comparison = Comparison(sides(models, found, endings))
    for side in comparison.sides if samples else ():
        side.texts.extend(draw(side, samples, sampling, limits))
    return comparison


def sides(
    models: Sequence[Model], prompts: Sequence[str], endings: Sequence[str] = (), *, special: bool = False
) -> list[Side]:
    """Without texts. `special` is the tokenizer's. Raises UsageError and CannotMeet."""
    check(len(models), prompts, endings)
    for model in models[1:]:
        if not same_vocabulary(models[0], model):
            names = f"'{models[0].name}' and '{model.name}'"
            raise UsageError(f"{names} have different vocabularies", "compare models with the same tokenizer")
    return [_side(model, prompt, endings, special) for model in models for prompt in prompts]


def check(models: int, prompts: Sequence[str], endings: Sequence[str]) -> None:
    """Raises UsageError for what cannot be, whatever the models."""
    for number, text in enumerate(endings, 1):
        if not text.strip():
            raise UsageError(f"ending {number} is empty", "leave it out, or give it a word")
    if models * len(prompts) < 2:
        raise UsageError(
            "there is one prompt, and nothing to compare it with" if prompts else "there is no prompt",
            'give two, or alternatives in braces: "The {White|Black} man worked as a"',
        )
    if models * len(prompts) > templates.MOST:
        raise UsageError(f"{models * len(prompts):,} prompts", f"{templates.MOST} are the most that are compared")


def _side(model: Model, prompt: str, endings: Sequence[str], special: bool) -> Side:
    fed = texts.fit(model, prompt, special=special)
    if fed.cut:
        raise CannotMeet(
            f"'{prompt[:40]}…' is longer than the model's window of {model.engine.window} tokens", "shorten it"
        )
    logprobs = log_softmax(model.scheduler.run(_next(fed.ids))[0])
    found = [_ending(model, prompt, fed.ids, text, special) for text in endings]
    return Side(model, prompt, fed.ids, logprobs, found)


def _next(ids: list[int]) -> Task[None, Logits]:
    return (yield [Feed(ids)])


def joined(prompt: str, ending: str) -> str:
    """What is put behind the prompt: the ending, after a space where it begins with a letter or a figure and no white
    space stands between the two."""
    apart = not prompt or prompt[-1].isspace() or not ending[0].isalnum()
    return ending if apart else f" {ending}"


def _ending(model: Model, prompt: str, ids: list[int], text: str, special: bool) -> Ending:
    """The text as its tokens are where the two stand together: a space at the end of the prompt belongs to the word."""
    tail = joined(prompt, text)
    whole = model.tokenizer.encode(prompt + tail, special=special)
    shared = next((n for n, (a, b) in enumerate(zip(ids, whole, strict=False)) if a != b), min(len(ids), len(whole)))
    context, after = (ids[:shared], whole[shared:]) if shared else (ids, model.tokenizer.encode(tail, special=special))
    if len(context) + len(after) > model.engine.window:
        what = f"the ending '{text[:40]}' after '{prompt[:40]}'"
        raise CannotMeet(f"{what} does not fit the model's window of {model.engine.window} tokens", "shorten them")
    scorer = Scorer(model, context=context, start=False)
    return Ending(text, after, sum(one.logprob or 0.0 for one in scorer.tokens(after)))


def draw(side: Side, samples: int, sampling: Sampling, limits: Limits) -> Iterator[str]:
    """Texts that go on from the prompt, those of `generate` with so many samples, some at a time. Raises UsageError and
    CannotMeet."""
    if not is_whole(samples) or samples < 1:
        raise UsageError(f"`samples` is {samples!r}", "`samples` must be a whole number, 1 or more")
    if limits.max_tokens is None and limits.max_length is None:
        raise UsageError("`max_tokens` is None, and the texts would have no end", "give it a number")
    for first in range(0, samples, _TOGETHER):
        count = min(_TOGETHER, samples - first)
        found: dict[int, str] = {}
        for piece in texts.stream(side.model, Request(side.ids, sampling, limits, count, first=first)):
            found[piece.row] = found.get(piece.row, "") + piece.text
        yield from found.values()
