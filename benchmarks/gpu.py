"""gpt2cli on CUDA, and transformers on the same card: python benchmarks/gpu.py FOLDER (see gpu.sh)

Random checkpoints in the shapes of 124M and 1.5B. Every figure is the median of interleaved rounds, in one process;
transformers is measured eager in float16, and compiled with its static cache."""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from gpt2cli.model import load

HERE = Path(__file__).resolve().parent
ROUNDS, STEPS = 5, 64
Run = Callable[[int, int, int], tuple[float, float]]  # prompt, batch, new tokens -> seconds of prefill, of decode


def ours(folder: Path) -> tuple[Run, dict[str, Any]]:
    start = perf_counter()
    model = load(str(folder), text=False, device="cuda")
    facts = {"load_s": perf_counter() - start, "memory_mb": used_memory()}
    engine = model.engine

    def run(prompt: int, batch: int, new: int) -> tuple[float, float]:
        start = perf_counter()
        engine.reset()
        logits = np.repeat(engine.feed([tokens(prompt)]), batch, axis=0)
        engine.select([0] * batch)
        first = perf_counter()
        for _ in range(new):
            logits = engine.feed(logits.argmax(axis=1)[:, None].tolist())
        return first - start, perf_counter() - first

    return run, facts


def theirs(folder: Path, *, compiled: bool) -> tuple[Run, dict[str, Any]]:
    import torch
    import transformers

    start = perf_counter()
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float16).to("cuda").eval()
    versions = f"transformers {transformers.__version__}, torch {torch.__version__}"
    facts = {"load_s": perf_counter() - start, "versions": versions}

    def run(prompt: int, batch: int, new: int) -> tuple[float, float]:
        ids = torch.tensor([tokens(prompt)] * batch, device="cuda")
        times = []
        for count in (1, 1 + new) if new else (1,):
            torch.cuda.synchronize()
            start = perf_counter()
            more = {"cache_implementation": "static"} if compiled else {}
            model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=count,
                min_new_tokens=count,
                do_sample=False,
                pad_token_id=0,
                **more,
            )
            torch.cuda.synchronize()
            times.append(perf_counter() - start)
        return times[0], times[-1] - times[0]

    return run, facts


def tokens(count: int) -> list[int]:
    return [(7919 * number + 13) % 50257 for number in range(count)]


def used_memory() -> float:
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return float(subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    record: dict[str, Any] = {"rows": [], "facts": {}}
    for size in ("124M", "1.5B"):
        checkpoint = folder / size
        if not checkpoint.exists():
            subprocess.run([sys.executable, str(HERE / "random_gpt2.py"), str(checkpoint), "--size", size], check=True)
        runs = {}
        makers = {
            "gpt2cli": partial(ours, checkpoint),
            "transformers eager": partial(theirs, checkpoint, compiled=False),
            "transformers static": partial(theirs, checkpoint, compiled=True),
        }
        for name, make in makers.items():
            try:
                runs[name], record["facts"][f"{name} {size}"] = make()
            except Exception as error:  # a peer that is not there, or does not run, is no reason to lose the rest
                print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
        for title, prompt, batch, new in (("decode", 32, 1, STEPS), ("decode", 32, 64, STEPS), ("prefill", 512, 1, 0)):
            taken: dict[str, list[float]] = {name: [] for name in runs}
            for number in range(ROUNDS + 1):
                for name, run in runs.items():
                    seconds = run(prompt, batch, new)[1 if new else 0]
                    if number:
                        taken[name].append(seconds)
            medians = {name: statistics.median(values) * 1e3 / (new or 1) for name, values in taken.items()}
            ratios = {name: value / medians.get("gpt2cli", value) for name, value in medians.items()}
            row = {"size": size, "row": title, "prompt": prompt, "batch": batch, "ms": medians, "ratio": ratios}
            record["rows"].append(row)
            print(json.dumps(row))
        (folder / "gpu.json").write_text(json.dumps(record, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
