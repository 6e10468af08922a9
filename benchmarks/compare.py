"""gpt2cli against its peers, side by side in one run: python benchmarks/compare.py [--work FOLDER] [--rounds 5]

Installs each peer into an environment of its own below FOLDER (llama-cpp-python is compiled: some minutes), makes one
random checkpoint in GPT-2 124M's shapes for all, and asks every peer in turn for the same work, round after round, so
that what else the machine does falls on all alike. Prints a table of the medians and of their ratios, and writes
FOLDER/results.json. --xl adds the row with gpt2-xl's shapes (13 GB of disk)."""

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from worker import Worker

from gpt2cli.analysis import benchmark

HERE = Path(__file__).resolve().parent
PACKAGES = {
    "ctranslate2": ["ctranslate2", "numpy"],
    "llama": ["llama-cpp-python", "gguf"],
    "transformers": ["optimum[onnxruntime]", "accelerate"],
}
# name -> (environment, worker, its second argument)
WORKERS = {
    "gpt2cli fp32": (None, "gpt2cli_worker.py", "fp32"),
    "gpt2cli int8": (None, "gpt2cli_worker.py", "int8"),
    "gpt2cli int4": (None, "gpt2cli_worker.py", "int4"),
    "CTranslate2 int8": ("ctranslate2", "ctranslate2_worker.py", "int8"),
    "llama.cpp Q8_0": ("llama", "llama_worker.py", "int8"),
    "llama.cpp Q4_0": ("llama", "llama_worker.py", "int4"),
    "transformers fp32": ("transformers", "transformers_worker.py", "transformers"),
    "optimum fp32": ("transformers", "transformers_worker.py", "optimum"),
}


@dataclass(frozen=True)
class Row:
    """`prompt` tokens, `batch` rows, `new` tokens after the first; the phase that is timed; how often faster gpt2cli
    is to be than `peer`."""

    title: str
    ours: str
    peer: str
    prompt: int
    batch: int
    new: int
    target: float

    @property
    def phase(self) -> str:
        return "decode" if self.new else "prefill"


CT2, Q8, Q4, HF, ORT = "CTranslate2 int8", "llama.cpp Q8_0", "llama.cpp Q4_0", "transformers fp32", "optimum fp32"
ROWS = [
    Row("decode, 32 in the cache", "gpt2cli int8", CT2, 32, 1, 64, 1.25),
    Row("decode, 900 in the cache", "gpt2cli int8", CT2, 900, 1, 64, 1.25),
    Row("prefill 512", "gpt2cli int8", CT2, 512, 1, 0, 1.15),
    Row("prefill 32", "gpt2cli int8", CT2, 32, 1, 0, 1.2),
    Row("decode, batch of 32", "gpt2cli int8", CT2, 32, 32, 16, 1.25),
    Row("decode, 32 in the cache", "gpt2cli int8", Q8, 32, 1, 64, 2.5),
    Row("prefill 512", "gpt2cli int8", Q8, 512, 1, 0, 4),
    Row("decode, 32 in the cache", "gpt2cli int4", Q4, 32, 1, 64, 2),
    Row("decode, 32 in the cache", "gpt2cli fp32", HF, 32, 1, 32, 1.5),
    Row("prefill 512", "gpt2cli fp32", HF, 512, 1, 0, 1),
    Row("decode, batch of 32", "gpt2cli fp32", HF, 32, 32, 8, 2),
    Row("decode, 32 in the cache", "gpt2cli fp32", ORT, 32, 1, 32, 1.5),
    Row("prefill 512", "gpt2cli fp32", ORT, 512, 1, 0, 1),
    Row("decode, batch of 32", "gpt2cli fp32", ORT, 32, 32, 8, 2),
]
TEXTS = {
    "a list": "1. apples and pears\n2. apples and plums\n3. apples and pears\n4. apples and plums\n5.",
    "code": "if a == 1:\n    print(a)\nif b == 1:\n    print(b)\nif c == 1:\n    print(c)\nif d",
    "a poem with a refrain": "O the wind and the rain,\nsaid the old mare.\nO the wind and the rain,\nsaid the old",
}


def python_of(folder: Path) -> str:
    return str(folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))


def install(work: Path, name: str) -> str:
    """The interpreter of a peer's environment."""
    folder = work / "environments" / name
    if not (folder / "installed").exists():
        print(f"installing {', '.join(PACKAGES[name])} ...", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python_of(folder), "-m", "pip", "install", "-q", *PACKAGES[name]], check=True)
        (folder / "installed").touch()
    return python_of(folder)


def start(work: Path, name: str, checkpoint: Path, threads: int) -> Worker:
    environment, script, argument = WORKERS[name]
    python = install(work, environment) if environment else sys.executable
    command = [python, str(HERE / "peers" / script), str(checkpoint), argument, str(threads)]
    return Worker(command, {"OMP_NUM_THREADS": str(threads), "GPT2_CACHE": str(work / "cache")})


def timed(command: list[str], settings: dict[str, str]) -> tuple[float, bytes]:
    start = perf_counter()
    result = subprocess.run(command, env=settings, capture_output=True, check=True)
    return perf_counter() - start, result.stdout


def speeds(work: Path, checkpoint: Path, rounds: int, threads: int) -> tuple[list[dict[str, Any]], dict[str, str]]:
    names = sorted({name for row in ROWS for name in (row.ours, row.peer)})
    workers = {name: start(work, name, checkpoint, threads) for name in names}
    taken: dict[tuple[Row, str], list[float]] = {}
    for number in range(rounds + 1):
        for row in ROWS:
            for name in (row.ours, row.peer):
                seconds = workers[name].run(row.prompt, row.batch, row.new)[row.phase]
                if number:  # the first round warms up
                    taken.setdefault((row, name), []).append(seconds)
        print(f"round {number} of {rounds}", file=sys.stderr)
    results = []
    for row in ROWS:
        ours, theirs = (statistics.median(taken[row, name]) for name in (row.ours, row.peer))
        steps = row.new or 1
        results.append(
            result(row.title, row.ours, row.peer, ours / steps * 1e3, theirs / steps * 1e3, row.target, "ms")
        )
    versions = {name: worker.versions for name, worker in workers.items()}
    for worker in workers.values():
        worker.end()
    return results, versions


def result(title: str, ours: str, peer: str, value: float, other: float, target: float, unit: str) -> dict[str, Any]:
    """`ratio` above 1: gpt2cli is faster or smaller."""
    return {
        "row": title,
        "ours": ours,
        "peer": peer,
        "value": value,
        "other": other,
        "unit": unit,
        "ratio": other / value,
        "target": target,
    }


def processes(work: Path, checkpoint: Path, rounds: int, threads: int) -> list[dict[str, Any]]:
    """Whole commands: the cold start, memory."""
    settings = os.environ | {"GPT2_CACHE": str(work / "cache"), "OMP_NUM_THREADS": str(threads)}
    gpt2 = [sys.executable, "-m", "gpt2cli", "generate", "-q", "-m", str(checkpoint), "--precision", "int8"]
    gpt2 += ["--ids", "1 2 3 4 5 6 7 8", "--ignore-eos", "--threads", str(threads)]
    llama = [
        install(work, "llama"),
        str(HERE / "peers/cold_llama.py"),
        str(checkpoint / "llama-int8.gguf"),
        str(threads),
    ]
    ours, theirs = [], []
    for number in range(rounds + 1):
        seconds = timed([*gpt2, "-n", "1"], settings)[0], timed(llama, settings)[0]
        if number:
            ours.append(seconds[0])
            theirs.append(seconds[1])
    rows = [
        result(
            "cold start to the first token",
            "gpt2cli int8",
            Q8,
            statistics.median(ours) * 1e3,
            statistics.median(theirs) * 1e3,
            1,
            "ms",
        )
    ]
    memory = []
    for name in ("gpt2cli int8", CT2):
        worker = start(work, name, checkpoint, threads)
        worker.run(8, 1, 127)
        memory.append(worker.end() / 1e6)
    rows.append(result("peak memory, 128 tokens", "gpt2cli int8", CT2, memory[0], memory[1], 1, "MB"))
    return rows


def beside(work: Path, checkpoint: Path, rounds: int, threads: int) -> list[dict[str, Any]]:
    """A decode step while another process uses a core: opened beside it, as a command is; and against the quiet."""
    taken: dict[tuple[str, bool], list[float]] = {}
    for _ in range(rounds):
        for name in ("gpt2cli int8", CT2):
            for busy in (False, True):
                with contextlib.ExitStack() as stack:
                    if busy:
                        other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
                        stack.callback(other.wait)
                        stack.callback(other.kill)
                    worker = start(work, name, checkpoint, threads)
                    worker.run(32, 1, 16)  # warms up
                    seconds = worker.run(32, 1, 64)["decode"]
                    worker.end()
                taken.setdefault((name, busy), []).append(seconds / 64 * 1e3)
    medians = {key: statistics.median(values) for key, values in taken.items()}
    ours, quiet, theirs = medians["gpt2cli int8", True], medians["gpt2cli int8", False], medians[CT2, True]
    title = "decode beside a process that uses a core"
    return [
        result(title, "gpt2cli int8", CT2, ours, theirs, 1.5, "ms"),
        result(f"{title}, against a quiet machine", "gpt2cli int8", "gpt2cli int8", ours, quiet, 1 / 1.25, "ms"),
    ]


def itself(work: Path, checkpoint: Path, rounds: int, threads: int) -> list[dict[str, Any]]:
    """gpt2cli against itself: a full cache, window slides, prompt lookup."""
    rows = []
    worker = start(work, "gpt2cli int8", checkpoint, threads)
    steps = [[worker.run(depth, 1, 20)["decode"] * 50 for depth in (990, 32)] for _ in range(rounds + 1)][1:]
    full, empty = (statistics.median(values) for values in zip(*steps, strict=True))
    rows.append(
        result("decode, 990 in the cache, against 32", "gpt2cli int8", "gpt2cli int8", full, empty, 1 / 1.5, "ms")
    )
    worker.end()
    settings = os.environ | {"GPT2_CACHE": str(work / "cache")}
    gpt2 = [sys.executable, "-m", "gpt2cli", "generate", "-q", "--ignore-eos", "--json", "--threads", str(threads)]

    def speed(*argv: str) -> float:
        return json.loads(timed([*gpt2, *argv], settings)[1])["timings"]["tokens_per_second"]

    common = ("-m", str(checkpoint), "--precision", "int8", "--ids", "1 2 3", "--greedy")
    long = statistics.median(speed(*common, "-n", "5000") for _ in range(2))
    short = statistics.median(speed(*common, "-n", "512") for _ in range(3))
    rows.append(
        result(
            "5,000 tokens with slides, against 512", "gpt2cli int8", "gpt2cli int8", 1e3 / long, 1e3 / short, 0.8, "ms"
        )
    )
    for title, text in TEXTS.items():
        for precision in ("fp32", "int8"):
            pairs = []
            for _ in range(rounds):
                argv = ("-m", "tiny", "--precision", precision, "--greedy", "-n", "256")
                pairs.append([1e3 / speed(*argv, flag, text) for flag in ("--lookup", "--no-lookup")])
            fast, plain = (statistics.median(values) for values in zip(*pairs, strict=True))
            ours = f"tiny {precision}, lookup"
            rows.append(result(f"greedy: {title}", ours, f"tiny {precision}, without", fast, plain, 1.8, "ms"))
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| row | gpt2cli | peer | ratio | target |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        met = "" if row["ratio"] >= row["target"] else " (not met)"
        lines.append(
            f"| {row['row']} | {row['ours']}: {row['value']:,.1f} {row['unit']} | {row['peer']}: {row['other']:,.1f}"
            f" {row['unit']} | {row['ratio']:.2f} | {row['target']:.2f}{met} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=HERE / "scratch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--xl", action="store_true")
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    checkpoint = work / "124M"
    if not checkpoint.exists():
        subprocess.run([sys.executable, str(HERE / "random_gpt2.py"), str(checkpoint)], check=True)
    rows, versions = speeds(work, checkpoint, arguments.rounds, arguments.threads)
    rows += processes(work, checkpoint, arguments.rounds, arguments.threads)
    rows += beside(work, checkpoint, arguments.rounds, arguments.threads)
    rows += itself(work, checkpoint, arguments.rounds, arguments.threads)
    if arguments.xl:
        xl = subprocess.run([sys.executable, str(HERE / "draft_xl.py"), str(work)], check=True, capture_output=True)
        rows.append(json.loads(xl.stdout))
    machine = f"{benchmark.machine()}, {arguments.threads} threads, Python {platform.python_version()}"
    print(table(rows))
    print(f"\nMedians of {arguments.rounds} interleaved rounds, {machine}.")
    for name, version in versions.items():
        print(f"{name}: {version}")
    record = {"machine": machine, "rounds": arguments.rounds, "versions": versions, "rows": rows}
    (work / "results.json").write_text(json.dumps(record, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
