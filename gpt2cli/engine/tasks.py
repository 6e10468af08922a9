"""What the scheduler is asked for: a task says which rows it wants (Feed), and how far it has come (Job)."""

from collections import deque
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from gpt2cli.engine.facts import Ids, Logits

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Feed:
    """A row that a task wants next: `tokens` after the first `length` (None: all) of what its row number `parent`
    holds, or in a new row. A row that is nobody's parent is given up.

    With `every` the logits after each of the tokens. `reuse`: so many of a new row's first tokens need not be computed
    where a row that is there begins with them, computed in the same calls; `every` does not count these. With
    `resumes` whatever calls they came from: the logits may then differ in a last bit from what they are afresh."""

    tokens: Ids
    parent: int | None = None
    length: int | None = None
    every: bool = False
    reuse: int = 0
    resumes: bool = False


Task = Generator[Item | list[Feed], Logits, Result]


@dataclass(eq=False)
class Row:
    """A row of the engine that belongs to a job."""

    place: int
    held: int  # tokens that count; an interrupted call may have left more in the engine
    chunks: deque[Ids]  # still to be fed
    every: bool
    wish: Feed | None = None  # a new row's, of which nothing has been computed yet
    logits: list[Logits] = field(default_factory=list)

    def join(self, count: int) -> None:
        """Let the next `count` chunks be fed together."""
        first = [self.chunks.popleft() for _ in range(count)]
        self.chunks.appendleft([token for chunk in first for token in chunk])


class Job:
    """A task under way."""

    def __init__(self, task: Task[Any, Any]) -> None:
        self.task = task
        self.feeds: list[Feed] | None = None  # what it wants, while it has no rows for it
        self.rows: list[Row] = []
        self.items: deque[Any] = deque()
        self.begun = self.ended = False
        self.reused = 0  # tokens that were there
        self.error: BaseException | None = None
        self.result: Any = None

    def advance(self, logits: Logits | None = None, error: BaseException | None = None) -> None:
        """Let the task go on to its next wish, or to its end."""
        if self.ended:
            return
        try:
            wish = self.task.throw(error) if error else self.task.send(logits)  # type: ignore[arg-type]
            while not isinstance(wish, list):
                self.items.append(wish)
                wish = next(self.task)
            self.feeds = wish
        except StopIteration as end:
            self.ended, self.result = True, end.value
        except BaseException as failure:
            self.ended, self.error = True, failure
            if not isinstance(failure, Exception) and failure is not error:
                raise  # a signal, which struck amid this task

    def goes_on(self) -> bool:
        """Whether all that is wanted is more of each row; if so, it is taken up."""
        feeds = self.feeds or []
        if len(feeds) != len(self.rows):
            return False
        for place, feed in enumerate(feeds):
            if feed.parent != place or feed.length is not None or len(feed.tokens) != 1:
                return False
        for row, feed in zip(self.rows, feeds, strict=True):
            row.chunks.append(feed.tokens)
            row.logits, row.every = [], feed.every
        self.feeds = None
        return True

    def logits(self) -> Logits:
        found = [logits for row in self.rows for logits in row.logits]
        if not found:  # all was there
            return np.empty((0, 0), np.float32)
        return found[0] if len(found) == 1 else np.concatenate(found)
