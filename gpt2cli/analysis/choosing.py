"""How probable each of several texts is after a prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp

from gpt2cli.analysis.evaluation.likelihoods import Case, answers
from gpt2cli.generation.choices import ids_of
from gpt2cli.generation.texts import fit
from gpt2cli.model import Model


@dataclass(frozen=True)
class Choice:
    """A text that may follow: the sum of its tokens' log-probabilities under the model's own distribution, natural, and
    its share of what all the choices have together."""

    text: str
    ids: tuple[int, ...]
    logprob: float
    share: float


def choices(model: Model, prompt: str | Sequence[int], texts: Sequence[str]) -> list[Choice] | None:
    """For each text, as the tokenizer cuts it. None where the window has no room for one
    of them. Raises UserError."""
    ids, fed = ids_of(model, texts), fit(model, prompt).ids
    if len(fed) + max(map(len, ids)) - 1 > model.engine.window:
        return None
    found = next(each for some in answers(model, [Case(fed, ids)]) for _, each in some)
    best = max(one.logprob for one in found)
    total = sum(exp(one.logprob - best) for one in found)
    return [
        Choice(text, tokens, one.logprob, exp(one.logprob - best) / total)
        for text, tokens, one in zip(texts, ids, found, strict=True)
    ]
