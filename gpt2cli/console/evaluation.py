"""What `gpt2 eval` finds, as a table or as JSON. Whatever ends the work early, what is complete is written."""

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from gpt2cli.analysis.evaluation.metrics import Metric
from gpt2cli.analysis.evaluation.running import Result
from gpt2cli.console import terminal
from gpt2cli.console.tables import Column, cut

Write = Callable[[str], None]

_LEAST = 20  # cells of what stands before the numbers
_WIDTHS = {"value": 9, "±": 8, "published": 9, "diff": 9, "to first": 9}


@dataclass(frozen=True)
class Found:
    """A result, and of what: the fields of the model and of the data, for JSON."""

    model: dict[str, Any]
    data: dict[str, Any]
    result: Result

    @property
    def name(self) -> str:
        """Of the model, in a table."""
        return f"{self.model['model']} {self.model['precision']}"

    def plain(self) -> dict[str, Any]:
        return self.model | self.result.plain() | self.data


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
        if self.form == "json":
            plain = self.common | {"results": [one.plain() for one in self.found], "interrupted": interrupted}
            self.write(terminal.json_text(plain, indent=2, allow_nan=False) + "\n")
        elif self.several:
            groups: dict[tuple[str, str], list[Found]] = {}
            for one in self.found:
                groups.setdefault((one.result.task, one.result.protocol), []).append(one)
            for number, group in enumerate(groups.values()):
                self._write_group(group, first=number == 0)

    def _write_group(self, group: list[Found], *, first: bool) -> None:
        """The metrics of one protocol: those of several models one below the other."""
        result = group[0].result
        known = any(metric.published for one in group for metric in one.result.metrics)
        heads = ["value", "±", *(["published", "diff"] if known else []), *(["to first"] if self.several else [])]
        room = max(_LEAST, shutil.get_terminal_size().columns - sum(_WIDTHS[name] + 2 for name in heads))
        longest = (f"    {one.name}" for one in group) if self.several else (f"  {one.name}" for one in result.metrics)
        title = f"{terminal.printable(result.task)}, {result.protocol}"
        label = Column("", min(room, max(_LEAST, *map(len, longest), len(title))), left=True)

        def line(begun: str, cells: Iterable[str]) -> str:
            shown = (Column(name, _WIDTHS[name]).fill(cell) for name, cell in zip(heads, cells, strict=True))
            return "  ".join([label.fill(cut(begun, label.cells)), *shown]) + "\n"

        rows = [line(title, heads)]
        for place, metric in enumerate(result.metrics):
            if self.several:
                rows.append(f"  {metric.name}\n")
            for one in group:
                cells = _cells(one.result.metrics[place], None if one is group[0] else metric)
                name = f"    {one.name}" if self.several else f"  {metric.name}"
                rows.append(line(name, (cells[head] for head in heads)))
        self.write("".join(["" if first else "\n", *rows, f"  {_counts(result)}\n"]))


def _cells(metric: Metric, first: Metric | None) -> dict[str, str]:
    published = None if metric.published is None else metric.published.value
    return {
        "value": _shown(metric.value, metric.form),
        "±": _shown(metric.stderr, metric.form),
        "published": _shown(published, metric.form),
        "diff": _shown(metric.difference, metric.form, sign=True),
        "to first": _shown(None if first is None else metric.value - first.value, metric.form, sign=True),
    }


def _shown(value: float | None, form: str, *, sign: bool = False) -> str:
    if value is None:
        return "-"
    plus = "+" if sign else ""
    if form == "share":
        return f"{100 * value:{plus}.2f}%"
    if form == "bits":
        return f"{value:{plus}.4f}"
    return f"{value:{plus}.2f}" if abs(value) < 1e5 else f"{value:{plus}.3g}"


def _counts(result: Result) -> str:
    """What was counted, in a line."""
    cut_off = f", {result.cut:,} contexts cut" if result.cut else ""
    return f"{result.items:,} item{'' if result.items == 1 else 's'}, {result.tokens:,} tokens scored{cut_off}"
