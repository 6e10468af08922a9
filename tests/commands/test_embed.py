"""gpt2 embed as people and scripts use it: ways in, formats, exit codes."""

import contextlib
import csv
import io
import json
import os
import re
import shlex
import shutil
import signal
import sys

import numpy as np
import pytest
from conftest import assert_error, read_by
from documents import ROOT, blocks
from foreign import make_foreign
from texts import LINES

from gpt2cli import embed as vectors_of

TEXTS = [line for line in LINES if line]
IDS = [1, 2, 4, 5]


@pytest.fixture
def embed(run, checkpoint):
    """gpt2 embed with the small random checkpoint."""

    def call(*argv, **options):
        return run("embed", "-m", checkpoint, "--precision", "fp32", *argv, **options)

    return call


def objects(result):
    assert (result.code, result.stderr) == (0, "")
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert all(list(one) == ["id", "embedding"] for one in found)
    return found


def close(found, expected):
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_every_way_in_is_the_same(embed, story, small):
    expected = vectors_of(small, TEXTS)
    text = "\n".join(LINES)
    for argv, stdin in [(("-f", story), None), ((), text), (("-f", "-"), text + "\n"), (("-",), text)]:
        found = objects(embed(*argv, stdin=stdin))
        assert [one["id"] for one in found] == IDS
        close([one["embedding"] for one in found], expected)
    found = objects(embed(*TEXTS))
    assert [one["id"] for one in found] == [1, 2, 3, 4]
    close([one["embedding"] for one in found], expected)
    found = objects(embed("the cat", "-", "a", stdin="the old man\nzzz"))
    assert [one["id"] for one in found] == [1, "-:1", "-:2", 3]
    found = objects(embed("-f", story, "-f", story))
    assert [one["id"] for one in found] == [f"{story}:{line}" for line in IDS] * 2


def test_options_are_the_librarys(embed, small):
    for argv, options in [
        (["--pooling", "last", "--layer", "1"], {"pooling": "last", "layer": 1}),
        (["--pooling", "weighted", "--normalize"], {"pooling": "weighted", "normalize": True}),
        (["--pooling", "none", "--layer", "-3"], {"pooling": "none", "layer": 0}),
    ]:
        (found,) = objects(embed(*argv, "the old man"))
        close(found["embedding"], vectors_of(small, "the old man", **options))


def test_numbers_come_back_as_they_were(embed, story, small):
    """Not rounded: every float32 is written so that it is read as the same."""
    bits = vectors_of(small, TEXTS)[0]
    (found,) = objects(embed(TEXTS[0]))
    np.testing.assert_array_equal(np.array(found["embedding"], np.float32), bits)
    (_, *row), *_ = list(csv.reader(io.StringIO(embed("--format", "csv", TEXTS[0]).stdout)))[1:]
    np.testing.assert_array_equal(np.array(row, np.float32), bits)


def test_whole_files_longer_than_the_window(embed, small, tmp_path):
    text = "the cat and the old man\n\nwent to the sea, " * 20
    (tmp_path / "long.txt").write_text(text + "\n")
    (tmp_path / "short.txt").write_text("the cat")
    long, short = objects(embed("--whole", "-f", tmp_path / "long.txt", "-f", tmp_path / "short.txt"))
    assert (long["id"], short["id"]) == (str(tmp_path / "long.txt"), str(tmp_path / "short.txt"))
    close([long["embedding"], short["embedding"]], vectors_of(small, [text, "the cat"]))
    assert len(small.tokenizer.encode(text)) > 3 * small.engine.window
    assert [one["id"] for one in objects(embed("--whole", stdin=text))] == ["-"]


def test_lines_of_json(embed, small, tmp_path):
    rows = [{"id": "a,b", "body": "the cat\nsat", "label": 1}, {"body": "the old man"}, {"id": 7, "body": "a"}]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)) + "\n")
    found = objects(embed("--field", "body", "-f", file))
    assert [one["id"] for one in found] == ["a,b", 2, 7]
    close([one["embedding"] for one in found], vectors_of(small, [row["body"] for row in rows]))
    assert embed("--field", "body", stdin=file.read_text()).raw == embed("--field", "body", "-f", file).raw
    table = list(csv.reader(io.StringIO(embed("--field", "body", "-f", file, "--format", "csv").stdout)))
    assert [row[0] for row in table] == ["id", "a,b", "2", "7"]
    assert table[0] == ["id", *map(str, range(32))]


@pytest.mark.parametrize("place", ["stdout", "file", "ending"])
@pytest.mark.parametrize("form", ["npy", "npz"])
def test_arrays(embed, story, small, tmp_path, form, place):
    target = tmp_path / (f"out.{form}" if place == "ending" else "out")
    named = [] if place == "ending" else ["--format", form]
    result = embed("-f", story, *named, *([] if place == "stdout" else ["-o", target]))
    assert (result.code, result.stderr) == (0, "")
    if place == "stdout":
        target.write_bytes(result.raw)
    else:
        assert result.raw == b""
    found = np.load(target)
    array = found if form == "npy" else found["vectors"]
    assert (array.dtype, array.shape) == (np.float32, (4, 32))
    close(array, vectors_of(small, TEXTS))
    if form == "npz":
        assert (found["ids"].dtype, found["ids"].tolist()) == (np.int64, IDS)


def test_ids_of_arrays_and_a_row_for_each_token(embed, small, tmp_path):
    rows = [{"id": "naïve", "text": "the cat"}, {"id": 3, "text": "a"}]
    embed("--field", "text", "-o", tmp_path / "x.npz", "--pooling", "none", stdin="\n".join(map(json.dumps, rows)))
    found = np.load(tmp_path / "x.npz")
    expected = vectors_of(small, ["the cat", "a"], pooling="none")
    assert found["ids"].tolist() == ["naïve"] * len(expected[0]) + ["3"] * len(expected[1])
    close(found["vectors"], np.concatenate(expected))


def test_the_same_text_gives_the_same_file(embed, story, tmp_path):
    files = [tmp_path / name for name in ("one.npz", "two.npz")]
    for file in files:
        embed("-f", story, "-o", file)
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize(
    ("argv", "stdin", "words"),
    [
        (["--layer", "3", "a"], None, ["--layer is 3", "0, the embeddings, to 2"]),
        (["--pooling", "max", "a"], None, ["--pooling is 'max'", "mean, last, weighted, none"]),
        (["--format", "parquet", "a"], None, ["'parquet'", "jsonl, npy, npz, csv"]),
        (["--whole", "a"], None, ["--whole"]),
        (["--whole", "--field", "text", "-f", "x"], None, ["--whole contradicts --field"]),
        (["--field", "text", "a"], None, ["--field with texts"]),
        (["a", "-f", "x"], None, ["'x'"]),
        (["-f", "no-such-file"], None, ["'no-such-file'"]),
        ([], "", ["there is no text"]),
        (["--whole"], "", ["stdin is empty"]),
        (["a", ""], None, ["text 2 is empty"]),
        (["--field", "text"], "no json", ["line 1 is no JSON object", '"text": "a text"']),
        (["--field", "body"], '{"text": "a"}', ["line 1 has no text in 'body'"]),
        (["--field", "text"], '{"text": ""}', ["text 1 is empty"]),
        (["--field", "text"], '{"text": "a", "id": [1]}', ["line 1 has an id"]),
        (["--field", "text"], '{"text": "\\ud83d"}', ["line 1 holds half a character"]),
        (["--field", "text"], "[" * 100_000, ["line 1 is no JSON object"]),
    ],
)
def test_what_is_refused(embed, argv, stdin, words):
    assert_error(embed(*argv, stdin=stdin), 2, *words)


def test_a_bad_line_leaves_no_file_and_names_its_place(embed, tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "a"}\n' * 300 + "{}\n")
    (tmp_path / "out.npy").write_text("before")
    result = embed("-q", "--field", "text", "-f", file, "-o", tmp_path / "out.npy")
    assert_error(result, 2, f"line 301 of '{file}' has no text in 'text'")
    assert (tmp_path / "out.npy").read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.npy", "rows.jsonl"]


def test_a_folder_that_is_not_there(embed, tmp_path):
    assert_error(embed("a", "-o", tmp_path / "none" / "out.npy"), 7, "out.npy")


def test_a_ready_made_graph(run, tmp_path):
    make_foreign(tmp_path)
    result = run("embed", "-m", tmp_path, "a")
    assert_error(result, 6, "ready-made")


def test_binary_formats_never_reach_a_terminal(embed, monkeypatch):
    from gpt2cli.console import display

    monkeypatch.setattr(display, "stdout_is_terminal", lambda: True)
    assert_error(embed("a", "--format", "npz"), 2, "npz", "-o FILE")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("form", ["jsonl", "npz"])
@pytest.mark.long
def test_an_interruption_keeps_what_is_whole(spawn, form, story, tmp_path):
    fifo, target = tmp_path / "fifo", tmp_path / f"out.{form}"
    os.mkfifo(fifo)
    process = spawn("embed", "-m", "tiny", "-f", story, "-f", fifo, "-o", target)
    with read_by(process, fifo):  # as soon as it is read, and the story is done
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, b"", b"note: interrupted: 4 texts done\n")
    if form == "npz":
        assert np.load(target)["vectors"].shape == (4, 192)
    else:
        assert len(target.read_text().splitlines()) == 4


@pytest.mark.terminal
@pytest.mark.skipif(sys.platform == "win32", reason="needs pseudo-terminals")
@pytest.mark.parametrize("columns", [80, 120])
def test_a_bar_says_how_far_it_has_come(tmp_path, columns):
    from terminals import Terminal

    file = tmp_path / "lines.txt"
    file.write_text("The cat sat on the mat, and the dog lay down beside it.\n" * 100_000)
    shown = Terminal("embed", "-m", "tiny", "-f", file, "-o", tmp_path / "x.npy", columns=columns)
    try:
        shown.wait(lambda t: any("embedding" in line and "left" in line for line in t.lines), "a bar")
        shown.type("\x03")
        assert shown.exit_code() == 130
        assert [line for line in shown.lines if line][-1].startswith("note: interrupted: ")
        assert len(np.load(tmp_path / "x.npy")) > 100
    finally:
        shown.close()


@pytest.mark.long
def test_the_example_of_the_page_runs(run, tmp_path, monkeypatch):
    """Its command, and its program on what the command has written."""
    pytest.importorskip("sklearn")
    (command,) = [
        line for block in blocks("console", "docs/embed.md") for line in block.splitlines() if ".npz" in line
    ][1:]
    (program,) = blocks("py", "docs/embed.md")
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs/sea-or-kitchen.jsonl", tmp_path / "docs")
    monkeypatch.chdir(tmp_path)
    result = run(*shlex.split(command)[2:])
    assert (result.code, result.stdout, result.stderr) == (0, "", "")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(program, {})
    percent = int(re.search(r"(\d+)%", printed.getvalue())[1])
    assert percent >= 75
