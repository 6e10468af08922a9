"""What `gpt2 explain` finds, for people: views of so many columns, each a list of lines."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gpt2cli.analysis.explained import Explanation, Told
from gpt2cli.console import display, terminal
from gpt2cli.console.tables import Column, Table, cut
from gpt2cli.drawing.cells import width
from gpt2cli.tokenizer.tokenizer import TextStream

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
    """An explanation on so many columns; `coloured` is display's."""

    found: Explanation
    columns: int
    coloured: Callable[[str, int | None], str]

    def text(self) -> list[str]:
        """The text, coloured by ranks, or with marks below it."""
        plain = self.coloured("x", 1) == "x"
        lines = []
        for row in _rows(self._characters(), self.columns):
            if not plain:
                lines.append("".join(self.coloured(text, rank) for text, rank in _joined(row)))
                continue
            lines.append("".join(text for text, _ in row))
            if marks := "".join(_MARKS[_class(rank)] * width(text) for text, rank in row).rstrip():
                lines.append(marks)
        if plain:
            legend = "  ".join(f"{mark} {name}" for mark, name in zip(_MARKS[1:], _CLASSES[1:], strict=True))
        else:
            legend = "  ".join(self.coloured(name, rank) for name, rank in zip(_CLASSES, _RANKS, strict=True))
        return [*lines, "", f"rank: {legend}"]

    def _characters(self) -> Iterator[tuple[str, int | None]]:
        """The text's characters and the ranks of their tokens; of a character of several tokens the worst."""
        stream, worst = TextStream(self.found.tokenizer), 0
        for one in self.found.tokens[self.found.start :]:
            worst = max(worst, one.rank or 0)
            for character in (text := stream.push(one.token)):
                yield character if character == "\n" else terminal.printable(character), worst or None
            worst = 0 if text else worst
        for character in stream.finish():
            yield character, worst or None

    def prediction(self) -> list[str]:
        """How the target was predicted."""
        one = self.found.tokens[self.found.target]
        facts = f"{_percent(one.logprob)}, rank {one.rank}, entropy {one.entropy or 0:.2f}"
        likeliest = f"likeliest: {self._likeliest(one)}"
        return [f"token {self.found.target}, {self._quoted(one.token)}: {facts}", cut(likeliest, self.columns)]

    def tokens(self) -> list[str]:
        """A line for each token, and one for what would come next."""
        table = Table(_TOKENS, self.columns)

        def line(place: int, one: Told, *, predicted: bool) -> str:
            facts = ["", "", "", ""]
            if one.entropy is not None:
                facts = [f"{one.entropy:.2f}", self._likeliest(one)]
                facts[:0] = [_percent(one.logprob), str(one.rank)] if predicted else ["", ""]
            return table.line([str(place), cut(self._piece(one.token) if predicted else "next", 14), *facts])

        def coloured(place: int, one: Told) -> str:
            return self.coloured(line(place, one, predicted=True), one.rank)

        tokens = self.found.tokens
        lines = [coloured(place, one) for place, one in enumerate(tokens)]
        return [table.head, *lines, line(len(tokens), self.found.following, predicted=False)]

    def influence(self) -> list[str]:
        """What the prediction loses without each token, as bars."""
        found = self.found.influence
        assert found is not None
        named = f"log p({self._quoted(found.token)})"
        if found.instead is not None:
            named += f" - log p({self._quoted(found.instead)})"
        return self._bars(f"{named} is {found.base:.2f}; without a token it loses", found.scores, "+.2f")

    def rollout(self) -> list[str]:
        """What the prediction is made of, by rollout."""
        found = self.found.rollout
        assert found is not None
        row = found.rows[found.positions.index(self.found.target - 1)]
        return self._bars("how much of each token is in it, by attention rollout", row[: self.found.target], ".1%")

    def value_zeroing(self) -> list[str]:
        """How much blocks need each token's values for it."""
        found = self.found.value_zeroing
        assert found is not None
        layers = f"layer {next(iter(found))}" if len(found) == 1 else f"mean of {len(found)} layers"
        head = f"how far a block's output turns without the values of a token ({layers})"
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
            lines.append(table.line([str(place), piece, format(score, form), bar]))
        if rest := order[_BARS:]:
            lines.append(f"{len(rest)} more, of {format(abs(known[rest[0]]), form.lstrip('+'))} at most")
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
        lines = ["what each layer would say after a token", table.line(["layer", *heads])]
        lines += [table.line([str(layer), *(cell(layer, one) for one in shown)]) for layer in range(len(found.ids))]
        return [*lines, "0: the embeddings; * is the token that the text goes on with"]

    def attention(self) -> list[str]:
        """At which tokens each head looks most where the target is predicted."""
        found, place = self.found.attention, self.found.target - 1
        assert found is not None
        piece = self._quoted(self.found.tokens[place].token)
        lines = [cut(f"where each head looks from token {place}, {piece}, which predicts the next", self.columns)]
        table = Table([Column("layer", 5), Column("head", 4), Column("looks at", left=True)], self.columns)
        lines.append(table.head)
        for layer, heads in found.items():
            for head, weights in heads.items():
                row = weights.rows[weights.positions.index(place)]
                most = np.argsort(-row, kind="stable")[:_LOOKED_AT]
                looked = "  ".join(
                    f"{one} {cut(self._piece(self.found.tokens[one].token), 12)} {row[one]:.0%}"
                    for one in most.tolist()
                    if row[one] >= 0.01
                )
                lines.append(table.line([str(layer), str(head), looked]))
        return lines

    def _likeliest(self, one: Told) -> str:
        return "  ".join(f"{self._piece(token)} {_percent(logprob)}" for token, logprob in one.top)

    def _piece(self, token: int) -> str:
        return terminal.visible(self.found.tokenizer.bytes_of(token))

    def _quoted(self, token: int) -> str:
        return f"'{self._piece(token)}'"

    @staticmethod
    def _filled(text: str, cells: int) -> str:
        text = cut(text, cells)
        return text + " " * (cells - width(text))


def page(found: Explanation, views: Sequence[str], columns: int, *, coloured: bool) -> str:
    """Views, by the names of View's methods; `coloured` where stdout takes it."""
    view = View(found, columns, display.rank_colours() if coloured else lambda text, rank: text)
    return "\n\n".join("\n".join(getattr(view, name)()) for name in views) + "\n"


def _class(rank: int | None) -> int:
    return sum((rank or 0) >= least for least in _RANKS[1:])


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
    for text, rank in row:
        if found and _class(found[-1][1]) == _class(rank) and bool(found[-1][1]) == bool(rank):
            found[-1] = found[-1][0] + text, rank
        else:
            found.append((text, rank))
    return found
