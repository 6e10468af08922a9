"""Data sets of the hub: downloaded once, checked by hash, read."""

import hashlib
import json

import pyarrow
import pytest
from pyarrow import parquet

from gpt2cli import paths
from gpt2cli.errors import CorruptFile, UnknownModel, Unreachable, UsageError, UserError
from gpt2cli.store import datasets, hubcache
from gpt2cli.store.datasets import DataFile

LINES = b'{"text": "One line"}\n' * 50


@pytest.fixture
def lines(hub):
    """A data set at a commit, and its file."""
    commit = hub.add("some/lines", {"data/test.jsonl": LINES, "README.md": b"# lines"})
    return DataFile("some/lines", commit, "data/test.jsonl", hashlib.sha256(LINES).hexdigest())


def test_a_file_is_downloaded_once_and_then_no_http_at_all(hub, lines):
    path = datasets.fetch(lines)
    assert path.read_bytes() == LINES
    assert path.is_relative_to(hubcache.root() / "datasets--some--lines/snapshots" / lines.revision)
    assert hub.asked("/datasets/some/lines/resolve/")
    asked = len(hub.requests)
    assert datasets.fetch(lines) == path
    assert datasets.fetch(lines, offline=True) == path
    assert len(hub.requests) == asked
    assert not hub.asked("README.md")


def test_a_branch_is_followed_where_its_name_has_slashes(hub):
    commit = hub.add("some/lines", {"plain/test.txt": LINES}, branches=("refs/convert/parquet",))
    file = DataFile("some/lines", "refs/convert/parquet", "plain/test.txt")
    assert datasets.fetch(file).parent.parent.name == commit
    asked = len(hub.requests)
    assert datasets.fetch(file).read_bytes() == LINES
    assert len(hub.requests) == asked


def test_a_file_that_was_damaged_on_this_machine_is_downloaded_again(lines):
    path = datasets.fetch(lines)
    path.resolve().write_bytes(b"other bytes")
    with pytest.raises(UnknownModel, match="is not on this machine"):
        datasets.fetch(lines, offline=True)
    assert datasets.fetch(lines).read_bytes() == LINES


def test_other_bytes_than_this_version_knows_are_refused(lines):
    other = DataFile(lines.repo, lines.revision, lines.path, "0" * 64)
    with pytest.raises(CorruptFile, match="is not the file that this version knows"):
        datasets.fetch(other)


def test_what_arrives_damaged_stays_away(hub, lines):
    hub.fail("CDN /some/lines", "wrong bytes")
    hub.fail("test.jsonl", "wrong bytes")
    with pytest.raises(UserError, match="arrived damaged"):
        datasets.fetch(lines)
    assert hubcache.snapshot(lines.repository) is None or not list(hubcache.snapshot(lines.repository).rglob("*.jsonl"))


def test_what_is_not_there(hub, lines, machine):
    with pytest.raises(CorruptFile, match="has no data/other"):
        datasets.fetch(DataFile(lines.repo, lines.revision, "data/other"))
    with pytest.raises(UserError, match="or it is private"):
        datasets.fetch(DataFile("some/where", "main", "x"))
    with pytest.raises(UnknownModel) as caught:
        datasets.fetch(DataFile("some/where", "main", "x"), offline=True)
    assert "datasets/some/where" in caught.value.hint
    assert "--data FILE" in caught.value.hint
    machine("http://127.0.0.1:9")
    with pytest.raises(Unreachable):
        datasets.fetch(lines)


def test_a_cut_download_is_pruned(run):
    blob = hubcache.cache_folder("some/lines", "dataset") / f"blobs/{'0' * 64}{paths.PART}"
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"12345")
    assert json.loads(run("prune", "--json").stdout)["freed"] == 5
    assert not blob.exists()


# Parquet


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "test.parquet"
    columns = {"text": [f"line {n}" for n in range(3000)], "number": list(range(3000)), "words": [["a", "b"]] * 3000}
    parquet.write_table(pyarrow.table(columns), path)
    return path


def test_rows(table):
    found = list(datasets.rows(table, ["words", "text"]))
    assert len(found) == 3000
    assert found[2999] == (["a", "b"], "line 2999")


def test_a_column_that_is_not_there(table):
    with pytest.raises(CorruptFile, match="has no column 'page'") as caught:
        next(datasets.rows(table, ["page"]))
    assert "text, number, words" in caught.value.hint


@pytest.mark.parametrize("content", [b"", b"no parquet at all", b"PAR1" + b"\0" * 40 + b"PAR1"])
def test_what_is_no_parquet_file(tmp_path, content):
    path = tmp_path / "test.parquet"
    path.write_bytes(content)
    with pytest.raises(CorruptFile, match="no Parquet file that can be read"):
        next(datasets.rows(path, ["text"]))


def test_a_cut_file(table):
    table.write_bytes(table.read_bytes()[:-100])
    with pytest.raises(CorruptFile):
        next(datasets.rows(table, ["text"]))


def test_without_the_library(table, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(UsageError) as caught:
        next(datasets.rows(table, ["text"]))
    assert "pip install 'gpt2cli[eval]'" in caught.value.hint
