"""pytorch_model.bin: everything PyTorch writes is read, in both formats; whatever else is in such a file is refused."""

import contextlib
import hashlib
import io
import json
import os
import pickle
import resource
import struct
import time
import tracemalloc
import zipfile

import ml_dtypes
import numpy as np
import oracle
import pytest
from checkpoints import SMALL, make_checkpoint, random_tensors
from fuzz_readers import fuzz
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from texts import generate
from torchfiles import (
    ORDERED,
    REBUILD,
    STORAGES,
    Call,
    Global,
    Persistent,
    Raw,
    Storages,
    code,
    dumps,
    legacy,
    saved,
    zipped,
)

from gpt2cli import Sampling, load
from gpt2cli.errors import CorruptFile, UnknownModel
from gpt2cli.export.checkpoint import Checkpoint
from gpt2cli.export.export import export
from gpt2cli.export.torchfile import TorchFile
from gpt2cli.tokenizer.tokenizer import Tokenizer

NUMBERS = np.arange(24, dtype=np.float32).reshape(4, 6)
FORMATS = pytest.mark.parametrize("old", [False, True], ids=["zip", "legacy"])


@pytest.fixture
def opened(tmp_path):
    """opened(bytes) -> TorchFile"""

    def call(data):
        path = tmp_path / "pytorch_model.bin"
        path.write_bytes(data)
        return TorchFile(path)

    return call


@pytest.fixture
def refused(opened):
    """refused(bytes, *words): CorruptFile whose message names the file and has the words"""

    def call(data, *words):
        with pytest.raises(CorruptFile) as caught:
            opened(data)
        assert "pytorch_model.bin" in caught.value.message
        assert caught.value.message.isprintable()
        for word in words:
            assert word in caught.value.message
        return caught.value.message

    return call


def to_bin(folder, *, old=False, shards=1):
    """Replace the one safetensors file of a checkpoint by PyTorch's."""
    stored = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    if shards == 1:
        (folder / "pytorch_model.bin").write_bytes(saved(stored, old=old))
        return
    weight_map = {}
    for number in range(shards):
        name = f"pytorch_model-{number + 1:05}-of-{shards:05}.bin"
        part = sorted(stored)[number::shards]
        (folder / name).write_bytes(saved({key: stored[key] for key in part}, old=old))
        weight_map |= dict.fromkeys(part, name)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def digests(folder, target, precision="fp32"):
    target.mkdir()
    for _ in export(folder, target, precision):
        pass
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in target.iterdir()}


# What PyTorch writes


@FORMATS
@pytest.mark.parametrize("dtype", STORAGES)
def test_every_type(dtype, old, opened):
    value = NUMBERS.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    file = opened(saved({"a": value}, old=old))
    assert file.keys() == ["a"]
    assert file.get_tensor("a").dtype.name == dtype
    assert np.array_equal(file.get_tensor("a"), value)


VIEWS = {
    "transposed": NUMBERS.T,
    "corner": NUMBERS[1:3, 2:5],
    "steps": NUMBERS[::2, ::3],
    "row": NUMBERS[3],
    "number": np.array(7, np.float32),
    "empty": np.zeros((0, 3), np.float32),
    "whole": NUMBERS,
}


@FORMATS
def test_views_share_a_storage(old, opened):
    data = saved(VIEWS, old=old)
    assert data.count(NUMBERS.tobytes()) == 1
    file = opened(data)
    for name, value in VIEWS.items():
        assert np.array_equal(file.get_tensor(name), value), name


def test_a_legacy_storage_that_is_part_of_another(opened):
    identity = ("storage", Global("torch", "FloatStorage"), "7", "cpu", 24, ("8", 6, 12))
    value = {"a": Call(REBUILD, (Persistent(identity), 2, (2, 3), (3, 1), False, ORDERED))}
    file = opened(legacy(dumps(value), {"7": (24, NUMBERS.tobytes())}))
    assert np.array_equal(file.get_tensor("a"), np.arange(8, 14).reshape(2, 3))


@FORMATS
def test_parameters_ordered_dictionaries_and_their_metadata(old, opened):
    storages = Storages(old)
    tensor = storages.tensor(NUMBERS)
    parameter = Call(Global("torch._utils", "_rebuild_parameter"), (tensor, True, ORDERED))
    metadata = code({"_metadata": Raw(code(ORDERED) + code("") + code({"version": 1}) + b"s")}) + b"b"
    pickled = dumps(
        Raw(code(ORDERED) + b"(" + code("a") + code(parameter) + code("b") + code(tensor) + b"u" + metadata)
    )
    file = opened(legacy(pickled, {"0": (24, NUMBERS.tobytes())}) if old else zipped(pickled, {"0": NUMBERS.tobytes()}))
    assert file.keys() == ["a", "b"]
    assert np.array_equal(file.get_tensor("a"), NUMBERS)


@pytest.mark.parametrize("name", ["state_dict", "model"])
@FORMATS
def test_a_training_scripts_dictionary_is_unwrapped(name, old, opened):
    value = {"epoch": 3, "loss": 0.5, "best": None, "steps": [1, 2], name: {"a": NUMBERS}, "optimizer": {"state": {}}}
    assert opened(saved(value, old=old)).keys() == ["a"]


def test_two_state_dicts_are_ambiguous(refused):
    refused(saved({"model": {"a": NUMBERS}, "state_dict": {"a": NUMBERS}}), "not one dictionary")


@pytest.mark.parametrize("folder", ["archive", "pytorch_model", "模型", "a b", ".", ".."])
def test_any_top_folder(folder, opened):
    assert opened(saved({"a": NUMBERS}, folder=folder)).keys() == ["a"]


@pytest.mark.parametrize("order", ["little", None])
def test_byte_order(order, opened):
    assert opened(saved({"a": NUMBERS}, order=order)).keys() == ["a"]


def test_64_bit_zip_files(opened, monkeypatch):
    """As beyond 4 GB."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 10)
    data = saved({"a": NUMBERS, "b": NUMBERS[1:].copy()})
    assert b"PK\6\6" in data
    file = opened(data)
    assert np.array_equal(file.get_tensor("b"), NUMBERS[1:])


def test_protocol_4(opened):
    short = [bytes([0x8C, len(text)]) + text.encode() + b"\x94" for text in ("collections", "OrderedDict")]
    tensor = Storages()
    body = tensor.tensor(NUMBERS)
    pickled = b"\x80\x04\x95" + bytes(8) + b"".join(short) + b"\x93)R(" + code("a") + code(body) + b"u."
    assert opened(zipped(pickled, {"0": NUMBERS.tobytes()})).keys() == ["a"]


def test_opening_reads_no_tensor_and_a_tensor_is_a_view(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(saved({"a": np.zeros(10_000_000, np.float32), "b": NUMBERS}))
    TorchFile(path)
    tracemalloc.start()
    file = TorchFile(path)
    file.get_tensor("a")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000
    assert not file.get_tensor("a").flags.writeable


# In a checkpoint


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("shards", [1, 3])
@FORMATS
def test_the_export_equals_that_of_safetensors(old, shards, precision, tmp_path):
    make_checkpoint(tmp_path / "c", prefix="transformer.", dtype="bfloat16")
    expected = digests(tmp_path / "c", tmp_path / "safe", precision)
    to_bin(tmp_path / "c", old=old, shards=shards)
    assert digests(tmp_path / "c", tmp_path / "bin", precision) == expected


@FORMATS
def test_masks_are_skipped_and_a_tied_head_shares_its_storage(old, tmp_path):
    make_checkpoint(tmp_path / "c")
    expected = digests(tmp_path / "c", tmp_path / "safe")
    stored = load_file(tmp_path / "c/model.safetensors")
    stored |= {f"h.{n}.attn.bias": np.tril(np.ones((1, 1, 64, 64), np.uint8)) for n in range(2)}
    stored |= {f"h.{n}.attn.masked_bias": np.array(-1e4, np.float32) for n in range(2)}
    stored["lm_head.weight"] = stored["wte.weight"]
    (tmp_path / "c/model.safetensors").unlink()
    (tmp_path / "c/pytorch_model.bin").write_bytes(saved(stored, old=old))
    assert digests(tmp_path / "c", tmp_path / "bin") == expected


def test_safetensors_come_first(tmp_path):
    make_checkpoint(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"never read")
    assert "wte.weight" in Checkpoint(tmp_path)


def test_a_missing_shard_is_named(tmp_path):
    make_checkpoint(tmp_path)
    to_bin(tmp_path, shards=2)
    (tmp_path / "pytorch_model-00002-of-00002.bin").unlink()
    with pytest.raises(CorruptFile, match="pytorch_model-00002-of-00002"):
        Checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["../evil.bin", "/etc/passwd", "a/b.bin", "..", ".", "", "a\0b", "n" * 300, 7, None])
def test_shards_stay_in_their_folder(name, tmp_path):
    make_checkpoint(tmp_path)
    to_bin(tmp_path, shards=2)
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {"wte.weight": name}}))
    with pytest.raises(CorruptFile):
        Checkpoint(tmp_path)


def test_neither_kind_of_weights(tmp_path):
    make_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UnknownModel, match=r"neither model\.safetensors nor pytorch_model\.bin"):
        Checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "pytorch_model.bin", "tokenizer.json"])
def test_links_out_of_the_folder_are_refused(name, tmp_path):
    make_checkpoint(tmp_path / "c")
    to_bin(tmp_path / "c")
    (tmp_path / "c" / name).rename(tmp_path / name)
    (tmp_path / "c" / name).symlink_to(tmp_path / name)
    with pytest.raises(CorruptFile, match=name):
        digests(tmp_path / "c", tmp_path / "e")
    if name == "tokenizer.json":
        with pytest.raises(CorruptFile, match=name):
            load(str(tmp_path / "c"))


def test_links_in_a_circle(tmp_path):
    make_checkpoint(tmp_path)
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").symlink_to(tmp_path / "config.json")
    with pytest.raises(CorruptFile, match="config"):
        Checkpoint(tmp_path)


def test_links_of_a_hub_snapshot_to_its_blobs_are_followed(tmp_path):
    snapshot, blobs = tmp_path / "models--a--b/snapshots/abc", tmp_path / "models--a--b/blobs"
    make_checkpoint(snapshot)
    expected = digests(snapshot, tmp_path / "e")
    blobs.mkdir()
    for path in list(snapshot.iterdir()):
        path.rename(blobs / path.name)
        path.symlink_to(f"../../blobs/{path.name}")
    assert digests(snapshot, tmp_path / "f") == expected
    (tmp_path / "link").symlink_to(snapshot)
    assert digests(tmp_path / "link", tmp_path / "g") == expected
    (snapshot / "config.json").unlink()
    (tmp_path / "models--a--other").mkdir()
    (tmp_path / "models--a--other/config.json").write_text(json.dumps(SMALL))
    (snapshot / "config.json").symlink_to("../../../models--a--other/config.json")
    with pytest.raises(CorruptFile, match="outside"):
        Checkpoint(snapshot)
    (snapshot / "config.json").unlink()
    (tmp_path / "models--a--b/config.json").write_text(json.dumps(SMALL))
    (snapshot / "config.json").symlink_to("../../config.json")  # of the repository, but no blob
    with pytest.raises(CorruptFile, match="outside"):
        Checkpoint(snapshot)


@pytest.mark.parametrize("place", ["snapshots/abc", "mine/snapshots/abc", "models--a--b/revisions/abc"])
def test_folders_with_the_names_of_snapshots_are_none(place, tmp_path):
    make_checkpoint(tmp_path / place)
    blobs = (tmp_path / place).parent.parent / "blobs"
    blobs.mkdir()
    (tmp_path / place / "config.json").rename(blobs / "config.json")
    (tmp_path / place / "config.json").symlink_to("../../blobs/config.json")
    with pytest.raises(CorruptFile, match="outside"):
        Checkpoint(tmp_path / place)


@pytest.mark.long
def test_a_published_checkpoint_generates_what_the_oracle_computes(data):
    folder = data / "checkpoints/tarotble"
    file = TorchFile(folder / "pytorch_model.bin")
    assert file.get_tensor("transformer.h.0.attn.bias").dtype == np.uint8
    tensors = {name.removeprefix("transformer."): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    model = load(str(folder), precision="fp32")
    ids = model.tokenizer.encode("The card shows")
    pieces = generate(model, ids, sampling=Sampling(temperature=0), max_tokens=40)
    config = json.loads((folder / "config.json").read_text())
    assert [piece.token for piece in pieces] == oracle.greedy(tensors, config, ids, 40)


# What nobody should write


class Payload:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def hostile(folder):
    """Pickles that write folder/RAN when they are run by an ordinary unpickler."""
    ran = f"touch {folder}/RAN"
    system = f"cos\nsystem\n(S'{ran}'\ntR.".encode()
    yield "system", system, "os.system"
    for protocol in range(6):
        yield f"posix{protocol}", pickle.dumps(Payload(os.system, ran), protocol), "posix"
    yield "eval", dumps(Call(Global("builtins", "eval"), (f"open('{folder}/RAN', 'w')",))), "builtins.eval"
    yield "python2", dumps(Call(Global("__builtin__", "eval"), (f"open('{folder}/RAN', 'w')",))), "__builtin__.eval"
    yield "deep name", dumps(Call(Global("torch", "serialization.os.system"), (ran,))), "torch.serialization.os.system"
    yield "getattr", dumps(Call(Global("builtins", "getattr"), (Global("os", "system"), "x"))), "builtins.getattr"
    yield "copyreg", dumps(Call(Global("copyreg", "add_extension"), ("os", "system", 240))), "copyreg.add_extension"
    yield "load", dumps(Call(Global("torch.storage", "_load_from_bytes"), (ran,))), "torch.storage._load_from_bytes"
    yield "numpy", dumps(Call(Global("numpy", "fromfile"), (ran,))), "numpy.fromfile"
    yield "instance", f"(S'{ran}'\nios\nsystem\n.".encode(), ""
    yield "extension", b"\x80\x02\x82\xf0.", ""
    yield "new object", b"\x80\x02ccollections\nOrderedDict\n)\x81.", ""
    yield "torch call", dumps(Call(Global("torch", "FloatStorage"), (ran,))), ""
    yield "call of a text", dumps(Call("os.system", (ran,))), ""
    yield "arguments", dumps(Call(Global("collections", "OrderedDict"), ([("a", 1)],))), "OrderedDict"
    yield "persistent", dumps(Persistent(("module", Global("os", "system"), ran, ran))), "os.system"
    yield "persistent text", b"\x80\x02Pos.system\n.", ""
    yield "state", b"\x80\x02ctorch\nFloatStorage\n}X\x01\0\0\0aNsb.", ""


@FORMATS
def test_code_is_named_and_never_run(old, refused, tmp_path):
    for label, pickled, word in hostile(tmp_path):
        message = refused(legacy(pickled, {}) if old else zipped(pickled, {}), word)
        assert "wants to run" in message or not word or label == "arguments", label
    assert not (tmp_path / "RAN").exists()
    # and these are payloads indeed
    pickle.loads(next(hostile(tmp_path))[1])
    assert (tmp_path / "RAN").exists()


@pytest.mark.parametrize("place", range(4))
def test_code_in_every_pickle_of_a_legacy_file(place, refused, tmp_path):
    parts = [dumps(0x1950A86A20F9469CFC6C), dumps(1001), dumps({}), dumps({}), dumps([])]
    parts[place] = pickle.dumps(Payload(os.system, f"touch {tmp_path}/RAN"))
    refused(b"".join(parts), "posix.system")
    assert not (tmp_path / "RAN").exists()


def test_names_in_messages_are_short_and_drive_no_terminal(refused):
    for name in ("\x1b[2Jsystem", "x" * 100_000, "\u202esystem", "\udcff"):
        pickled = b"\x80\x02c" + f"os\n{name}\n".encode(errors="surrogatepass") + b"."
        assert len(refused(zipped(pickled, {}), "wants to run")) < 500


LIMIT = 1 << 19
BOMBS = {
    "tuples of tuples": b")" + b"\x85" * (LIMIT - 10),
    "deep key": b"})" + b"\x85" * (LIMIT - 20) + b"Ns",
    "wide key": b"})" + b"q\0h\0\x86" * 60 + b"Ns",
    "lists in lists": b"]" * 5 + b"](" * 250_000,
    "marks": b"(" * (LIMIT - 10),
    "dictionaries": b"}" * (LIMIT - 10),
    "memo": b"N" + b"\x94" * (LIMIT - 10),
    "memo far away": b"Nr\xff\xff\xff\xff",
    "memo collisions": b"N" + b"".join(b"r" + struct.pack("<I", n << 14) for n in range(100_000)),
    "long text": b"X\xff\xff\xff\xff",
    "long bytes": b"\x8e" + b"\xff" * 7 + b"\x7f",
    "long number": b"\x8b\xff\xff\xff\x7f",
    "decimal": b"I" + b"9" * 500_000 + b"\n",
    "frame": b"\x95" + b"\xff" * 8 + b"N",
    "list in itself": b"]q\0" + b"(h\0h\0h\0h\0e" * 50_000,
    "number keys": b"}("
    + b"".join(b"\x8a\x0a" + (n * (2**61 - 1)).to_bytes(10, "little") + b"N" for n in range(35_000))
    + b"u",
    "calls": b"ccollections\nOrderedDict\nq\0" + b"h\0)R" * 130_000,
}


@pytest.mark.parametrize("pickled", BOMBS.values(), ids=BOMBS)
@pytest.mark.long
def test_bombs_cost_little(pickled, refused):
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    refused(zipped(b"\x80\x02" + pickled + b".", {}))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000  # kilobytes
    assert time.process_time() - start < 5


def test_zip_bombs_are_not_unpacked(refused):
    bomb = zipped(b"\x80\x02" + b"N" * 50_000_000, {}, compression=zipfile.ZIP_DEFLATED)
    tracemalloc.start()
    refused(bomb, "data.pkl")
    refused(saved({"a": np.zeros(1000, np.float32)}, compression=zipfile.ZIP_DEFLATED), "compressed")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1e6


def test_a_huge_directory_is_not_read(refused):
    data = bytearray(saved({"a": NUMBERS}))
    data[-10:-6] = struct.pack("<I", 1 << 31)
    refused(bytes(data), "directory")
    entry = struct.pack("<4s4xHH8xIIHHH8xI", b"PK\1\2", 0, 0, 0, 0, 0, 0, 0, 0)
    directory = entry * 200_000
    end = struct.pack("<4s4xHHIIH", b"PK\5\6", 0, 0, len(directory), 4, 0)
    refused(b"PK\3\4" + directory + end, "directory")


@FORMATS
def test_truncated_anywhere(old, refused):
    data = saved({"a": NUMBERS, "b": NUMBERS.T, "c": NUMBERS.astype(np.float16)}, old=old)
    for size in [*range(0, len(data) - 1, 7), len(data) - 1]:
        refused(data[:size])


IMPOSSIBLE = {
    "negative size": {"shape": (-1, 6)},
    "huge": {"shape": (1 << 40, 1 << 40)},
    "huge and empty": {"shape": (0, 1 << 45, 1 << 45), "strides": (1, 1, 1)},
    "one row more": {"shape": (5, 6)},
    "wide strides": {"strides": (7, 1)},
    "negative strides": {"strides": (-6, 1)},
    "offset": {"offset": 1},
    "negative offset": {"offset": -1},
    "huge offset": {"offset": 1 << 200},
    "endless by a stride of zero": {"shape": (1 << 30, 6), "strides": (0, 1)},
    "too few strides": {"strides": (1,)},
    "too many dimensions": {"shape": (1,) * 100, "strides": (1,) * 100},
    "fractions": {"shape": (4.0, 6.0)},
    "booleans": {"shape": (True, True)},
    "texts": {"shape": ("4", "6")},
    "storage larger than its data": {"count": 25},
    "storage smaller than its data": {"count": 23},
    "storage of negative size": {"count": -24},
    "another type": {"dtype": "float64"},
    "no such storage": {"key": "1"},
    "odd key": {"key": "../../etc/passwd"},
    "key is a number": {"key": 0},
    "key is a tuple": {"key": ((), ())},
}


@pytest.mark.parametrize("changes", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
@FORMATS
def test_impossible_tensors(changes, old, refused):
    usual = {"dtype": "float32", "key": "0", "count": 24, "offset": 0, "shape": (4, 6), "strides": (6, 1)}
    pickled = dumps({"a": Storages(old).rebuilt(**usual | changes)})
    if old:
        refused(legacy(pickled, {"0": (24, NUMBERS.tobytes())}))
    else:
        refused(zipped(pickled, {"0": NUMBERS.tobytes()}))


@pytest.mark.parametrize("view", [(), ("1", 0), ("1", -1, 5), ("1", 20, 5), ("1", 0, 25), ("1", 0, 1 << 60), 5])
def test_impossible_views(view, refused):
    identity = ("storage", Global("torch", "FloatStorage"), "0", "cpu", 24, view)
    value = {"a": Call(REBUILD, (Persistent(identity), 0, (3,), (1,), False, ORDERED))}
    refused(legacy(dumps(value), {"0": (24, NUMBERS.tobytes())}))


NO_STATE_DICT = {
    "number": 7,
    "list": [1],
    "empty": {},
    "numbers": {"a": 1},
    "number names": {1: NUMBERS},
    "mixed": {"a": NUMBERS, "b": 1},
    "nested twice": {"model": {"model": {"a": NUMBERS}}},
    "another name": {"weights": {"a": NUMBERS}},
}


@pytest.mark.parametrize("value", NO_STATE_DICT.values(), ids=NO_STATE_DICT)
@FORMATS
def test_what_is_no_state_dict(value, old, refused):
    refused(saved(value, old=old), "state dict")


def test_big_endian_files(refused):
    refused(saved({"a": NUMBERS}, order="big"), "big-endian")
    refused(saved({"a": NUMBERS}, old=True, little=False), "big-endian")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\3\4",
        b"PK\5\6" + bytes(18),
        b"version https://git-lfs.github.com/spec/v1\n",
        b"<html>",
        b"\x80\x02K\1.",
    ],
)
def test_what_is_no_torch_file(data, refused):
    refused(data)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_odd_zip_files(refused):
    def made(*records):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as file:
            for name in records:
                file.writestr(name, dumps({}))
        return out.getvalue()

    refused(made(), "not PyTorch's")
    refused(made("a/b"), "0 records")
    refused(made("data.pkl"), "0 records")
    refused(made("a/data.pkl", "b/data.pkl"), "2 records")
    refused(made("a/data.pkl", "a/data.pkl"), "two records")
    refused(made("../../data.pkl", "/data.pkl", "\x1b/x"))


@pytest.mark.parametrize("wide", [False, True])
def test_a_directory_of_another_length_than_it_says(wide, refused, monkeypatch):
    if wide:
        monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 10)
    data = bytearray(saved({"a": NUMBERS}))
    count = data.rindex(b"PK\6\6") + 32 if wide else len(data) - 12
    if wide:
        data[-10:-2] = b"\xff" * 8  # size and place of the directory are in the other record
    assert data[count] == 4
    for number in (3, 5):
        data[count] = number
        refused(bytes(data), f"4 records that says it has {number}")


def test_missing_records_and_files(refused, tmp_path):
    refused(zipped(dumps({"a": Storages().tensor(NUMBERS)}), {"1": b""}), "data/'0'")
    with pytest.raises(CorruptFile, match="gone"):
        TorchFile(tmp_path / "gone")
    with pytest.raises(CorruptFile, match=tmp_path.name):
        TorchFile(tmp_path)


def test_legacy_storages_that_nothing_uses_or_that_are_no_list(refused):
    pickled = dumps({"a": Storages(True).tensor(NUMBERS)})
    refused(legacy(pickled, {"0": (24, NUMBERS.tobytes()), "1": (24, NUMBERS.tobytes())}), "no tensor uses")
    refused(legacy(pickled, {}), "another size")
    head = legacy(pickled, {}).removesuffix(dumps([]))
    for keys in (7, [7], [()], {}, ["0", "0"]):
        refused(head + dumps(keys) + bytes(8))


# Checkpoints of safetensors, from strangers as well


def safe(header, body=bytes(64), size=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + body


def entry(shape, offsets, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


SAFE = {
    "header beyond the file": safe({"a": entry([16], [0, 64])}, size=1000),
    "header of exabytes": safe({"a": entry([16], [0, 64])}, size=(1 << 64) - 1),
    "header of 90 MB": safe(b" " * 90_000_000),
    "negative shape": safe({"a": entry([-16], [0, 64])}),
    "huge shape": safe({"a": entry([1 << 62, 16], [0, 64])}),
    "shape beyond numbers": safe({"a": entry([1 << 100], [0, 64])}),
    "overlapping": safe({"a": entry([16], [0, 64]), "b": entry([8], [0, 32])}),
    "overlapping by half": safe({"a": entry([8], [0, 32]), "b": entry([12], [16, 64])}),
    "backwards": safe({"a": entry([16], [64, 0])}),
    "beyond the end": safe({"a": entry([17], [0, 68])}),
    "a name twice": safe(b'{"a":%b,"a":%b}' % ((json.dumps(entry([16], [0, 64])).encode(),) * 2)),
    "two tensors of a name": safe(
        b'{"a":%b,"a":%b}' % (json.dumps(entry([8], [0, 32])).encode(), json.dumps(entry([8], [32, 64])).encode())
    ),
    "nested without end": safe(b'{"__metadata__":' + b"[" * 100_000),
    "not JSON": safe(b"\xff" * 100),
}


@pytest.mark.parametrize("data", SAFE.values(), ids=SAFE)
def test_hostile_safetensors(data, tmp_path):
    make_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(data)
    tracemalloc.start()
    with pytest.raises(CorruptFile, match=r"model\.safetensors"):
        Checkpoint(tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20e6


@pytest.mark.parametrize(
    "shape", [[0, 1 << 62, 1 << 62], [1] * 100 + [16]], ids=["empty and endless", "hundred dimensions"]
)
def test_shapes_that_numpy_cannot_have(shape, tmp_path):
    make_checkpoint(tmp_path, n_layer=1)
    size = 0 if 0 in shape else 64
    (tmp_path / "model.safetensors").write_bytes(safe({"wte.weight": entry(shape, [0, size])}, bytes(size)))
    with pytest.raises(CorruptFile):
        Checkpoint(tmp_path).tensor("wte.weight", (300, 32))


def test_int8_weights_and_scales_are_not_multiplied_out_to_any_size(tmp_path):
    from safetensors.numpy import save_file

    make_checkpoint(tmp_path, n_layer=1)
    column, row = np.ones((1 << 20, 1), np.int8), np.ones(1 << 20, np.float32)
    save_file({"wte.weight.int8": column, "wte.weight.scale": row}, tmp_path / "model.safetensors")
    with pytest.raises(CorruptFile, match="shape"):
        Checkpoint(tmp_path).tensor("wte.weight", (300, 32))


def test_numbers_beyond_float32_are_infinity(tmp_path):
    tensors = random_tensors(SMALL) | {"ln_f.bias": np.full(32, 1e300)}
    make_checkpoint(tmp_path, tensors=tensors, dtype="float64")
    with pytest.raises(CorruptFile, match=r"ln_f\.bias.*infinity"):
        Checkpoint(tmp_path).tensor("ln_f.bias", (32,))


def test_layers_that_the_weights_do_not_have(tmp_path):
    make_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(SMALL | {"n_layer": 1 << 23}))
    with pytest.raises(CorruptFile, match="layers"):
        Checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json"])
def test_json_nested_without_end(name, tmp_path):
    make_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / name).write_text("[" * 100_000)
    with pytest.raises(CorruptFile, match=name):
        Checkpoint(tmp_path)


def test_a_tokenizer_at_which_the_library_panics(tmp_path):
    """Rust's panics are no Exceptions."""
    make_checkpoint(tmp_path)
    path = tmp_path / "tokenizer.json"
    raw = json.loads(path.read_text())
    raw["model"]["continuing_subword_prefix"] = "longer than the tokens"
    path.write_text(json.dumps(raw))
    with pytest.raises(CorruptFile, match="tokenizer"):
        Tokenizer(tmp_path)


# Anything at all

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["a", "storage", "0"]),
    lambda inner: (
        (
            st.lists(inner, max_size=6)
            | st.lists(inner, max_size=6).map(tuple)
            | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
            | st.builds(Persistent, inner)
            | st.builds(Call, inner, inner)
            | st.builds(Call, st.sampled_from([REBUILD, ORDERED.function]), st.lists(inner, max_size=7).map(tuple))
        )
        | st.sampled_from([REBUILD, ORDERED, Storages().tensor(NUMBERS), Storages(True).tensor(NUMBERS)])
        | st.sampled_from([Global("torch", "HalfStorage"), Global("os", "system")])
    ),
)


@given(values, st.booleans())
@settings(max_examples=300)
@pytest.mark.long
def test_any_structured_pickle_works_or_is_refused(tmp_path, value, old):
    path, numbers = tmp_path / "pytorch_model.bin", NUMBERS.tobytes()
    data = legacy(dumps({"a": value}), {"0": (24, numbers)}) if old else zipped(dumps({"a": value}), {"0": numbers})
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    with contextlib.suppress(CorruptFile):
        assert np.array_equal(TorchFile(path).get_tensor("a"), NUMBERS)


@pytest.mark.long
def test_mutated_files_work_or_are_refused(tmp_path):
    """The short version of fuzz_readers.py."""
    assert sum(fuzz(tmp_path, 2000, seed=1).values()) == 2000


@pytest.mark.slow
def test_a_hundred_thousand_mutated_files(tmp_path):
    seen = fuzz(tmp_path, 100_000, seed=0)
    assert sum(seen.values()) == 100_000
    assert min(seen.values()) > 0  # some of every kind are read


# Against PyTorch


@pytest.mark.parity
@pytest.mark.filterwarnings("default")
@FORMATS
def test_torch_reads_what_the_writer_writes_and_we_read_what_torch_writes(old, tmp_path):
    torch = pytest.importorskip("torch")
    a = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    dtypes = {name: a.to(getattr(torch, name)) for name in STORAGES}
    views = {"transposed": a.t(), "corner": a[1:3, 2:5], "steps": a[::2, ::3], "number": a[2, 3], "empty": a[:0]}
    module = torch.nn.Linear(3, 2).state_dict()  # an OrderedDict with _metadata
    state = {**dtypes, **views, "parameter": torch.nn.Parameter(a), **module}
    path = tmp_path / "pytorch_model.bin"
    for value in (state, {"epoch": 1, "state_dict": state}):
        torch.save(value, path, _use_new_zipfile_serialization=not old)
        file = TorchFile(path)
        assert file.keys() == list(state)
        for name, tensor in state.items():
            tensor = tensor.detach()
            expected = tensor.float().numpy() if name == "bfloat16" else tensor.numpy()
            assert np.array_equal(file.get_tensor(name).astype(expected.dtype), expected), name
            assert file.get_tensor(name).dtype.name == str(tensor.dtype).removeprefix("torch.")

    arrays = {name: NUMBERS.astype(ml_dtypes.bfloat16 if name == "bfloat16" else name) for name in STORAGES} | VIEWS
    path.write_bytes(saved(arrays, old=old))
    for name, tensor in torch.load(path, weights_only=True).items():
        assert np.array_equal(tensor.float().numpy(), arrays[name].astype(np.float32)), name
