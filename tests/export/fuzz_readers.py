"""Feeds mutated files to every reader of untrusted ones: it works or it raises UserError, in bounded time and memory.

python tests/export/fuzz_readers.py [COUNT] [SEED]
"""

import contextlib
import json
import random
import re
import resource
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import ml_dtypes
import numpy as np
from checkpoints import make_checkpoint, small_tokenizer
from safetensors.numpy import save
from torchfiles import Raw, Storages, dumps, legacy, saved, zipped

from gpt2cli.errors import UserError
from gpt2cli.export.checkpoint import Checkpoint, read_config
from gpt2cli.export.torchfile import TorchFile
from gpt2cli.tokenizer.tokenizer import TextStream, Tokenizer

SECONDS, BYTES = 5, 300e6
TINY = {"n_layer": 1, "n_head": 2, "n_embd": 4, "n_positions": 8, "vocab_size": 300}
SHAPES = {"wte.weight": (300, 4), "h.0.ln_1.weight": (4,), "h.0.mlp.c_fc.weight": (4, 16), "ln_f.bias": (4,)}
NUMBERS = [
    0,
    1,
    -1,
    2,
    7,
    255,
    256,
    65535,
    65536,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 48,
    (1 << 63) - 1,
    1 << 63,
]
NUMBERS += [(1 << 64) - 1, 1 << 64, 10**30]
WORDS = [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"null", b"true", b'"x"', b"[]", b"{}", b"0.5", b'"\\ud800"']
WORDS += [b'"' + b"a" * 5000 + b'"', b"[" * 3000, b"9" * 5000, b'"\\u0000"', b'".."']
# instructions of pickle, those with small operands many times
CODES = [
    b"(",
    b")",
    b"]",
    b"}",
    b"t",
    b"e",
    b"u",
    b"s",
    b"a",
    b"R",
    b"b",
    b"Q",
    b"N",
    b"\x85",
    b"\x86",
    b"\x87",
    b"\x94",
]
CODES += [
    b"K\1",
    b"K\4",
    b"h\0",
    b"h\1",
    b"q\0",
    b"q\1",
    b"X\1\0\0\0a",
    b"J\xff\xff\xff\xff",
    b"0",
    b"2",
    b"\x81",
    b"\x93",
]
CODES += [
    b"ccollections\nOrderedDict\n",
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ctorch\nFloatStorage\n",
    b"cos\nsystem\n",
]
CODES += [b"X\7\0\0\0storage", b"X\1\0\0\x000", b"\x88", b"\x8a\1\x7f", b"M\0\1", b".", b"r\0\0\0\0", b"j\0\0\0\0"]


def mutated(data, pool, rng):
    """`data` after one to four accidents; `pool` are other files to splice from."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        # what describes the rest stands at the ends
        near = rng.choice((60, 600, len(data)))
        at = min(int(rng.random() * near), len(data))
        at = at if rng.random() < 0.6 else len(data) - at
        size = int(rng.choice((1, 2, 4, 8, 50, 1000)) * rng.random()) + 1
        match rng.randrange(9):
            case 0 | 1 if data:
                data[min(at, len(data) - 1)] ^= 1 << rng.randrange(8)
            case 2 if data:
                data[min(at, len(data) - 1)] = rng.randrange(256)
            case 3:
                del data[at:]
            case 4:
                del data[at : at + size]
            case 5:
                data[at:at] = data[at : at + size]
            case 6:
                other = rng.choice(pool)
                start = rng.randrange(len(other) + 1)
                data[at : at + rng.choice((0, size))] = other[start : start + size]
            case 7:
                width = rng.choice((1, 2, 4, 8))
                data[at : at + width] = (rng.choice(NUMBERS) % (1 << (8 * width))).to_bytes(width, "little")
            case _:
                number_edited(data, rng)
    return bytes(data)


def number_edited(data, rng):
    """Another number, or something that is none, in place of a number or word that is written out."""
    found = list(re.finditer(rb"-?\d+(\.\d+)?|\btrue\b|\bnull\b|\"[^\"]{0,40}\"", data[:20_000]))
    if found:
        place = rng.choice(found)
        data[place.start() : place.end()] = rng.choice((rng.choice(WORDS), str(rng.choice(NUMBERS)).encode()))


def arrays():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(300, 4)).astype(np.float32)
    return {
        "wte.weight": table,
        "lm_head.weight": table,
        "h.0.ln_1.weight": table[7],
        "h.0.mlp.c_fc.weight": table[:16].T,
        "h.0.attn.bias": np.tril(np.ones((1, 1, 8, 8), np.uint8)),
        "ln_f.bias": np.ones(4, ml_dtypes.bfloat16),
    }


def read_all(reader):
    """Each tensor that a checkpoint could be asked for, used."""
    for name, shape in SHAPES.items():
        with contextlib.suppress(UserError):
            reader.tensor(name, shape).tobytes()


def torch_file(path):
    file = TorchFile(path)
    for name in list(file.keys()):
        file.get_tensor(name).tobytes()


def checkpoint_with(config):
    def read(path):
        (path.parent / "config.json").write_text(config)
        read_all(Checkpoint(path.parent))

    return read


def tokenizer(path):
    opened = Tokenizer(path.parent)
    ids = opened.encode("The cat, naïve 🦜<|endoftext|>\0 sat", special=True)
    opened.decode(ids)
    stream = TextStream(opened)
    for token in ids:
        stream.push(token)
    opened.encode_ends("the cat " * 300, 5, 5)


def pickles(rng):
    """A random program."""
    program = b"".join(rng.choices(CODES, k=rng.choice((3, 10, 40))))
    if rng.random() < 0.5:
        return b"\x80\x02" + program + b"."
    offset, count = (rng.choice([*NUMBERS, *[usual] * 40]) for usual in (0, 24))
    shape, strides = (tuple(rng.choice([*NUMBERS, *[part] * 100]) for part in usual) for usual in ((4, 6), (6, 1)))
    tensor = Storages().rebuilt(rng.choice(["float32"] * 9 + ["int64"]), "0", count, offset, shape, strides)
    if rng.random() < 0.5:
        tensor.arguments = tuple(rng.choice((part, part, part, Raw(program))) for part in tensor.arguments)
    return dumps(rng.choice(({"a": tensor}, {"a": tensor}, {"model": {"a": tensor}, "b": Raw(program)})))


def targets(folder, rng):
    """(name, share, bytes of a new input, reader, where it lies)"""
    value = arrays()
    contiguous = {name: np.ascontiguousarray(array) for name, array in value.items()}
    zips, olds = [saved(value), saved({"model": value})], [saved(value, old=True), saved({"model": value}, old=True)]
    int8 = {"wte.weight.int8": np.ones((4, 300), np.int8), "wte.weight.scale": np.ones(300, np.float32)}
    safes = [save(contiguous), save(contiguous | int8)]
    for name in ("made", "merges", "json", "config", "safe", "index"):
        (folder / name).mkdir()
    config, _ = make_checkpoint(folder / "made", TINY | {"model_type": "gpt2"}, tokenizer=False)
    text = json.dumps(config | {"n_inner": 16, "layer_norm_epsilon": 1e-5, "architectures": ["GPT2LMHeadModel"]})
    index = folder / "index/model.safetensors.index.json"
    (folder / "index/a.safetensors").write_bytes(safes[0])
    (folder / "index/b.bin").write_bytes(zips[0])
    names = {name: rng.choice(("a.safetensors", "b.bin")) for name in value}
    shards = json.dumps({"metadata": {"total_size": 5000}, "weight_map": names | {"wte.weight": "a.safetensors"}})
    made = small_tokenizer()
    made.save(str(folder / "json/tokenizer.json"))
    made.model.save(str(folder / "merges"))
    whole = {name: (folder / "merges" / name).read_bytes() for name in ("vocab.json", "merges.txt")}
    whole["added_tokens.json"] = b'{"<|endoftext|>": 299, "<pad>": 300}'
    whole["special_tokens_map.json"] = (
        b'{"pad_token": {"content": "<pad>", "lstrip": true}, "eos_token": "<|endoftext|>"}'
    )
    whole["tokenizer_config.json"] = (
        b'{"add_prefix_space": true, "pad_token": "<pad>", "extra_special_tokens": ["<x>"]}'
    )
    for name in ("added_tokens.json", "special_tokens_map.json", "tokenizer_config.json"):
        (folder / "merges" / name).write_bytes(whole[name])
    generation = [b'{"bos_token_id": 7, "eos_token_id": [0, 66], "_from_model_config": true}']
    (folder / "generation").mkdir()
    (folder / "generation/config.json").write_text(text)

    def structured(kind):
        numbers = np.arange(24, dtype=np.float32).tobytes()
        if kind == "zip":
            return zipped(pickles(rng), {"0": numbers})
        return legacy(pickles(rng), {"0": (24, numbers)})

    def broken(samples):
        return lambda: mutated(rng.choice(samples), samples, rng)

    yield "zip", 25, broken(zips), torch_file, folder / "zip.bin"
    yield "legacy", 25, broken(olds), torch_file, folder / "legacy.bin"
    yield "zip pickle", 7, lambda: structured("zip"), torch_file, folder / "zip.bin"
    yield "legacy pickle", 8, lambda: structured("legacy"), torch_file, folder / "legacy.bin"
    yield "safetensors", 15, broken(safes), checkpoint_with(text), folder / "safe/model.safetensors"
    config_samples = [text.encode()]
    yield "config", 12, broken(config_samples), lambda path: read_config(path.parent), folder / "config/config.json"
    path = folder / "generation/generation_config.json"
    yield path.name, 2, broken(generation), lambda path: read_config(path.parent), path
    yield "index", 5, broken([shards.encode()]), checkpoint_with(text), index
    samples = [(folder / "json/tokenizer.json").read_bytes()]
    yield "tokenizer.json", 1, broken(samples), tokenizer, folder / "json/tokenizer.json"
    for name, data in whole.items():
        yield name, 0.6, broken([data]), restoring(tokenizer, data), folder / "merges" / name


def restoring(reader, data):
    """The other files of the folder want this one whole."""

    def read(path):
        try:
            reader(path)
        finally:
            path.write_bytes(data)

    return read


def fuzz(folder, count, *, seed):
    """Counter of {(target, "read" or "refused"): inputs}. Raises AssertionError, with the input kept in the folder."""
    rng, seen = random.Random(seed), Counter()
    kinds = list(targets(folder, rng))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    shares = [share for _, share, _, _, _ in kinds]
    for kind, *_ in kinds:
        seen[kind, "read"] = 0
    for name, _, make, read, path in rng.choices(kinds, shares, k=count):
        data = make()
        path.unlink(missing_ok=True)  # an earlier one may still be mapped
        path.write_bytes(data)
        start = time.monotonic()
        outcome = "read"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                read(path)
        except UserError:
            outcome = "refused"
        except BaseException as error:
            kept = folder / "found"
            kept.write_bytes(data)
            raise AssertionError(
                f"{name}, seed {seed}: {type(error).__name__}: {error}; the input is {kept}"
            ) from error
        took = time.monotonic() - start
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
        if took > SECONDS or grown > BYTES:
            (folder / "found").write_bytes(data)
            raise AssertionError(f"{name}: {took:.1f} s, {grown / 1e6:.0f} MB; the input is {folder / 'found'}")
        seen[name, outcome] += 1
    return seen


if __name__ == "__main__":
    inputs = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    chosen = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp())
    result = fuzz(folder, inputs, seed=chosen)
    shutil.rmtree(folder)  # not after an error: the input is there
    for (target, what), number in sorted(result.items()):
        print(f"{target:20} {what:8} {number:8}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{sum(result.values())} inputs in {time.monotonic() - began:.0f} s, {peak:.0f} MB at most")
