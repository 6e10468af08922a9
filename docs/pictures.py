"""Draws the pictures of these pages from real runs: python docs/pictures.py (POSIX, with the extra `dev`).

Each is a terminal of pyte's, written as SVG: text that can be searched and read aloud, in the reader's own fixed-width
font, on a light or a dark ground as the reader has it. Nothing is loaded from anywhere."""

import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from html import escape
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import pyte

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from terminals import Terminal  # noqa: E402

COLUMNS = 88
DIM = 2  # of the terminal's codes for styles
QUIET = 3  # seconds without output, after which an answer is complete
CELL, LINE, EDGE = 8.4, 19, 16  # pixels, at 14 to the em
FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
# light and dark, of the ground and of each colour
COLOURS = {
    "ground": ("#fbfaf7", "#1b1d21"),
    "default": ("#24272c", "#d8dade"),
    "dim": ("#7d828b", "#868c96"),
    "green": ("#1c7c3c", "#7ccf8e"),
    "brown": ("#8f6400", "#e0b352"),
    "red": ("#b3261e", "#f2877f"),
    "magenta": ("#8e3aa0", "#d79be6"),
    "cyan": ("#0b6f80", "#6cc7d8"),
    "blue": ("#2455b5", "#86aef5"),
}


class Run(NamedTuple):
    """Characters of one style."""

    text: str
    cells: int  # two for each wide character
    colour: str = "default"
    bold: bool = False
    reverse: bool = False


Row = list[Run]


def rows(screen: pyte.Screen) -> list[Row]:
    """What stands on a screen, without what is empty below."""
    found: list[Row] = []
    for number in range(screen.lines):
        row = [screen.buffer[number][place] for place in range(screen.columns)]
        found.append([])
        for (colour, bold, reverse), group in groupby(row, key=lambda cell: (cell.fg, cell.bold, cell.reverse)):
            cells = [cell.data for cell in group]
            colour = colour if colour in COLOURS else "default"
            found[-1].append(Run("".join(cells), len(cells), colour, bold, reverse))
    while found and not "".join(run.text for run in found[-1]).strip():
        found.pop()
    return found


def prompt(command: str) -> Row:
    return [Run("$ ", 2, "dim"), Run(command, len(command), bold=True)]


def lines(number: int, row: Row) -> Iterator[str]:
    """A row as SVG. Each run is as wide as its cells, whatever font there is."""
    column, y = 0, EDGE + LINE * number
    for run in row:
        text = run.text.strip()
        before = len(run.text) - len(run.text.lstrip())
        cells = run.cells - len(run.text) + len(text)
        x, width = EDGE + CELL * column, CELL * run.cells
        column += run.cells
        if run.reverse:
            yield f'<rect class="{run.colour}" x="{x:.1f}" y="{y}" width="{width:.1f}" height="{LINE}"/>'
        if text:
            colour, weight = "ground" if run.reverse else run.colour, ' font-weight="bold"' if run.bold else ""
            yield (
                f'<text class="{colour}" x="{x + CELL * before:.1f}" y="{y + 14}" textLength="{CELL * cells:.1f}"'
                f' lengthAdjust="spacingAndGlyphs"{weight}>{escape(text, quote=False)}</text>'
            )


def draw(name: str, picture: list[Row], title: str) -> None:
    width, height = round(CELL * COLUMNS + 2 * EDGE), LINE * len(picture) + 2 * EDGE
    light, dark = ("".join(f".{colour}{{fill:{pair[n]}}}" for colour, pair in COLOURS.items()) for n in (0, 1))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        f' role="img" font-family="{FONT}" font-size="14" xml:space="preserve">',
        f"<title>{escape(title)}</title>",
        f"<style>text{{white-space:pre}}{light}@media(prefers-color-scheme:dark){{{dark}}}</style>",
        f'<rect class="ground" width="{width}" height="{height}" rx="8"/>',
        *(line for number, row in enumerate(picture) for line in lines(number, row)),
        "</svg>",
    ]
    (HERE / f"{name}.svg").write_text("\n".join(parts) + "\n", encoding="utf-8", newline="\n")


def commands(*scripts: str, **environment: str) -> list[Row]:
    """A session at a shell: each command, and what it shows. Each ends in one call of gpt2."""
    picture: list[Row] = []
    for script in scripts:
        before, _, arguments = script.partition("gpt2 ")
        terminal = Terminal(*shlex.split(arguments), columns=COLUMNS, rows=40, shell=f'{before}"$@"', **environment)
        try:
            terminal.exit_code()
            picture += [*([[]] if picture else []), prompt(script), *rows(terminal.screen)]
        finally:
            terminal.close()
    return picture


def repl(arguments: str, *typed: str, **environment: str) -> list[Row]:
    """A session in the REPL, each line typed when the one before has been answered."""
    terminal = Terminal(*shlex.split(arguments), columns=COLUMNS, rows=22, **environment)
    try:
        for line in typed:
            settle(terminal)
            terminal.type(f"{line}\r")
        settle(terminal)
        return [prompt(f"gpt2 {arguments}"), *rows(terminal.screen)]
    finally:
        terminal.close()


def settle(terminal: Terminal) -> None:
    """Wait until nothing has been written for some seconds."""
    seen, since = b"", time.monotonic()

    def quiet(_: Terminal) -> bool:
        nonlocal seen, since
        if terminal.raw != seen:
            seen, since = terminal.raw, time.monotonic()
        return bool(seen) and time.monotonic() - since > QUIET

    terminal.wait(quiet, "an end")


def main() -> None:
    pyte.graphics.FG_ANSI[DIM] = "dim"  # which pyte leaves out
    with tempfile.TemporaryDirectory() as folder:
        environment = {f"GPT2_{name}": f"{folder}/{name}" for name in ("CACHE", "STATE", "CONFIG")}
        environment |= {"GPT2_THREADS": "1", "HF_HUB_OFFLINE": "1", "GPT2_MODEL": ""}
        session = commands(
            'gpt2 generate -m tiny "Once upon a time" --seed 1',
            'echo "The wolf said to the moon," | gpt2 generate -m tiny --seed 6 -N 3 --stop .',
            **environment,
        )
        draw("generate", session, "gpt2 generate continues texts from arguments and from a pipe")
        session = commands('gpt2 score -m tiny --tokens "The cat sat on the moon."', **environment)
        draw("score", session, "gpt2 score --tokens shows how probable each token is")
        session = commands(
            'gpt2 explain -m tiny --instead " dog" "The king had a cat, and the queen saw the cat"',
            'gpt2 explain -m tiny --lens "The king and the queen went to bed"',
            **environment,
        )
        draw("explain", session, "gpt2 explain: a text by ranks, what a prediction rests on, what each layer would say")
        session = repl("repl -m tiny -n 10 --seed 8", "The king opened the old box.", "/why", "/why 4 2", **environment)
        draw("repl", session, "gpt2 repl: a text, how probable its tokens were, and another one taken")


if __name__ == "__main__":
    main()
