"""Many texts on one engine. Each is a task: a generator that says which rows it wants computed, gets their logits, and
yields what it makes of them.

    logits = yield [Feed(prompt)]                       # a new row; the logits after its last token: [1, vocabulary]
    yield piece                                         # for whoever reads the stream
    logits = yield [Feed([token], parent=0)] * 4        # four rows that go on from the first: [4, vocabulary]

A step of the scheduler serves all tasks: one chunk of the first prompt that is long, and one token for every row that
decodes, as one batch. So no row waits longer than a chunk, and rows come and go while others run.

What a task gets does not depend on who else is there, bit for bit: prompts are cut into the same chunks, and rows of a
batch do not see each other (tests/engine/test_scheduler.py). Whoever waits for an item drives the steps, so there is no
thread of its own, and texts may be read from any number of threads."""

import contextlib
import itertools
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

from gpt2cli.engine.engine import Engine
from gpt2cli.engine.facts import Ids, Logits
from gpt2cli.engine.tasks import Feed, Item, Job, Result, Row, Task
from gpt2cli.errors import UsageError, UserError

# Items that wait for their reader, before a task whose reader is slow stands aside.
_AHEAD = 16
# Tokens of a call that costs little more than a step: drafts, not prompts.
_SHORT = 16


class Stream(Iterator[Item]):
    """The items of a task. Closing it, or letting go of it, gives up its rows."""

    def __init__(self, scheduler: "Scheduler", job: Job) -> None:
        self._scheduler, self._job = scheduler, job

    def __next__(self) -> Item:
        job = self._job
        with self._scheduler.lock:
            while not (job.items or job.ended):
                self._scheduler._serve(job)
            if job.items:
                item: Item = job.items.popleft()
                return item
        error, job.error = job.error, None
        raise error or StopIteration

    def advance(self) -> None:
        """A step for everybody, whatever waits here already: for whoever serves several streams in one thread."""
        with self._scheduler.lock:
            if not self._job.ended:
                self._scheduler._serve(self._job)

    def ready(self) -> list[Item]:
        """The items that are there, without waiting. Raises what ended the task, when all have been taken."""
        with self._scheduler.lock:
            items: list[Item] = list(self._job.items)
            self._job.items.clear()
        if not items and self._job.error is not None:
            error, self._job.error = self._job.error, None
            raise error
        return items

    @property
    def ended(self) -> bool:
        """Whether no item will follow."""
        return self._job.ended and not self._job.items and self._job.error is None

    @property
    def reused(self) -> int:
        """Tokens that needed not be computed, because a row began with them."""
        return self._job.reused

    def close(self) -> None:
        self._job.ended = True
        self._job.items.clear()

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # a signal struck before it had a job
            self._job.ended = True


class Scheduler:
    """Owns the rows of an engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.lock = threading.RLock()
        # Rows that nobody holds any more stay for whoever begins in the same way, as long as there are no more in all.
        self.kept = 0
        self._used = [0]  # for each row, when somebody held it last
        self._clock = 0
        self._jobs: list[Job] = []
        self._stepping = self._midway = False

    def stream(self, task: Task[Item, Any]) -> Stream[Item]:
        """The items of the task, computed as they are asked for."""
        return Stream(self, Job(task))

    def run(self, task: Task[Any, Result]) -> Result:
        """The task's result."""
        job = Job(task)
        for _ in Stream[Any](self, job):
            pass
        result: Result = job.result
        return result

    def shared(self, ids: Ids) -> int:
        """How many of the first tokens of `ids`, but never all, a row holds."""
        with self.lock:
            return max(_shared(said, ids[:-1]) for said in self.engine.said)

    @contextlib.contextmanager
    def between_steps(self) -> Iterator[Engine]:
        """The engine, while nobody steps. The rows that are there are others': they must stay as they are."""
        with self.lock:
            if self._stepping:
                raise _by_itself()
            yield self.engine

    def _serve(self, job: Job) -> None:
        """A step for everybody, on behalf of `job`. What interrupts it ends the job."""
        if self._stepping:
            raise _by_itself()
        try:
            self._stepping = True
            if job.begun:
                self._step()
            else:
                job.begun = True
                self._jobs.append(job)
                job.advance()
        except BaseException as error:
            for other in self._jobs:
                if other is not job and other.error is error:  # amid whose task the signal struck
                    other.error = _by_another()
            if job.ended and job.error is not error:
                raise
            job.advance(error=error)
        finally:
            self._stepping = False

    def _step(self) -> None:
        if self._midway:  # interrupted there: nobody knows any more whose row is where, and what it holds
            self._midway = False
            self.engine.reset()
            for job in self._jobs:
                if job.rows:  # else it has lost nothing: it has only begun
                    job.advance(error=_by_another())
        count = len(self._jobs)
        self._jobs = [job for job in self._jobs if not job.ended]
        going = [job for job in self._jobs if len(job.items) < _AHEAD]
        steady = len(self._jobs) == count  # else rows were given up, and the others close ranks
        self._arrange([job for job in going if job.feeds is not None and not (steady and job.goes_on())])
        single: list[tuple[Job, Row]] = []
        long = False
        fed = [(job, row) for job in going for row in job.rows if row.chunks]
        if len(fed) == 1 and not (row := fed[0][1]).every:  # nobody waits for it
            row.join(self.engine.together(row.chunks))
        for job, row in fed:
            size = len(row.chunks[0])
            if size == 1:
                single.append((job, row))
            elif size <= _SHORT or not long:
                long = long or size > _SHORT
                if not self._catch_up(job, row):
                    self._feed([(job, row)])
        if single:
            self._feed(sorted(single, key=lambda pair: pair[1].place))
        for job in going:
            if not job.ended and not any(row.chunks for row in job.rows):
                job.advance(job.logits())

    def _feed(self, rows: list[tuple[Job, Row]]) -> None:
        """The next chunk of each of the rows, in one call. A job that cannot be computed ends."""
        engine = self.engine
        for _, row in rows:
            if len(engine.said[row.place]) != row.held:
                engine.rewind(row.held, row.place)
        tokens, places = [row.chunks[0] for _, row in rows], [row.place for _, row in rows]
        every = len(rows) == 1 and rows[0][1].every
        silent = len(rows) == 1 and len(rows[0][1].chunks) > 1
        try:
            logits = engine.feed(tokens, rows=places, every=every, silent=silent)
        except UserError as error:
            if len(rows) == 1:
                rows[0][0].advance(error=error)
            else:  # whose it is, each alone tells
                for pair in rows:
                    self._feed([pair])
            return
        self._midway = True
        self._note(rows, logits)
        self._midway = False

    @staticmethod
    def _note(rows: list[tuple[Job, Row]], logits: Logits) -> None:
        """What a call has computed."""
        for _, row in rows:
            row.held += len(row.chunks.popleft())
            row.wish = None
        if len(rows) == 1:
            row = rows[0][1]
            if row.every or not row.chunks:
                row.logits.append(logits)
            return
        first = 0
        for job, group in itertools.groupby(rows, key=lambda pair: pair[0]):
            mine = [row for _, row in group]
            block = logits[first : first + len(mine)]
            first += len(mine)
            if mine == job.rows:  # as nearly always: no copy
                mine[0].logits.append(block)
            else:
                for row, part in zip(mine, block, strict=True):
                    row.logits.append(part[None])

    def _arrange(self, jobs: list[Job]) -> None:
        """Give the rows that these jobs want their places: a parent's first child takes its place, others one that is
        given up, or a new one. What nobody holds goes, or moves to the end, so that the rows of a batch lie side by
        side."""
        if not jobs:
            return
        owned = {row.place for job in self._jobs for row in job.rows}
        settled = {row.place: row for job in self._jobs if job not in jobs for row in job.rows}
        copies: list[tuple[Row, int | None]] = []
        wanted: list[list[Row]] = []
        for job in jobs:
            wanted.append([])
            for feed in job.feeds or ():
                row, source = self._row(job, feed)
                wanted[-1].append(row)
                if source is not None and source not in settled and (feed.parent is not None or source not in owned):
                    settled[source] = row
                else:
                    copies.append((row, source))
        self._clock += 1
        for place in owned.intersection(range(len(self._used))):
            self._used[place] = self._clock
        idle = [place for place in range(len(self.engine.said)) if place not in settled and self.engine.said[place]]
        places = _places(settled, copies, sorted(idle, key=self._used.__getitem__), self.kept)
        self._midway = True
        try:
            self.engine.select(places)
        except UserError as error:  # no memory for so many rows
            self._midway = False
            new = {id(row) for row, _ in copies}
            for job, rows in zip(jobs, wanted, strict=True):
                if any(id(row) in new for row in rows):
                    job.advance(error=error)
            self._arrange([job for job in jobs if not job.ended])
            return
        self._used = [
            self._clock if place is None or number in settled else self._used[place]
            for number, place in enumerate(places)
        ]
        for place, row in settled.items():
            row.place = place
        for job, rows in zip(jobs, wanted, strict=True):
            job.rows, job.feeds = rows, None
        self._midway = False

    def _row(self, job: Job, feed: Feed) -> tuple[Row, int | None]:
        """The row that is wanted, and the place of the row it begins as, None for an empty one."""
        source: int | None = None
        held = 0
        if feed.parent is not None:
            parent = job.rows[feed.parent]
            source, held = parent.place, parent.held if feed.length is None else feed.length
        elif feed.reuse:
            source, held = self._longest(feed)
            job.reused += held
        left = feed.tokens[held:] if feed.parent is None else feed.tokens
        wish = feed if feed.reuse and not held else None
        return Row(-1, held, deque(self.engine.chunks(left)), feed.every, wish), source

    def _catch_up(self, job: Job, row: Row) -> bool:
        """Whether a row of which nothing has been computed is found to begin as another that has come on meanwhile. It
        takes over what that one holds."""
        if row.wish is None:
            return False
        source, held = self._longest(row.wish)
        if not held:
            return False
        places: list[int | None] = list(range(len(self.engine.said)))
        places[row.place] = source
        self._midway = True
        self.engine.select(places)
        row.held, row.chunks = held, deque(self.engine.chunks(row.wish.tokens[held:]))
        row.wish, job.reused = None, job.reused + held
        self._midway = False
        return True

    def _longest(self, feed: Feed) -> tuple[int | None, int]:
        """The place of the row that holds most of what is to be fed, None where none does, and how many tokens."""
        known = [self._known(place, feed) for place in range(len(self.engine.said))]
        held = max(known)
        return (known.index(held) if held else None), held

    def _known(self, place: int, feed: Feed) -> int:
        """How many of the first tokens that are to be fed the row at `place` holds."""
        shared = _shared(self.engine.said[place], feed.tokens[: feed.reuse])
        if feed.resumes:
            return shared
        held = 0  # as far as the same calls would be made
        for call, chunk in zip(self.engine.calls[place], self.engine.chunks(feed.tokens), strict=False):
            if call != len(chunk) or held + call > shared:
                break
            held += call
        return held


def _by_another() -> UsageError:
    return UsageError("the text was interrupted by another on this model", "begin it again")


def _by_itself() -> UsageError:
    return UsageError("a text waits for another on the same model, which waits for it", "load the model twice")


def _places(
    settled: dict[int, Row], copies: list[tuple[Row, int | None]], idle: list[int], kept: int
) -> list[int | None]:
    """For each place of the engine the one that its row comes from: rows that somebody holds, settled or copies, then
    those of the `idle` (the longest idle first) for which there is room among `kept`. Who can stays where it is.
    Completes `settled`."""
    active = len(settled) + len(copies)
    room = max(0, kept - active)
    idle = idle[max(0, len(idle) - room) :]
    places: list[int | None] = [None] * (active + len(idle))
    stay = [place for place in settled if place < active]
    stay += [place for place in idle if active <= place < len(places)]
    for place in stay:
        places[place] = place
    free = [place for place in range(len(places)) if place not in stay]
    for source in sorted(set(settled).difference(stay)):
        gap = free.pop(0)
        places[gap], settled[gap] = source, settled.pop(source)
    for row, origin in copies:
        gap = free.pop(0)
        places[gap], settled[gap] = origin, row
    for place in idle:
        if place not in stay:
            places[free.pop(0)] = place
    return places or [None]


def _shared(first: Ids, second: Ids) -> int:
    """The length of their common beginning."""
    return next(
        (place for place, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )
