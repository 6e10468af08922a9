"""The engine's thread and what it hands to the event loop, without HTTP."""

import asyncio
import contextlib
from collections import deque

import pytest
from servers import awaited

from gpt2cli.engine.tasks import Feed
from gpt2cli.errors import CannotMeet
from gpt2cli.server.metrics import Metrics
from gpt2cli.server.worker import Order, Work, Worker


@pytest.fixture
def worker(small_model):
    worker = Worker(small_model, Metrics(), rows=4, waiting=4)
    yield worker
    worker.stop()


def endless():
    yield [Feed([1, 2])]
    while True:
        yield "item"
        yield [Feed([3], 0, 2)]


def failing():
    yield [Feed([1, 2])]
    raise CannotMeet("it cannot be", "do without")


def test_where_one_task_fails_the_others_of_its_order_give_up_their_rows(small_model, worker):
    async def fail():
        works = [
            Work(number, 1, small_model.scheduler.stream(task())) for number, task in enumerate((failing, endless))
        ]
        order = Order(works)
        worker.submit(order)
        with contextlib.suppress(CannotMeet):
            while await order.next(10) is not None:
                pass
        assert order.error is not None
        return works

    works = asyncio.run(fail())
    awaited(lambda: worker._metrics.running == 0)
    assert all(work.stream.ended for work in works)


def test_what_comes_last_is_not_lost_where_the_reader_has_just_looked():
    class Late(deque):
        """Brings its item, and the end, between two looks of the reader."""

        def __bool__(self):
            self.looks = getattr(self, "looks", 0) + 1
            if self.looks == 2:
                self.append((0, "last"))
                order.left = 0
                return False
            return len(self) > 0

    async def read():
        nonlocal order
        order = Order([Work(0, 1, None)])
        order.items = Late()
        return [await order.next(0.01) for _ in range(3)]

    order = None
    assert asyncio.run(read()) == [[], [(0, "last")], None]


def test_news_for_a_loop_that_has_ended_are_for_nobody():
    async def begin():
        return Order([])

    asyncio.run(begin()).tell()
