"""Vectors of many short lines: `embed` beside transformers' pipeline and batches as sentence-transformers makes them.

    python benchmarks/embedding.py --tokenizer FOLDER --peer PYTHON [--work FOLDER] [--size 124M] [--lines 2000]

One random checkpoint for all, with GPT-2's tokenizer from FOLDER; PYTHON is an interpreter with torch and transformers.
The mean of the last layer's states of each line: ours at fp32 and int8, the pipeline as it comes (a line at a time),
and batches of 32 lines of about the same length, padded, without gradients. Each keeps its process; rounds alternate
between them. Prints seconds, how many times faster ours is, and how far the vectors lie apart."""

import argparse
import random
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rounds import alternate, answer, checkpoint

OURS, PEERS = ("fp32", "int8"), ("pipeline", "batches")
WORDS = """the of and to a in that he was it his her with as for had you not be is she at on by which have or from
this him but all they were my are me one their so an said them we who would been will no when there if more out up into
do any your what has man could other than our some very time upon about may its only now like little then can should
made did such great before must two these see know over much down after first good men own never most old shall day
where those came come himself way work life without go make well through being long say might how am too even"""


def lines(count: int) -> list[str]:
    rng = random.Random(1)
    return [" ".join(rng.choices(WORDS.split(), k=rng.randint(4, 30))) for _ in range(count)]


def ours(folder: Path, precision: str, threads: int) -> Callable[[list[str]], Any]:
    from gpt2cli import embed, load

    model = load(str(folder), precision=precision, threads=threads, offline=True)
    return lambda texts: embed(model, texts)


def pipeline(folder: Path, threads: int) -> Callable[[list[str]], Any]:
    import numpy as np
    import torch
    import transformers

    torch.set_num_threads(threads)
    features = transformers.pipeline("feature-extraction", model=str(folder), device="cpu")
    return lambda texts: [np.array(found[0]).mean(0) for found in features(texts)]


def batches(folder: Path, threads: int) -> Callable[[list[str]], Any]:
    import torch
    import transformers

    torch.set_num_threads(threads)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = tokenizer.eos_token
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()

    def run(texts: list[str]) -> Any:
        order = sorted(range(len(texts)), key=lambda number: -len(texts[number]))
        found: dict[int, Any] = {}
        with torch.inference_mode():
            for first in range(0, len(order), 32):
                taken = order[first : first + 32]
                fed = tokenizer([texts[number] for number in taken], padding=True, return_tensors="pt")
                mask = fed["attention_mask"][..., None]
                states = model(**fed).last_hidden_state
                found |= zip(taken, ((states * mask).sum(1) / mask.sum(1)).numpy(), strict=True)
        return [found[number] for number in range(len(texts))]

    return run


def work(kind: str, folder: Path, count: int, threads: int) -> None:
    if kind in OURS:
        run = ours(folder, kind, threads)
    else:
        run = (pipeline if kind == "pipeline" else batches)(folder, threads)
    texts = lines(count)
    run(texts[:40])
    answer(lambda: [one[:8].tolist() for one in run(texts)[:50]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--peer", required=True)
    parser.add_argument("--work", type=Path, default=Path("/tmp/gpt2-embedding"))
    parser.add_argument("--size", default="124M")
    parser.add_argument("--lines", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    folder = checkpoint(given.work, given.size, given.tokenizer)
    commands = {
        kind: [sys.executable if kind in OURS else given.peer, __file__, "--worker", kind, folder, given.lines]
        for kind in (*OURS, *PEERS)
    }
    commands = {kind: [*command, given.threads] for kind, command in commands.items()}
    taken: dict[str, list[float]] = {kind: [] for kind in commands}
    vectors: dict[str, Any] = {}
    for kind, seconds, found in alternate(commands, given.rounds, {"GPT2_CACHE": str(given.work / "cache")}):
        taken[kind].append(seconds)
        vectors[kind] = found
    medians = {kind: statistics.median(found) for kind, found in taken.items()}
    for kind, median in medians.items():
        apart = max(
            abs(mine - other)
            for mines, others in zip(vectors[kind], vectors["batches"], strict=True)
            for mine, other in zip(mines, others, strict=True)
        )
        print(f"{kind:10} {median:7.2f} s  {given.lines / median:7.0f} lines/s  {apart:.1e} from `batches`")
    for mine in OURS:
        said = ", ".join(f"{medians[peer] / medians[mine]:.2f}x of {peer}" for peer in PEERS)
        print(f"{mine} is {said}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
    else:
        main()
