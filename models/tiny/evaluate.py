"""Bits per byte of a model on the held-out stories, and on the held-out books, in all and by position in the window.

    python models/tiny/evaluate.py --corpus DIR [-m tiny] [--precision int8]

Each book is one stream after an end-of-text token, cut into windows of 1,024 tokens with a stride of 512; a token is
scored once, with at least 512 tokens of context where the book has them. Bits per byte is the summed negative
log-likelihood / ln 2 / the book's UTF-8 bytes. With --against another model, the mean Kullback-Leibler divergence
between their next-token distributions is measured on the same windows: KL(against || model), in nats. A story is
scored alone, after an end-of-text token.
"""

import argparse
import math
from pathlib import Path

import numpy as np
from corpus import HELD_OUT, books, stories

from gpt2cli import load, score
from gpt2cli.generation.sampling import log_softmax
from gpt2cli.model import Model

STRIDE = 512
BANDS = (0, 32, 128, 512, 768, 1024)


def windows(ids: list[int], size: int) -> list[tuple[int, int]]:
    """(start, first scored position in the window); every token but the first is scored once."""
    found, scored = [], 1
    for start in range(0, len(ids), STRIDE):
        found.append((start, scored - start))
        scored = min(start + size, len(ids))
        if scored == len(ids):
            break
    return found


def logprobs(model: Model, ids: list[int]) -> np.ndarray:
    model.engine.reset()
    return log_softmax(model.engine.feed([ids], every=True))


def bits_of_stories(model: Model, corpus: Path) -> float:
    """Bits per byte over all held-out stories."""
    texts = stories(corpus)[1]
    if not texts:
        return math.nan
    nats = -sum(found.logprob for found in score(model, texts))
    return nats / math.log(2) / sum(len(text.encode()) for text in texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("-m", "--model", default="tiny")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--against", help="a second model, with --precision fp32, for the divergence")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--bytes", type=int, help="only the beginning of each book")
    arguments = parser.parse_args()
    model = load(arguments.model, precision=arguments.precision, threads=arguments.threads)
    print(f"held-out stories: {bits_of_stories(model, arguments.corpus):.4f} bits per byte", flush=True)
    other = load(arguments.against, precision="fp32", threads=arguments.threads) if arguments.against else None
    total_nats = total_bytes = divergence = 0.0
    scored_tokens = 0
    by_band = np.zeros((len(BANDS) - 1, 2))
    for name, text in books(arguments.corpus):
        if name not in HELD_OUT:
            continue
        text = text.encode()[: arguments.bytes].decode(errors="ignore")
        ids = [model.start, *model.tokenizer.encode(text)]
        nats = 0.0
        for start, first in windows(ids, model.engine.window):
            window = ids[start : start + model.engine.window]
            predicted = logprobs(model, window[:-1])[first - 1 :]
            values = -predicted[np.arange(len(predicted)), window[first:]]
            nats += float(values.sum())
            bands = np.digitize(np.arange(first, len(window)), BANDS) - 1
            np.add.at(by_band[:, 0], bands, values)
            np.add.at(by_band[:, 1], bands, 1)
            if other is not None:
                reference = logprobs(other, window[:-1])[first - 1 :]
                divergence += float((np.exp(reference) * (reference - predicted)).sum())
        size = len(text.encode())
        print(f"{name}: {nats / math.log(2) / size:.4f} bits per byte, {size:,} bytes", flush=True)
        total_nats, total_bytes, scored_tokens = total_nats + nats, total_bytes + size, scored_tokens + len(ids) - 1
    print(
        f"all: {total_nats / math.log(2) / total_bytes:.4f} bits per byte,"
        f" {total_bytes / scored_tokens:.3f} bytes a token"
    )
    for low, high, (nats, count) in zip(BANDS, BANDS[1:], by_band, strict=False):
        if count:
            print(f"positions {low}-{high - 1}: {nats / count / math.log(2) * scored_tokens / total_bytes:.4f}")
    if other is not None:
        print(f"mean KL divergence from {arguments.against} fp32: {divergence / scored_tokens:.6f} nats")


if __name__ == "__main__":
    main()
