"""Items -> questions -> answers -> measures, of one model and one protocol. In blocks: memory does not grow with the
file, but for two numbers an item and measure."""

import hashlib
import itertools
import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from gpt2cli.analysis.evaluation.items import Choice, Continuation, Item, Passage
from gpt2cli.analysis.evaluation.likelihoods import Likelihood, Question, answers, fitted, windows
from gpt2cli.analysis.evaluation.metrics import Measure, Metric, Tally
from gpt2cli.analysis.evaluation.samples import Samples
from gpt2cli.engine.engine import Ids
from gpt2cli.errors import CannotMeet, UsageError
from gpt2cli.model import Model
from gpt2cli.store import catalog
from gpt2cli.tokenizer.tokenizer import encode_in_pieces

_BLOCK = 256  # questions that are put in order of their length


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
class Result:
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
    computed: int = 0  # items, or windows of passages, that were not in the samples
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
    """A question of an item: the only one, or one of a passage's windows."""

    number: int
    place: int
    item: Item
    question: Question
    nbytes: int


def run(
    model: Model,
    asked: Run,
    *,
    samples: Samples | None = None,
    limit: int | None = None,
    seed: int = 0,
    advance: Callable[[int, bool], None] = lambda nbytes, computed: None,
) -> Result:
    """The result on all items, or the first `limit`. `samples` are read and written; `seed` is the bootstrap's;
    `advance` hears of the bytes of each item that is done. Raises UserError."""
    result = Result(asked.name, asked.protocol, window=model.engine.window, stride=asked.moves.stride)
    tally, identity = Tally(asked.measures), _identity(model, asked)
    parts = _parts(model, asked, limit, result)
    held: tuple[int, Item, list[Likelihood]] | None = None
    while block := list(itertools.islice(parts, _BLOCK)):
        found = _answered(model, block, identity, samples, result, advance)
        for part, told in zip(block, found, strict=True):
            if held is not None and held[0] == part.number:
                told = [a + b for a, b in zip(held[2], told, strict=True)]
            elif held is not None:
                _settle(held, tally, result)
            held = part.number, part.item, told
    if held is not None:
        _settle(held, tally, result)
    if not result.tokens:
        raise UsageError(f"there is nothing to measure in {asked.name}", "it is empty, or a single token long")
    entry = catalog.by_repository(model.name)  # a model of the catalogue, by the name that it has on the hub
    result.metrics = tally.metrics(seed, entry.name if entry else model.name, stride=asked.moves.stride)
    return result


def _settle(held: tuple[int, Item, list[Likelihood]], tally: Tally, result: Result) -> None:
    _, item, found = held
    tally.add(item, found)
    result.add(item, found)


def _answered(
    model: Model,
    block: Sequence[_Part],
    identity: dict[str, Any],
    samples: Samples | None,
    result: Result,
    advance: Callable[[int, bool], None],
) -> list[list[Likelihood]]:
    """The answers to a block of questions, in their order."""
    keys = [_key(identity, part) for part in block] if samples else []
    found = {number: told for number, key in enumerate(keys) if samples and (told := samples.get(key)) is not None}
    for number in found:
        advance(block[number].nbytes, False)
    missing = [number for number in range(len(block)) if number not in found]
    for group in answers(model, [block[number].question for number in missing]):
        new = {missing[place]: told for place, told in group}
        found |= new
        result.computed += len(new)
        if samples:
            samples.add([(keys[number], identity | _facts(block[number]), told) for number, told in new.items()])
        for number in new:
            advance(block[number].nbytes, True)
    return [found[number] for number in range(len(block))]


def _identity(model: Model, asked: Run) -> dict[str, Any]:
    """What a line of samples is of. The folder of an export changes its name when the checkpoint does; of others, when
    the files change."""
    files = sorted(model.folder.iterdir()) if model.revision is None and model.folder.is_dir() else []
    stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files if path.is_file()]
    state = hashlib.sha256(repr((model.folder.name, stats)).encode()).hexdigest()[:8]
    return {
        "model": model.name,
        "revision": model.revision or state,
        "precision": model.precision,
        "device": model.device,
        "task": asked.name,
        "protocol": asked.protocol,
    }


def _key(identity: dict[str, Any], part: _Part) -> str:
    digest = hashlib.sha256(json.dumps(identity).encode())
    for ids in (part.question.context, *part.question.endings):
        digest.update(array("q", [len(ids), *ids]).tobytes())
    digest.update(repr((part.number, part.place)).encode())
    return digest.hexdigest()[:24]


def _facts(part: _Part) -> dict[str, Any]:
    """Of a part, for people."""
    facts: dict[str, Any] = {"item": part.number + 1}
    if isinstance(part.item, Passage):
        return facts | {"part": part.place + 1}
    if isinstance(part.item, Choice):
        facts["answer"] = part.item.answer
    return facts | {"ids": [list(ending) for ending in part.question.endings]}


def _size(item: Item) -> int:
    if isinstance(item, Passage):
        return len(item.text.encode())
    texts = [item.context, item.target] if isinstance(item, Continuation) else [item.context, *item.choices]
    return sum(len(text.encode()) for text in texts)


def _parts(model: Model, asked: Run, limit: int | None, result: Result) -> Iterator[_Part]:
    for number, item in enumerate(itertools.islice(asked.items(), limit)):
        if isinstance(item, Passage):
            for place, (context, targets) in enumerate(_cut(model, item, asked.moves)):
                nbytes = sum(len(model.tokenizer.bytes_of(token)) for token in targets)
                yield _Part(number, place, item, Question(context, [targets]), nbytes)
            continue
        question, cut = fitted(_asked(model, item), model.engine.window, item.name)
        result.cut += cut
        yield _Part(number, 0, item, question, _size(item))


def _cut(model: Model, item: Passage, moves: Moves) -> Iterator[tuple[list[int], list[int]]]:
    ids = encode_in_pieces(model.tokenizer, item.text)
    return windows(ids, model.engine.window, moves.stride, model.start if moves.start else None)


def _asked(model: Model, item: Continuation | Choice) -> Question:
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
    return Question(context, [ids[shared:] for ids in whole])


def _common(first: Ids, second: Ids) -> int:
    """The length of their common beginning, less than all of the second."""
    length = min(len(first), len(second) - 1)
    return next((place for place in range(length) if first[place] != second[place]), length)
