"""The one thread that owns the engine: it admits tasks as rows become free, steps the scheduler, and hands out what the
steps have brought to the event loop, in which whoever ordered them waits. What needs none of the scheduler's
rows is done between its steps."""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from gpt2cli.model import Model
from gpt2cli.server.metrics import Metrics

# Items that wait for a client that reads slowly, before its tasks stand aside.
_AHEAD = 256


class Full(Exception):
    """Too many orders wait already."""


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


class Steps:
    """A stream of one's own: each step brings some items, or none."""

    reused = 0

    def __init__(self, steps: Iterator[list[Any]]) -> None:
        self._steps: Iterator[list[Any]] | None = steps
        self._begun = False
        self._items: list[Any] = []

    def advance(self) -> None:
        if not self._begun:
            self._begun = True
        elif self._steps is not None:
            try:
                self._items += next(self._steps)
            except StopIteration:
                self._steps = None

    def ready(self) -> list[Any]:
        items, self._items = self._items, []
        return items

    @property
    def ended(self) -> bool:
        return self._steps is None and not self._items

    def close(self) -> None:
        self._steps, self._items = None, []


class Work:
    """A task of an order: its items, numbered as the order numbers its tasks. `alone`: its steps are its own, and not
    everybody's."""

    def __init__(self, number: int, rows: int, stream: Stream, *, alone: bool = False) -> None:
        self.number, self.rows, self.stream, self.alone = number, rows, stream, alone
        self.begun = False


class Order:
    """What one client has ordered: tasks that wait or are under way, and the items that these have brought, each with
    its task's number."""

    def __init__(self, works: Iterable[Work]) -> None:
        self.waiting = deque(works)
        self.left = len(self.waiting)  # tasks that have not ended
        self.items: deque[tuple[int, Any]] = deque()
        self.error: BaseException | None = None
        self.cancelled = False
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
        found, left = [], self.left  # first: the last items come before the end is noted
        while self.items:
            found.append(self.items.popleft())
        if not found and self.error is not None:
            raise self.error
        return found if found or left else None

    def tell(self) -> None:
        """There is news, from another thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
            self._loop.call_soon_threadsafe(self._news.set)


class Worker:
    """Serves orders with at most `rows` rows at a time; at most `waiting` orders wait for theirs."""

    def __init__(self, model: Model, metrics: Metrics, *, rows: int, waiting: int) -> None:
        self._scheduler, self._metrics = model.scheduler, metrics
        self._rows, self._most = rows, waiting
        self._scheduler.kept = rows
        self._queue: deque[Order] = deque()  # those of which a task waits
        self._going: list[tuple[Order, Work]] = []
        self._wake = threading.Condition()
        self._ended = False
        self._turn = 0  # whose of those that work alone it is
        self._thread = threading.Thread(target=self._serve, name="engine", daemon=True)
        self._thread.start()

    def submit(self, order: Order) -> None:
        """Raises Full."""
        with self._wake:
            before = [work for _, work in self._going] + [work for other in self._queue for work in other.waiting]
            first = [order.waiting[0]] if order.waiting else []
            waits = sum(work.rows for work in before + first) > self._rows
            if self._ended or (waits and len(self._queue) >= self._most):
                raise Full
            if order.waiting:
                self._queue.append(order)
            self._count()
            self._wake.notify()

    def cancel(self, order: Order) -> None:
        """Its rows are free after the step that is under way; what waits is not begun."""
        order.cancelled = True
        with self._wake:
            self._wake.notify()

    def stop(self) -> None:
        with self._wake:
            self._ended = True
            self._wake.notify()

    def _count(self) -> None:
        """For whoever measures; `_wake` is held."""
        self._metrics.waiting = len(self._queue)
        self._metrics.running = len({id(order) for order, _ in self._going})
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
        for order, work in self._going:
            if order.cancelled:
                work.stream.close()
        self._going = [(order, work) for order, work in self._going if not order.cancelled]
        self._queue = deque(order for order in self._queue if not order.cancelled)
        taken = sum(work.rows for _, work in self._going)
        while self._queue and (not taken or taken + self._queue[0].waiting[0].rows <= self._rows):
            order = self._queue[0]
            work = order.waiting.popleft()
            if not order.waiting:
                self._queue.popleft()
            self._going.append((order, work))
            taken += work.rows
        self._count()

    def _step(self, able: list[tuple[Order, Work]]) -> None:
        """One step of the scheduler for everybody, one of those who work alone, and what they have brought."""
        self._metrics.step_rows.observe(self._metrics.rows)
        for order, work in able:
            if not work.begun:
                work.begun = True
                self._guard(order, work.stream.advance)
        for order, work in self._next(able):
            self._guard(order, work.stream.advance)
        told = {}
        ended = set()
        for order, work in able:
            items = self._guard(order, work.stream.ready) or []
            order.items.extend((work.number, item) for item in items)
            if work.stream.ended or order.error is not None:
                work.stream.close()  # of an order that failed, the other tasks too
                ended.add(work)
                order.left -= 1
            if items or work in ended:
                told[id(order)] = order
        for order in told.values():
            order.tell()
        if ended:
            with self._wake:
                self._going = [pair for pair in self._going if pair[1] not in ended]
                self._count()

    def _next(self, able: list[tuple[Order, Work]]) -> list[tuple[Order, Work]]:
        """Who takes a step: any whose steps serve everybody, and of those that work alone one after another."""
        alone = [pair for pair in able if pair[1].alone]
        together = [pair for pair in able if not pair[1].alone]
        self._turn += 1
        return together[:1] + ([alone[self._turn % len(alone)]] if alone else [])

    @staticmethod
    def _guard(order: Order, call: Callable[[], Any]) -> Any:
        """A call on behalf of an order, whose failure is the order's."""
        try:
            return call()
        except Exception as error:
            order.error, order.cancelled = order.error or error, True
            return None
