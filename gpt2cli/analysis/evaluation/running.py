"""Items -> cases -> answers -> measures, of one model and one protocol. In blocks: memory does not grow with the
file, but for two numbers an item and measure."""

import functools
import hashlib
import itertools
import json
import operator
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from gpt2cli import paths
from gpt2cli.analysis.evaluation.items import Choice, Continuation, Item, Passage, first
from gpt2cli.analysis.evaluation.likelihoods import Case, Likelihood, answers, fitted, windows
from gpt2cli.analysis.evaluation.metrics import Measure, Metric, Tally
from gpt2cli.analysis.evaluation.samples import Samples
from gpt2cli.engine.facts import Ids
from gpt2cli.errors import CannotMeet, UsageError
from gpt2cli.model import Model
from gpt2cli.store import catalog
from gpt2cli.tokenizer.tokenizer import encode_in_pieces

_MODEL = ("model", "revision", "precision", "device")  # whose answer a sample is
_BLOCK = 256  # cases that are put in order of their length


@dataclass(frozen=True)
class Moves:
    """How a window moves over a passage: as `windows` has it. `start`: the model's start token precedes it."""

    stride: int | None = None
    start: bool = True


ROLLING = Moves()


@dataclass(frozen=True)
class Run:
    """What is to be measured: `items` gives them anew each time. `name` and `protocol` are for samples."""

    name: str
    protocol: str
    items: Callable[[], Iterable[Item]]
    measures: Sequence[Measure]
    moves: Moves = ROLLING

    def sizes(self) -> Iterator[int]:
        """The bytes of each item, by which it is told how far the work has come. Reads all: what is wrong with an item
        is raised before anything is computed."""
        return map(_size, self.items())


@dataclass
class Evaluation:
    """What one protocol has found on one model. Sums are those of the scored tokens, of words and bytes as they were
    written."""

    task: str
    protocol: str
    items: int = 0
    tokens: int = 0
    words: int = 0
    nbytes: int = 0
    logprob: float = 0.0
    cut: int = 0  # items whose context the window did not hold
    window: int = 0
    stride: int | None = None
    metrics: list[Metric] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "task": self.task,
            "protocol": self.protocol,
            "items": self.items,
            "tokens": self.tokens,
            "words": self.words or None,
            "bytes": self.nbytes or None,
            "logprob": self.logprob,
            "window": self.window,
            "stride": self.stride,
            "cut": self.cut,
            "metrics": [one.plain() for one in self.metrics],
        }

    def add(self, item: Item, found: Sequence[Likelihood]) -> None:
        self.items += 1
        self.tokens += sum(one.tokens for one in found)
        self.logprob += sum(one.logprob for one in found)
        if isinstance(item, Passage):
            self.words += item.words
            self.nbytes += item.nbytes


@dataclass(frozen=True)
class _Part:
    """A case of an item: the only one, or one of a passage's windows."""

    number: int
    place: int
    item: Item
    case: Case
    nbytes: int


def run(
    model: Model,
    asked: Run,
    *,
    samples: Samples | None = None,
    limit: int | None = None,
    seed: int = 0,
    advance: Callable[[int, bool], None] = lambda nbytes, computed: None,
) -> Evaluation:
    """The result on all items, or the first `limit`. `samples` are read and written; `seed` is the bootstrap's;
    `advance` hears of the bytes of each item that is done. Raises UserError."""
    result = Evaluation(asked.name, asked.protocol, window=model.engine.window, stride=asked.moves.stride)
    tally, parts = Tally(asked.measures), _parts(model, asked, limit, result)
    answered = _answered(model, parts, _Kept(samples, _identity(model, asked)), advance)
    for _, group in itertools.groupby(answered, key=lambda pair: pair[0].number):
        mine, told = zip(*group, strict=True)
        found = [functools.reduce(operator.add, each) for each in zip(*told, strict=True)]
        tally.add(mine[0].item, found)
        result.add(mine[0].item, found)
    if not result.tokens:
        raise UsageError(f"there is nothing to measure in {asked.name}", "it is empty, or a single token long")
    entry = catalog.by_repository(model.name)  # a model of the catalogue, by the name that it has on the hub
    result.metrics = tally.metrics(seed, entry.name if entry else model.name, stride=asked.moves.stride)
    return result


@dataclass(frozen=True)
class _Kept:
    """The samples, if there are any, of one model and protocol."""

    samples: Samples | None
    identity: dict[str, Any]

    def get(self, part: _Part) -> list[Likelihood] | None:
        return self.samples.get(self._key(part), part.case.endings) if self.samples else None

    def add(self, found: Iterable[tuple[_Part, list[Likelihood]]]) -> None:
        if self.samples:
            self.samples.add([(self._key(part), self.identity | _facts(part), told) for part, told in found])

    def _key(self, part: _Part) -> str:
        """Of what is answered by which model. Where it stands, and what is made of the answer, changes no answer."""
        digest = hashlib.sha256(json.dumps([self.identity[name] for name in _MODEL]).encode())
        for ids in (part.case.context, *part.case.endings):
            digest.update(array("q", [len(ids), *ids]).tobytes())
        return digest.hexdigest()[:24]


def _answered(
    model: Model, parts: Iterator[_Part], kept: _Kept, advance: Callable[[int, bool], None]
) -> Iterator[tuple[_Part, list[Likelihood]]]:
    """The parts with their answers, in order: those that are kept, and what has to be computed, a block at a time."""
    while block := list(itertools.islice(parts, _BLOCK)):
        found = {number: told for number, part in enumerate(block) if (told := kept.get(part)) is not None}
        for number in found:
            advance(block[number].nbytes, False)
        missing = [number for number in range(len(block)) if number not in found]
        for group in answers(model, [block[number].case for number in missing]):
            new = {missing[place]: told for place, told in group}
            kept.add((block[number], told) for number, told in new.items())
            found |= new
            for number in new:
                advance(block[number].nbytes, True)
        yield from ((part, found[number]) for number, part in enumerate(block))


def _identity(model: Model, asked: Run) -> dict[str, Any]:
    """What a line of samples is of. The folder of an export changes its name when the checkpoint does; of others, when
    the files change."""
    stats: list[Any] = [model.folder.name]
    if model.revision is None and not model.folder.is_relative_to(paths.cache()) and model.folder.is_dir():
        files = sorted(path for path in model.folder.iterdir() if path.is_file())
        stats += [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    state = hashlib.sha256(repr(stats).encode()).hexdigest()[:8]
    named = {"revision": model.revision or state, "task": asked.name, "protocol": asked.protocol}
    return model.plain() | named


def _facts(part: _Part) -> dict[str, Any]:
    """Of a part, for people."""
    facts: dict[str, Any] = {"item": part.number + 1}
    if isinstance(part.item, Passage):
        return facts | {"part": part.place + 1}
    if isinstance(part.item, Choice):
        facts["answer"] = part.item.answer
    return facts | {"ids": [list(ending) for ending in part.case.endings]}


def _size(item: Item) -> int:
    if isinstance(item, Passage):
        return len(item.text.encode())
    texts = [item.context, item.target] if isinstance(item, Continuation) else [item.context, *item.choices]
    return sum(len(text.encode()) for text in texts)


def _parts(model: Model, asked: Run, limit: int | None, result: Evaluation) -> Iterator[_Part]:
    for number, item in enumerate(first(asked.items(), limit)):
        if isinstance(item, Passage):
            for place, (context, targets) in enumerate(_cut(model, item, asked.moves)):
                nbytes = sum(len(model.tokenizer.bytes_of(token)) for token in targets)
                yield _Part(number, place, item, Case(context, [targets]), nbytes)
            continue
        case, cut = fitted(_asked(model, item), model.engine.window, item.name)
        result.cut += cut
        yield _Part(number, 0, item, case, _size(item))


def _cut(model: Model, item: Passage, moves: Moves) -> Iterator[tuple[list[int], list[int]]]:
    ids = encode_in_pieces(model.tokenizer, item.text)
    return windows(ids, model.engine.window, moves.stride, model.start if moves.start else None)


def _asked(model: Model, item: Continuation | Choice) -> Case:
    """Context and endings as ids. They are cut where the ids of the context end, or before, where the context's last
    characters become one token with the ending's first; white space at the end of a context goes with the ending."""
    endings = [item.target] if isinstance(item, Continuation) else item.endings or item.choices
    before = model.tokenizer.encode(item.context.rstrip())
    whole = [model.tokenizer.encode(item.context + ending) for ending in endings]
    if not all(whole):
        raise UsageError(f"{item.name} has nothing that could be scored", "its tokenizer makes no token of it")
    shared = min(_common(before, ids) for ids in whole)
    context: Ids = before[:shared]
    if not context:
        if model.start is None:
            raise CannotMeet(
                f"{item.name} has no context, and this model has no <|endoftext|> to begin with", "give it a context"
            )
        context = [model.start]
    return Case(context, [ids[shared:] for ids in whole])


def _common(first: Ids, second: Ids) -> int:
    """The length of their common beginning, less than all of the second."""
    length = min(len(first), len(second) - 1)
    return next((place for place in range(length) if first[place] != second[place]), length)
