"""What a run of `gpt2 finetune` shows on stderr, and what it leaves to look at: the curve of its losses."""

import sys
import textwrap
from pathlib import Path
from typing import Any

from gpt2cli.console import display, terminal
from gpt2cli.console.bars import Bar, time_left
from gpt2cli.console.curves import curves
from gpt2cli.console.outputs import Output
from gpt2cli.drawing import curve
from gpt2cli.training.run import Evaluated, Event, Sampled
from gpt2cli.training.training import Step, Training

# of the table: name, width, and the columns of a terminal that shows it too
_COLUMNS = (
    ("step", 7, 0),
    ("epoch", 6, 40),
    ("train", 7, 0),
    ("validation", 10, 0),
    ("perplexity", 10, 52),
    ("bits/byte", 9, 63),
)


class Show:
    """Rows of a table as losses come in, samples between them, and below a bar while work goes on."""

    def __init__(self, bar: Bar, *, quiet: bool) -> None:
        self._bar, self._quiet = bar, quiet
        self._dim = None if quiet else display.codes(sys.stderr, color="cyan")
        self._headed = False
        self._loss = 0.0
        self._began: tuple[int, float, float] | None = None  # tokens, seconds and progress when this process began

    def begin(self, facts: dict[str, Any], training: Training) -> None:
        self._began = training.tokens, training.seconds, training.progress
        data, plan = facts["data"], facts["plan"]
        files, documents = len(data["sources"]), data["documents"]
        many = f"{files:,} files" if files > 1 else terminal.printable(Path(data["sources"][0]).name)
        if training.step:
            long = f"it goes on after step {training.step:,}"
        elif training.steps is None:
            long = f"for {plan['minutes']:g} minutes"
        else:
            long = (
                f"{training.steps:,} steps of {plan['tokens']:,} tokens, {training.epochs(training.steps):.3g} epochs"
            )
        many_documents = terminal.counted(f"{documents:,}", "document")
        base = Path(facts["base"]).name if facts["base"] else "a new model"
        held = "others to measure" if facts["held_apart"] else "held out"
        self._told(
            f"{base} ({facts['trainable'] / 1e6:.3g} million parameters) learns {many}:"
            f" {data['tokens']:,} tokens in {many_documents},"
            f" {facts['held']:,} {held}; {long}, on {plan['device']}"
        )

    def preparing(self, title: str, done: int, total: int | None) -> None:
        self._bar.update(title, done, total, lambda: terminal.size_text(done))

    def measuring(self, done: int, total: int) -> None:
        self._bar.update("measuring", done, total, lambda: f"{done:,}/{total:,} tokens")

    def event(self, event: Event, training: Training) -> None:
        if isinstance(event, Step):
            self._step(event, training)
        elif isinstance(event, Evaluated):
            self._row(event)
        elif isinstance(event, Sampled):
            room = display.columns(sys.stderr) or 80
            text = terminal.printable(" ".join(event.text.split()))
            lines = textwrap.wrap(text, max(20, room - 5), initial_indent="    ", subsequent_indent="    ")
            self._say("\n".join(line.join(self._dim) if self._dim else line for line in lines))

    def _step(self, step: Step, training: Training) -> None:
        self._loss = step.loss if not self._loss else 0.8 * self._loss + 0.2 * step.loss
        tokens, seconds, progress = self._began or (0, 0.0, 0.0)

        def told() -> str:
            spent = max(1e-9, step.seconds - seconds)
            share = (training.progress - progress) / max(1e-9, 1 - progress)
            left = time_left(spent, round(share * 10_000), 10_000)
            return f"loss {self._loss:.3f} · {(step.tokens - tokens) / spent:,.0f} tokens/s{left and ' · '}{left}"

        self._bar.update(f"step {step.number:,}", round(training.progress * 10_000), 10_000, told)

    def _row(self, found: Evaluated) -> None:
        if not self._headed:
            self._say(_row([name for name, _, _ in _COLUMNS]))
        self._headed = True
        train = f"{found.train:.4f}" if found.train is not None else ""
        loss, epochs = found.loss, f"{found.epochs:.2f}"
        perplexity, bits = f"{loss.perplexity:.4g}", f"{loss.bits_per_byte:.4f}"
        row = _row([f"{found.step:,}", epochs, train, f"{loss.mean:.4f}", perplexity, bits])
        self._say(f"{row}{'  *' if found.best else ''}")
        if found.overfits:
            self._told("note: it begins to learn the text by heart (what is learnt gets better, the rest worse)")

    def curve(self, metrics: list[dict[str, Any]]) -> None:
        """The losses over the steps, where there are enough to see something. The bar is gone then."""
        self._bar.hide()
        if len(metrics) < 3:
            return
        columns = display.columns(sys.stderr) or 80
        for line in curves(_series(metrics, "·", "*"), columns=columns):
            self._say(line)
        self._say("    · train   * validation")

    def _say(self, text: str) -> None:
        if not self._quiet:
            self._bar.hide()
            terminal.say(text)

    def _told(self, text: str) -> None:
        """A sentence, broken where the line ends."""
        if not self._quiet:
            self._bar.hide()
            terminal.tell(text)


def _row(cells: list[str]) -> str:
    """A line of the table, with as many columns as the terminal has room for."""
    room = display.columns(sys.stderr) or 80
    shown = zip(cells, _COLUMNS, strict=True)
    return "  ".join(cell.rjust(width) for cell, (_, width, least) in shown if room >= least)


def draw(title: str, metrics: list[dict[str, Any]], path: Path) -> None:
    """The losses as a picture. Raises StorageError."""
    if len(metrics) > 1:
        with Output(path) as output:
            output.write(curve.picture(title, _series(metrics, "train", "validation")))


def _series(metrics: list[dict[str, Any]], train: str, validation: str) -> list[tuple[str, list[tuple[float, float]]]]:
    trains = [(row["step"], row["train"]) for row in metrics if row["train"] is not None]
    return [(train, trains), (validation, [(row["step"], row["validation"]) for row in metrics])]
