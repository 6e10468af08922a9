"""What `gpt2 eval` finds, as a table or as JSON. Whatever ends the work early, what is complete is written."""

import math
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from gpt2cli.analysis.evaluation.metrics import Metric
from gpt2cli.analysis.evaluation.running import Evaluation
from gpt2cli.console import terminal
from gpt2cli.console.tables import Column, counted, cut

Write = Callable[[str], None]

_LEAST = 20  # cells of what stands before the numbers


@dataclass(frozen=True)
class Found:
    """A result, and of what: the fields of the model and of the data, for JSON."""

    model: dict[str, Any]
    data: dict[str, Any]
    result: Evaluation

    @property
    def name(self) -> str:
        """Of the model, in a table."""
        return terminal.printable(f"{self.model['model']} {self.model['precision']}")

    def plain(self, first: "Found | None") -> dict[str, Any]:
        """For JSON. `first` is the same of the first model, where that is another."""
        found = self.model | self.result.plain() | self.data
        if first is not None:
            for plain, mine, its in zip(found["metrics"], self.result.metrics, first.result.metrics, strict=True):
                gap, stderr = mine.gap(its)
                plain["to_first"] = {"difference": gap if math.isfinite(gap) else None, "stderr": stderr}
        return found


@dataclass
class Sheet:
    """Takes results as they come. Of one model a table is written as it grows, of several when all is there: their
    figures stand below each other, with the difference to the first model's. `several` says which it is."""

    write: Write
    form: str
    several: bool
    common: dict[str, Any]
    found: list[Found] = field(default_factory=list)

    def add(self, found: Found) -> None:
        self.found.append(found)
        if self.form == "table" and not self.several:
            self._write_group([found], first=len(self.found) == 1)

    def finish(self, *, interrupted: bool) -> None:
        groups: dict[tuple[str, str], list[Found]] = {}
        for one in self.found:
            groups.setdefault((one.result.task, one.result.protocol), []).append(one)
        if self.form == "json":
            firsts = [groups[one.result.task, one.result.protocol][0] for one in self.found]
            results = [one.plain(None if one is its else its) for one, its in zip(self.found, firsts, strict=True)]
            plain = self.common | {"results": results, "interrupted": interrupted}
            self.write(terminal.json_text(plain, indent=2, allow_nan=False) + "\n")
        elif self.several:
            for number, group in enumerate(groups.values()):
                self._write_group(group, first=number == 0)

    def _write_group(self, group: list[Found], *, first: bool) -> None:
        """The metrics of one protocol: those of several models one below the other."""
        result = group[0].result
        known = any(metric.published for one in group for metric in one.result.metrics)
        columns = [*_OWN, *(_KNOWN[: 1 if self.several else 2] if known else []), *(_GAP if self.several else [])]
        room = max(_LEAST, shutil.get_terminal_size().columns - sum(column.cells + 2 for column in columns))
        title = f"{terminal.printable(result.task)}, {result.protocol}"
        names = [f"    {one.name}" for one in group] if self.several else [f"  {one.name}" for one in result.metrics]
        label = Column("", min(room, max(_LEAST, len(title), *map(len, names))), left=True)

        def line(begun: str, cells: Iterable[str]) -> str:
            shown = (column.fill(cell) for column, cell in zip(columns, cells, strict=True))
            return "  ".join([label.fill(begun), *shown]) + "\n"

        # of what is too long the end says more: the file and the protocol, the model and the precision
        rows = [line(cut(title, label.cells, end=False), (column.head for column in columns))]
        for place, metric in enumerate(result.metrics):
            if self.several:
                rows.append(f"  {metric.name}\n")
            for number, one in enumerate(group):
                mine = one.result.metrics[place]
                cells = [*_own(mine), *(_known(mine)[: 1 if self.several else 2] if known else [])]
                cells += _gap(mine, metric if number else None) if self.several else []
                indent, name = (4, one.name) if self.several else (2, mine.name)
                rows.append(line(" " * indent + cut(name, label.cells - indent, end=not self.several), cells))
        self.write("".join(["" if first else "\n", *rows, f"  {_counts(group)}\n"]))


_OWN = [Column("value", 9), Column("±", 8)]
_KNOWN = [Column("published", 9), Column("diff", 9)]
_GAP = [Column("to first", 10), Column("±", 8)]


def _own(metric: Metric) -> list[str]:
    return [_shown(metric.value, metric.form), _shown(metric.stderr, metric.form)]


def _known(metric: Metric) -> list[str]:
    published = None if metric.published is None else metric.published.value
    return [_shown(published, metric.form), _shown(metric.difference, metric.form, gap=True)]


def _gap(metric: Metric, first: Metric | None) -> list[str]:
    gap, stderr = (None, None) if first is None else metric.gap(first)
    return [_shown(gap, metric.form, gap=True), _shown(stderr, metric.form, gap=True).lstrip("+")]


def _shown(value: float | None, form: str, *, gap: bool = False) -> str:
    """A value, or the `gap` between two: that of shares is in points, for a percentage of a percentage is another."""
    if value is None:
        return "-"
    plus = "+" if gap else ""
    if form == "share":
        return f"{100 * value:{plus}.2f}{' pp' if gap else '%'}"
    if form == "bits":
        return f"{value:{plus}.4f}"
    if abs(value) >= 1e7:
        return f"{value:{plus}.2e}"
    return f"{value:{plus},.2f}" if abs(value) < 1e5 else f"{value:{plus},.0f}"


def _counts(group: list[Found]) -> str:
    """What was counted, in a line; tokens of each tokenizer."""
    result = group[0].result
    scored = list(dict.fromkeys(one.result.tokens for one in group))
    tokens = " / ".join(f"{count:,}" for count in scored)
    most = max(one.result.cut for one in group)
    cut_off = f", {counted(f'{most:,}', 'context')} cut" if most else ""
    return f"{counted(f'{result.items:,}', 'item')}, {tokens} token{'' if scored == [1] else 's'} scored{cut_off}"
