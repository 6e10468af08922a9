"""Rows -> answers, on one model. Texts are generated many at a time: a row that ends makes room for the next at once.
Scores and vectors are computed in blocks. An answer comes when it is there, in whatever order."""

import itertools
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

from gpt2cli.analysis.embedding import Embedder, numbers
from gpt2cli.analysis.scoring import Score, Scorer
from gpt2cli.batch import answers, wishes
from gpt2cli.batch.answers import Answer
from gpt2cli.batch.rows import EMBEDDINGS, Row
from gpt2cli.batch.wishes import Settings
from gpt2cli.batch.works import RecordWork, RequestWork, Work, request_of
from gpt2cli.errors import CannotMeet, CorruptFile, UsageError
from gpt2cli.generation import texts
from gpt2cli.generation.receipts import Receipts
from gpt2cli.model import Model
from gpt2cli.server import embeddings
from gpt2cli.server.embeddings import Embeddings
from gpt2cli.server.protocol import BadRequest
from gpt2cli.tokenizer.tokenizer import encode_in_pieces

# What is wrong with one row, and not with the model or the machine. CorruptFile: the tokenizer fails on this text.
_ROWS_OWN = (BadRequest, UsageError, CannotMeet, CorruptFile)
_BLOCK = 64  # rows that are scored, or made vectors, together
_AHEAD = 1024  # rows that may be done before one that takes longer


class Runner:
    """Answers rows. `rows` are computed at a time, 0: as many as memory is good for."""

    def __init__(self, model: Model, settings: Settings, rows: int = 0) -> None:
        """Raises UsageError and CannotMeet for settings that no row can have."""
        self._model, self._settings = model, settings
        self._rows = rows or model.engine.rows_at_once()
        model.scheduler.kept = self._rows
        if settings.task == "generate":
            self._check_settings()
        self._receipts = Receipts(model) if settings.receipt else None
        if settings.task == "embed":
            self._embedder = Embedder(
                model, pooling=settings.pooling, layer=settings.layer, normalize=settings.normalize
            )

    def _check_settings(self) -> None:
        """As they are for the shortest prompt. Raises UsageError and CannotMeet."""
        ids = [0]
        try:
            wanted = wishes.record(Row(0, 0, {"prompt": ids}), self._settings)
        except BadRequest as reason:
            hint = reason.hint or "no row can have it"
            raise UsageError(reason.message.removesuffix(f": {hint}"), hint) from None
        texts.stream(self._model, request_of(self._model, wanted, ids, self._rows))

    def answers(self, rows: Iterable[Row]) -> Iterator[Answer]:
        """Of all rows. A row that is wrong gets an answer that says so. Raises UserError for what is wrong with all."""
        ways: dict[str, Any] = {
            "generate": self._generated,
            "score": self._scored,
            "embed": self._embedded,
            "vectors": self._vectors,
        }
        for way, group in itertools.groupby(rows, key=self._way):
            yield from ways[way](group)

    def _way(self, row: Row) -> str:
        if row.url is None:
            return self._settings.task
        return "vectors" if row.url == EMBEDDINGS else "generate"

    def _generated(self, rows: Iterable[Row]) -> Iterator[Answer]:
        window = _Window(self._rows)
        try:
            for row in rows:
                try:
                    work = self._work(row)
                except _ROWS_OWN as reason:
                    yield answers.failed(row, reason)
                    continue
                while not window.has_room(work):
                    yield from window.step()
                yield from window.begin(work)
            while window.going:
                yield from window.step()
        finally:
            window.close()

    def _work(self, row: Row) -> Work:
        """Raises what is wrong with the row."""
        _check(row)
        if row.url is None:
            return RecordWork(self._model, row, self._settings, self._rows, self._receipts)
        return RequestWork(self._model, row, self._settings, self._rows)

    def _scored(self, rows: Iterable[Row]) -> Iterator[Answer]:
        scorer, tokenizer = Scorer(self._model), self._model.tokenizer
        for block in _blocks(rows):
            good = yield from self._encoded(block)
            for (row, ids, unknown), tokens in zip(good, scorer.texts(ids for _, ids, _ in good), strict=True):
                score = Score()
                for one in tokens:
                    score.add(one.logprob, len(tokenizer.bytes_of(one.token)))
                yield answers.answered(row, score.plain(), len(ids), unknown)

    def _embedded(self, rows: Iterable[Row]) -> Iterator[Answer]:
        for block in _blocks(rows):
            good = yield from self._encoded(block, empty="without a token there is no vector")
            for (row, ids, unknown), vector in zip(good, self._embedder.each([ids for _, ids, _ in good]), strict=True):
                start = answers.written({"custom_id": row.id, "tokens": len(ids)})
                line = f'{start[:-1]},"embedding":[{numbers(vector, ",")}]}}'
                yield Answer(row.number, row.id, line, len(ids), unknown=unknown)

    def _encoded(self, block: list[Row], empty: str = "") -> "Generator[Answer, None, list[_Encoded]]":
        """The rows with the ids of their texts; those that are wrong are answered. `empty`: why a text may not be."""
        good: list[_Encoded] = []
        for row in block:
            try:
                _check(row)
                asked = wishes.text(row, self._settings)
                ids = asked.text
                if isinstance(ids, str):
                    ids = encode_in_pieces(self._model.tokenizer, ids, special=asked.special)
                self._model.engine.check_ids(ids)
                if empty and not ids:
                    raise BadRequest(f"the text is empty: {empty}")
            except _ROWS_OWN as reason:
                yield answers.failed(row, reason)
            else:
                good.append((row, ids, asked.unknown))
        return good

    def _vectors(self, rows: Iterable[Row]) -> Iterator[Answer]:
        """Requests for embeddings. Those that follow each other and ask for the same are computed together."""
        for block in _blocks(rows):
            good = []
            for row in block:
                try:
                    _check(row)
                    asked = embeddings.embeddings(row.body)
                    good.append((row, asked, *embeddings.prepared(self._model, asked)))
                except _ROWS_OWN as reason:
                    yield answers.failed(row, reason)
            for _, same in itertools.groupby(good, key=lambda one: (one[1].pooling, one[1].normalize)):
                yield from self._together(list(same))

    def _together(self, asked: "list[tuple[Row, Embeddings, Embedder, list[list[int]]]]") -> Iterator[Answer]:
        found = [embeddings.Answer(one, embedder, texts) for _, one, embedder, texts in asked]
        places = [(answer, place) for answer, one in zip(found, asked, strict=True) for place in range(len(one[3]))]
        rows = [ids for one in asked for ids in one[3]]
        for (answer, place), vector in zip(places, asked[0][2].each(rows), strict=True):
            answer.take(place, vector)
        for answer, (row, one, _, _) in zip(found, asked, strict=True):
            name = str(row.body.get("model") or self._model.name)
            yield answers.responded(row, answer.body(name), answer.tokens, one.unknown)


_Encoded = tuple[Row, list[int], tuple[str, ...]]


class _Window:
    """The works under way, the oldest first."""

    def __init__(self, rows: int) -> None:
        self._most = rows
        self._begun = 0
        self.going: list[tuple[int, Work]] = []  # with their numbers

    def has_room(self, work: Work) -> bool:
        if not self.going:
            return True
        taken = sum(other.rows for _, other in self.going)
        return taken + work.rows <= self._most and self._begun - self.going[0][0] < _AHEAD

    def begin(self, work: Work) -> Iterator[Answer]:
        number, self._begun = self._begun, self._begun + 1
        self.going.append((number, work))
        yield from self._told(number, work, work.begin)

    def step(self) -> Iterator[Answer]:
        """One token for every text, or a chunk of a prompt."""
        self.going[0][1].advance()
        for number, work in list(self.going):
            yield from self._told(number, work, work.collect)

    def _told(self, number: int, work: Work, call: Callable[[], None]) -> Iterator[Answer]:
        """The work's answer, where it ends with this call."""
        try:
            call()
        except (UsageError, CannotMeet) as reason:
            work.close()
            self.going.remove((number, work))
            yield answers.failed(work.row, reason)
            return
        if work.ended:
            self.going.remove((number, work))
            yield work.answer()

    def close(self) -> None:
        for _, work in self.going:
            work.close()


def _blocks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    rest = iter(rows)
    while block := list(itertools.islice(rest, _BLOCK)):
        yield block


def _check(row: Row) -> None:
    """Raises BadRequest for a row that could not be read."""
    if row.problem is not None:
        raise BadRequest(row.problem)
