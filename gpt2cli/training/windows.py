"""What a step reads: windows of a corpus, in an order that (seed, place) decides and nothing else.

An epoch cuts the corpus at another offset and shuffles the pieces. Nothing is left out and nothing is read twice: each
token is a target once an epoch, those that have a loss."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpt2cli.training.documents import Corpus
from gpt2cli.training.network import IGNORED

Batch = tuple[Any, Any]  # ids and targets, int64 [rows, length] each


@dataclass(frozen=True)
class Place:
    """Where the reading is: the next window of an epoch."""

    epoch: int = 0
    window: int = 0


class Windows:
    """Windows of `length` tokens, shuffled."""

    def __init__(self, corpus: Corpus, length: int, seed: int) -> None:
        """The corpus has two tokens or more."""
        self._corpus, self._seed = corpus, seed
        self.length = min(length, len(corpus.ids) - 1)
        self._epoch: tuple[int, Any] = -1, None

    @property
    def per_epoch(self) -> float:
        """Windows of an epoch, on average."""
        return (len(self._corpus.ids) - 1) / self.length

    def take(self, place: Place, rows: int) -> tuple[Batch, Place]:
        """The next windows, and the place after them. Where an epoch ends in between, the next one goes on."""
        chosen = self._cuts(place.epoch)[place.window : place.window + rows]
        place = Place(place.epoch, place.window + len(chosen))
        while len(chosen) < rows:
            more = self._cuts(place.epoch + 1)[: rows - len(chosen)]
            chosen, place = np.concatenate([chosen, more]), Place(place.epoch + 1, len(more))
        return batch(self._corpus, chosen, self.length), place

    def _cuts(self, epoch: int) -> Any:
        """[windows, 2]: the places of the first target of each and behind the last, shuffled."""
        if self._epoch[0] != epoch:
            generator = np.random.default_rng([self._seed, epoch])
            total = len(self._corpus.ids)
            bounds = np.arange(1 + int(generator.integers(self.length)), total, self.length)
            bounds = np.unique(np.concatenate([[1], bounds, [total]]))
            cuts = np.stack([bounds[:-1], bounds[1:]], axis=1)
            self._epoch = epoch, generator.permutation(cuts)
        return self._epoch[1]


def in_order(corpus: Corpus, length: int, rows: int) -> Iterator[Batch]:
    """All windows of a corpus, one after another, for its loss."""
    total = len(corpus.ids)
    bounds = [*range(1, total, length), total]
    cuts = np.stack([bounds[:-1], bounds[1:]], axis=1)
    for start in range(0, len(cuts), rows):
        yield batch(corpus, cuts[start : start + rows], length)


def batch(corpus: Corpus, cuts: Any, length: int) -> Batch:
    """The windows whose targets lie between `cuts` [rows, 2]; what is shorter is filled with targets without a loss."""
    ids = np.zeros((len(cuts), length), np.int64)
    targets = np.full((len(cuts), length), IGNORED, np.int64)
    for row, (start, stop) in enumerate(cuts.tolist()):
        ids[row, : stop - start] = corpus.ids[start - 1 : stop - 1]
        learnt = corpus.learnt(np.arange(start, stop))
        targets[row, : stop - start] = np.where(learnt, corpus.ids[start:stop], IGNORED)
    return ids, targets
