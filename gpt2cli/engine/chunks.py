"""How a prompt is cut into the calls of a graph.

Kernels differ in a last bit: attention's of one token and of several, and now and then those of so many rows and of
others. So a text is always cut in the same way, whatever else is there."""

import itertools
from collections.abc import Iterable

from gpt2cli.engine.facts import Facts, Ids

# Attention computes the whole square of new tokens by all tokens; chunks skip most of what the causal mask hides.
CHUNK = 128
# Several in one call gain more in the matrices than attention loses, until it lasts so long that Ctrl-C seems to hang.
_JOINED = 4
_WORK = 4e8  # weights times the chunks of a call: four of 124M's, one of 355M's
_EVEN = (8, 16, 32, 64, 128)


def cut(ids: Ids, size: int) -> list[Ids]:
    """Chunks of `size` tokens and a rest, which is never the last token alone."""
    if len(ids) <= size:
        return [ids] if ids else []
    cuts = [*range(size, len(ids), size)]
    if cuts and len(ids) - cuts[-1] == 1 and size > 2:
        cuts[-1] -= 1
    return [ids[start:end] for start, end in zip([0, *cuts], [*cuts, len(ids)], strict=True)]


def joinable(facts: Facts) -> int:
    """How many chunks of CHUNK tokens may share a call. Kernels give each of 128 rows, and of two, three or four times
    as many, the same bits if the blocks of positions in which attention reads the cache do not end amid a chunk; how
    long these are hangs on the processor's second cache. With heads of 8, 16, 32, 64 and 128 numbers that held for
    each of twelve sizes from 32 kB to 3 MB; with 48, 80 and 256 it did not (ONNX Runtime 1.32, AVX2; the tests of the
    engine try it where they run)."""
    if facts.head_size not in _EVEN:
        return 1
    weights = 12 * facts.layers * (facts.heads * facts.head_size) ** 2
    return max(1, min(_JOINED, int(_WORK / weights)))


def full(chunks: Iterable[Ids], most: int) -> int:
    """How many of the first `most` chunks one call computes: those of CHUNK tokens, or else the first alone."""
    found = itertools.takewhile(lambda chunk: len(chunk) == CHUNK, itertools.islice(chunks, most))
    return max(1, len(list(found)))
