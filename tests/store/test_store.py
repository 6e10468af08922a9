"""What lies on the disk: revisions, copies, links, and what is cut, damaged or somebody else's."""

import json
import os
import shutil

import onnx
import pytest
from checkpoints import make_checkpoint
from conftest import assert_error
from foreign import make_foreign
from hub import NAME
from huggingface_hub import constants

from gpt2cli import model
from gpt2cli.export.export import export
from gpt2cli.store import builds, hubcache


def copied(name):
    """The repository NAME in the cache under another name, as forks are: the same commits, the same files."""
    shutil.copytree(hubcache.cache_folder(NAME), hubcache.cache_folder(name), symlinks=True)


def test_rm_deletes_no_other_repository(hub, files, run):
    hub.add(NAME, files)
    run("pull", "-q", NAME)
    for other in ("a/copy", "z/copy", "other/copy"):
        copied(other)
    assert run("rm", "--downloads", "-q", NAME).code == 0
    assert {one.name for one in hubcache.downloaded()} == {"a/copy", "z/copy", "other/copy"}


def test_rm_goes_on_after_a_failure(run, checkpoint, monkeypatch, tmp_path):
    monkeypatch.setenv("GPT2_CACHE", str(tmp_path / "cache"))
    run("pull", "-q", checkpoint)
    result = run("rm", "nobody", checkpoint, "--json")
    assert result.code == 3
    assert [row["name"] for row in json.loads(result.stdout)] == [str(checkpoint)]


def test_rm_where_the_download_is_gone(hub, files, run):
    hub.add(NAME, files)
    run("pull", "-q", NAME)
    shutil.rmtree(constants.HF_HUB_CACHE)
    assert run("rm", "--downloads", "-q", NAME).code == 0
    assert builds.cached() == []


def test_rm_after_an_interrupted_rm(run, checkpoint, monkeypatch, tmp_path):
    monkeypatch.setenv("GPT2_CACHE", str(tmp_path / "cache"))
    run("pull", "-q", checkpoint)
    folder = builds.cached()[0].folder
    shutil.copytree(folder, folder.with_name(f".removed.{folder.name}"))
    assert run("rm", "-q", checkpoint).code == 0
    assert list(folder.parent.iterdir()) == []


def test_another_revision_is_not_main(hub, files, run, tell):
    old = hub.add(NAME, files | {"README.md": b"the first"})
    hub.add(NAME, files)
    run("pull", "-q", f"{NAME}@{old}")
    value = json.loads(tell("--json").stdout)
    assert value["revision"] not in (None, old)


def test_a_damaged_download_is_mended_by_pull(hub, files, run):
    hub.add(NAME, files)
    run("pull", "-q", NAME)
    weights = hubcache.snapshot(hubcache.Repository(NAME)) / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[5000] ^= 1
    weights.resolve().write_bytes(data)
    assert_error(run("verify", "-q", NAME), 5, "model.safetensors", "gpt2 pull")
    assert run("pull", "-q", NAME).code == 0
    assert run("verify", "-q", NAME).code == 0


def test_a_damaged_export_is_mended_by_pull(run, checkpoint, monkeypatch, tmp_path):
    monkeypatch.setenv("GPT2_CACHE", str(tmp_path / "cache"))
    run("pull", "-q", checkpoint)
    weights = builds.cached()[0].folder / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[5000] ^= 1
    weights.write_bytes(data)
    assert_error(run("verify", "-q", checkpoint), 5, "weights.safetensors", "gpt2 pull")
    assert run("pull", "-q", checkpoint).code == 0
    assert run("verify", "-q", checkpoint).code == 0


def test_half_a_download_is_not_sound(hub, files, run):
    hub.add(NAME, files)
    run("pull", "-q", NAME)
    run("rm", "-q", NAME)
    (hubcache.snapshot(hubcache.Repository(NAME)) / "model.safetensors").unlink()
    assert_error(run("verify", "-q", NAME), 5, "incomplete")
    assert "(incomplete)" in run("list", NAME).stdout


def test_a_reference_survives_a_full_disk(hub, files, run, monkeypatch):
    hub.add(NAME, files)
    run("pull", "-q", NAME)
    reference = hubcache.cache_folder(NAME) / "refs/main"
    before = reference.stat().st_mtime_ns
    assert run("pull", "-q", NAME).code == 0
    assert reference.stat().st_mtime_ns == before  # what is right is not written again
    commit = reference.read_text()

    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(reference), "write_text", full)
    with pytest.raises(OSError, match="No space"):
        hubcache.set_reference(hubcache.Repository(NAME), "0" * 40)
    assert reference.read_text() == commit


def test_a_short_name_of_transformers_is_managed_too(hub, files, run):
    hub.add(NAME, files)
    run("pull", "-q", NAME)
    shutil.copytree(hubcache.cache_folder(NAME), hubcache.cache_folder("gpt2"), symlinks=True)
    assert "gpt2: the download" in run("verify", "gpt2").stdout
    assert run("rm", "--downloads", "-q", "gpt2").code == 0
    assert {one.name for one in hubcache.downloaded()} == {NAME}


def test_verify_takes_the_revision_that_is_named(hub, files, run):
    old = hub.add(NAME, files | {"README.md": b"the first"})
    hub.add(NAME, files)
    run("pull", "-q", NAME)
    assert run("verify", "-q", NAME, f"{NAME}@main").code == 0
    assert_error(run("verify", "-q", f"{NAME}@{old}"), 3, "nothing of")


def test_choices_are_checked_before_the_download(hub, files, run, tmp_path):
    hub.add(NAME, files)
    assert_error(run("pull", NAME, "--source", "bogus"), 2, "no source 'bogus'")
    assert_error(run("pull", NAME, "--precision", "int3"), 2, "no precision 'int3'")
    assert_error(run("export", NAME, tmp_path / "d", "--precision", "int3"), 2, "no precision 'int3'")
    assert hub.asked("") == []


def test_a_graph_that_nobody_runs_spoils_nothing(run, checkpoint, tmp_path):
    shutil.copytree(checkpoint, tmp_path / "c")
    (tmp_path / "c/onnx").mkdir()
    (tmp_path / "c/onnx/model.onnx").write_text("version https://git-lfs.github.com/spec/v1")
    assert run("generate", "-q", "-m", tmp_path / "c", "-n", 1, "x").code == 0


def test_exports_of_what_a_folder_was_before_go(run, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("GPT2_CACHE", str(tmp_path / "cache"))
    shutil.copytree(checkpoint, tmp_path / "c")
    run("pull", "-q", tmp_path / "c")
    os.utime(tmp_path / "c/model.safetensors", (1, 1))
    run("pull", "-q", tmp_path / "c")
    assert len(builds.cached()) == 1


@pytest.mark.skipif(os.name != "posix", reason="links")
def test_export_follows_no_link_out_of_the_folder(run, checkpoint, tmp_path):
    (tmp_path / "secret").write_text("{}")
    assert run("export", "-q", checkpoint, tmp_path / "own", "--precision", "int8").code == 0
    (tmp_path / "own/tokenizer_config.json").symlink_to(tmp_path / "secret")
    assert_error(run("export", "-q", tmp_path / "own", tmp_path / "out"), 5, "outside the folder")
    assert not (tmp_path / "out").exists()


# Every file of a model's folder, and what makes it be read
FILES = {
    **dict.fromkeys(["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"], "checkpoint"),
    **dict.fromkeys(["pytorch_model.bin", "model.safetensors.index.json", "pytorch_model.bin.index.json"], "weights"),
    **dict.fromkeys(["model-00002-of-00003.safetensors"], "shards"),
    **dict.fromkeys(["vocab.json", "merges.txt", "added_tokens.json"], "pair"),
    **dict.fromkeys(["model.onnx", "weights.safetensors"], "export"),
    **dict.fromkeys(["onnx/model.onnx", "onnx/weights.bin"], "graph"),
}


def a_model(folder, kind):
    """A sound folder of a kind of FILES; of "weights" there are none."""
    if kind == "graph":
        make_foreign(folder, name="onnx/model.onnx", external="weights.bin")
        return
    make_checkpoint(folder, shards=3 if kind == "shards" else 1)
    if kind == "weights":
        (folder / "model.safetensors").unlink()
    if kind == "pair":
        model = json.loads((folder / "tokenizer.json").read_text())["model"]
        (folder / "tokenizer.json").unlink()
        (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
        (folder / "merges.txt").write_text("".join(f"{' '.join(pair)}\n" for pair in model["merges"]))
    if kind == "export":
        target = folder.with_name("made")
        target.mkdir()
        for _ in export(folder, target, "fp32"):
            pass
        shutil.rmtree(folder)
        target.rename(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names")
@pytest.mark.parametrize(("name", "kind"), FILES.items(), ids=FILES)
@pytest.mark.long
def test_nobody_waits_for_a_pipe(name, kind, spawn, tmp_path):
    a_model(tmp_path / "c", kind)
    (tmp_path / "c" / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / "c" / name)
    out, err = spawn("generate", "-q", "-m", tmp_path / "c", "-n", 1, "x").communicate(timeout=60)
    error, hint = err.decode().splitlines()
    assert out == b""
    assert error == f"error: '{tmp_path / 'c' / name}' is a pipe, a device or a folder, not a file"
    assert hint.startswith("hint: ")


@pytest.mark.parametrize(("name", "kind"), FILES.items(), ids=FILES)
def test_a_pointer_of_git_lfs_is_called_one_before_any_work(name, kind, run, tmp_path, monkeypatch):
    monkeypatch.setenv("GPT2_CACHE", str(tmp_path / "cache"))
    a_model(tmp_path / "c", kind)
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 1234567\n"
    (tmp_path / "c" / name).write_text(pointer)
    result = run("generate", "-m", tmp_path / "c", "-n", 1, "x")
    assert_error(result, 5, f"'{tmp_path / 'c' / name}' is a pointer of Git LFS", "git lfs pull")
    assert builds.cached() == []
    assert_error(run("export", tmp_path / "c", tmp_path / "out", "--precision", "fp32"), 5 if kind != "graph" else 3)
    assert not (tmp_path / "out").exists()


def test_an_export_into_the_folder_where_one_stands(run, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert run("export", "-q", "tiny", ".").code == 0
    assert run("generate", "-q", "-m", ".", "-n", 1, "x").code == 0


def test_what_a_terminal_would_obey_is_not_printed_raw(run, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "\x1b[31mred" + "x" * 5000}))
    result = run("generate", "-m", tmp_path, "x")
    assert_error(result, 3, "x1b[31mred")
    assert "\x1b" not in result.stderr
    assert len(result.stderr) < 3000


def test_passwords_of_an_endpoint_are_not_shown(machine, run):
    machine("http://user:s3cret@127.0.0.1:9")
    result = run("pull", NAME)
    assert_error(result, 4, "127.0.0.1:9 cannot be reached")
    assert "s3cret" not in result.stderr


def test_offline_by_the_hub_library_s_own_variable(hub, files, run, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert_error(run("pull", NAME), 3, "switched off")


def test_a_catalogue_model_is_shown_without_a_network(machine, run):
    machine("http://127.0.0.1:9")
    assert "1,557,611,200" in run("show", "gpt2-xl").stdout


def test_other_architectures_leave_nothing(hub, files, run):
    hub.add(NAME, files | {"config.json": b'{"model_type": "llama"}'})
    result = run("pull", NAME)
    assert_error(result, 3, NAME, "llama")
    assert "snapshots" not in result.stderr
    assert hubcache.downloaded() == []
    assert not (hubcache.cache_folder(NAME) / "snapshots").exists()


@pytest.mark.parametrize("configured", [True, False])
def test_repositories_of_other_formats_are_not_downloaded(configured, hub, files, run):
    kept = {name: files[name] for name in ("tokenizer.json", "config.json") if configured or name != "config.json"}
    hub.add(NAME, kept | {"gpt2.Q8_0.gguf": b"GGUF"})
    assert_error(run("pull", NAME), 3, NAME, "a GGUF file of llama.cpp (gpt2.Q8_0.gguf)")
    assert hubcache.downloaded() == []


def test_a_manifest_that_is_no_manifest(run, tmp_path, monkeypatch):
    monkeypatch.setenv("GPT2_CACHE", str(tmp_path))
    (tmp_path / f"exports/x-int8-{'0' * 16}").mkdir(parents=True)
    for text in ("[]", "{}", '{"files": []}', "null", "x"):
        (tmp_path / f"exports/x-int8-{'0' * 16}/export.json").write_text(text)
        assert run("list", "-q").code == 0


GENERATION = json.dumps({"eos_token_id": [0, 66]}).encode()


def test_generation_settings_are_downloaded_and_exported(hub, files, run, tell, tmp_path):
    hub.add(NAME, files | {"generation_config.json": GENERATION})
    tell("-q")
    assert (builds.cached()[0].folder / "generation_config.json").read_bytes() == GENERATION
    assert model.load(NAME).ends == (0, 66)
    run("export", "-q", NAME, tmp_path / "out")
    assert model.load(str(tmp_path / "out")).ends == (0, 66)


@pytest.mark.parametrize("kept", ["tokenizer_config.json", "added_tokens.json", "special_tokens_map.json"])
def test_tokenizer_settings_are_downloaded_and_exported(kept, hub, files, run, tell, tmp_path):
    settings = {
        "tokenizer_config.json": {"add_prefix_space": True},
        "added_tokens.json": {"<x>": 300},
        "special_tokens_map.json": {"pad_token": "<x>"},
    }
    hub.add(NAME, files | {kept: json.dumps(settings[kept]).encode()})
    assert tell("-q").code == 0
    run("export", "-q", NAME, tmp_path / "out")
    ids = {"tokenizer_config.json": [271, 276]}.get(kept, [300, 66, 276])
    text = "cat" if len(ids) == 2 else "<x>cat"
    for name in (NAME, tmp_path / "out"):
        assert model.load(str(name)).tokenizer.encode(text, special=True) == ids


@pytest.mark.long
def test_settings_that_come_later_are_exported_anew(hub, files, run, tell):
    """Older versions and other programs download fewer files: those are used, and what a pull adds counts."""
    hub.add(NAME, files | {"generation_config.json": GENERATION})
    tell("-q")
    snapshot = hubcache.snapshot(hubcache.Repository(NAME))
    (snapshot / "generation_config.json").unlink()
    run("rm", "-q", NAME)
    asked = len(hub.requests)
    assert model.load(NAME).ends == (299,)
    assert len(hub.requests) == asked
    run("pull", "-q", NAME)
    assert model.load(NAME).ends == (0, 66)


def test_an_export_of_an_older_version_is_refused(run, checkpoint, tmp_path):
    run("export", "-q", checkpoint, tmp_path / "out")
    graph = onnx.load(tmp_path / "out/model.onnx", load_external_data=False)
    graph.metadata_props[0].value = json.dumps({"version": 2, "end": 299})
    onnx.save(graph, tmp_path / "out/model.onnx")
    assert_error(run("generate", "-q", "-m", tmp_path / "out", "x"), 5, "another version of gpt2")


def test_a_folder_whose_end_tokens_change_is_exported_anew(tmp_path):
    make_checkpoint(tmp_path)
    assert model.load(str(tmp_path)).ends == (299,)
    (tmp_path / "generation_config.json").write_bytes(GENERATION)
    assert model.load(str(tmp_path)).ends == (0, 66)
