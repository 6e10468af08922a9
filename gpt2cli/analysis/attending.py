"""Where a model looks: attention of chosen layers and heads, rollout, value zeroing."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gpt2cli.analysis.explained import Array, Weights
from gpt2cli.engine.chunks import CHUNK
from gpt2cli.engine.inspection import Held, Insides, Seen

ROLLOUT = 256  # tokens of a text for each of which rollout is given


class Looks:
    """What is kept of attention, as chunks of a text of `length` tokens are read: with `whole` all of the chosen layers
    and heads, else only how the token at `place` looks."""

    def __init__(self, layers: Sequence[int], heads: Sequence[int], place: int, length: int, *, whole: bool) -> None:
        self._layers, self._heads, self._place, self._length, self._whole = layers, heads, place, length, whole
        self._done = 0
        self._kept = defaultdict[tuple[int, int], list[Array]](list)
        self._means: list[Array] = []  # of each layer's heads, [tokens, tokens]
        self.last: list[Array] = []  # how the token at `place` looks, of each layer [heads, tokens up to it]

    def add(self, seen: Seen, *, heads: bool, mean: bool) -> None:
        """The next chunk; `heads` and `mean` say for what it is wanted: `attention`, `rollout`."""
        first, new = self._done, seen.states.shape[1]
        self._done += new
        if first <= self._place < self._done:
            self.last = [weights[:, self._place - first, : self._place + 1].copy() for weights in seen.attention]
        if mean:
            self._means = self._means or [np.zeros((self._length,) * 2, np.float32) for _ in seen.attention]
            for whole, weights in zip(self._means, seen.attention, strict=True):
                whole[first : self._done, : self._done] = weights.mean(axis=0)
        if heads and self._whole:
            for layer in self._layers:
                for head in self._heads:
                    rows = np.zeros((new, self._length), np.float32)
                    rows[:, : self._done] = seen.attention[layer][head]
                    self._kept[layer, head].append(rows)

    def attention(self) -> dict[int, dict[int, Weights]]:
        """By layer and head."""

        def weights(layer: int, head: int) -> Weights:
            if self._whole:
                return Weights(range(self._length), np.concatenate(self._kept[layer, head]))
            return Weights(range(self._place, self._place + 1), self.last[layer][None, head])

        return {layer: {head: weights(layer, head) for head in self._heads} for layer in self._layers}

    def rollout(self) -> Weights:
        """The mean of a layer's heads and the residual stream beside it, half and half, through all layers."""
        place, length = self._place, self._length
        found: Any = np.eye(length) if length <= ROLLOUT else np.eye(length)[[place]]
        for mean in reversed(self._means):
            step = 0.5 * mean + 0.5 * np.eye(length)
            found = found @ (step / step.sum(axis=1, keepdims=True))
        return Weights(range(length) if length <= ROLLOUT else range(place, place + 1), found)


def value_zeroing(inside: Insides, states: Array, looks: Sequence[Array], held: Held) -> Iterator[list[Array] | None]:
    """For each layer a score for each token up to one: 1 - cosine of what comes out of the block there, with and
    without the token's value vectors. `states` [layers + 1, width] are that token's, `looks` its attention, `held` has
    the values. None after each step, and the scores at the end."""
    layers, count = len(looks), looks[0].shape[1]
    scores: list[list[Array]] = [[] for _ in range(layers)]
    # what each token contributes to each head: [layers, tokens, heads * head size]
    parts = np.stack(
        [
            (weights[:, :, None] * held.values(layer)[:, :count]).swapaxes(0, 1).reshape(count, -1)
            for layer, weights in enumerate(looks)
        ]
    )
    whole = parts.sum(axis=1, keepdims=True)
    for first in range(0, count, CHUNK):
        without = np.concatenate([whole, whole - parts[:, first : first + CHUNK]], axis=1)
        residual = np.repeat(states[:-1, None], without.shape[1], axis=1)
        found = inside.after_attention(without, residual).astype(np.float64)
        found /= np.linalg.norm(found, axis=-1, keepdims=True)
        for layer, rows in enumerate(found):
            scores[layer].append(np.maximum(1 - rows[1:] @ rows[0], 0))
        yield None
    yield [np.concatenate(one) for one in scores]
