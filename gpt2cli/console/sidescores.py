"""What `gpt2 score` finds with several models: each text with all of them, before the next text."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import tee

from gpt2cli.console.inputs import Text
from gpt2cli.console.scores import Reading, Row

Groups = Iterable[list[Text]]


def rows(first: Reading, groups: Groups) -> Iterator[Row]:
    """The rows of the first reading, with the scores of its `others`. Raises what stops one of them: its text is left
    out."""
    readings = [first, *first.others]
    copies = _copies(groups, len(readings))
    streams = [reading.rows(texts) for reading, texts in zip(readings, copies, strict=True)]
    while True:
        found = []
        totals = [replace(reading.total) for reading in readings]
        for stream in streams:
            row = next(stream, None)
            if row is None:
                return
            if row.stopped is not None:
                for reading, total in zip(readings, totals, strict=True):
                    reading.total = total
                raise row.stopped
            found.append(row)
        found[0].others = [row.score for row in found[1:]]
        yield found[0]


def _copies(groups: Groups, count: int) -> list[Iterator[list[Text]]]:
    """The groups for each of so many readers. A file that is one text is held until all have read it."""

    def copied() -> Iterator[list[list[Text]]]:
        for group in groups:
            blocks = [tee(one.blocks, count) for one in group]
            yield [[replace(one, blocks=its[n]) for one, its in zip(group, blocks, strict=True)] for n in range(count)]

    def of(number: int, copies: Iterator[list[list[Text]]]) -> Iterator[list[Text]]:
        return (group[number] for group in copies)

    return [of(number, copies) for number, copies in enumerate(tee(copied(), count))]
