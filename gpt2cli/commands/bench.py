"""gpt2 bench: how fast is this model on this machine?"""

import csv
import io
from collections.abc import Iterable
from typing import Any

from gpt2cli.console import options as o
from gpt2cli.console import terminal
from gpt2cli.errors import CannotMeet, UsageError

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
    if not (quiet or as_csv or as_json or as_jsonl):
        terminal.say_out(f"{opened.name}, {opened.precision} on {opened.device}: {machine}")
    rows = []
    steps, done = len(fitting) * repetitions + 2 * first_token * repetitions, 0
    with terminal.progress(quiet=quiet, counted=True) as update:

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
                    "threads": threads or benchmark.cores(),
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
            arguments += ["--precision", precision, "--source", source, "--device", opened.device]
            arguments += ["--threads", str(threads), "--offline"]
            measure(one, "first-cold", (1 / benchmark.first_token_cold(arguments) for _ in range(repetitions)))
            benchmark.first_token_warm(opened)
            measure(one, "first-warm", (1 / benchmark.first_token_warm(opened) for _ in range(repetitions)))
        for test in fitting:
            measure(test, test.name, benchmark.repeat(opened, test, repetitions))
    _print(rows, as_csv=as_csv, as_json=as_json, as_jsonl=as_jsonl)
    return 0


def _numbers(flag: str, text: str, least: int) -> list[int]:
    try:
        values = [int(word) for word in text.split(",")]
    except ValueError:
        values = []
    if not values or min(values) < least:
        raise UsageError(f"{flag} '{text}' are not numbers from {least} up", f"for example {flag} 512 or {flag} 32,512")
    return values


def _print(rows: list[dict[str, Any]], *, as_csv: bool, as_json: bool, as_jsonl: bool) -> None:
    if as_json:
        terminal.say_json(rows)
    elif as_jsonl:
        for row in rows:
            terminal.say_out(terminal.json_text(row))
    elif as_csv:
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
