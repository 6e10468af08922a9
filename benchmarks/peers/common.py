"""What the workers share: a checkpoint's arrays, and the loop in which each answers requests, one JSON line each.

A request {"prompt": [ids], "batch": B, "new": N} asks for the prompt, B times side by side, and N greedy tokens after
it. The answer {"prefill": s, "decode": s} holds the seconds to the first token, and from there to the last."""

import json
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Run = Callable[[list[int], int, int], tuple[float, float]]


def serve(run: Run, versions: str) -> None:
    """Answer until stdin ends. The first line says who answers, with which version and settings."""
    out, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints does not reach the answers
    print(json.dumps({"versions": versions}), file=out, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        prefill, decode = run(request["prompt"], request["batch"], request["new"])
        print(json.dumps({"prefill": prefill, "decode": decode}), file=out, flush=True)


def load(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """config.json and the float32 arrays of model.safetensors, with numpy alone: a peer's environment has no more."""
    data = (folder / "model.safetensors").read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    tensors = {}
    for name, entry in json.loads(data[8 : 8 + size]).items():
        if name != "__metadata__":
            start, end = entry["data_offsets"]
            tensors[name] = np.frombuffer(data[8 + size + start : 8 + size + end], "<f4").reshape(entry["shape"]).copy()
    return json.loads((folder / "config.json").read_text(encoding="utf-8")), tensors
