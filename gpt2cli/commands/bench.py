"""gpt2 bench: how fast is this model on this machine?"""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from gpt2cli.console import options as o
from gpt2cli.console import terminal
from gpt2cli.console.groups import Options
from gpt2cli.errors import CannotMeet, UsageError

HELP = "Measure prompt processing and generation."
# \b keeps the lines as they are
EXAMPLES = """\b
Examples:
  gpt2 bench
  gpt2 bench -m gpt2 --precision int8 -p 32,512 -n 128 --depth 0,900 --batch 1,32
  gpt2 bench --json | jq '.[] | select(.test == "tg128").tokens_per_second.median'
"""


_LIST = "; several with commas."


@dataclass(frozen=True)
class TestOptions(Options):
    heading = "Tests"

    prompts: Annotated[
        str, typer.Option("-p", "--n-prompt", metavar="N", help=f"Tokens of a prompt (pp){_LIST} 0: none.")
    ] = "512"
    generated: Annotated[
        str, typer.Option("-n", "--n-gen", metavar="N", help=f"Tokens generated (tg){_LIST} 0: none.")
    ] = "128"
    depths: Annotated[str, typer.Option("-d", "--depth", metavar="N", help=f"Tokens in the cache before{_LIST}")] = "0"
    batches: Annotated[str, typer.Option("-b", "--batch", metavar="N", help=f"Rows generated at once{_LIST}")] = "1"
    repetitions: Annotated[
        int, typer.Option("-r", "--repetitions", metavar="N", min=1, max=1000, help="How often each test is run.")
    ] = 5
    first_token: Annotated[
        bool, typer.Option("--first-token/--no-first-token", help="Time to the first token too, cold and warm.")
    ] = True

    def numbers(self) -> list[list[int]]:
        """Of the four lists. Raises UsageError."""
        lists = (
            ("-p", self.prompts, 0),
            ("-n", self.generated, 0),
            ("--depth", self.depths, 0),
            ("--batch", self.batches, 1),
        )
        return [_numbers(flag, text, least) for flag, text, least in lists]


@dataclass(frozen=True)
class OutputOptions(Options):
    heading = "Output"

    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False
    as_json: o.Json = False
    as_jsonl: Annotated[bool, typer.Option("--jsonl", help="Print one JSON object a test, each on a line.")] = False

    def __post_init__(self) -> None:
        if self.as_csv + self.as_json + self.as_jsonl > 1:
            raise UsageError("several formats at once", "choose one of --csv, --json and --jsonl")

    @property
    def structured(self) -> bool:
        return self.as_csv or self.as_json or self.as_jsonl


def bench(tested: TestOptions, model: o.ModelOptions, output: OutputOptions, talk: o.QuietOptions) -> int:
    numbers, repetitions, first_token = tested.numbers(), tested.repetitions, tested.first_token
    from gpt2cli.analysis import benchmark

    tests = benchmark.plan(*numbers)
    if not tests:
        raise UsageError("nothing to measure: -p and -n are 0", "for example -p 512 -n 128")
    note = talk.note
    opened = model.open(talk, text=False)
    fitting = [test for test in tests if test.positions <= opened.engine.window]
    for test in tests:
        if test not in fitting:
            note(f"{test.name} does not fit into the window of {opened.engine.window} tokens: left out")
    if not fitting:
        raise CannotMeet("no test fits into the model's window", "lower -p, -n or --depth")
    for test in fitting:
        opened.engine.check_room(test.batch, test.positions)
    machine = benchmark.machine()
    if not (talk.quiet or output.structured):
        terminal.say_out(f"{opened.name}, {opened.precision} on {opened.device}: {machine}")
    rows = []
    steps, done = len(fitting) * repetitions + 2 * first_token * repetitions, 0
    with terminal.progress(quiet=talk.quiet, counted=True) as update:

        def measure(test: benchmark.Test, name: str, speeds: Iterable[float]) -> None:
            nonlocal done
            values = []
            for speed in speeds:
                values.append(speed)
                done += 1
                update("measuring", done, steps)
            rows.append(
                {
                    "test": name,
                    "n_prompt": test.n_prompt,
                    "n_gen": test.n_gen,
                    "depth": test.depth,
                    "batch": test.batch,
                    "precision": opened.precision,
                    "threads": model.threads or benchmark.cores(),
                    "tokens_per_second": vars(benchmark.Speed.of(values)),
                    "model": opened.name,
                    "device": opened.device,
                    "machine": machine,
                    "peak_memory": benchmark.peak_memory(),
                }
            )

        update("measuring", 0, steps)
        if first_token:
            one = benchmark.Test(8, 1)
            arguments = ["-q", "-n", "1", "--ignore-eos", "--ids", benchmark.short_prompt(opened), "-m", opened.name]
            arguments += ["--precision", model.precision, "--source", model.source, "--device", opened.device]
            arguments += ["--threads", str(model.threads), "--offline"]
            measure(one, "first-cold", (1 / benchmark.first_token_cold(arguments) for _ in range(repetitions)))
            benchmark.first_token_warm(opened)
            measure(one, "first-warm", (1 / benchmark.first_token_warm(opened) for _ in range(repetitions)))
        for test in fitting:
            measure(test, test.name, benchmark.repeat(opened, test, repetitions))
    _print(rows, output)
    return 0


def _numbers(flag: str, text: str, least: int) -> list[int]:
    try:
        values = [int(word) for word in text.split(",")]
    except ValueError:
        values = []
    if not values or min(values) < least:
        raise UsageError(f"{flag} '{text}' are not numbers from {least} up", f"for example {flag} 512 or {flag} 32,512")
    return values


def _print(rows: list[dict[str, Any]], output: OutputOptions) -> None:
    if output.as_json:
        terminal.say_json(rows)
    elif output.as_jsonl:
        for row in rows:
            terminal.say_out(terminal.json_text(row))
    elif output.as_csv:
        flat = [
            {**row, **{f"tokens_per_second_{key}": value for key, value in row["tokens_per_second"].items()}}
            for row in rows
        ]
        text = io.StringIO()
        names = [name for name in flat[0] if name != "tokens_per_second"]
        writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(flat)
        terminal.say_out(text.getvalue().rstrip("\n"))
    else:
        cells = []
        for row in rows:
            speed = row["tokens_per_second"]
            if row["test"].startswith("first"):
                cells.append((row["test"], f"{1000 / speed['median']:,.1f}", "", "", "ms"))
            else:
                cells.append((row["test"], *(f"{speed[key]:,.1f}" for key in ("median", "mean", "stdev")), "tokens/s"))
        terminal.say_table(("TEST", "MEDIAN", "MEAN", "STDEV", "UNIT"), cells)
        if rows[-1]["peak_memory"]:
            terminal.say_out(f"peak memory {terminal.size_text(rows[-1]['peak_memory'])}")
