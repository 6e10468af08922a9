"""Receipt -> the same text, made again and compared token by token: `replay`."""

from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from gpt2cli.engine import machine
from gpt2cli.engine.facts import Logits
from gpt2cli.engine.tasks import Feed, Task
from gpt2cli.generation import decoding, texts
from gpt2cli.generation.receipts import FORMS, INTERRUPTED, Plain, Receipt, Receipts, digest, read
from gpt2cli.generation.requests import Piece, Request
from gpt2cli.generation.speculation import DraftModel
from gpt2cli.model import Model, load


@dataclass(frozen=True)
class Difference:
    """The first token that is another one: its place, from 0, and what stood there and stands here (None: the text had
    ended), with their logits here, where these are known: not of beams."""

    place: int
    there: int | None
    here: int | None
    logits: tuple[float, float] | None

    @property
    def gap(self) -> float | None:
        return None if self.logits is None else abs(self.logits[0] - self.logits[1])


@dataclass(frozen=True)
class Compared:
    """A text of a receipt. `first` is None in one that is not the same where only the characters, or why it ended,
    differ."""

    index: int
    tokens: int
    same: bool
    first: Difference | None = None


@dataclass(frozen=True)
class Replay:
    """What became of a receipt. `differences`: what is not here as it was there, name -> (there, here)."""

    texts: list[Compared]
    differences: dict[str, tuple[Any, Any]]

    @property
    def same(self) -> bool:
        return all(text.same for text in self.texts)


def replay(
    receipt: Any,
    model: Model | None = None,
    *,
    prompt: str | Sequence[int] | None = None,
    draft_model: Model | None = None,
) -> Replay:
    """Make the texts of a receipt again, and compare. `receipt` is what `receipt` returned, or was read from a file of
    `gpt2 generate --receipt`; `prompt` is for one that does not hold it. Without a model those that it names are opened
    as they were. Raises UserError."""
    asked = read(receipt)
    if model is None:
        model, draft_model = _opened(asked, "model"), _opened(asked, "draft_model")
        assert model is not None
    found = differences(asked, model, draft_model)
    return Replay(compared(asked, model, draft_model, prompt), found)


def _opened(receipt: Receipt, which: str) -> Model | None:
    if (name := receipt.name(which)) is None:
        return None
    facts = receipt.facts[which]
    return load(
        name,
        precision=receipt.precision if which == "model" else "auto",
        source=facts["source"],
        device=facts["device"],
        threads=receipt.facts["machine"]["threads"],
        text=False,
        alternating=receipt.facts["draft_model"] is not None,
    )


def differences(receipt: Receipt, model: Model, draft: Model | None) -> dict[str, tuple[Any, Any]]:
    """What may make another text here: name -> (as it was there, as it is here). Raises as `Receipts`."""
    there, here = receipt.facts, Receipts(model, draft).surroundings
    pairs: dict[str, tuple[Any, Any]] = {}
    for which, prefix in (("model", ""), ("draft_model", "draft model's ")):
        before, now = (one[which] or {"files": {}} for one in (there, here))
        for name in ("revision", "precision", "device"):
            pairs[prefix + name] = before.get(name), now.get(name)
        for name in sorted({*before["files"], *now["files"]}):
            pairs[prefix + name] = before["files"].get(name), now["files"].get(name)
    for part in ("versions", "machine"):
        pairs |= {name: (there[part].get(name), value) for name, value in here[part].items()}
    for name, now in machine.versions_of(*FORMS).items():
        if name in there["versions"]:
            pairs[name] = there["versions"][name], now
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def compared(receipt: Receipt, model: Model, draft: Model | None, prompt: str | Sequence[int] | None) -> list[Compared]:
    """The texts, made again until each is found to be the same or not. Raises UserError."""
    drafter = DraftModel(draft, model) if draft is not None else None
    request = receipt.request(receipt.fed(model, prompt), drafter)
    first = request.first
    ends = (*model.ends, *request.stop_tokens)
    rows = [_Row(one, ends) for one in receipt.facts["texts"]]
    heard = _Heard()
    for piece in texts.stream(model, request, heard.decode):
        logits = heard.logits.popleft() if heard.logits else None
        rows[piece.row - first].push(piece, logits)
        if all(row.found for row in rows):
            break
    return [row.found for row in rows if row.found]


class _Heard(Generator[Piece | list[Feed], Logits, None]):
    """A task of decoding, and the logits from which each of its pieces was chosen, in their order."""

    _task: Task[Piece, None]

    def __init__(self) -> None:
        self.logits = deque[Logits | None]()
        self._values: Logits | None = None
        self._place = 0

    def decode(self, model: Model, request: Request) -> Task[Piece, None]:
        """What `texts.stream` takes for decoding.decode."""
        self._task = decoding.decode(model, request)
        # beams are chosen together, and a form forces tokens without asking the model
        self._unheard = request.beams > 1 or request.constraint is not None
        return self

    def send(self, values: Logits) -> Piece | list[Feed]:
        if values is not None:
            self._values, self._place = values, 0
        wish = self._task.send(values)
        if isinstance(wish, Piece):
            # samples that have just begun share a row of logits
            values, place = self._values, self._place
            self.logits.append(None if self._unheard or values is None else values[min(place, len(values) - 1)])
            self._place += 1
        return wish

    def throw(self, *error: Any) -> Piece | list[Feed]:
        return self._task.throw(*error)


@dataclass
class _Row:
    """A text as far as it has been made again."""

    told: Plain
    ends: Sequence[int]
    found: Compared | None = None
    _count: int = 0
    _text: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._cut = self.told["finish_reason"] == INTERRUPTED
        if self._cut and not self.told["ids"]:
            self._end(INTERRUPTED)

    def push(self, piece: Piece, logits: Logits | None) -> None:
        """`logits` [vocabulary] are those from which the piece was chosen, where they are known."""
        if self.found:
            return
        ids, place = self.told["ids"], self._count
        before = ids[place] if place < len(ids) else None
        if piece.token != before:
            self._differ(Difference(place, before, piece.token, self._pair(before, piece, logits)))
            return
        self._text.append(piece.text)
        self._count += piece.token is not None
        if self._cut and self._count == len(ids):
            self._text.append(piece.held)
            self._end(INTERRUPTED)
        elif piece.finish and self._count < len(ids):  # no token ended it
            self._differ(Difference(self._count, ids[self._count], None, None))
        elif piece.finish:
            self._end(piece.finish)

    def _differ(self, first: Difference) -> None:
        self.found = Compared(self.told["index"], len(self.told["ids"]), False, first)

    def _end(self, reason: str) -> None:
        told = self.told
        same = digest("".join(self._text)) == told["sha256"] and reason == told["finish_reason"]
        self.found = Compared(told["index"], len(told["ids"]), same)

    def _pair(self, before: int | None, piece: Piece, logits: Logits | None) -> tuple[float, float] | None:
        """The logits of what stood there, and of what stands here. An end was any of the tokens that are one."""
        there = self.ends if before is None else [before]
        here = piece.end if piece.token is None else piece.token
        if logits is None or here is None or not there or max(there) >= len(logits):
            return None
        return float(logits[list(there)].max()), float(logits[here])
