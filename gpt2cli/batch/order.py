"""Answers in the order of their rows, whenever they come."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator

from gpt2cli.batch.answers import Answer
from gpt2cli.batch.rows import Row

Answering = Callable[[Iterable[Row]], Iterator[Answer]]


def answers(rows: Iterable[Row], answering: Answering, *, ordered: bool) -> Iterator[list[Answer]]:
    """Those that can be written, each time there are some."""
    if not ordered:
        yield from ([one] for one in answering(rows))
        return
    asked = deque[int]()  # the rows that have not been written
    waiting: dict[int, Answer] = {}  # answers before whom another is missing

    def watched() -> Iterator[Row]:
        for row in rows:
            asked.append(row.number)
            yield row

    for one in answering(watched()):
        waiting[one.number] = one
        ready = []
        while asked and asked[0] in waiting:
            ready.append(waiting.pop(asked.popleft()))
        if ready:
            yield ready
