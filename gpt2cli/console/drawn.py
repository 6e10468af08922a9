"""The rows of `gpt2 score` as they go by, kept for a page and a picture."""

from collections.abc import Iterable, Iterator
from typing import Any

from gpt2cli.console.scores import Reading, Row, plain_row
from gpt2cli.drawing.scores import PAGE_MOST


class Kept:
    """As `--json --tokens` prints them, with no more tokens than are drawn."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._texts: list[dict[str, Any]] = []
        self._room = PAGE_MOST
        self._left_out = 0  # tokens

    def watch(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The same rows; each is kept when its reader has done with it."""
        for row in rows:
            yield row
            row.finish(keep=False)
            if row.empty:
                continue
            drawn = row.kept[: self._room]
            self._room -= len(drawn)
            self._left_out += row.score.tokens - sum(one.logprob is not None for one in drawn)
            if drawn:
                self._texts.append(plain_row(row, [one.plain(self._reading.tokenizer) for one in drawn]))

    def plain(self, common: dict[str, Any], reason: BaseException | None) -> dict[str, Any]:
        """All of it; `left_out` are the tokens that are not. `reason` is what has ended the work early; raised where
        there is nothing."""
        if reason is not None and not self._texts:
            raise reason
        rest = {"total": self._reading.total.plain(), "interrupted": reason is not None, "left_out": self._left_out}
        return common | {"texts": self._texts} | rest
