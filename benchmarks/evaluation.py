"""LAMBADA and WikiText: `evaluate` beside lm-evaluation-harness with its `hf` backend.

    python benchmarks/evaluation.py --tokenizer FOLDER --lambada FILE --wikitext FILE --peer PYTHON

One random checkpoint for all, with GPT-2's tokenizer from FOLDER; PYTHON is an interpreter with torch and lm-eval. The
first 500 lines of lambada_test.jsonl (the last word given the rest), and the first 200 kB of wiki.test.raw (by page,
rolling), the same items for all: ours at fp32 and int8, the harness at fp32 with batches of 8. Each keeps its process
and its model; rounds alternate between them. Prints seconds, how many times faster ours is, and what each found."""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from rounds import alternate, answer, checkpoint

OURS, PEER = ("fp32", "int8"), "lm-eval"
WORDS, PAGES = "words.jsonl", "pages.jsonl"
TASKS = {
    "words": {
        "output_type": "loglikelihood",
        "doc_to_text": "{{context}}",
        "doc_to_target": "{{' ' + target}}",
        "metric_list": [{"metric": "perplexity"}, {"metric": "acc"}],
    },
    "pages": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [{"metric": "byte_perplexity"}],
    },
}


def items(lambada: Path, wikitext: Path, work: Path) -> None:
    """What all are asked, as lines of JSON."""
    with lambada.open(encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for _, line in zip(range(500), file, strict=False)]
    words = [dict(zip(("context", "target"), text.rsplit(" ", 1), strict=True)) for text in texts]
    raw = wikitext.read_bytes()[:200_000].decode(errors="ignore")
    pages: list[str] = [""]
    for line in raw.splitlines(keepends=True):
        if line.startswith(" = ") and not line.startswith(" = = "):
            pages.append("")
        pages[-1] += line
    rows = {WORDS: words, PAGES: [{"text": page} for page in pages if page.strip()]}
    for name, found in rows.items():
        (work / name).write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")


def ours(folder: Path, work: Path, precision: str, threads: int) -> Callable[[str], float]:
    from gpt2cli import evaluate, load

    model = load(str(folder), precision=precision, threads=threads, offline=True)
    return lambda name: evaluate(model, str(work / f"{name}.jsonl"))[0].logprob


def harness(folder: Path, work: Path, threads: int) -> Callable[[str], float]:
    os.environ["HF_DATASETS_CACHE"] = str(work / "datasets")
    import lm_eval
    import torch
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    torch.set_num_threads(threads)
    for name, task in TASKS.items():
        where = {"data_files": {"test": str(work / f"{name}.jsonl")}}
        head = {"task": f"local_{name}", "dataset_path": "json", "dataset_kwargs": where, "test_split": "test"}
        lines = [f"{key}: {json.dumps(value)}\n" for key, value in (head | task).items()]
        (work / f"{name}.yaml").write_text("".join(lines), encoding="utf-8")
    manager = TaskManager(include_path=str(work), include_defaults=False)
    model = HFLM(pretrained=str(folder), dtype="float32", device="cpu", batch_size=8)

    def run(name: str) -> float:
        results = lm_eval.simple_evaluate(model, tasks=[f"local_{name}"], task_manager=manager, bootstrap_iters=0)
        samples = results["samples"][f"local_{name}"]
        found = [one["filtered_resps"][0] for one in samples]
        return sum(float(one[0] if name == "words" else one) for one in found)

    return run


def work(kind: str, folder: Path, place: Path, threads: int) -> None:
    run = ours(folder, place, kind, threads) if kind in OURS else harness(folder, place, threads)

    def asked() -> dict[str, tuple[float, float]]:
        """Of each task the sum of the log-probabilities, and the seconds."""
        found = {}
        for name in TASKS:
            begun = perf_counter()
            total = run(name)
            found[name] = total, perf_counter() - begun
        return found

    answer(asked)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--tokenizer", "--lambada", "--wikitext"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--peer", required=True)
    parser.add_argument("--work", type=Path, default=Path("/tmp/gpt2-evaluation"))
    parser.add_argument("--size", default="124M")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    folder = checkpoint(given.work, given.size, given.tokenizer)
    items(given.lambada, given.wikitext, given.work)
    commands = {
        kind: [sys.executable if kind in OURS else given.peer, __file__, "--worker", kind, folder, given.work]
        for kind in (*OURS, PEER)
    }
    commands = {kind: [*command, given.threads] for kind, command in commands.items()}
    settings = {"GPT2_CACHE": str(given.work / "cache"), "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    seconds: dict[tuple[str, str], list[float]] = {}
    sums: dict[tuple[str, str], float] = {}
    for kind, _, found in alternate(commands, given.rounds, settings):
        for name, (total, taken) in found.items():
            print(f"{kind} {name} {taken:.2f} s", file=sys.stderr, flush=True)
            seconds.setdefault((kind, name), []).append(taken)
            sums[kind, name] = total
    for name, title in (("words", "LAMBADA, 500 lines"), ("pages", "WikiText, 200 kB")):
        print(title)
        medians = {kind: statistics.median(seconds[kind, name]) for kind in commands}
        for kind, median in medians.items():
            faster = f"{medians[PEER] / median:.2f}x" if kind in OURS else ""
            print(f"  {kind:8} {median:7.2f} s  {faster:6} log-probability {sums[kind, name]:,.1f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]), int(sys.argv[5]))
    else:
        main()
