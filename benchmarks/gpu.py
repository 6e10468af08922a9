"""gpt2cli on CUDA, and its peers on the same card: python benchmarks/gpu.py FOLDER [--work FOLDER] [--minutes 8]

Random checkpoints in the shapes of 124M and 1.5B. Each subject is a process of its own; all are asked in turn, round
after round, and FOLDER/gpu.json gets the medians after every row, so that what is measured is kept. A peer that is not
there or fails is left out, with its words. --minutes ends the work: what is missing then is named."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import monotonic
from typing import Any

from worker import Failed, Worker

HERE = Path(__file__).resolve().parent
OURS = "gpt2cli"
# title, tokens of the prompt, batch, new tokens
ROWS = (("decode", 32, 1, 64), ("decode", 32, 64, 64), ("prefill", 512, 1, 0))


def commands(checkpoint: Path, device: str) -> dict[str, list[str]]:
    peers, path = HERE / "peers", str(checkpoint)
    return {
        OURS: [str(peers / "gpt2cli_worker.py"), path, "fp16", "0", device],
        "transformers eager": [str(peers / "torch_worker.py"), path, "eager", device],
        "transformers compiled": [str(peers / "torch_worker.py"), path, "compiled", device],
        "CTranslate2": [str(peers / "ctranslate2_worker.py"), path, "fp16", "0", device],
    }


def used_memory() -> float:
    """Of the GPU, in MB; 0 where nvidia-smi does not say."""
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    try:
        return float(subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0])
    except (OSError, subprocess.CalledProcessError, ValueError):
        return 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="for gpu.json")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "gpt2-gpu", help="needs 13 GB")
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", nargs="+", default=["124M", "1.5B"])
    parser.add_argument("--device", default="cuda", help="cpu tries the script out")
    arguments = parser.parse_args()
    end = monotonic() + 60 * arguments.minutes
    work = arguments.work.resolve()
    os.environ["GPT2_CACHE"] = str(work / "cache")
    record: dict[str, Any] = {"rows": [], "subjects": {}, "missing": []}

    def keep() -> None:
        (arguments.folder / "gpu.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

    arguments.folder.mkdir(parents=True, exist_ok=True)
    for size in arguments.sizes:
        checkpoint = work / size
        if not checkpoint.exists():
            subprocess.run([sys.executable, str(HERE / "random_gpt2.py"), str(checkpoint), "--size", size], check=True)
        pull = ["-m", "gpt2cli", "pull", str(checkpoint), "--precision", "fp16", "--device", arguments.device]
        subprocess.run([sys.executable, *pull], check=True)  # its time is not the load's
        subjects = {}
        for name, command in commands(checkpoint, arguments.device).items():
            if monotonic() > end:
                record["missing"].append(f"{name} {size}: no time left")
                continue
            before = used_memory()
            try:
                worker = Worker([sys.executable, *command], {})
                for _, prompt, batch, new in ROWS:  # warms up, compiles, and takes the memory that it needs
                    worker.run(prompt, batch, new)
            except Failed as words:
                record["missing"].append(f"{name} {size}: {words}")
                print(f"{name} {size}: {words}", file=sys.stderr)
                continue
            subjects[name] = worker
            facts = {"load_s": worker.load_s, "gpu_mb": used_memory() - before, "versions": worker.versions}
            record["subjects"][f"{name} {size}"] = facts
            print(f"{name} {size}: {json.dumps(facts)}", flush=True)
            keep()
        for title, prompt, batch, new in ROWS:
            taken: dict[str, list[float]] = {name: [] for name in subjects}
            for number in range(arguments.rounds):
                if number and monotonic() > end:
                    record["missing"].append(f"{size} {title} {batch}: {number} of {arguments.rounds} rounds")
                    break
                for name, worker in subjects.items():
                    taken[name].append(worker.run(prompt, batch, new)["decode" if new else "prefill"])
            ms = {name: statistics.median(values) * 1e3 / (new or 1) for name, values in taken.items()}
            ratios = {name: value / ms[OURS] for name, value in ms.items()} if OURS in ms else {}
            row = {"size": size, "row": title, "prompt": prompt, "batch": batch, "ms": ms, "ratio": ratios}
            record["rows"].append(row)
            print(json.dumps(row), flush=True)
            keep()
        for worker in subjects.values():
            worker.end()
    keep()


if __name__ == "__main__":
    main()
