"""What an explanation holds, and its JSON. Places are those of the tokens that were fed, from 0."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gpt2cli.analysis.scoring import Scored
from gpt2cli.tokenizer.tokenizer import Tokenizer

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Told(Scored):
    """A token and its prediction. `entropy` in nats, None for a first token that nothing precedes."""

    entropy: float | None = None

    def plain(self, tokenizer: Tokenizer) -> dict[str, Any]:
        return super().plain(tokenizer) | {"entropy": self.entropy}


@dataclass(frozen=True)
class Lens:
    """What the model would say after each layer, 0 being the embeddings: the likeliest token at each of `positions`,
    its log-probability, and the last layer's divergence from it (Kullback-Leibler), each [layers + 1, positions]."""

    positions: range
    ids: Array
    logprobs: Array
    divergences: Array

    def plain(self, tokenizer: Tokenizer) -> dict[str, Any]:
        rows = zip(self.ids.tolist(), _rounded(self.logprobs, 6), _rounded(self.divergences, 6), strict=True)
        said = [
            [
                {"id": token, "token": tokenizer.decode([token]), "logprob": logprob, "kl": divergence}
                for token, logprob, divergence in zip(*row, strict=True)
            ]
            for row in rows
        ]
        return {"layers": list(range(len(said))), "positions": list(self.positions), "said": said}


@dataclass(frozen=True)
class Weights:
    """How much the tokens at `positions` look at each token, [positions, tokens]; at none that comes after them."""

    positions: range
    rows: Array

    def plain(self) -> list[list[float]]:
        return [_rounded(row[: place + 1], 4) for place, row in zip(self.positions, self.rows, strict=True)]


@dataclass(frozen=True)
class Influence:
    """How much the prediction of a token, or of it rather than of another, loses where one before it is left out. A
    score for each token, None for those that cannot be left out."""

    token: int
    instead: int | None
    base: float  # the log-probability of `token`, less that of `instead`
    scores: tuple[float | None, ...]

    def plain(self, tokenizer: Tokenizer) -> dict[str, Any]:
        def named(token: int) -> dict[str, Any]:
            return {"id": token, "token": tokenizer.decode([token])}

        return {
            "method": "occlusion",
            "token": named(self.token),
            "instead": None if self.instead is None else named(self.instead),
            "base": round(self.base, 6),
            "scores": [None if score is None else round(score, 6) for score in self.scores],
        }


@dataclass(frozen=True)
class Explanation:
    """What a model made of a text. What was not asked for is None."""

    common: dict[str, Any] = field(repr=False)  # which model, as JSON has it
    tokenizer: Tokenizer = field(repr=False)
    start: bool  # whether the first of the tokens is the start token
    target: int  # the place of the token whose prediction is explained; it is made at the place before
    tokens: Sequence[Told]
    following: Told  # what would come after the last token: its `top` and `entropy`; the token is the likeliest
    lens: Lens | None = None
    attention: dict[int, dict[int, Weights]] | None = None  # by layer and head
    rollout: Weights | None = None
    influence: Influence | None = None
    value_zeroing: dict[int, Array] | None = None  # by layer, a score for each token up to where the prediction is made

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        following = self.following.plain(self.tokenizer)
        return self.common | {
            "start": self.start,
            "target": self.target,
            "tokens": [one.plain(self.tokenizer) for one in self.tokens],
            "next": {"top": following["top"], "entropy": following["entropy"]},
            "lens": None if self.lens is None else self.lens.plain(self.tokenizer),
            "attention": None if self.attention is None else _attention(self.attention),
            "rollout": self.rollout and {"positions": list(self.rollout.positions), "weights": self.rollout.plain()},
            "influence": None if self.influence is None else self.influence.plain(self.tokenizer),
            "value_zeroing": None if self.value_zeroing is None else self._zeroing(self.value_zeroing),
        }

    def _zeroing(self, found: dict[int, Array]) -> dict[str, Any]:
        def filled(scores: Array) -> list[float | None]:
            return [*_rounded(scores, 6), *[None] * (len(self.tokens) - len(scores))]

        return {"layers": [{"layer": layer, "scores": filled(scores)} for layer, scores in found.items()]}


def _attention(found: dict[int, dict[int, Weights]]) -> dict[str, Any]:
    one = next(iter(next(iter(found.values())).values()))
    return {
        "positions": list(one.positions),
        "layers": [
            {
                "layer": layer,
                "heads": [{"head": head, "weights": weights.plain()} for head, weights in heads.items()],
            }
            for layer, heads in found.items()
        ],
    }


def _rounded(values: Array, digits: int) -> list[Any]:
    found: list[Any] = values.astype(np.float64).round(digits).tolist()
    return found
