"""Models from the hub: the real client against a hub on loopback, whole and broken lines, and the shared cache."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from checkpoints import make_checkpoint
from conftest import assert_error
from hub import NAME, nobody, silence
from huggingface_hub import constants

from gpt2cli import catalog, exports, hubcache
from gpt2cli import hub as client
from gpt2cli.errors import CorruptFile


def tree(folder):
    """Every file below a folder with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


# The way of a model


def test_a_model_is_downloaded_once_and_then_no_http_at_all(hub, files, tell, checkpoint, run):
    hub.add(NAME, files)
    first = tell()
    assert first.code == 0, first.stderr
    assert "note: downloading someone/tales" in first.stderr
    assert first.stdout == run("generate", "-m", checkpoint, "-n", 4, "--seed", 1, "The cat").stdout
    asked = len(hub.requests)
    again = tell()
    assert (again.stdout, again.stderr) == (first.stdout, "")
    assert len(hub.requests) == asked


def test_only_what_is_needed_is_downloaded(hub, files, tell):
    hub.add(NAME, files)
    tell()
    bodies = {request.path for request in hub.requests if request.method == "GET"}
    assert not any(name in path for path in bodies for name in ("h5", "README", "training_args"))
    assert set(hubcache.snapshot(hubcache.Repository(NAME)).iterdir()) == {
        hubcache.snapshot(hubcache.Repository(NAME)) / name
        for name in ("config.json", "tokenizer.json", "model.safetensors")
    }


def test_the_model_stays_after_the_download_is_gone(hub, files, tell):
    hub.add(NAME, files)
    first = tell()
    shutil.rmtree(constants.HF_HUB_CACHE)
    asked = len(hub.requests)
    assert tell().stdout == first.stdout
    assert len(hub.requests) == asked


def test_show_says_what_a_download_would_be(hub, files, run, tell):
    hub.add(NAME, files)
    facts = json.loads(run("show", NAME, "--json").stdout)
    needed = sum(len(files[name]) for name in ("config.json", "tokenizer.json", "model.safetensors"))
    assert (facts["downloaded"], facts["download_bytes"]) == (False, needed)
    assert f"no (gpt2 pull {NAME}: about" in run("show", NAME).stdout
    tell()
    facts = json.loads(run("show", NAME, "--json").stdout)
    assert (facts["downloaded"], facts["download_bytes"]) == (True, None)


def test_json_names_the_revision(hub, files, tell):
    commit = hub.add(NAME, files)
    assert json.loads(tell("--json", "-q").stdout)["revision"] == commit


def test_revisions_by_branch_tag_and_commit(hub, files, tell, tmp_path):
    make_checkpoint(tmp_path / "old", seed=5)
    old = {path.name: path.read_bytes() for path in (tmp_path / "old").iterdir()}
    first = hub.add(NAME, old, branches=("v1",))
    second = hub.add(NAME, files)
    texts = {revision: tell(name=f"{NAME}{revision}").stdout for revision in ("", "@v1", f"@{first}", f"@{second}")}
    assert texts[""] == texts[f"@{second}"] != texts["@v1"] == texts[f"@{first}"]
    assert_error(tell(name=f"{NAME}@v9"), 4, "has no revision 'v9'")


def test_pull_follows_the_branch_and_generate_does_not(hub, files, tell, run, tmp_path):
    hub.add(NAME, files)
    before = tell().stdout
    make_checkpoint(tmp_path / "new", seed=5)
    commit = hub.add(NAME, {path.name: path.read_bytes() for path in (tmp_path / "new").iterdir()})
    assert tell().stdout == before
    pulled = json.loads(run("pull", "-q", "--json", NAME).stdout)
    assert pulled[0]["revision"] == commit
    assert tell().stdout != before


def test_what_another_tool_downloaded_is_not_downloaded_again(hub, files, tell):
    import huggingface_hub

    hub.add(NAME, files)
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        huggingface_hub.hf_hub_download(
            NAME, name, endpoint=hub.url, cache_dir=constants.HF_HUB_CACHE, headers={"X-Other": "tool"}
        ) if name != "model.safetensors" else client.fetch(
            client.look(hubcache.Repository(NAME)), [name], pinned={}, progress=lambda *_: None
        )
    asked = len(hub.requests)
    assert tell().code == 0
    assert len(hub.requests) == asked


def test_sharded_and_torch_checkpoints(hub, tell, tmp_path, checkpoint, run):
    make_checkpoint(tmp_path / "s", shards=3, prefix="transformer.")
    hub.add("a/sharded", {path.name: path.read_bytes() for path in (tmp_path / "s").iterdir()})
    expected = run("generate", "-m", checkpoint, "-n", 4, "--seed", 1, "The cat").stdout
    assert tell(name="a/sharded").stdout == expected


def test_other_architectures_are_refused_before_the_download(hub, files, tell):
    config = json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}).encode()
    hub.add(NAME, files | {"config.json": config})
    assert_error(tell("-q"), 3, "llama", "not GPT-2")
    assert not hub.asked("model.safetensors")


def test_repositories_without_a_checkpoint(hub, tell):
    hub.add("a/empty", {"README.md": b"x"})
    assert_error(tell("-q", name="a/empty"), 3, "has no config.json")
    hub.add("a/flax", {"config.json": b"{}", "flax_model.msgpack": b"x"})
    assert_error(tell("-q", name="a/flax"), 3, "has no weights that can be read")


# The default model


def test_the_default_is_gpt2_where_the_hub_answers(hub, files, run, monkeypatch):
    """Under the catalogue's own name; its pinned facts are for the real files, which cannot be here."""
    entry = catalog.find("gpt2")
    commit = hub.add(entry.repository, files)
    monkeypatch.setattr(catalog, "find", lambda name: replaced if name == "gpt2" else found(name))
    from dataclasses import replace

    from gpt2cli.catalog import File

    found, replaced = catalog_find, replace(entry, revision=commit, files={"config.json": File(1, "0" * 64)})
    assert_error(run("generate", "-q", "-m", "gpt2", "x"), 5, "config.json", "is not the file that this version knows")
    replaced = replace(entry, revision=commit, files={})
    result = run("generate", "-n", 3, "The cat")
    assert result.code == 0, result.stderr
    assert result.stderr.startswith("note: downloading gpt2 (")
    assert "-m tiny" in result.stderr
    assert json.loads(run("generate", "-n", 3, "The cat", "--json").stdout)["model"] == "gpt2"


catalog_find = catalog.find


def within(seconds, call):
    start = time.monotonic()
    result = call()
    assert time.monotonic() - start < seconds
    return result


def test_the_default_falls_back_to_tiny_and_says_so_even_when_quiet(machine, run):
    with nobody() as url:
        machine(url)
        result = run("generate", "-q", "-n", 3, "Once", "--json")
    assert json.loads(result.stdout)["model"] == "tiny"
    assert result.stderr.count("\n") == 1
    assert "tiny answers" in result.stderr
    assert "gpt2 pull gpt2" in result.stderr


def test_a_silent_hub_is_given_up_within_3_seconds(machine, run):
    with silence() as url:
        machine(url)
        result = within(8, lambda: run("generate", "-n", 3, "Once"))
        assert "did not answer within 3 seconds" in result.stderr
        assert result.code == 0


def test_dns_that_hangs_is_given_up(machine, run, monkeypatch):
    machine("http://hub.invalid")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(30))
    assert_error(within(8, lambda: run("generate", "-m", NAME, "x")), 4, "did not answer within 3 seconds")


def test_offline(hub, files, tell, run):
    assert_error(tell("--offline"), 3, "is not downloaded", f"gpt2 pull {NAME}")
    result = run("generate", "--offline", "-n", 2, "Once")
    assert "tiny answers" in result.stderr
    assert hub.requests == []
    hub.add(NAME, files)
    tell()
    assert tell("--offline").code == 0


def test_the_hub_switched_off_by_variable(hub, tell, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert_error(tell(), 3, "is not downloaded")
    assert hub.requests == []


def test_a_local_folder_wins_over_a_hub_name(hub, files, run, tmp_path, monkeypatch):
    make_checkpoint(tmp_path / NAME)
    monkeypatch.chdir(tmp_path)
    assert run("generate", "-m", NAME, "-n", 2, "x").code == 0
    assert hub.requests == []


# The network


def test_a_cut_is_resumed_where_it_was(hub, files, tell):
    hub.add(NAME, files)
    hub.fail("CDN", "cut", after=20_000, times=2)
    assert tell().code == 0
    ranges = [request.headers["Range"] for request in hub.asked("Signature") if "Range" in request.headers]
    assert ranges == ["bytes=20000-", "bytes=40000-"]


def test_a_download_cut_for_good_goes_on_in_the_next_run(hub, files, tell):
    hub.add(NAME, files)
    hub.fail("CDN", "cut", after=20_000, times=1)
    hub.fail("CDN", "status", status=503)
    assert_error(tell("-q"), 4, "503")
    hub.faults.clear()
    before = len(hub.requests)
    assert tell("-q").code == 0
    assert [r.headers.get("Range") for r in hub.requests[before:] if "Signature" in r.path] == ["bytes=20000-"]


def test_a_server_that_ignores_ranges(hub, files, tell):
    hub.add(NAME, files)
    hub.fail("CDN", "cut", after=20_000, times=1)
    hub.fail("CDN", "no range")
    assert tell("-q").code == 0


def test_wrong_bytes_are_found_and_not_kept(hub, files, tell):
    hub.add(NAME, files)
    for where in ("GET /someone/tales/resolve", "CDN"):
        hub.faults.clear()
        hub.fail(where, "wrong bytes")
        assert_error(tell("-q"), 5, "arrived damaged")
        assert_error(tell("-q", "--offline"), 3, "is not downloaded")
    hub.faults.clear()
    assert tell("-q").code == 0


@pytest.mark.parametrize("kind", ["short", "long"])
def test_wrong_length(hub, files, tell, kind):
    hub.add(NAME, files)
    hub.fail("CDN", kind)
    result = tell("-q")
    assert result.code in (4, 5), result.stderr
    assert_error(result, result.code)
    assert_error(tell("-q", "--offline"), 3, "is not downloaded")


def test_a_stall_is_resumed(hub, files, tell):
    hub.add(NAME, files)
    hub.fail("CDN", "stall", after=30_000, times=1)
    assert tell("-q").code == 0
    assert hub.asked("Signature")[-1].headers["Range"] == "bytes=30000-"


def test_a_range_that_the_server_cannot_satisfy_starts_over(hub, files, tell):
    hub.add(NAME, files)
    hub.fail("CDN", "cut", after=20_000, times=1)
    hub.fail("CDN", "status", status=416, times=1)
    assert tell("-q").code == 0
    assert "Range" not in hub.asked("Signature")[-1].headers


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"status": 500}, ["500", "try again later"]),
        ({"status": 503}, ["503"]),
        ({"status": 403}, ["403", "HF_TOKEN"]),
        ({"status": 404}, ["404"]),
        ({"status": 429, "headers": {"Retry-After": "17"}}, ["429", "wait 17 seconds"]),
        ({"status": 401, "code": "RepoNotFound"}, ["has no 'someone/tales'", "private"]),
    ],
)
def test_refusals_name_their_reason(hub, files, tell, run, options, words):
    hub.add(NAME, files)
    hub.fail("/api/models", "status", **options)
    assert_error(tell("-q"), 4, *words)
    hub.fail("/api/models", "status", **options)
    assert run("generate", "-n", 2, "x").code == 4  # the default model too: a hub that refuses is no missing network


def test_unknown_repositories(hub, tell):
    assert_error(tell("-q", name="no/body"), 4, "has no 'no/body'")
    assert_error(tell("-q", name="a--b/..c"), 3)


def test_a_page_that_is_no_hub(hub, tell):
    hub.fail("/api", "html")
    assert_error(tell("-q"), 4, "not like a Hugging Face hub")


def test_refused_connections(machine, tell):
    with nobody() as url:
        machine(url)
        assert_error(tell("-q"), 4, "cannot be reached: it refuses the connection")


def test_of_several_failures_each_names_its_model(machine, run):
    with nobody() as url:
        machine(url)
        errors = run("pull", "a/one", "b/two").stderr.splitlines()
    assert [line.split(" ")[:2] for line in errors[::2]] == [["error:", "a/one:"], ["error:", "b/two:"]]


def test_expired_links_are_asked_for_again(hub, files, tell):
    hub.add(NAME, files)
    hub.fail("CDN", "cut", after=20_000, times=1)
    assert tell("-q").code == 0
    assert len(hub.asked("resolve/" + hub.find(NAME, "main").commit + "/model.safetensors")) >= 3


def test_gated_and_private_models_need_the_token(hub, files, tell, monkeypatch):
    hub.add("a/gated", files, gated=True)
    hub.add("a/private", files, private=True)
    assert_error(tell("-q", name="a/gated"), 4, "is gated", "HF_TOKEN")
    assert_error(tell("-q", name="a/private"), 4, "private")
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert tell("-q", name="a/gated").code == 0
    assert tell("-q", name="a/private").code == 0
    assert all("Authorization" not in request.headers for request in hub.asked("Signature"))


def test_tokens_and_signatures_never_appear(hub, files, tell, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", hub.token)
    hub.add(NAME, files)
    for where in ("/api", "HEAD", "CDN"):
        for kind, options in (("status", {"status": 500}), ("cut", {"after": 5}), ("status", {"status": 401})):
            hub.faults.clear()
            hub.fail(where, kind, **options)
            shown = tell().stderr
            assert hub.token not in shown
            assert "Signature" not in shown
            assert "signedsecret" not in shown


def test_xet_is_not_used(hub, files, tell):
    hub.add(NAME, files)
    assert tell("-q").code == 0
    assert not hub.asked("xet")


def test_a_proxy_is_used(hub, files, tell, monkeypatch):
    """The hub itself serves as the proxy: it is asked by absolute addresses."""
    hub.add(NAME, files)
    monkeypatch.setenv("http_proxy", hub.url)
    monkeypatch.setattr(constants, "ENDPOINT", "http://hub.invalid")
    from huggingface_hub import utils

    getattr(utils, "close_session", lambda: None)()  # the client reads the variables when it opens
    result = tell("-q")
    getattr(utils, "close_session", lambda: None)()
    assert any(request.path.startswith("http://hub.invalid/api/models") for request in hub.requests), result.stderr


# Disks, and other processes


def test_too_little_space_is_noticed_before_the_download(hub, files, tell, monkeypatch):
    hub.add(NAME, files)
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    assert_error(tell("-q"), 7, "are free", "HF_HOME")
    assert not hub.asked("Signature")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_that_cannot_be_written(hub, files, tell, tmp_path):
    hub.add(NAME, files)
    tmp_path.chmod(0o500)
    assert_error(tell("-q"), 7)
    tmp_path.chmod(0o700)


def test_a_cache_that_is_a_file(hub, files, tell, tmp_path):
    hub.add(NAME, files)
    (tmp_path / "hf").write_text("")
    assert_error(tell("-q"), 7)
    (tmp_path / "hf").unlink()
    (tmp_path / "cache").write_text("")
    assert_error(tell("-q"), 7)


def spawned(*argv):
    """A real process against the hub of this test."""
    command = [sys.executable, "-m", "gpt2cli", *map(str, argv)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_killed_downloads_and_exports_end_as_if_nothing_had_happened(hub, files, run, tmp_path, monkeypatch):
    hub.add(NAME, files)
    monkeypatch.setenv("GPT2_CACHE", str(tmp_path / "whole"))
    assert run("pull", "-q", NAME).code == 0
    expected = tree(tmp_path / "whole/exports")
    downloaded = tree(constants.HF_HUB_CACHE)
    shutil.rmtree(constants.HF_HUB_CACHE)
    monkeypatch.setenv("GPT2_CACHE", str(tmp_path / "cache"))
    hub.fail("CDN", "slow", block=8000, pause=0.03)
    for moment in range(8):
        process = spawned("pull", "-q", NAME)
        start = len(hub.requests)
        deadline = time.monotonic() + 20
        while process.poll() is None and len(hub.requests) - start < moment and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(0.05 * (moment % 3))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        visible = {
            name: data for name, data in tree(tmp_path / "cache").items() if not name.startswith(("exports/.", "locks"))
        }
        assert visible in ({}, {f"exports/{name}": data for name, data in expected.items()})
        assert run("generate", "--offline", "-q", "-m", NAME, "-n", 1, "x").code in (0, 3)
    hub.faults.clear()
    assert run("pull", "-q", NAME).code == 0
    assert tree(tmp_path / "cache/exports") == expected
    names = {name for name in tree(constants.HF_HUB_CACHE) if "lock" not in name}
    assert {name for name in downloaded if "lock" not in name} == names


@pytest.mark.skipif(os.name != "posix", reason="SIGHUP")
@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_download_that_is_ended_goes_on_where_it_was(hub, files, run, tmp_path, name, code):
    hub.add(NAME, files)
    hub.fail("CDN", "slow", block=8000, pause=0.1)
    process = spawned("pull", NAME)
    deadline = time.monotonic() + 20
    while not hubcache.leftovers() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(getattr(signal, name))
    _, errors = process.communicate(timeout=20)
    assert process.returncode == code
    assert b"error" not in errors
    assert b"Traceback" not in errors
    assert len(hubcache.leftovers()) == 1
    assert run("generate", "--offline", "-q", "-m", NAME, "-n", 1, "x").code == 3
    hub.faults.clear()
    assert run("pull", "-q", NAME).code == 0
    assert hubcache.leftovers() == {}


@pytest.mark.skipif(os.name != "posix", reason="shell signals")
def test_two_processes_one_download(hub, files, monkeypatch):
    hub.add(NAME, files)
    hub.fail("CDN", "slow", block=8000, pause=0.1)
    both = [spawned("pull", NAME) for _ in range(2)]
    outputs = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert sum(b"another process is preparing" in errors for _, errors in outputs) == 1
    assert len([request for request in hub.asked("Signature") if request.method == "GET"]) == 1


def test_what_is_under_way_is_not_pruned(hub, files, run, tmp_path):
    hub.add(NAME, files)
    run("pull", "-q", NAME)
    digest = exports.digest_of(NAME)
    part = tmp_path / f"cache/exports/.{digest}.something-fp32-{'0' * 16}"
    part.mkdir()
    (part / "weights.safetensors").write_bytes(b"123")
    blob = hubcache.cache_folder(NAME) / f"blobs/{'0' * 64}{hubcache.PART}"
    blob.write_bytes(b"12345")
    both = exports.lock(NAME, print), exports.lock(NAME, print, hubcache.lock_path(NAME))
    with both[0], both[1]:
        assert json.loads(run("prune", "--json").stdout)["removed"] == []
    would = json.loads(run("prune", "--dry-run", "--json").stdout)
    assert would["freed"] == 8
    assert part.exists()
    assert run("prune").stdout.endswith("8 B freed\n")
    assert not part.exists()
    assert not blob.exists()
    assert run("prune").stdout == "0 B freed\n"


# Searching


def test_search(hub, files, run):
    hub.add("a/poems", files, downloads=1000, gated=True)
    hub.add("b/poems-2", files, downloads=50_000)
    hub.add("c/prose", files, downloads=7)
    assert run("list", "--remote", "poem", "-q").stdout == "b/poems-2\na/poems\n"
    table = run("list", "--remote", "poem").stdout
    assert "50,000" in table
    assert "gated" in table
    assert json.loads(run("list", "--remote", "--json", "prose").stdout) == [
        {"name": "c/prose", "downloads": 7, "gated": False}
    ]


def test_a_search_without_a_network_is_two_lines_within_3_seconds(machine, monkeypatch):
    """In processes of their own: the client's warnings go to the stderr that there was when it was imported."""

    def searched(url):
        process = subprocess.Popen(
            [sys.executable, "-m", "gpt2cli", "list", "--remote", "poetry"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"HF_ENDPOINT": url},
        )
        errors = within(3 + 5, process.communicate)[1].decode().splitlines()
        assert process.returncode == 4
        assert [line.split(":")[0] for line in errors] == ["error", "hint"], errors
        return errors[0]

    with nobody() as url:
        assert "it refuses the connection" in searched(url)
    with silence() as url:
        assert "did not answer within 3 seconds" in searched(url) or "no answer in time" in searched(url)
    assert "no such host" in searched("http://hub.invalid")


def test_hashes_of_blobs(tmp_path):
    (tmp_path / "file").write_bytes(b"hello\n")
    assert hubcache.file_hashes(tmp_path / "file", git=True) >= {"ce013625030ba8dba906f756967f9e9ca394464a"}


def test_a_blob_that_rots_is_found(hub, files, run):
    hub.add(NAME, files)
    run("pull", "-q", NAME)
    assert run("verify", NAME).code == 0
    weights = hubcache.snapshot(hubcache.Repository(NAME)) / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[5000] ^= 1
    weights.resolve().write_bytes(data)
    result = run("verify", NAME)
    assert result.code == CorruptFile.exit_code
    assert "model.safetensors" in result.stderr
    assert run("rm", "--downloads", NAME).code == 0
    assert run("pull", "-q", NAME).code == 0
    again = run("verify", NAME)
    assert again.code == 0, again.stderr
