"""pull, list, show, verify, rm, prune, export on local models; what they do with the hub is in test_hub.py."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import onnx
import oracle
import pytest
from checkpoints import SMALL, make_checkpoint, random_tensors
from conftest import assert_error
from hub import NAME
from huggingface_hub import constants

from gpt2cli import model, paths
from gpt2cli.export import reference
from gpt2cli.export.checkpoint import Checkpoint
from gpt2cli.export.graph import ACTIVATIONS
from gpt2cli.store import builds, catalog, sources, store
from gpt2cli.store.choice import Choice


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("GPT2_CACHE", str(tmp_path / "cache"))


def test_list_shows_the_catalogue_and_what_is_here(run, checkpoint):
    table = run("list").stdout.splitlines()
    assert table[0].split() == ["NAME", "PARAMETERS", "DOWNLOADED", "EXPORTED", "DESCRIPTION"]
    assert {line.split()[0] for line in table[1:]} == {*catalog.names()}
    sizes = ["tiny", "distilgpt2", "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"]
    assert run("list", "-q").stdout.split() == sizes
    run("generate", "-q", "-m", checkpoint, "-n", 1, "x")
    rows = {row["name"]: row for row in json.loads(run("list", "--json").stdout)}
    assert [one["precision"] for one in rows[str(checkpoint)]["exports"]] == ["int8"]
    assert rows["tiny"]["built_in"]
    assert rows["gpt2"]["parameters"] == 124_439_808
    assert run("list", "-q", "distil").stdout == "distilgpt2\n"


def test_list_marks_the_model_that_answers_and_shows_sizes(run, checkpoint, monkeypatch, tmp_path):
    def default():
        assert [row["name"] for row in json.loads(run("list", "--json").stdout) if row["default"]] == (
            [line.partition(" (default)")[0] for line in run("list").stdout.splitlines() if " (default)" in line]
        )
        return next((row["name"] for row in json.loads(run("list", "--json").stdout) if row["default"]), None)

    assert default() == "tiny"  # GPT2_MODEL
    monkeypatch.delenv("GPT2_MODEL")
    assert default() == "gpt2"
    run("generate", "-q", "-m", checkpoint, "-n", 1, "x")
    monkeypatch.setenv("GPT2_MODEL", str(checkpoint))
    assert default() == str(checkpoint)
    table = run("list").stdout
    assert re.search(r"^gpt2 +124M +no \(549 MB\) ", table, re.M)
    assert re.search(r"^tiny +4M +built in, [\d.]+ MB ", table, re.M)
    assert re.search(r" int8: [\d.]+ kB", table)
    monkeypatch.delenv("GPT2_MODEL")
    monkeypatch.setenv("GPT2_CONFIG", str(tmp_path / "broken.toml"))
    (tmp_path / "broken.toml").write_text("model = ")
    assert default() == "gpt2"


def test_list_without_a_match(run):
    result = run("list", "zzz")
    assert (result.code, result.stdout) == (0, "")
    assert result.stderr.startswith("note: nothing matches 'zzz'")
    assert result.stderr.count("\n") == 1
    assert (run("list", "zzz", "-q").stderr, run("list", "zzz", "--json").stdout) == ("", "[]\n")
    assert_error(run("list", "--limit", 3), 2, "--limit", "--remote")


@pytest.mark.skipif(os.name != "posix", reason="a terminal")
@pytest.mark.long
def test_the_table_fits_a_terminal_and_is_whole_in_a_pipe(run, tmp_path, monkeypatch):
    from terminals import Terminal

    monkeypatch.setenv("HOME", str(tmp_path))
    make_checkpoint(tmp_path / "models/tale")
    for precision in ("fp32", "int8", "int4"):
        run("pull", "-q", tmp_path / "models/tale", "--precision", precision)
        run("pull", "-q", "tiny", "--precision", precision)
    whole = run("list").stdout.splitlines()
    assert any(line.startswith("~/models/tale ") for line in whole)
    assert re.search(
        r"^tiny \(default\) +4M +built in, [\d.]+ MB +fp32, int4: [\d.]+ MB +trained by this project on children's",
        "\n".join(whole),
        re.M,
    )
    assert str(tmp_path / "models/tale") in run("list", "-q").stdout.splitlines()
    for columns in (60, 80, 120):
        shown = Terminal("list", columns=columns)
        try:
            assert shown.exit_code() == 0
            lines = [line for line in shown.lines if line]
        finally:
            shown.close()
        # nothing is left out, and no word is broken by the edge
        assert sorted(" ".join(lines).split()) == sorted(" ".join(whole).split())


def test_pull_exports_a_folder_and_says_where(run, checkpoint):
    result = run("pull", checkpoint, "--precision", "int8")
    assert re.fullmatch(rf"{checkpoint}: int8, .* kB, .*\n", result.stdout)
    assert "note: exporting" in result.stderr
    again = run("pull", checkpoint, "--precision", "int8")
    assert (again.stdout, again.stderr) == (result.stdout, "")
    assert run("pull", "-q", checkpoint).stdout == ""


def test_pull_goes_on_after_a_failure(run, checkpoint):
    result = run("pull", "-q", "--json", "nothing", checkpoint)
    assert result.code == 3
    assert "no model named 'nothing'" in result.stderr
    assert [row["name"] for row in json.loads(result.stdout)] == [str(checkpoint)]


def test_show(run, checkpoint):
    run("pull", "-q", checkpoint)
    facts = json.loads(run("show", checkpoint, "--json").stdout)
    assert facts["shape"] == {"layers": 2, "heads": 4, "width": 32, "positions": 64, "vocabulary": 300}
    tensors = make_checkpoint(checkpoint.parent / "again")[1]
    assert facts["parameters"] == sum(value.size for value in tensors.values())
    assert facts["exports"][0]["precision"] == "int8"
    assert facts["files"].keys() == {path.name for path in checkpoint.iterdir()}
    text = run("show", "--offline", "gpt2-xl").stdout
    assert "no (gpt2 pull gpt2-xl: about 6.23 GB)" in text
    assert "no (gpt2 pull gpt2: about 549 MB)" in run("show", "--offline", "gpt2").stdout
    assert "\nprecision    int8\n" in run("show", "tiny").stdout
    assert "pull" not in run("show", "tiny").stdout + run("show", checkpoint).stdout
    for word in ("openai-community/gpt2-xl", "1,557,611,200", "48 layers, 25 heads", "lambada perplexity 8.63"):
        assert word in text
    assert_error(run("show", "gpt2-xxl"), 3, "did you mean gpt2-xl?")


@pytest.mark.parametrize(("tied", "stored"), [(True, True), (False, False), (None, True)])
def test_show_counts_the_head_that_is_stored(tied, stored, run, tmp_path):
    changes = {} if tied is None else {"tie_word_embeddings": tied}
    tensors = random_tensors(SMALL) | ({"lm_head.weight": np.ones((300, 32), np.float32)} if stored else {})
    make_checkpoint(tmp_path, tensors=tensors, **changes)
    assert json.loads(run("show", tmp_path, "--json").stdout)["parameters"] == sum(map(np.size, tensors.values()))


def test_verify_of_a_folder_that_was_never_exported(run, checkpoint):
    assert_error(run("verify", checkpoint), 3, f"no export of '{checkpoint}'", "gpt2 pull")


@pytest.mark.long
def test_verify_finds_every_kind_of_damage(run, checkpoint, monkeypatch):
    run("pull", "-q", checkpoint)
    sound = run("verify")
    assert sound.code == 0, sound.stderr
    assert "int8 export is sound" in sound.stdout
    assert "built-in" in sound.stdout
    assert_error(run("verify", "gpt2"), 3, "nothing of 'gpt2'")
    (export,) = builds.cached()
    weights = export.folder / "weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    result = run("verify", "-q", checkpoint)
    assert (result.code, result.stdout) == (5, "")
    assert "weights.safetensors" in result.stderr
    assert json.loads(run("verify", checkpoint, "--json").stdout)[0]["problem"]
    weights.write_bytes(whole)
    assert run("verify", "-q").code == 0
    monkeypatch.setattr(reference, "_softmax", lambda x: np.ones_like(x))  # a machine that computes otherwise
    assert_error(run("verify", "-q", checkpoint), 5, "self-test")


@pytest.mark.skipif(sys.platform == "win32", reason="named pipes")
def test_verify_finds_a_pipe_in_a_files_place(run, checkpoint, tmp_path, monkeypatch):
    run("export", checkpoint, tmp_path / "own", "--precision", "fp32", "-q")
    shutil.copytree(paths.data("models"), tmp_path / "models")
    monkeypatch.setattr(paths, "data", lambda name: tmp_path / name)
    for folder, name in ((tmp_path / "own", tmp_path / "own"), (tmp_path / "models/tiny", "tiny")):
        assert run("verify", "-q", name).code == 0
        (folder / "tokenizer.json").unlink()
        os.mkfifo(folder / "tokenizer.json")
        assert_error(run("verify", "-q", name), 5, "tokenizer.json")


def test_verify_knows_every_byte_of_the_built_in_model(run, tmp_path, monkeypatch):
    shutil.copytree(paths.data("models"), tmp_path / "models")
    monkeypatch.setattr(paths, "data", lambda name: tmp_path / name)
    assert run("verify", "tiny").stdout.startswith("tiny: the built-in model is sound")
    weights = tmp_path / "models/tiny/weights.safetensors"
    whole = bytearray(weights.read_bytes())
    whole[-1000] ^= 1
    weights.write_bytes(whole)
    assert_error(run("verify", "tiny"), 5, "weights.safetensors in", "reinstall")


def test_rm(run, checkpoint):
    assert_error(run("rm", checkpoint), 3, "no export of")
    run("pull", "-q", checkpoint)
    run("pull", "-q", checkpoint, "--precision", "fp32")
    removed = json.loads(run("rm", checkpoint, "--json").stdout)
    assert removed[0]["exports"] == 2
    assert removed[0]["freed"] > 100_000
    assert builds.cached() == []
    assert (checkpoint / "model.safetensors").exists()
    assert_error(run("rm", "tiny"), 2, "built in")


@pytest.mark.long
def test_what_cannot_be_deleted_stays_whole_and_is_told(run, bound, read_only, checkpoint, tmp_path):
    run("pull", "-q", checkpoint)
    (export,) = builds.cached()
    for folder in (export.folder, export.folder.parent):
        read_only(folder)
        assert_error(bound("rm", checkpoint), 7, "cannot delete", str(export.folder), "writable")
        folder.chmod(0o700)
        assert builds.cached() == [export]
        assert [path.name for path in export.folder.parent.iterdir()] == [export.folder.name]


NO_TEXT = "\udcff"  # how a path that is not UTF-8 arrives


def test_a_cache_whose_path_is_not_utf_8(run, tmp_path, monkeypatch):
    for variable, commands in (
        ("GPT2_CACHE", [("pull", "-q", "tiny", "--precision", "fp32"), ("generate", "-m", "gpt2", "x"), ("prune",)]),
        ("HF_HOME", [("generate", "-m", "gpt2", "x"), ("list",), ("rm", "--downloads", "gpt2")]),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(variable, str(tmp_path / NO_TEXT))
            if variable == "HF_HOME":
                patch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / NO_TEXT / "hub"))
            for command in commands:
                assert_error(run(*command), 7, "is not UTF-8 text", f"set {variable}")
            assert run("generate", "-m", "tiny", "-n", 2, "x").code == 0  # which needs neither
    assert not (tmp_path / NO_TEXT).exists()


def test_an_export_target_whose_path_is_not_utf_8(run, tmp_path):
    assert_error(run("export", "tiny", tmp_path / NO_TEXT), 2, "is not UTF-8 text", "another name")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="file names are bytes on POSIX")
def test_files_that_grow_may_have_any_name(run, odd_name):
    """Their locks have names of ours."""
    items = odd_name.with_name("items.jsonl")
    items.write_text('{"context": "The cat", "target": " sat"}\n')
    beside = odd_name.with_name(f"{odd_name.name}.out")
    assert run("batch", odd_name, "-n", 1, "-o", beside).code == 0
    assert len(beside.read_bytes().splitlines()) == 2
    beside = odd_name.with_name(f"{odd_name.name}.samples")
    assert run("eval", items, "--samples", beside).code == 0
    assert len(beside.read_bytes().splitlines()) == 1


@pytest.mark.skipif(os.name != "posix", reason="file names are bytes on POSIX")
def test_a_trained_model_whose_path_is_not_utf_8_or_has_a_home_of_nobody(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_text("The cat.")
    assert_error(run("finetune", "text", "-o", tmp_path / NO_TEXT), 2, "is not UTF-8 text", "another name")
    assert_error(run("finetune", "text", "-o", "~nobody-here/m"), 7, "'~nobody-here/m': there is no such home folder")
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


def test_an_output_file_may_have_any_name(run, odd_name):
    assert run("generate", "-q", "-n", 2, "--seed", 1, "-o", odd_name, "x").code == 0
    assert odd_name.read_text() == run("generate", "-q", "-n", 2, "--seed", 1, "x").stdout


def test_prune_goes_on_after_a_failure(run, bound, read_only, tmp_path):
    broken = [tmp_path / f"cache/exports/{name}-int8-{'0' * 16}" for name in "abc"]
    for folder in broken:
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(b"12345")
    read_only(broken[1])
    result = bound("prune", "--json")
    assert result.code == 7
    assert [line.split(":")[0] for line in result.stderr.splitlines()] == ["error", "hint"]
    assert str(broken[1]) in result.stderr
    assert [row["path"] for row in json.loads(result.stdout)["removed"]] == [str(broken[0]), str(broken[2])]
    assert (broken[1] / "model.onnx").exists()


@pytest.mark.long
def test_an_export_into_a_folder_that_cannot_be_written(bound, read_only, tmp_path):
    (tmp_path / "there").mkdir()
    read_only(tmp_path / "there")
    for target in (tmp_path / "there", tmp_path / "there/new"):
        assert_error(bound("export", "-q", "tiny", target), 7, f"cannot write to {tmp_path / 'there'}:")
    assert list((tmp_path / "there").iterdir()) == []


@pytest.mark.long
def test_exports_of_the_built_in_model_have_its_name(run):
    run("pull", "-q", "tiny", "--precision", "int4")
    assert [row["exports"][0]["precision"] for row in json.loads(run("list", "--json").stdout) if row["exports"]] == [
        "int4"
    ]
    assert json.loads(run("list", "--json", "tiny").stdout)[0]["exports"]
    assert len(run("list", "-q").stdout.split()) == len(catalog.names())
    assert {line.partition(":")[0] for line in run("verify").stdout.splitlines()} == {"tiny"}
    assert "tiny: the int4 export is sound" in run("verify", "tiny").stdout
    assert run("prune").stdout == "0 B freed\n"
    assert json.loads(run("rm", "tiny", "--json").stdout)[0]["exports"] == 1
    assert_error(run("rm", "tiny"), 2, "built in")


def test_prune_removes_what_is_stale(run, tmp_path):
    make_checkpoint(tmp_path / "c")
    run("pull", "-q", tmp_path / "c")
    assert run("prune").stdout == "0 B freed\n"
    shutil.rmtree(tmp_path / "c")
    folder = builds.cached()[0].folder
    broken = folder.with_name(f"broken-int8-{'0' * 16}")
    broken.mkdir()
    (folder.parent / "thesis").mkdir()  # GPT2_CACHE may be a folder with other things in it
    dry = json.loads(run("prune", "--dry-run", "--json").stdout)
    assert {row["path"] for row in dry["removed"]} == {str(folder), str(broken)}
    assert folder.exists()
    assert json.loads(run("prune", "--json").stdout)["freed"] == dry["freed"] > 0
    assert [path.name for path in (tmp_path / "cache/exports").iterdir()] == ["thesis"]


@pytest.mark.process
@pytest.mark.parametrize("precision", ["fp32", "int8", "fp16"])
@pytest.mark.long
def test_the_example_of_an_exported_folder_runs_as_it_stands(run, checkpoint, tmp_path, precision):
    target = tmp_path / "out"
    result = run("export", checkpoint, target, "--precision", precision, "-q")
    assert (result.code, result.stdout) == (0, ""), result.stderr
    onnx.checker.check_model(str(target / "model.onnx"))
    readme = (target / "README.md").read_text()
    code = re.search(r"```python\n(.*?)```", readme, re.DOTALL)[1]
    shown = subprocess.run([sys.executable, "-c", code], cwd=target, capture_output=True, timeout=60)
    assert shown.returncode == 0, shown.stderr
    facts = ("generate", "-m", target, "--greedy", "-q", "--ignore-eos", "Once upon a time", "--echo", "--json")
    value = json.loads(run(*facts).stdout)
    ids = (value["prompt_ids"] + value["samples"][0]["ids"])[:40]
    from gpt2cli.tokenizer.tokenizer import Tokenizer

    spoken = Tokenizer(target).decode(ids)
    assert shown.stdout.decode().strip()[:20] == spoken.strip()[:20]


@pytest.mark.long
def test_export_of_the_built_in_model_is_its_own_files(run, tmp_path):
    assert run("export", "tiny", tmp_path / "t", "-q").code == 0
    tiny = paths.data("models") / "tiny"
    assert (tmp_path / "t/weights.safetensors").read_bytes() == (tiny / "weights.safetensors").read_bytes()
    assert (
        run("generate", "-m", tmp_path / "t", "-n", 3, "--seed", 1, "x").stdout
        == run("generate", "-m", "tiny", "-n", 3, "--seed", 1, "x").stdout
    )


def test_export_replaces_nothing_and_leaves_no_half(run, checkpoint, tmp_path, monkeypatch):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/precious").write_text("x")
    assert_error(run("export", checkpoint, tmp_path / "full"), 2, "is not an empty folder")
    assert_error(run("export", "-q", "nobody", tmp_path / "new"), 3)
    make_checkpoint(tmp_path / "bad")
    (tmp_path / "bad/model.safetensors").write_bytes(b"\0" * 100)
    assert_error(run("export", "-q", tmp_path / "bad", tmp_path / "new"), 5)
    assert not (tmp_path / "new").exists()
    (tmp_path / "empty").mkdir()
    assert run("export", "-q", checkpoint, tmp_path / "empty").code == 0


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.long
def test_the_reference_of_the_self_test_is_right(activation, tmp_path):
    """It reads an export, whose heads are padded (5 to 8); the oracle reads the checkpoint."""
    changes = {"activation_function": activation, "n_embd": 20, "tie_word_embeddings": False}
    changes |= {"scale_attn_by_inverse_layer_idx": True}
    config, tensors = make_checkpoint(tmp_path, **changes)
    folder = store.ensure(sources.resolve(str(tmp_path)), Choice("fp32")).folder
    ids = [5, 7, 250, 7, 99]
    found = reference.logits(Checkpoint(folder), ids, every=True)
    np.testing.assert_allclose(found, oracle.forward(tensors, config, ids), atol=1e-4)
    np.testing.assert_allclose(reference.logits(Checkpoint(folder), ids), found[-1], atol=1e-5)
    for precision in ("fp32", "int8", "int4"):
        assert model.self_test(store.ensure(sources.resolve(str(tmp_path)), Choice(precision))) == precision


def test_the_manifests_are_true():
    """Parameters follow from the shape, and the built-in model's from its files."""
    from gpt2cli.export.checkpoint import Config, read_config

    for entry in map(catalog.find, catalog.names()):
        shape = (entry.layers, entry.heads, entry.width, 4 * entry.width, entry.positions, entry.vocabulary)
        config = Config(*shape, "gelu_new", 1e-5, True, False, True, (), None)
        assert config.parameters == entry.parameters, entry.name
        assert (entry.repository is None) == (entry.name == "tiny")
        if entry.folder:
            assert read_config(entry.folder).parameters == entry.parameters
    assert catalog.find("gpt2").files["model.safetensors"].size == 548_105_171


@pytest.mark.long
def test_a_folder_with_the_name_of_a_model(run, checkpoint, tmp_path, monkeypatch):
    """The catalogue's names mean the same everywhere, and a note says so."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GPT2_CONFIG", str(tmp_path / "config.toml"))
    shutil.copytree(checkpoint, "tiny")
    note = "note: tiny is the model of the catalogue; the folder of this name is ./tiny\n"
    for argv in (["generate", "-n", 1, "-m", "tiny", "x"], ["tokens", "-m", "tiny", "x"], ["verify", "tiny"]):
        assert run(*argv).stderr == note
    assert run("show", "tiny").stderr == note
    assert run("config", "set", "model", "tiny").stderr.startswith(note)
    assert run("verify", "-q", "tiny").stderr == ""
    value = json.loads(run("tokens", "-m", "./tiny", "x", "--json").stdout)
    assert value["model"] == "./tiny"
    # nobody named it
    monkeypatch.delenv("GPT2_MODEL")
    assert run("config", "unset", "model").code == 0
    shutil.copytree(checkpoint, "gpt2")
    assert "catalogue" not in run("tokens", "x").stderr


def test_a_folder_with_the_name_of_a_repository(hub, files, run, checkpoint, tmp_path, monkeypatch):
    """The folder answers; a note says so where the other is downloaded too."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(checkpoint, NAME)
    assert run("tokens", "-m", NAME, "x").stderr == ""
    hub.add(NAME, files)
    assert run("pull", "-q", f"{NAME}@main").code == 0
    asked = len(hub.requests)
    assert run("tokens", "-m", NAME, "x").stderr == (
        f"note: {NAME} is the folder; the model of this name from the hub is {NAME}@main\n"
    )
    assert run("tokens", "-m", f"{NAME}@main", "x").stderr == ""
    assert len(hub.requests) == asked


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_list_waits_for_no_pipe(spawn, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / f"models--someone--tales/snapshots/{'a' * 40}"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "config.json")
    process = spawn("list")
    assert b"someone/tales" not in process.communicate(timeout=60)[0]
    assert process.returncode == 0


def test_a_folder_needs_nothing_of_the_hub(spawn, checkpoint, tmp_path, monkeypatch):
    """Neither settings that its client can read, nor the time that its import takes."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(checkpoint, NAME)
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "soon")
    process = spawn("tokens", "-m", NAME, "x")
    assert (process.communicate(timeout=60)[1], process.returncode) == (b"", 0)
