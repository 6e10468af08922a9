"""gpt2 bench: how fast is this model on this machine?"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gpt2cli.console import options as o
from gpt2cli.console import outputs, speeds, terminal
from gpt2cli.console.bars import Bar
from gpt2cli.console.groups import Options
from gpt2cli.errors import CannotMeet, UsageError

if TYPE_CHECKING:
    from gpt2cli.analysis.benchmark import Test

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
    def form(self) -> str:
        return "csv" if self.as_csv else "json" if self.as_json else "jsonl" if self.as_jsonl else "table"


def bench(tested: TestOptions, model: o.ModelOptions, shown: OutputOptions, talk: o.QuietOptions) -> int:
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
    if shown.form == "table" and not talk.quiet:
        terminal.say_out(f"{opened.name}, {opened.precision} on {opened.device}: {machine}")
    cold = None
    if first_token:
        cold = ["-q", "-n", "1", "--ignore-eos", "--ids", benchmark.short_prompt(opened), "-m", opened.name]
        cold += ["--precision", model.precision, "--source", model.source, "--device", opened.device]
        cold += ["--threads", str(model.threads), "--offline"]
    common = {
        "precision": opened.precision,
        "threads": model.threads or benchmark.cores(),
        "model": opened.name,
        "device": opened.device,
        "machine": machine,
    }
    names = [*(benchmark.FIRST if first_token else ()), *(test.name for test in fitting)]
    with outputs.Output() as output, Bar(quiet=talk.quiet, patience=0) as bar:
        sheet = speeds.Sheet(bar.before(output.write), shown.form, names)
        try:
            _measure(benchmark.runs(opened, fitting, repetitions, cold), len(names) * repetitions, common, sheet, bar)
        finally:  # what there is belongs to the user, however it came to an end
            sheet.finish()
    return 0


def _measure(
    runs: "Iterator[tuple[str, Test, Iterator[float]]]",
    steps: int,
    common: dict[str, Any],
    sheet: speeds.Sheet,
    bar: Bar,
) -> None:
    """Each run becomes a row of the sheet, and a step of the bar with each repetition."""
    from gpt2cli.analysis.benchmark import Speed, peak_memory

    done = 0
    for name, test, found in runs:
        values: list[float] = []
        bar.update(name, done, steps)
        for value in found:
            values.append(value)
            done += 1
            bar.update(name, done, steps)
        row = {"test": name, "n_prompt": test.n_prompt, "n_gen": test.n_gen, "depth": test.depth, "batch": test.batch}
        row |= {"precision": common["precision"], "threads": common["threads"]}
        sheet.add(row | {"tokens_per_second": vars(Speed.of(values))} | common | {"peak_memory": peak_memory()})


def _numbers(flag: str, text: str, least: int) -> list[int]:
    try:
        values = [int(word) for word in text.split(",")]
    except ValueError:
        values = []
    if not values or min(values) < least:
        raise UsageError(f"{flag} '{text}' are not numbers from {least} up", f"for example {flag} 512 or {flag} 32,512")
    return values
