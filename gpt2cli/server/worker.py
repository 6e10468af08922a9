"""The one thread that owns the engine: it admits tasks as rows become free, steps the scheduler, and hands out what the
steps have brought to the event loop, in which the requests wait. What needs no rows of the scheduler's is done between
its steps."""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from gpt2cli.engine.engine import physical_memory
from gpt2cli.model import Model
from gpt2cli.server.metrics import Metrics

# Items that wait for a request whose client reads slowly, before its tasks stand aside.
_AHEAD = 256


class Full(Exception):
    """Too many requests wait already."""


class Stream(Protocol):
    """Items that come by steps: those of a scheduler, whose streams these are, or one's own."""

    def advance(self) -> None:
        """A step; the first only begins."""

    def ready(self) -> list[Any]: ...

    @property
    def ended(self) -> bool: ...

    @property
    def reused(self) -> int: ...

    def close(self) -> None: ...


class Work:
    """A task of a request: its items, numbered as the request numbers its tasks. `alone`: its steps are its own, and
    not everybody's."""

    def __init__(self, number: int, rows: int, stream: Stream, *, alone: bool = False) -> None:
        self.number, self.rows, self.stream, self.alone = number, rows, stream, alone
        self.begun = False


class Request:
    """Tasks under way, and what they have brought: pairs of a task's number and an item, or None at its end."""

    def __init__(self, works: Iterable[Work]) -> None:
        self.works = list(works)
        self.items: deque[tuple[int, Any]] = deque()
        self.error: BaseException | None = None
        self.cancelled = False
        self.left = len(self.works)
        self._news = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    async def next(self, seconds: float) -> list[tuple[int, Any]] | None:
        """What has come since, nothing where that takes longer than so many seconds; None at the end. Raises what ended
        a task."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self.items and self.left and self.error is None:
                    self._news.clear()
                    await self._news.wait()
        found = []
        while self.items:
            found.append(self.items.popleft())
        if not found and self.error is not None:
            raise self.error
        return found if found or self.left else None

    def tell(self) -> None:
        """There is news, from another thread."""
        self._loop.call_soon_threadsafe(self._news.set)


class Worker:
    """Serves requests with at most `rows` rows at a time, of which `waiting` may wait for theirs."""

    def __init__(self, model: Model, metrics: Metrics, *, rows: int, waiting: int) -> None:
        self._scheduler, self._metrics = model.scheduler, metrics
        self._rows, self._most = rows, waiting
        self._scheduler.kept = rows
        self._queue: deque[tuple[Request, Work]] = deque()
        self._going: list[tuple[Request, Work]] = []
        self._wake = threading.Condition()
        self._ended = False
        self._turn = 0  # whose of those that work alone it is
        self._thread = threading.Thread(target=self._serve, name="engine", daemon=True)
        self._thread.start()

    def submit(self, request: Request) -> None:
        """Raises Full."""
        with self._wake:
            waiting = {id(other) for other, _ in self._queue}
            before = [work for _, work in (*self._going, *self._queue)]
            waits = sum(work.rows for work in (*before, *request.works[:1])) > self._rows
            if self._ended or (waits and len(waiting) >= self._most):
                raise Full
            self._queue.extend((request, work) for work in request.works)
            self._count()
            self._wake.notify()

    def cancel(self, request: Request) -> None:
        """Its rows are free after the step that is under way; what waits is not begun."""
        request.cancelled = True
        with self._wake:
            self._wake.notify()

    def stop(self) -> None:
        with self._wake:
            self._ended = True
            self._wake.notify()

    def _count(self) -> None:
        """For whoever measures; `_wake` is held."""
        self._metrics.waiting = len({id(request) for request, _ in self._queue})
        self._metrics.running = len({id(request) for request, _ in self._going})
        self._metrics.rows = sum(work.rows for _, work in self._going)

    def _serve(self) -> None:
        while not self._ended:
            with self._wake:
                self._admit()
                able = [pair for pair in self._going if len(pair[0].items) < _AHEAD]
                if not able and not self._ended:
                    # readers that are slow are asked again; nothing else comes without a word
                    self._wake.wait(0.05 if self._going else None)
                    continue
            self._step(able)

    def _admit(self) -> None:
        """What is cancelled goes, what has room begins: in order, so that nobody is overtaken for ever."""
        for request, work in self._going:
            if request.cancelled:
                work.stream.close()
        self._going = [(request, work) for request, work in self._going if not request.cancelled]
        if any(request.cancelled for request, _ in self._queue):
            self._queue = deque(pair for pair in self._queue if not pair[0].cancelled)
        taken = sum(work.rows for _, work in self._going)
        while self._queue and (not taken or taken + self._queue[0][1].rows <= self._rows):
            self._going.append(self._queue.popleft())
            taken += self._going[-1][1].rows
        self._count()

    def _step(self, able: list[tuple[Request, Work]]) -> None:
        """One step of the scheduler for everybody, one of those who work alone, and what they have brought."""
        self._metrics.step_rows.observe(self._metrics.rows)
        for request, work in able:
            if not work.begun:
                work.begun = True
                self._guard(request, work.stream.advance)
        for request, work in self._next(able):
            self._guard(request, work.stream.advance)
        told = {}
        ended = []
        for request, work in able:
            items = self._guard(request, work.stream.ready) or []
            request.items.extend((work.number, item) for item in items)
            if work.stream.ended or request.error is not None:
                ended.append(work)
                request.left -= 1
            if items or work in ended:
                told[id(request)] = request
        for request in told.values():
            request.tell()
        if ended:
            with self._wake:
                self._going = [pair for pair in self._going if pair[1] not in ended]
                self._count()

    def _next(self, able: list[tuple[Request, Work]]) -> list[tuple[Request, Work]]:
        """Who takes a step: any that serves everybody, and of those that work alone one after another."""
        alone = [pair for pair in able if pair[1].alone]
        together = [pair for pair in able if not pair[1].alone]
        self._turn += 1
        return together[:1] + ([alone[self._turn % len(alone)]] if alone else [])

    @staticmethod
    def _guard(request: Request, call: Callable[[], Any]) -> Any:
        """A call on behalf of a request, whose failure is the request's."""
        try:
            return call()
        except Exception as error:
            request.error, request.cancelled = request.error or error, True
            return None


def rows_for(model: Model) -> int:
    """How many rows the machine's memory is good for: their cache gets a quarter of it, and 16 are enough."""
    facts, memory = model.engine.facts, physical_memory()
    row = 2 * facts.layers * facts.heads * facts.head_size * facts.positions * (2 if facts.precision == "fp16" else 4)
    return 16 if memory is None else max(1, min(16, memory // 4 // row))
