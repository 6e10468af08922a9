"""What `gpt2 explain` finds, for people: views of so many columns, each a list of lines."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gpt2cli.analysis.explained import Explanation, Told
from gpt2cli.console import display, terminal
from gpt2cli.console.tables import Column, Table, cut, number
from gpt2cli.drawing.cells import width
from gpt2cli.tokenizer.tokenizer import TextStream

Lists = Literal["cut", "wrapped", "whole"]

_MARKS = " -=#"  # of the classes of ranks, where there are no colours
_CLASSES = ("1 to 10", "11 to 100", "101 to 1000", "beyond")
_RANKS = (1, 11, 101, 1001)
_BARS = 12  # tokens with bars
_LOOKED_AT = 5  # tokens at which a head looks most
_CELL = 12  # cells of the lens
_TOKENS = [
    *(Column("#", 4), Column("token", 14, left=True), Column("prob", 6), Column("rank", 6), Column("entropy", 7)),
    Column("likeliest", left=True),
]


@dataclass(frozen=True)
class View:
    """An explanation on so many columns. `coloured` is display's; of the text the `last` tokens are shown, or all. What
    was likeliest and what is looked at are lists: "cut" where the columns end, "wrapped" there, or "whole"."""

    found: Explanation
    columns: int
    coloured: Callable[[str, int | None], str]
    last: int | None = None
    lists: Lists = "cut"

    def text(self) -> list[str]:
        """The text, coloured by ranks, or with marks below it."""
        plain = self.coloured("x", 1) == "x"
        lines = []
        for row in _rows(self._characters(), self.columns):
            if not plain:
                lines.append("".join(self.coloured(text, rank) for text, rank in _joined(row)))
                continue
            lines.append("".join(text for text, _ in row))
            if marks := "".join(_MARKS[display.rank_class(rank or 0)] * width(text) for text, rank in row).rstrip():
                lines.append(marks)
        if plain:
            legend = "  ".join(f"{mark} {name}" for mark, name in zip(_MARKS[1:], _CLASSES[1:], strict=True))
            return [*lines, "", cut(f"rank: {legend}", self.columns)]
        legend = "  ".join(self.coloured(name, rank) for name, rank in zip(_CLASSES, _RANKS, strict=True))
        return [*lines, "", f"rank: {legend}"]

    def _characters(self) -> Iterator[tuple[str, int | None]]:
        """The text's characters and the ranks of their tokens; of a character of several tokens the worst."""
        stream, worst = TextStream(self.found.tokenizer), 0
        first = self.found.start if self.last is None else max(self.found.start, len(self.found.tokens) - self.last)
        if first > self.found.start:
            yield "…", None
        for one in self.found.tokens[first:]:
            worst = max(worst, one.rank or 0)
            for character in (text := stream.push(one.token)):
                yield character if character == "\n" else terminal.printable(character), worst or None
            worst = 0 if text else worst
        for character in stream.finish():
            yield character, worst or None

    def prediction(self) -> list[str]:
        """How the target was predicted."""
        one = self.found.tokens[self.found.target]
        facts = f"{_percent(one.logprob)}, rank {one.rank}, entropy {one.entropy or 0:.2f} nats"
        head = f"token {self.found.target}, {self._quoted(one.token)}: {facts}"
        return [cut(head, self.columns), *self._listed("likeliest: ", self._likeliest(one))]

    def tokens(self) -> list[str]:
        """A line for each token, and one for what would come next."""
        table = Table(_TOKENS)

        def row(place: int, one: Told, *, predicted: bool) -> list[str]:
            facts = ["", "", ""]
            if one.entropy is not None:
                facts = [_percent(one.logprob), str(one.rank)] if predicted else ["", ""]
                facts.append(f"{one.entropy:.2f}")
            piece = cut(self._piece(one.token) if predicted else "next", 14)
            before = table.line([str(place), piece, *facts, "x"])[:-1]
            return [line.rstrip() for line in self._listed(before, self._likeliest(one))]

        tokens = self.found.tokens
        rows = [(one.rank, row(place, one, predicted=True)) for place, one in enumerate(tokens)]
        lines = [self.coloured(line, rank) for rank, each in rows for line in each]
        head = cut("how each token was predicted, entropy in nats", self.columns)
        return [head, cut(table.head, self.columns), *lines, *row(len(tokens), self.found.following, predicted=False)]

    def influence(self) -> list[str]:
        """What the prediction loses without each token, as bars."""
        found = self.found.influence
        assert found is not None
        named = f"log p({self._quoted(found.token)})"
        if found.instead is not None:
            named += f" - log p({self._quoted(found.instead)})"
        return self._bars(
            f"{named} is {number(found.base, '.2f', 9)} nats; without a token it loses", found.scores, "+.2f"
        )

    def rollout(self) -> list[str]:
        """What the prediction is made of, by rollout."""
        found = self.found.rollout
        assert found is not None
        row = found.rows[found.positions.index(self.found.target - 1)]
        head = f"attention rollout: how much of what predicts token {self.found.target} comes from each token"
        return self._bars(head, row[: self.found.target], ".1%")

    def value_zeroing(self) -> list[str]:
        """How much blocks need each token's values for it."""
        found = self.found.value_zeroing
        assert found is not None
        layers = f"layer {next(iter(found))}" if len(found) == 1 else f"mean of {len(found)} layers"
        head = f"1 - cosine of a block's output with and without a token ({layers})"
        return self._bars(head, np.mean([*found.values()], axis=0), ".4f")

    def _bars(self, head: str, scores: Sequence[float | None], form: str) -> list[str]:
        """Those of the tokens with the largest scores, in the text's order."""
        known = {place: float(score) for place, score in enumerate(scores) if score is not None}
        if not known:
            return ["nothing comes before it that could be left out"]
        order = sorted(known, key=lambda place: -abs(known[place]))
        most = max(abs(known[order[0]]), 1e-9)
        table = Table([Column("#", 4), Column("token", 16, left=True), Column("", 7), Column("", left=True)])
        room = max(1, self.columns - width(table.line(["", "", "", "x"])))
        lines = [cut(head, self.columns)]
        for place in sorted(order[:_BARS]):
            score, piece = known[place], cut(self._piece(self.found.tokens[place].token), 16)
            bar = ("█" if score > 0 else "░") * round(room * abs(score) / most)
            lines.append(table.line([str(place), piece, number(score, form), bar]))
        if rest := order[_BARS:]:
            most_left = number(abs(known[rest[0]]), form.lstrip("+"))
            each = "each " if len(rest) > 1 else ""
            lines.append(f"{terminal.counted(len(rest), 'more token')}, {each}at most {most_left}")
        return lines

    def lens(self) -> list[str]:
        """What each layer would say after the last tokens that fit; * is what the text says."""
        found = self.found.lens
        assert found is not None
        fit = max(1, (self.columns - 7) // (_CELL + 2))
        target = self.found.target - 1 - found.positions.start
        first = max(0, min(target + 1, len(found.positions)) - fit)
        shown = range(first, min(first + fit, len(found.positions)))
        table = Table([Column("layer", 5), *[Column("", _CELL, left=True)] * len(shown)])
        tokens = self.found.tokens

        def cell(layer: int, column: int) -> str:
            token, place = int(found.ids[layer, column]), found.positions[column] + 1
            star = "*" if place < len(tokens) and tokens[place].token == token else " "
            percent = f"{math.exp(found.logprobs[layer, column]):.0%}".rjust(4)
            return self._filled(f"{star}{self._piece(token)}", _CELL - 4) + percent

        heads = [self._filled(self._piece(tokens[found.positions[column]].token), _CELL) for column in shown]
        lines = [cut("what each layer would say after a token", self.columns), table.line(["layer", *heads])]
        lines += [table.line([str(layer), *(cell(layer, one) for one in shown)]) for layer in range(len(found.ids))]
        return [*lines, cut("0: the embeddings; * is the token that the text goes on with", self.columns)]

    def attention(self) -> list[str]:
        """At which tokens each head looks most where the target is predicted."""
        found, place = self.found.attention, self.found.target - 1
        assert found is not None
        piece = self._quoted(self.found.tokens[place].token)
        lines = [cut(f"where each head looks from token {place}, {piece}, which predicts the next", self.columns)]
        table = Table([Column("layer", 5), Column("head", 4), Column("looks at", left=True)])
        lines.append(table.head)
        for layer, heads in found.items():
            for head, weights in heads.items():
                row = weights.rows[weights.positions.index(place)]
                most = np.argsort(-row, kind="stable")[:_LOOKED_AT]
                looked = [
                    f"{one} {cut(self._piece(self.found.tokens[one].token), 12)} {row[one]:.0%}"
                    for one in most.tolist()
                    if row[one] >= 0.01
                ]
                lines += self._listed(table.line([str(layer), str(head), "x"])[:-1], looked)
        return lines

    def _likeliest(self, one: Told) -> list[str]:
        return [f"{self._piece(token)} {_percent(logprob)}" for token, logprob in one.top]

    def _listed(self, before: str, parts: Sequence[str]) -> list[str]:
        """A list behind what stands before it: as `lists` says."""
        if self.lists != "wrapped":
            line = before + "  ".join(parts)
            return [line if self.lists == "whole" else cut(line, self.columns)]
        rows = list(parts[:1]) or [""]
        for part in parts[1:]:
            if width(longer := f"{before}{rows[-1]}  {part}") <= self.columns:
                rows[-1] = longer[len(before) :]
            else:
                rows.append(part)
        space = " " * width(before)
        return [cut((space if place else before) + row, self.columns) for place, row in enumerate(rows)]

    def _piece(self, token: int) -> str:
        piece = terminal.visible(self.found.tokenizer.bytes_of(token))
        return piece if piece.strip() else f"'{piece}'"

    def _quoted(self, token: int) -> str:
        return f"'{terminal.visible(self.found.tokenizer.bytes_of(token))}'"

    @staticmethod
    def _filled(text: str, cells: int) -> str:
        text = cut(text, cells)
        return text + " " * (cells - width(text))


def page(
    found: Explanation,
    views: Sequence[str],
    columns: int,
    *,
    coloured: bool,
    last: int | None = None,
    lists: Lists = "cut",
) -> str:
    """Views, by the names of View's methods; `coloured` where stdout takes it, `last` and `lists` as View has them."""
    view = View(found, columns, display.rank_colours() if coloured else lambda text, rank: text, last, lists)
    return "\n\n".join("\n".join(getattr(view, name)()) for name in views) + "\n"


def _percent(logprob: float | None) -> str:
    return "" if logprob is None else f"{math.exp(logprob):.1%}"


def _rows(characters: Iterator[tuple[str, int | None]], columns: int) -> Iterator[list[tuple[str, int | None]]]:
    """Broken at blanks, where there are any."""
    row: list[tuple[str, int | None]] = []
    for one in characters:
        if one[0] == "\n":
            yield row
            row = []
            continue
        row.append(one)
        if sum(width(text) for text, _ in row) > columns:
            blanks = [place for place, (text, _) in enumerate(row) if text == " "]
            end = blanks[-1] if blanks and blanks[-1] else len(row) - 1
            yield row[:end]
            row = row[end + 1 :] if blanks and blanks[-1] else row[end:]
    yield row


def _joined(row: list[tuple[str, int | None]]) -> list[tuple[str, int | None]]:
    """Neighbours of one class as one text."""
    found: list[tuple[str, int | None]] = []
    for _, same in itertools.groupby(row, key=lambda one: display.rank_class(one[1]) if one[1] else None):
        texts, ranks = zip(*same, strict=True)
        found.append(("".join(texts), ranks[-1]))
    return found
