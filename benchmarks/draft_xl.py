"""The row with gpt2-xl's shapes and a distilgpt2-shaped draft: python benchmarks/draft_xl.py FOLDER

Random weights agree on nothing, so the verdict is forced: each draft is taken with a probability of 70 %. All that is
timed is real: the draft's steps, the large model's calls, the rewinding."""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import numpy as np

from gpt2cli.generation.parameters import Limits, Sampling
from gpt2cli.generation.sampling import Sampler
from gpt2cli.generation.speculation import DraftModel
from gpt2cli.generation.texts import generate
from gpt2cli.model import load

HERE = Path(__file__).resolve().parent
TOKENS = 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    models = []
    for size in ("1.5B", "82M"):
        folder = arguments.work / size
        if not folder.exists():
            subprocess.run([sys.executable, str(HERE / "random_gpt2.py"), str(folder), "--size", size], check=True)
        models.append(load(str(folder), precision="int8", text=False, alternating=True))
    large, small = models
    luck, judge = np.random.default_rng(0), Sampler.judge

    def forced(self: Sampler, *arguments: object) -> tuple[int, bool]:
        token, _ = judge(self, *arguments)
        return (arguments[1].token, True) if luck.random() < 0.7 else (token, False)

    Sampler.judge = forced
    times: tuple[list[float], list[float]] = [], []
    taken = drafted = 0
    for number in range(arguments.rounds + 1):
        for place in (0, 1):
            drafter = DraftModel(small, large) if place == 0 else None
            start = perf_counter()
            limits = Limits(max_tokens=TOKENS, ignore_eos=True)
            pieces = generate(large, list(range(1, 9)), Sampling(temperature=0), limits, drafter=drafter)
            for _ in pieces:
                pass
            if number:
                times[place].append((perf_counter() - start) / TOKENS * 1e3)
            if drafter:
                taken, drafted = taken + drafter.accepted, drafted + drafter.drafted
    fast, plain = map(statistics.median, times)
    print(
        json.dumps(
            {
                "row": f"1.5B shapes, draft of 82M, {taken / drafted:.0%} taken",
                "ours": "gpt2cli int8, draft",
                "peer": "gpt2cli int8, without",
                "value": fast,
                "other": plain,
                "unit": "ms",
                "ratio": plain / fast,
                "target": 1.6,
            }
        )
    )


if __name__ == "__main__":
    main()
