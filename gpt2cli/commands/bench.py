"""gpt2 bench: how fast is this model on this machine?"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from gpt2cli.console import options as o
from gpt2cli.console import speeds, terminal
from gpt2cli.console.bars import Bar
from gpt2cli.errors import CannotMeet, UsageError

if TYPE_CHECKING:
    from gpt2cli.analysis.benchmark import Test

HELP = "Measure prompt processing and generation."
# \b keeps the lines as they are
EXAMPLES = """\b
Examples:
  gpt2 bench
  gpt2 bench -m gpt2 --precision int8 -p 32,512 -n 128 --depth 0,900 --batch 1,32
  gpt2 bench --json | jq '.[] | select(.test == "tg128").tokens_per_second.median'
"""


def bench(
    model: o.ModelName = None,
    prompts: o.BenchPrompts = "512",
    generated: o.BenchGenerated = "128",
    depths: o.BenchDepths = "0",
    batches: o.BenchBatches = "1",
    repetitions: o.Repetitions = 5,
    first_token: o.FirstToken = True,
    precision: o.Precision = "auto",
    source: o.ModelSource = "auto",
    device: o.Device = "auto",
    threads: o.Threads = 0,
    offline: o.Offline = False,
    as_csv: o.Csv = False,
    as_json: o.Json = False,
    as_jsonl: o.JsonLines = False,
    quiet: o.Quiet = False,
) -> int:
    if as_csv + as_json + as_jsonl > 1:
        raise UsageError("several formats at once", "choose one of --csv, --json and --jsonl")
    lists = ("-p", prompts, 0), ("-n", generated, 0), ("--depth", depths, 0), ("--batch", batches, 1)
    numbers = [_numbers(flag, text, least) for flag, text, least in lists]
    from gpt2cli.analysis import benchmark
    from gpt2cli.model import load
    from gpt2cli.store.store import Listener

    tests = benchmark.plan(*numbers)
    if not tests:
        raise UsageError("nothing to measure: -p and -n are 0", "for example -p 512 -n 128")
    note = terminal.silent if quiet else terminal.note
    with terminal.progress(quiet=quiet) as update:
        listener = Listener(update, note, terminal.note)
        opened = load(
            model,
            precision=precision,
            source=source,
            device=device,
            threads=threads,
            text=False,
            offline=offline,
            listener=listener,
        )
    fitting = [test for test in tests if test.positions <= opened.engine.window]
    for test in tests:
        if test not in fitting:
            note(f"{test.name} does not fit into the window of {opened.engine.window} tokens: left out")
    if not fitting:
        raise CannotMeet("no test fits into the model's window", "lower -p, -n or --depth")
    for test in fitting:
        opened.engine.check_room(test.batch, test.positions)
    machine = benchmark.machine()
    form = "csv" if as_csv else "json" if as_json else "jsonl" if as_jsonl else "table"
    if form == "table" and not quiet:
        terminal.say_out(f"{opened.name}, {opened.precision} on {opened.device}: {machine}")
    cold = None
    if first_token:
        cold = ["-q", "-n", "1", "--ignore-eos", "--ids", benchmark.short_prompt(opened), "-m", opened.name]
        cold += ["--precision", precision, "--source", source, "--device", opened.device]
        cold += ["--threads", str(threads), "--offline"]
    common = {
        "precision": opened.precision,
        "threads": threads or benchmark.cores(),
        "model": opened.name,
        "device": opened.device,
        "machine": machine,
    }
    names = [*(benchmark.FIRST if first_token else ()), *(test.name for test in fitting)]
    with terminal.Output() as output, Bar(quiet=quiet, patience=0) as bar:
        sheet = speeds.Sheet(bar.before(output.write), form, names)
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
