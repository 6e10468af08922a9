"""Models from the hub: the real client against a hub on loopback, whole and broken lines, and the shared cache."""

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from checkpoints import make_checkpoint
from conftest import assert_error
from hub import NAME, nobody, silence, unknown
from huggingface_hub import constants

from gpt2cli import paths
from gpt2cli.errors import CorruptFile
from gpt2cli.store import builds, catalog, hubcache, locks
from gpt2cli.store import hub as client


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
    assert_error(tell("-q", name="a/flax"), 3, "a Flax checkpoint (flax_model.msgpack)", "from_flax")
    hub.add("a/rust", {"config.json": b"{}", "rust_model.ot": b"x"})
    assert_error(tell("-q", name="a/rust"), 3, "has no weights that can be read")


# The default model


def test_the_default_is_gpt2_where_the_hub_answers(hub, files, run, monkeypatch):
    """Under the catalogue's own name; its pinned facts are for the real files, which cannot be here."""
    entry = catalog.find("gpt2")
    commit = hub.add(entry.repository, files)
    monkeypatch.setattr(catalog, "find", lambda name: replaced if name == "gpt2" else found(name))
    from dataclasses import replace

    from gpt2cli.store.catalog import File

    found, replaced = catalog_find, replace(entry, revision=commit, files={"config.json": File(1, "0" * 64)})
    assert_error(run("generate", "-q", "-m", "gpt2", "x"), 5, "config.json", "is not the file that this version knows")
    replaced = replace(entry, revision=commit, files={})
    result = run("generate", "-n", 3, "The cat")
    assert result.code == 0, result.stderr
    assert result.stderr.startswith("note: downloading gpt2 (")
    assert "the model tiny is built in" in result.stderr
    assert json.loads(run("generate", "-n", 3, "The cat", "--json").stdout)["model"] == "gpt2"


catalog_find = catalog.find


def test_the_default_falls_back_to_tiny_and_says_so_even_when_quiet(machine, run):
    with nobody() as url:
        machine(url)
        result = run("generate", "-q", "-n", 3, "Once", "--json")
    assert json.loads(result.stdout)["model"] == "tiny"
    assert result.stderr.count("\n") == 1
    assert "tiny answers" in result.stderr
    assert "gpt2 pull gpt2" in result.stderr


def test_a_silent_hub_is_given_up_after_3_seconds(machine, run):
    with silence() as url:
        machine(url)
        result = run("generate", "-n", 3, "Once")  # it would wait for ever
        assert "did not answer within 3 seconds" in result.stderr
        assert result.code == 0


def test_dns_that_hangs_is_given_up(machine, run, monkeypatch):
    machine("http://hub.invalid")
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait())
    try:
        assert_error(run("generate", "-m", NAME, "x"), 4, "did not answer within 3 seconds")
    finally:
        over.set()


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


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_pointers_of_git_lfs_are_no_files(hub, files, tell, name):
    """A mirror that serves what git holds; there the pointer is the file, and its hash is right."""
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 5000\n" % (b"0" * 64)
    hub.add(NAME, files | {name: pointer})
    for _ in range(2):
        assert_error(tell("-q"), 5, f"{name} of 'someone/tales' is a Git LFS pointer", "HF_ENDPOINT")
    hub.add(NAME, files)
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
        ({"status": 404}, ["404", "check HF_ENDPOINT"]),
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


@pytest.mark.long
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


# Settings of the network


def test_a_proxy_is_used(hub, files, tell, monkeypatch, reopened):
    """The hub itself serves as the proxy: it is asked by absolute addresses."""
    hub.add(NAME, files)
    monkeypatch.setenv("http_proxy", hub.url)
    monkeypatch.setattr(constants, "ENDPOINT", "http://hub.invalid")
    result = tell("-q")
    assert any(request.path.startswith("http://hub.invalid/api/models") for request in hub.requests), result.stderr


def both(run, *words):
    """The same error for a model that is named and for the default one: `tiny` does not answer for a setting."""
    for command in (["pull", NAME], ["generate", "-n", 2, "x"]):
        assert_error(run(*command, "-q"), 4, *words)


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:9", ["ALL_PROXY is a SOCKS proxy", "pip install socksio"]),
        ("ALL_PROXY", "socks4://127.0.0.1:9", ["ALL_PROXY is no address of a proxy", "http://HOST:PORT"]),
        ("https_proxy", "http://127.0.0.1:80x", ["https_proxy is no address of a proxy"]),
        ("https_proxy", "http:/127.0.0.1:80", ["https_proxy is no address of a proxy", "http://HOST:PORT"]),
        ("HTTPS_PROXY", "http://me:secret@:80", ["HTTPS_PROXY is no address of a proxy: 'http://:80'"]),
        ("HF_TOKEN", "hf_geh\xe9im", ["the token in HF_TOKEN has a character", "/settings/tokens"]),
        ("HF_TOKEN", "hf_\x01", ["the token in HF_TOKEN has a character"]),
        ("SSL_CERT_FILE", "nothing.pem", ["SSL_CERT_FILE cannot be used: 'nothing.pem': No such file"]),
        ("SSL_CERT_FILE", __file__, ["SSL_CERT_FILE cannot be used", "no certificates in PEM"]),
        ("SSL_CERT_DIR", "nothing", ["SSL_CERT_DIR names no folder: 'nothing'"]),
    ],
)
def test_a_setting_that_is_wrong_is_named(hub, files, run, monkeypatch, reopened, variable, value, words):
    if value.startswith("socks5") and importlib.util.find_spec("socksio"):
        pytest.skip("socksio is installed")
    hub.add(NAME, files)
    monkeypatch.setenv(variable, value)
    both(run, *words)
    assert hub.requests == []


@pytest.mark.parametrize("url", ["hub.example", "", " https://hub.example", "ftp://hub.example", "https://"])
def test_an_endpoint_that_is_no_address(machine, run, url):
    machine(url)
    both(run, f"HF_ENDPOINT is no address of a hub: '{url}'", "https://HOST")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        *(("HF_HUB_DOWNLOAD_TIMEOUT", value) for value in ("soon", "")),
        *(("HF_ENDPOINT", url) for url in ("https://me:secret@hub.example:9x", "https://[::1")),
    ],
)
@pytest.mark.long
def test_a_variable_that_the_client_cannot_read(machine, spawn, monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    process = spawn("pull", "-q", NAME)
    errors = process.communicate(timeout=60)[1].decode().splitlines()
    assert [line.split(":")[0] for line in errors] == ["error", "hint"], errors
    assert (process.returncode, variable in errors[0], "secret" in str(errors)) == (4, True, False), errors


@pytest.mark.long
def test_a_variable_that_the_client_has_given_up_is_no_reason_for_a_word(hub, files, spawn, monkeypatch):
    hub.add(NAME, files)
    monkeypatch.setenv("HF_HUB_ENABLE_HF_TRANSFER", "1")
    process = spawn("pull", "-q", NAME)
    assert (process.communicate(timeout=60)[1], process.returncode) == (b"", 0)


def test_a_token_in_a_file(hub, files, run, tell, monkeypatch):
    hub.add(NAME, files, private=True)
    token = Path(constants.HF_TOKEN_PATH)
    token.parent.mkdir()
    token.write_bytes(b"hf_\xff\xfe")
    both(run, f"the token in {token} has a character")
    token.write_text(f"  {hub.token}\r\n")
    assert tell("-q").code == 0
    monkeypatch.setenv("HF_TOKEN", f"{hub.token}\n")
    token.unlink()
    token.mkdir()
    assert run("pull", "-q", NAME).code == 0
    monkeypatch.delenv("HF_TOKEN")
    assert_error(run("pull", "-q", NAME), 4, f"cannot read the token in {token}", "HF_TOKEN")


@pytest.mark.parametrize(("scheme", "variable"), [("http", "http_proxy"), ("https", "HTTPS_PROXY")])
def test_what_a_proxy_refuses(hub, run, machine, monkeypatch, reopened, scheme, variable):
    """The hub serves as the proxy; a name and a password that are not right are never shown."""
    machine(f"{scheme}://hub.invalid")
    monkeypatch.setenv(variable, hub.url.replace("//", "//me:secret@"))
    hub.fail("", "status", status=407)
    both(run, f"the proxy of {variable} wants a name and a password", "NAME:PASSWORD@HOST:PORT")
    assert "secret" not in run("pull", NAME).stderr
    monkeypatch.setenv("no_proxy", "other.invalid,hub.invalid")
    client_of_this_test_opens_anew()
    assert "there is no network, or no such host" in run("pull", "-q", NAME).stderr


def client_of_this_test_opens_anew():
    from huggingface_hub import utils

    utils.close_session()


@pytest.mark.parametrize(("status", "code", "words"), [(403, 4, "refuses"), (502, 0, "tiny answers")])
def test_a_proxy_that_does_not_let_through_and_one_that_finds_no_way(
    hub, run, machine, monkeypatch, reopened, status, code, words
):
    machine("https://hub.invalid")
    monkeypatch.setenv("https_proxy", hub.url)
    hub.fail("", "status", status=status)
    result = run("generate", "-q", "-n", 2, "x")
    assert (result.code, words in result.stderr) == (code, True), result.stderr
    assert "https_proxy" in result.stderr


def test_a_proxy_that_is_away_is_no_setting(machine, run, monkeypatch, reopened):
    machine("https://hub.invalid")
    with nobody() as url:
        monkeypatch.setenv("HTTPS_PROXY", url.removeprefix("http://"))
        assert_error(run("pull", "-q", NAME), 4, "through the proxy of HTTPS_PROXY: it refuses the connection")
        assert "tiny answers" in run("generate", "-q", "-n", 2, "x").stderr


def test_a_certificate_that_is_not_trusted(machine, run, tmp_path, monkeypatch, reopened):
    with unknown(tmp_path) as (url, certificate):
        machine(url)
        both(run, f"the certificate of {url} is not trusted", "SSL_CERT_FILE")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        both(run, "REQUESTS_CA_BUNDLE is not read", f"SSL_CERT_FILE={certificate}")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        client_of_this_test_opens_anew()
        assert_error(run("pull", "-q", NAME), 4, f"the hub has no '{NAME}'")


def test_a_hub_without_tls(hub, machine, run, reopened):
    machine(hub.url.replace("http:", "https:"))
    both(run, "answers without TLS", "write http:// in HF_ENDPOINT")


def test_a_hub_that_sends_in_a_circle(hub, run):
    hub.fail("/api", "status", status=302, headers={"Location": "/api/again"})
    both(run, "without end", "HF_ENDPOINT", "login")


@pytest.mark.long
def test_the_time_for_an_answer_begins_when_the_hub_is_asked(hub, files):
    """Not while the client is imported, which takes seconds on a busy machine."""
    commit = hub.add(NAME, files)
    script = """
import sys, time

class Busy:
    def find_spec(name, path, target=None):
        if name == "huggingface_hub.hf_api":
            time.sleep(4)

sys.meta_path.insert(0, Busy)
from gpt2cli.store import hub, hubcache
print(hub.look(hubcache.Repository(sys.argv[1]), patience=3).commit)
"""
    done = subprocess.run([sys.executable, "-c", script, NAME], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == commit, done.stderr


# Disks, and other processes


def test_too_little_space_is_noticed_before_the_download(hub, files, tell, monkeypatch):
    hub.add(NAME, files)
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    assert_error(tell("-q"), 7, "are free", "HF_HOME")
    assert not hub.asked("Signature")


@pytest.mark.long
@pytest.mark.parametrize("variable", ["HF_HOME", "HF_HUB_CACHE", "GPT2_CACHE"])
def test_a_cache_that_cannot_be_written_is_named_by_its_variable(
    hub, files, bound, read_only, tmp_path, monkeypatch, variable
):
    hub.add(NAME, files)
    monkeypatch.setenv(variable, str(tmp_path / "there"))
    (tmp_path / "there").mkdir()
    read_only(tmp_path / "there")
    for command in (["pull", NAME], ["generate", "-m", NAME, "x"]):
        assert_error(bound(*command, "-q"), 7, str(tmp_path / "there"), variable)


@pytest.mark.long
@pytest.mark.parametrize("place", ["", "blobs", "snapshots", "snapshots/COMMIT"])
def test_downloads_that_cannot_be_deleted_stay_whole(hub, files, run, bound, read_only, tmp_path, place):
    """Nor do the exports go, nor is anything said to be freed. The revision that is asked for has a neighbour."""
    first = hub.add(NAME, files)
    second = hub.add(NAME, files | {"config.json": files["config.json"] + b" "})
    run("pull", "-q", f"{NAME}@{first}", f"{NAME}@{second}", NAME)
    before = tree(tmp_path)
    for name in (NAME, f"{NAME}@{second}") if place else (NAME,):  # of one revision nothing is in the folder itself
        folder = hubcache.cache_folder(NAME) / place.replace("COMMIT", second)
        read_only(folder)
        assert_error(bound("rm", "--downloads", name), 7, "cannot delete", "writable")
        folder.chmod(0o700)
        assert tree(tmp_path) == before
    assert run("rm", "--downloads", f"{NAME}@{first}").code == run("rm", "--downloads", NAME).code == 0
    assert not hubcache.cache_folder(NAME).exists()


@pytest.mark.long
@pytest.mark.parametrize("place", [".", "NAME", "NAME/blobs", "NAME/snapshots", "NAME/snapshots/COMMIT"])
def test_downloads_that_cannot_be_seen_are_not_taken_for_none(hub, files, run, bound, tmp_path, place):
    """Of the model, the export goes with its download, or stays too."""
    commit = hub.add(NAME, files)
    run("pull", "-q", NAME)
    before = tree(tmp_path)
    name = hubcache.cache_folder(NAME).name
    folder = hubcache.root() / place.replace("NAME", name).replace("COMMIT", commit)
    folder.chmod(0)
    assert_error(bound("rm", "--downloads", NAME), 7, "cannot read", "make it readable")
    folder.chmod(0o700)
    assert tree(tmp_path) == before


@pytest.mark.long
def test_downloads_in_a_cache_that_cannot_be_written(hub, files, run, bound, read_only):
    """Another HF_HOME removes nothing."""
    hub.add(NAME, files)
    run("pull", "-q", NAME)
    shutil.rmtree(hubcache.root() / ".locks")
    read_only(hubcache.root())
    assert_error(bound("rm", "--downloads", NAME), 7, "cannot write", "make it writable")


@pytest.mark.long
def test_a_cache_in_disorder_is_not_said_to_be_removed(hub, files, run, bound):
    hub.add(NAME, files)
    run("pull", "-q", NAME)
    stray = hubcache.cache_folder(NAME) / "refs/old"
    stray.write_text("0" * 40)
    assert_error(run("rm", "--downloads", NAME), 7, "is in disorder", str(hubcache.cache_folder(NAME)))
    assert builds.cached()
    stray.unlink()
    hidden = hubcache.cache_folder("some/body") / "snapshots"
    hidden.mkdir(parents=True)
    hidden.chmod(0)
    assert_error(bound("rm", "--downloads", NAME), 7, f"cannot read '{hidden}'")
    hidden.chmod(0o700)
    assert run("rm", "--downloads", NAME).code == 0
    assert not builds.cached()


def test_what_is_freed_is_what_is_gone(hub, files, run, tmp_path):
    hub.add(NAME, files)
    run("pull", "-q", NAME)
    sizes = sum(len(files[name]) for name in ("config.json", "tokenizer.json", "model.safetensors"))
    exported = sum(one.nbytes for one in builds.cached())
    assert json.loads(run("rm", "--downloads", NAME, "--json").stdout)[0]["freed"] == sizes + exported


@pytest.mark.long
def test_a_download_under_way_is_not_removed(hub, files, run, spawn):
    hub.add(NAME, files)
    run("pull", "-q", NAME)
    with locks.held(NAME, print, hubcache.lock_path(NAME)):
        process = spawn("rm", "--downloads", NAME)
        assert b"another process is preparing" in process.stderr.readline()
        assert hubcache.downloaded()
    assert process.wait(60) == 0
    assert not hubcache.downloaded()


@pytest.mark.long
def test_blobs_that_repositories_share_are_sound(hub, files, run, tell):
    """The newest clients move a blob to a place for all repositories, and name it by another hash there."""
    hub.add(NAME, files)
    first = tell("-q")
    blob = (hubcache.snapshot(hubcache.Repository(NAME)) / "model.safetensors").resolve()
    shared = Path(constants.HF_HUB_CACHE) / "blobs/5a" / f"5a{'0' * 62}"
    shared.parent.mkdir(parents=True)
    blob.rename(shared)
    blob.symlink_to(os.path.relpath(shared, blob.parent))
    for one in builds.cached():
        builds.remove(one.folder)
    asked = len(hub.requests)
    again = tell("-q")
    assert (again.code, again.stdout) == (0, first.stdout), again.stderr
    assert len(hub.requests) == asked
    verified = run("verify", NAME)
    assert verified.code == 0, verified.stderr
    assert run("pull", "-q", NAME).code == 0
    assert shared.exists()
    shared.write_bytes(b"0" * shared.stat().st_size)
    assert_error(run("verify", "-q", NAME), 5, "model.safetensors")
    assert run("pull", "-q", NAME).code == 0
    assert shared.exists()  # it is not of this repository alone
    assert run("verify", NAME).code == 0


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


def kept_of(names):
    """Without the client's locks, and the files with which it tries whether links work: a kill leaves them behind."""
    return {name for name in names if "lock" not in name and "dummy_file_" not in name}


@pytest.mark.long
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
    assert kept_of(tree(constants.HF_HUB_CACHE)) == kept_of(downloaded)


@pytest.mark.long
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


@pytest.mark.long
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
    digest = locks.digest(NAME)
    part = tmp_path / f"cache/exports/.{digest}.something-fp32-{'0' * 16}"
    part.mkdir()
    (part / "weights.safetensors").write_bytes(b"123")
    blob = hubcache.cache_folder(NAME) / f"blobs/{'0' * 64}{paths.PART}"
    blob.write_bytes(b"12345")
    both = locks.held(NAME, print), locks.held(NAME, print, hubcache.lock_path(NAME))
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


def test_a_search_where_the_hub_is_switched_off(hub, run, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert_error(run("list", "--remote", "poem"), 4, "is switched off (HF_HUB_OFFLINE)", "unset the variable")
    assert hub.requests == []


@pytest.mark.long
def test_a_search_without_a_network_is_two_lines_and_not_repeated(machine):
    """In processes of their own: the client's warnings go to the stderr that there was when it was imported. The
    client asks for 23 seconds; what the search itself says when it is given up, after 6, is not what is said here."""

    def searched(url):
        process = subprocess.Popen(
            [sys.executable, "-m", "gpt2cli", "list", "--remote", "poetry"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"HF_ENDPOINT": url},
        )
        errors = process.communicate(timeout=60)[1].decode().splitlines()
        assert process.returncode == 4
        assert [line.split(":")[0] for line in errors] == ["error", "hint"], errors
        return errors[0]

    with nobody() as url:
        assert "it refuses the connection" in searched(url)
    with silence() as url:
        said = searched(url)
    assert "did not answer within 3 seconds" in said or "no answer in time" in said
    assert "no such host" in searched("http://hub.invalid")


def test_hashes_of_blobs(tmp_path):
    (tmp_path / "file").write_bytes(b"hello\n")
    assert hubcache.file_hashes(tmp_path / "file", git=True) >= {"ce013625030ba8dba906f756967f9e9ca394464a"}


@pytest.mark.long
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
