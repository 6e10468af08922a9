"""Texts as vectors: the hidden states of a layer, pooled over the tokens of each text, for texts of any length.

A text beyond the window is cut into windows without overlap. Each is pooled by itself, and of their vectors the mean is
taken, weighted by their numbers of tokens; `last` is that of the last window's worth of tokens. Nothing is put before a
text. Memory does not grow with the text, but for `none`. Nothing here prints."""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np

from gpt2cli.analysis.poolings import POOLINGS
from gpt2cli.engine.chunks import CHUNK
from gpt2cli.engine.inspection import Hidden, inspection
from gpt2cli.errors import UsageError
from gpt2cli.generation.parameters import is_whole
from gpt2cli.generation.texts import check_types, ids_of
from gpt2cli.model import Model

Vectors = np.ndarray[Any, np.dtype[np.float32]]  # [width]; with the pooling `none` [tokens, width]
Numbered = tuple[int, Vectors]

_BLOCK = 128  # texts that are put in order of their length, to be computed beside others of the same
_ROWS = 32  # of them, and tokens with padding, that are computed together
_BATCH = 4 * CHUNK


class Embedder:
    """Vectors of texts, whichever way they come. Any number of threads may use it."""

    def __init__(self, model: Model, *, pooling: str = "mean", layer: int = -1, normalize: bool = False) -> None:
        """`pooling` is one of POOLINGS, `layer` as in `inspection`; with `normalize` vectors have length 1. Raises
        UsageError, and CannotMeet for a ready-made graph."""
        check_types(model=(model, Model), normalize=(normalize, bool))
        if not isinstance(pooling, str) or pooling not in POOLINGS:
            raise UsageError(f"`pooling` is {pooling!r}", f"`pooling` must be {', '.join(POOLINGS)}")
        if not is_whole(layer):
            raise UsageError(f"`layer` is {layer!r}", "`layer` must be a whole number")
        self._engine, self._inside = model.engine, inspection(model.engine, layer)
        self._pooling, self._normalize = pooling, normalize
        self._short = min(CHUNK, model.engine.window)  # tokens of a text that is computed at once
        self.layer, self.width = self._inside.layer, self._inside.width

    def each(self, texts: Iterable[Sequence[int]]) -> Iterator[Vectors]:
        """The vectors of texts, in order. Raises UsageError for one that has no token, or one of another vocabulary."""
        rest = iter(texts)
        while block := list(itertools.islice(rest, _BLOCK)):
            found = dict(itertools.chain.from_iterable(self.steps(block)))
            yield from (found[number] for number in range(len(block)))

    def steps(self, texts: Sequence[Sequence[int]], batch: int = _BATCH) -> Iterator[list[Numbered]]:
        """The vectors of texts with the texts' numbers, in any order. Each item is the work of one call: that of some
        short texts, of `batch` tokens at most, or of a chunk of a long one, which may bring nothing yet. Raises as
        `each`."""
        for number, ids in enumerate(texts):
            if not ids:
                raise no_token(f"text {number + 1}")
        order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
        short = [number for number in order if len(texts[number]) <= self._short]
        while short:
            # the longest comes last, and says what all are padded to
            count = max(n for n in range(1, len(short[:_ROWS]) + 1) if n == 1 or n * len(texts[short[n - 1]]) <= batch)
            taken, short = short[:count], short[count:]
            for number in taken:
                self._engine.check_ids(texts[number])
            hidden = self._inside.together([texts[number] for number in taken])
            yield [(number, self._done(self._pooled(one))) for number, one in zip(taken, hidden, strict=True)]
        for number in [number for number in order if len(texts[number]) > self._short]:
            for vectors in self._long(texts[number]):
                yield [] if vectors is None else [(number, vectors)]

    def long(self, ids: Iterable[int]) -> Vectors:
        """The vectors of one text, which may come bit by bit and be of any length. Raises as `each`."""
        vectors = deque(self._long(ids), maxlen=1).pop()
        assert vectors is not None
        return vectors

    def _long(self, ids: Iterable[int]) -> Iterator[Vectors | None]:
        """None after each chunk, and the vectors at the end."""
        window = self._engine.window
        rest = iter(deque(ids, maxlen=window) if self._pooling == "last" else ids)
        found: list[Hidden] = []  # of each window: with `none` they are kept, else summed up in the first place
        tokens = 0
        while taken := list(itertools.islice(rest, window)):
            self._engine.check_ids(taken)
            states, held = list[Hidden](), None
            for chunk in self._engine.chunks(taken):
                hidden, held = self._inside.chunk(chunk, held)
                states.append(hidden)
                yield None
            pooled = self._pooled(np.concatenate(states))
            tokens += len(taken)
            if self._pooling == "none" or not found:
                found.append(pooled)
            else:
                found[0] += (pooled - found[0]) * (len(taken) / tokens)
        if not tokens:
            raise no_token("the text")
        yield self._done(np.concatenate(found) if self._pooling == "none" else found[0])

    def _pooled(self, hidden: Hidden) -> Any:
        """Of one window, in double precision where it is a sum."""
        if self._pooling == "mean":
            return hidden.mean(axis=0, dtype=np.float64)
        if self._pooling == "weighted":
            weights = np.arange(1.0, len(hidden) + 1)
            return weights @ hidden / weights.sum()
        return hidden[-1] if self._pooling == "last" else hidden

    def _done(self, vectors: Any) -> Vectors:
        if self._normalize:
            length = np.linalg.norm(vectors, axis=-1, keepdims=True)
            vectors = vectors / np.where(length > 0, length, 1)
        found: Vectors = np.array(vectors, np.float32)  # a copy: not a view of a whole batch
        return found


def numbers(vector: Vectors, between: str) -> str:
    """A vector as text, with digits enough that each number is read as the same."""
    return between.join(["%.9g"] * len(vector)) % tuple(vector.tolist())


def no_token(name: str) -> UsageError:
    return UsageError(f"{name} is empty: without a token there is no vector", "leave it out")


@overload
def embed(
    model: Model, texts: str | Sequence[int], *, pooling: str = "mean", layer: int = -1, normalize: bool = False
) -> Vectors: ...


@overload
def embed(
    model: Model,
    texts: list[str] | tuple[str, ...],
    *,
    pooling: str = "mean",
    layer: int = -1,
    normalize: bool = False,
) -> list[Vectors]: ...


def embed(
    model: Model,
    texts: str | Sequence[int] | list[str] | tuple[str, ...],
    *,
    pooling: str = "mean",
    layer: int = -1,
    normalize: bool = False,
) -> Vectors | list[Vectors]:
    """A text as a vector of float32, [width]; of several texts, a list of them. A text may be token ids.

    `pooling` "mean" (of all tokens), "last" (the last token's), "weighted" (the n-th token counts n times) or "none" (a
    vector for each token, [tokens, width]). `layer` as transformers counts: 0 are the embeddings, -1 is the last, after
    ln_f. With `normalize` a vector has length 1. A text may be longer than the window: it is cut into windows, of whose
    vectors the mean is taken.

    Any number of threads may embed texts on one model. Raises UsageError, and CannotMeet for a ready-made graph."""
    embedder = Embedder(model, pooling=pooling, layer=layer, normalize=normalize)
    if isinstance(texts, list | tuple) and all(isinstance(one, str) for one in texts):
        return list(embedder.each(ids_of(model, one, "texts") for one in texts))
    return next(embedder.each([ids_of(model, texts, "texts")]))
