"""Rounds that alternate between processes, each of which keeps its model; and the checkpoint that all of them run."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

HERE = Path(__file__).resolve().parent


def checkpoint(work: Path, size: str, tokenizer: Path) -> Path:
    """A random checkpoint of GPT-2's shapes, with the tokenizer's files beside it; made once."""
    folder = work / f"gpt2-{size}"
    if not (folder / "config.json").exists():
        subprocess.run([sys.executable, HERE / "random_gpt2.py", folder, "--size", size], check=True)
    for name in ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json"):
        if (tokenizer / name).exists():
            shutil.copyfile(tokenizer / name, folder / name)
    return folder


def answer(run: Callable[[], Any]) -> None:
    """In a worker: a line on stdin is a round; the answer is its seconds, and what `run` gives."""
    out, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints does not reach the answers
    print("ready", file=out, flush=True)
    for _ in sys.stdin:
        begun = perf_counter()
        found = run()
        taken = perf_counter() - begun
        print(json.dumps([taken, found]), file=out, flush=True)


def alternate(
    commands: Mapping[str, Sequence[object]], rounds: int, settings: Mapping[str, str]
) -> Iterator[tuple[str, float, Any]]:
    """(worker, seconds, what it found) of every round."""
    workers = {
        name: subprocess.Popen(
            list(map(str, command)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | settings,
        )
        for name, command in commands.items()
    }
    for process in workers.values():
        assert process.stdout is not None
        process.stdout.readline()
    for _ in range(rounds):
        for name, process in workers.items():
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("go\n")
            process.stdin.flush()
            yield name, *json.loads(process.stdout.readline())
    for process in workers.values():
        process.communicate()
