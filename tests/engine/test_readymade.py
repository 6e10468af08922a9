"""Ready-made ONNX exports of every kind keep the engine's contract, and hostile ones are refused."""

import contextlib
import json
import os
import shutil

import numpy as np
import onnx
import oracle
import pytest
from conftest import assert_error
from foreign import make_foreign
from texts import generate

from gpt2cli import Sampling, load
from gpt2cli.engine import harmless
from gpt2cli.engine.chunks import CHUNK
from gpt2cli.engine.engine import Engine
from gpt2cli.engine.readymade import ReadyEngine
from gpt2cli.errors import CorruptFile, UnknownModel, UsageError
from gpt2cli.store import readymade

KINDS = ["current", "unpositioned", "merged", "plain", "half", "int32", "one_by_one"]
IDS = np.random.default_rng(3).integers(0, 299, 40).tolist()


@pytest.fixture(scope="module", params=KINDS)
def made(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    config, tensors = make_foreign(folder, request.param)
    return folder, tensors, config, 0.05 if request.param == "half" else 1e-3


@pytest.fixture
def engine(made):
    return ReadyEngine(readymade.find(made[0], "auto"), made[0])


def test_logits_equal_the_oracle_for_prefill_chunks_and_steps(made, engine):
    _, tensors, config, tolerance = made
    expected = oracle.forward(tensors, config, IDS)
    np.testing.assert_allclose(engine.feed([IDS], every=True), expected, atol=tolerance)
    engine.reset()
    for start, end in ((0, 7), (7, 8), (8, 9), (9, 30), (30, 40)):
        logits = engine.feed([IDS[start:end]])
        np.testing.assert_allclose(logits[0], expected[end - 1], atol=tolerance)
    assert engine.lengths == [40]


def test_rows_of_different_lengths(made, engine):
    _, tensors, config, tolerance = made
    rows = [IDS[:5], IDS[10:30], IDS[3:4]]
    engine.select([0, 0, 0])
    logits = engine.feed(rows)
    for row, result in zip(rows, logits, strict=True):
        np.testing.assert_allclose(result, oracle.forward(tensors, config, row)[-1], atol=tolerance)
    logits = engine.feed([[1], [2], [3]])
    for row, token, result in zip(rows, (1, 2, 3), logits, strict=True):
        np.testing.assert_allclose(result, oracle.forward(tensors, config, [*row, token])[-1], atol=tolerance)


def test_every_logit_of_several_texts(made, engine):
    _, tensors, config, tolerance = made
    engine.feed([IDS[:9]])
    rows = [IDS[:5], IDS[10:30], IDS[3:4]]
    for row, result in zip(rows, engine.each(rows), strict=True):
        np.testing.assert_allclose(result, oracle.forward(tensors, config, row), atol=tolerance)
    assert engine.said == [IDS[:9]]


def test_rewinding_and_selecting(made, engine):
    _, tensors, config, tolerance = made
    engine.feed([IDS[:20]])
    engine.select([0, 0])
    engine.feed([[1], [2]])
    engine.feed([[3], [4]])
    engine.select([1, 0])
    engine.rewind(10, 1)
    logits = engine.feed([[5], [6]])
    for row, result in zip(([*IDS[:20], 2, 4, 5], [*IDS[:10], 6]), logits, strict=True):
        np.testing.assert_allclose(result, oracle.forward(tensors, config, row)[-1], atol=tolerance)
    with pytest.raises(ValueError, match="cannot rewind"):
        engine.rewind(99)
    with pytest.raises(UsageError):
        engine.feed([[300], [1]])


def test_a_batch_is_its_rows(made):
    """Generated as one batch, beyond the window, with rows that end: as if each were alone."""
    folder, *_ = made
    model = load(str(folder))
    sampling = Sampling(seed=4, temperature=1.5)
    together = list(generate(model, IDS[:9], sampling=sampling, samples=4, max_tokens=90))
    alone = list(generate(model, IDS[:9], sampling=sampling, max_tokens=90))
    assert [piece.token for piece in together if piece.row == 0] == [piece.token for piece in alone]


def test_greedy_text_equals_the_oracle(made):
    folder, tensors, config, _ = made
    model = load(str(folder))
    pieces = generate(model, IDS[:5], sampling=Sampling(temperature=0), max_tokens=30, ignore_eos=True)
    assert [piece.token for piece in pieces] == oracle.greedy(tensors, config, IDS[:5], 30)


def test_facts(made, engine):
    _, _, config, tolerance = made
    assert engine.window == config["n_positions"]
    assert engine.vocabulary == config["vocab_size"]
    assert engine.facts.precision == ("fp16" if tolerance == 0.05 else "fp32")
    assert (engine.facts.layers, engine.facts.heads, engine.facts.head_size) == (2, 4, 8)


def test_long_prompts_come_in_chunks(tmp_path):
    config, tensors = make_foreign(tmp_path, n_positions=400)
    engine = ReadyEngine(tmp_path / "model.onnx", tmp_path)
    ids = np.random.default_rng(1).integers(0, 299, 2 * CHUNK + 10).tolist()
    np.testing.assert_allclose(engine.feed([ids])[0], oracle.forward(tensors, config, ids)[-1], atol=1e-3)


# Which file


@pytest.mark.parametrize(
    ("names", "precision", "chosen"),
    [
        (["model.onnx", "decoder_model_merged.onnx"], "auto", "model.onnx"),
        (["onnx/decoder_model_merged.onnx", "onnx/model_quantized.onnx"], "fp32", "onnx/decoder_model_merged.onnx"),
        (["onnx/model.onnx", "onnx/model_quantized.onnx"], "int8", "onnx/model_quantized.onnx"),
        (["onnx/model_fp16.onnx"], "auto", "onnx/model_fp16.onnx"),
        (["onnx/model_fp16.onnx"], "int8", None),
        (["onnx/encoder_model.onnx"], "auto", None),
        (["model.onnx", "weights.safetensors"], "auto", None),
    ],
)
def test_choice(names, precision, chosen):
    assert readymade.choose(names, precision) == chosen


def test_what_belongs_to_a_graph():
    names = ["onnx/model.onnx", "onnx/model.onnx_data", "onnx/model.onnx_data_1", "onnx/model_fp16.onnx", "README.md"]
    names += ["config.json", "tokenizer.json", "vocab.json", "onnx/tokenizer.json"]
    assert set(readymade.files(names, "auto")) == {
        *("onnx/model.onnx", "onnx/model.onnx_data", "onnx/model.onnx_data_1"),
        *("config.json", "tokenizer.json", "vocab.json"),
    }


def test_the_source_is_a_choice(run, tmp_path):
    from checkpoints import make_checkpoint

    make_foreign(tmp_path, name="onnx/model.onnx")
    make_checkpoint(tmp_path, seed=9)

    def text(*argv):
        return run("generate", "-q", "-m", tmp_path, "-n", 5, "--greedy", "The cat", *argv).stdout

    assert text() == text("--source", "checkpoint") != text("--source", "onnx")
    shutil.rmtree(tmp_path / "onnx")
    assert_error(run("generate", "-q", "-m", tmp_path, "--source", "onnx", "x"), 3, "no ready-made ONNX")
    assert_error(run("generate", "-q", "-m", tmp_path, "--source", "pdf", "x"), 2, "no source 'pdf'")


# Untrusted files


@pytest.mark.skipif(os.name != "posix", reason="links")
def test_a_snapshot_of_links_with_external_data_runs(tmp_path):
    config, tensors = make_foreign(tmp_path / "flat", name="onnx/model.onnx", external="model.onnx_data")
    snapshot = tmp_path / "models--a--b/snapshots" / ("0" * 40)
    (snapshot / "onnx").mkdir(parents=True)
    blobs = tmp_path / "models--a--b/blobs"
    blobs.mkdir()
    for number, name in enumerate(("config.json", "tokenizer.json", "onnx/model.onnx", "onnx/model.onnx_data")):
        shutil.copy(tmp_path / "flat" / name, blobs / str(number))
        (snapshot / name).symlink_to(blobs / str(number))
    model = load(str(snapshot))
    logits = model.engine.feed([IDS])
    np.testing.assert_allclose(logits[0], oracle.forward(tensors, config, IDS)[-1], atol=1e-3)


@pytest.mark.parametrize("place", ["../outside", "/etc/hostname", "sub/../../outside", "link"])
def test_external_data_elsewhere_is_refused(tmp_path, place):
    (tmp_path / "m").mkdir()
    (tmp_path / "outside").write_bytes(b"\0" * 10**6)
    if os.name == "posix":
        (tmp_path / "m/link").symlink_to(tmp_path / "outside")
    make_foreign(tmp_path / "m", external="weights.bin")
    model = onnx.load(tmp_path / "m/model.onnx", load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = place
    (tmp_path / "m/model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(CorruptFile, match="outside"):
        load(str(tmp_path / "m"))


def evil_tensor() -> onnx.TensorProto:
    evil = onnx.helper.make_tensor("evil", 1, [1], [0.0])
    evil.data_location = onnx.TensorProto.EXTERNAL
    entry = evil.external_data.add()
    entry.key, entry.value = "location", "../evil"
    return evil


def in_a_branch(model):
    model.graph.node[0].attribute[0].g.initializer.append(evil_tensor())


def in_a_sparse_initializer(model):
    model.graph.sparse_initializer.add().values.CopyFrom(evil_tensor())


def in_a_sparse_attribute(model):
    model.graph.node.add().attribute.add().sparse_tensor.indices.CopyFrom(evil_tensor())


def in_a_function(model):
    model.functions.add().node.add().attribute.add().t.CopyFrom(evil_tensor())


def in_training(model):
    model.training_info.add().algorithm.initializer.append(evil_tensor())


@pytest.mark.parametrize(
    "hide", [in_a_branch, in_a_sparse_initializer, in_a_sparse_attribute, in_a_function, in_training]
)
def test_external_data_anywhere_in_the_file_is_seen(tmp_path, hide):
    make_foreign(tmp_path, "merged")
    model = onnx.load(tmp_path / "model.onnx")
    hide(model)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(CorruptFile, match="outside"):
        readymade.find(tmp_path, "auto")


def aimed(model, place):
    """An initializer of an export of ours whose data lie elsewhere."""
    for entry in next(tensor for tensor in model.graph.initializer if tensor.external_data).external_data:
        if entry.key == "location":
            entry.value = place


def aimed_attribute(model, place):
    """A constant beside everything else, that nothing reads."""
    tensor = evil_tensor()
    tensor.external_data[0].value = place
    model.graph.node.append(onnx.helper.make_node("Constant", [], ["evil"], value=tensor))


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("aim", [aimed, aimed_attribute])
@pytest.mark.parametrize("place", ["../x.bin", "../../x.bin", "absolute", "link"])
def test_an_export_of_ours_reads_nothing_outside_its_folder(place, aim, precision, checkpoint, tmp_path, run):
    """ONNX Runtime 1.23 does what the graph says: whoever opens one looks first."""
    folder = tmp_path / "deep/own"
    assert run("export", "-q", checkpoint, folder, "--precision", precision).code == 0
    for outside in (tmp_path / "x.bin", tmp_path / "deep/x.bin"):
        shutil.copy(folder / "weights.safetensors", outside)
    if place == "link":
        if os.name != "posix":
            pytest.skip("links")
        (folder / "link").symlink_to(tmp_path / "x.bin")
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    aim(model, str(tmp_path / "x.bin") if place == "absolute" else place)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    for argv in (("generate", "-q", "-m", folder, "x"), ("verify", folder), ("export", folder, tmp_path / "out")):
        assert_error(run(*argv), 5, "outside", str(folder))
    assert not (tmp_path / "out").exists()
    with pytest.raises(CorruptFile, match="outside"):
        Engine(folder)


def field(number: int, content: bytes) -> bytes:
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


@pytest.mark.parametrize(
    "entry",
    [
        field(1, b"location") + field(2, b"weights.bin") + field(2, b"../evil"),
        field(1, b"offset") + field(2, b"../evil") + field(1, b"location"),
        field(2, b"../evil") + b"\x0a\x88\x00location",  # a length in more bytes than it needs
        field(1, b"location") + field(2, b"*/_ORT_MEM_ADDR_/*"),
        field(1, b"location") + field(2, b"sub\\..\\evil"),
    ],
)
def test_locations_in_disguise(tmp_path, entry):
    """Of a field that stands twice the last counts, and the order is free."""
    (tmp_path / "weights.bin").write_bytes(bytes(100))
    if os.name == "posix":
        (tmp_path / "*/_ORT_MEM_ADDR_").mkdir(parents=True)
        (tmp_path / "*/_ORT_MEM_ADDR_/*").touch()
    (tmp_path / "model.onnx").write_bytes(field(7, field(5, field(13, entry))))
    with pytest.raises(CorruptFile, match="outside"):
        harmless.check(tmp_path / "model.onnx", tmp_path)


@pytest.mark.parametrize("key", [b"\xba\x80\x80\x80\x10", b"\xba\x80\x80\x80\x80\x01", b"\x02"])
def test_field_numbers_beyond_the_format_are_refused(tmp_path, key):
    (tmp_path / "model.onnx").write_bytes(key + field(5, field(13, b"")))
    with pytest.raises(CorruptFile, match="not an ONNX file"):
        harmless.check(tmp_path / "model.onnx", tmp_path)


def test_external_data_that_is_missing_is_named(tmp_path):
    make_foreign(tmp_path, external="weights.bin")
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(CorruptFile, match=r"needs the file 'weights\.bin'"):
        load(str(tmp_path))


def test_a_run_that_fails_leaves_the_rows_as_they_were(tmp_path):
    """The window of this graph is smaller than its config says: position 20 has no embedding."""
    make_foreign(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    positions = config["n_positions"]
    (tmp_path / "config.json").write_text(json.dumps(config | {"n_positions": positions + 8, "n_ctx": positions + 8}))
    engine = load(str(tmp_path)).engine
    engine.feed([[1] * (positions - 1)])
    with pytest.raises(CorruptFile, match="does not run"):
        engine.feed([[1, 2, 3]])
    assert engine.lengths == [positions - 1]
    assert engine.feed([[1]]).shape == (1, engine.vocabulary)
    assert engine.lengths == [positions]


def test_shapes_that_the_graph_does_not_say(tmp_path):
    config, tensors = make_foreign(tmp_path)
    model = onnx.load(tmp_path / "model.onnx")
    for item in (*model.graph.input, *model.graph.output):
        item.type.tensor_type.ClearField("shape")
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    logits = load(str(tmp_path)).engine.feed([IDS])
    np.testing.assert_allclose(logits[0], oracle.forward(tensors, config, IDS)[-1], atol=1e-3)


@pytest.mark.parametrize("keep", [0, 1, 100, 5000, 0.5, 0.99])
def test_truncated_graphs(tmp_path, keep):
    make_foreign(tmp_path)
    data = (tmp_path / "model.onnx").read_bytes()
    (tmp_path / "model.onnx").write_bytes(data[: keep if isinstance(keep, int) else int(len(data) * keep)])
    with pytest.raises(CorruptFile):
        load(str(tmp_path))


def test_flipped_bytes_never_crash(tmp_path):
    make_foreign(tmp_path)
    data = (tmp_path / "model.onnx").read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(300):
        broken = bytearray(data)
        for place in rng.integers(0, len(data), 3):
            broken[place] = rng.integers(256)
        (tmp_path / "model.onnx").write_bytes(broken)
        with contextlib.suppress(CorruptFile):
            harmless.check(tmp_path / "model.onnx", tmp_path)


def test_other_interfaces_are_refused(tmp_path):
    make_foreign(tmp_path)
    model = onnx.load(tmp_path / "model.onnx")
    model.graph.input.append(onnx.helper.make_tensor_value_info("past_0", 1, [2, 1, 4, "past", 8]))
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(UnknownModel, match="past_0"):
        load(str(tmp_path))


# A real one


def test_a_published_export_runs_by_ids(data, run):
    folder = data / "checkpoints/capp-gpt-onnx"

    def ids(*argv):
        result = run("generate", "-m", folder, "--ids", "1 2 3", "-n", 20, "--seed", 3, "--json", *argv)
        assert result.code == 0, result.stderr
        return [sample["ids"] for sample in json.loads(result.stdout)["samples"]]

    assert ids("-N", 3)[0] == ids()[0]
    engine = load(str(folder), text=False).engine
    rows = np.random.default_rng(0).integers(0, 51, 60).tolist()
    whole = engine.feed([rows], every=True)
    engine.reset()
    steps = np.concatenate([engine.feed([[token]]) for token in rows])
    np.testing.assert_allclose(steps, whole, atol=1e-3)
