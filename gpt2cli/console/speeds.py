"""What `gpt2 bench` measures, as rows: each is written as soon as it is known."""

import csv
import io
from collections.abc import Callable, Sequence
from typing import Any

from gpt2cli.console import terminal
from gpt2cli.console.tables import Column, Table

_FIGURES = ("median", "mean", "stdev")


class Sheet:
    """Rows as "table", "csv", "jsonl" or "json", which is one array: it comes at the end, `finish`."""

    def __init__(self, write: Callable[[str], None], form: str, names: Sequence[str]) -> None:
        """`names` are those of the tests that are to come."""
        self._write, self._form = write, form
        self._rows: list[dict[str, Any]] = []
        figures = [Column(figure.upper(), 10) for figure in _FIGURES]
        self._table = Table([Column("TEST", max(map(len, names)), left=True), *figures, Column("UNIT", left=True)])
        if form == "table":
            write(f"{self._table.head}\n")

    def add(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        if self._form == "table":
            self._write(f"{self._table.line(_cells(row))}\n")
        elif self._form == "csv":
            self._write(_csv(row, headed=len(self._rows) == 1))
        elif self._form == "jsonl":
            self._write(terminal.json_text(row) + "\n")

    def finish(self) -> None:
        """Also where the work has ended early."""
        if self._form == "json" and self._rows:
            self._write(terminal.json_text(self._rows, indent=2) + "\n")
        elif self._form == "table" and self._rows and (peak := self._rows[-1]["peak_memory"]):
            self._write(f"peak memory {terminal.size_text(peak)}\n")


def _cells(row: dict[str, Any]) -> list[str]:
    speed = row["tokens_per_second"]
    if row["test"].startswith("first"):
        return [row["test"], f"{1000 / speed['median']:,.1f}", "", "", "ms"]
    return [row["test"], *(f"{speed[figure]:,.1f}" for figure in _FIGURES), "tokens/s"]


def _csv(row: dict[str, Any], *, headed: bool) -> str:
    flat = {name: value for name, value in row.items() if name != "tokens_per_second"}
    flat |= {f"tokens_per_second_{key}": value for key, value in row["tokens_per_second"].items()}
    text = io.StringIO()
    writer = csv.DictWriter(text, flat, lineterminator="\n")
    if headed:
        writer.writeheader()
    writer.writerow(flat)
    return text.getvalue()
