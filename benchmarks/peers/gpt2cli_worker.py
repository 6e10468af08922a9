"""gpt2cli, of this repository: CHECKPOINT PRECISION THREADS [DEVICE]. Arg-max in NumPy after each step."""

import sys
from time import perf_counter

import numpy as np
import onnxruntime
from common import serve

from gpt2cli.model import load


def main() -> None:
    checkpoint, precision, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    device = sys.argv[4] if len(sys.argv) > 4 else "cpu"
    model = load(checkpoint, precision=precision, threads=threads, device=device, text=False)
    engine = model.engine

    def run(prompt: list[int], batch: int, new: int) -> tuple[float, float]:
        start = perf_counter()
        engine.reset()
        logits = np.repeat(engine.feed([prompt]), batch, axis=0)
        engine.select([0] * batch)
        tokens = logits.argmax(axis=1)
        first = perf_counter()
        for _ in range(new):
            tokens = engine.feed(tokens[:, None].tolist()).argmax(axis=1)
        return first - start, perf_counter() - first

    serve(run, f"onnxruntime {onnxruntime.__version__}, {model.precision} on {model.device}")


main()
