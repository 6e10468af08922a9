"""gpt2 tokens as people and scripts use it."""

import json
import os
import signal
import subprocess
import sys

import pytest
from conftest import assert_error

from gpt2cli import paths
from gpt2cli.console import display
from gpt2cli.tokenizer.tokenizer import Tokenizer

TEXT = 'Once upon a time, a 猫 said:\n\t"naïve \\ 😀"\x85'


@pytest.fixture(scope="module")
def tiny():
    return Tokenizer(paths.data("models") / "tiny")


def test_a_line_a_token(run, tiny):
    result = run("tokens", TEXT)
    rows = [line.split("\t") for line in result.stdout.split("\n")[:-1]]
    assert [int(token) for token, _ in rows] == tiny.encode(TEXT)
    assert "\\n" in [piece for _, piece in rows]
    # what -e reads back is the text
    assert run("tokens", "-e", "".join(piece for _, piece in rows)).stdout == result.stdout
    assert all(character.isprintable() for _, piece in rows for character in piece)


def test_bytes_of_broken_characters(run):
    rows = [json.loads(line) for line in run("tokens", "--jsonl", "猫").stdout.splitlines()]
    assert [row["token"] for row in rows] == ["\ufffd"] * 3
    assert bytes(octet for row in rows for octet in row["bytes"]).decode() == "猫"
    assert [row["index"] for row in rows] == [0, 1, 2]
    assert run("tokens", "猫").stdout.count("\\x") == 3


def test_every_way_in_is_the_same(run, tmp_path, tiny):
    (tmp_path / "a.txt").write_text("The cat\n")
    ids = " ".join(map(str, tiny.encode("The cat"))) + "\n"
    for argv, stdin in [
        (("The cat",), None),
        (("The", "cat"), None),
        (("-",), "The cat\n"),
        (("-f", tmp_path / "a.txt"), None),
        (("-f", "-"), "The cat"),
        ((), "The cat\r\n"),
        ((), b"\xef\xbb\xbfThe cat"),
        (("-e", r"The\x20cat"), None),
    ]:
        assert run("tokens", "--ids", *argv, stdin=stdin).stdout == ids, argv


def test_an_escaped_dash_is_text(run):
    assert run("tokens", "-e", r"\x2d", stdin="unread").stdout == run("tokens", stdin="-").stdout


def test_counts(run, tmp_path, tiny):
    (tmp_path / "a.txt").write_text("The cat")
    (tmp_path / "b.txt").write_text("")
    count = len(tiny.encode("The cat"))
    assert run("tokens", "-c", "The cat").stdout == f"{count}\n"
    assert run("tokens", "--count", stdin="").stdout == "0\n"
    result = run("tokens", "-c", "-f", tmp_path / "a.txt", "-f", tmp_path / "b.txt")
    assert result.stdout == f"{count}\t{tmp_path / 'a.txt'}\n0\t{tmp_path / 'b.txt'}\n{count}\ttotal\n"


def test_special_tokens(run, tiny):
    assert run("tokens", "-c", "--special", "a<|endoftext|>").stdout == "2\n"
    assert int(run("tokens", "-c", "a<|endoftext|>").stdout) > 2


@pytest.mark.parametrize("size", [0, 1, 5, 70_000, 300_000])
@pytest.mark.long
def test_large_texts_are_exact(run, tiny, size):
    text = ("The old man's cat, 12 years of 猫 age;\n\n  and no-\tmore! " * (size // 50 + 1))[:size]
    ids = [int(word) for word in run("tokens", "--ids", stdin=text).stdout.split()]
    assert ids == tiny.encode(text.removesuffix("\n"))


def test_ids_and_back(run):
    ids = run("tokens", "--ids", TEXT).stdout
    assert run("tokens", "--decode", stdin=ids).stdout == TEXT + "\n"
    assert run("tokens", "-d", *ids.split()).stdout == TEXT + "\n"
    assert run("tokens", "-d", json.dumps([int(word) for word in ids.split()])).stdout == TEXT + "\n"
    long = " ".join([ids.strip()] * 4000)
    assert run("tokens", "--decode", stdin=long).stdout == TEXT * 4000 + "\n"


def test_half_a_character_is_shown_as_such(run, tiny):
    first = tiny.encode("猫")[:1]
    assert run("tokens", "--decode", *first).stdout == "\ufffd\n"
    assert run("tokens", "--limit", 1, "猫").stdout == "\n"


def test_limit_cuts_the_text(run, tiny):
    for limit in range(12):
        kept = run("tokens", "--limit", limit, "The cat and the dog").stdout
        assert kept == tiny.decode(tiny.encode("The cat and the dog")[:limit]) + "\n"
    assert run("tokens", "--limit", 99, stdin=TEXT + "\n").stdout == TEXT + "\n"
    assert run("tokens", "--limit", 2, "--count", "The cat and the dog").stdout == "2\n"


@pytest.mark.skipif(os.name != "posix", reason="yes")
def test_an_endless_pipe_is_read_as_far_as_needed(spawn):
    endless = subprocess.Popen(["yes", "the cat and"], stdout=subprocess.PIPE)
    process = spawn("tokens", "--limit", 7, "-m", "tiny", stdin=endless.stdout)
    endless.stdout.close()
    out, err = process.communicate(timeout=30)
    endless.wait(timeout=30)
    assert out.decode().startswith("the cat and\nthe cat")
    assert err == b""


def test_json(run, tmp_path, tiny):
    value = json.loads(run("tokens", "--json", "The cat").stdout)
    assert value["model"] == "tiny"
    assert value["revision"]
    (text,) = value["texts"]
    assert [one["id"] for one in text["tokens"]] == tiny.encode("The cat")
    assert text["count"] == len(text["tokens"])
    assert text["file"] is None
    (tmp_path / "a.txt").write_text("The cat")
    (tmp_path / "b.txt").write_text("")
    files = ("-f", tmp_path / "a.txt", "-f", tmp_path / "b.txt")
    first, second = json.loads(run("tokens", "--json", "--ids", *files).stdout)["texts"]
    assert first == {
        "file": str(tmp_path / "a.txt"),
        "ids": tiny.encode("The cat"),
        "count": len(tiny.encode("The cat")),
    }
    assert (second["ids"], second["count"]) == ([], 0)
    counted = json.loads(run("tokens", "--json", "--count", *files).stdout)["texts"]
    assert [sorted(text) for text in counted] == [["count", "file"]] * 2


@pytest.mark.long
@pytest.mark.parametrize("options", [[], ["--ids"]])
def test_an_error_in_the_middle_keeps_the_json_whole(run, tmp_path, tiny, options):
    (tmp_path / "good.txt").write_text("The cat")
    (tmp_path / "bad.txt").write_bytes(b"hello world\n" * 10_000 + b"\xff")
    (tmp_path / "worse.txt").write_bytes(b"\xff")
    result = run("tokens", "--json", *options, "-f", tmp_path / "good.txt", "-f", tmp_path / "bad.txt")
    assert (result.code, result.stderr.count("\n")) == (6, 2)
    good, bad = json.loads(result.stdout)["texts"]
    assert good["count"] == len(tiny.encode("The cat"))
    assert bad["count"] == len(bad["ids" if options else "tokens"]) > 10_000
    result = run("tokens", "--json", *options, "-f", tmp_path / "good.txt", "-f", tmp_path / "worse.txt")
    assert (result.code, json.loads(result.stdout)["texts"]) == (6, [good])


def test_a_count_that_cannot_be_finished_is_left_out(run, tmp_path):
    (tmp_path / "good.txt").write_text("The cat")
    (tmp_path / "bad.txt").write_bytes(b"hello world\n" * 10_000 + b"\xff")
    files = ("-f", tmp_path / "good.txt", "-f", tmp_path / "bad.txt")
    result = run("tokens", "--json", "--count", *files)
    assert (result.code, [text["file"] for text in json.loads(result.stdout)["texts"]]) == (6, [str(files[1])])
    assert_error(run("tokens", "--json", "--count", *files[2:]), 6, "0xff")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.long
def test_an_interruption_keeps_the_json_whole(spawn, tmp_path, number, code):
    (tmp_path / "long.txt").write_text("The cat sat on the mat. " * 100_000)
    process = spawn("tokens", "-m", "tiny", "--json", "-f", tmp_path / "long.txt")
    begun = os.read(process.stdout.fileno(), 100)  # and no more, for a buffer
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    (text,) = json.loads(begun + out)["texts"]
    assert (process.returncode, text["count"], err) == (code, len(text["tokens"]), b"")


def test_a_file_name_on_a_terminal_is_not_obeyed(run, odd_name, monkeypatch):
    files = ("-f", odd_name, "-f", odd_name)
    assert run("tokens", "--count", *files).raw.count(b"\t" + os.fsencode(odd_name) + b"\n") == 2
    monkeypatch.setattr(display, "stdout_is_terminal", lambda: True)
    assert run("tokens", "--count", *files).stdout.count(r"caf\udce9\x1b[31m.txt") == 2


def test_the_weights_are_not_needed(run, checkpoint, tmp_path):
    (tmp_path / "tokenizer.json").write_bytes((checkpoint / "tokenizer.json").read_bytes())
    assert int(run("tokens", "-m", tmp_path, "-c", "the cat").stdout) > 0


@pytest.mark.process
def test_nothing_heavy_is_imported(tmp_path):
    code = "import sys; from gpt2cli.cli import main; main(['tokens', '-m', 'tiny', 'a']); print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert not {"onnxruntime", "rich", "onnx"} & set(result.stdout.split())


def test_errors(run, tmp_path):
    assert_error(run("tokens"), 2, "no text", "gpt2 tokens")
    assert_error(run("tokens", "-f", tmp_path / "none"), 2, "none", "check the path")
    assert_error(run("tokens", "-f", tmp_path), 2, str(tmp_path))
    assert_error(run("tokens", "-f", "-", "-f", "-", stdin="x"), 2, "twice")
    assert_error(run("tokens", "x", "-f", tmp_path), 2, "give one")
    assert_error(run("tokens", "--decode", "x"), 2, "'x'", "--decode")
    assert_error(run("tokens", "--decode", "99999999"), 2, "99999999")
    assert_error(run("tokens", "--decode", "-1"), 2)
    assert_error(run("tokens", "--ids", "--count", "x"), 2, "--ids", "--count")
    assert_error(run("tokens", "--jsonl", "--json", "x"), 2, "--jsonl", "--json")
    assert_error(run("tokens", "--limit", "-1", "x"), 2, "--limit")
    assert_error(run("tokens", stdin=b"abc\xff"), 6, "0xff", "offset 3")
    assert_error(run("tokens", "-m", "nope", "x"), 3, "nope")
    late = b"\xef\xbb\xbf" + b"the cat " * 20_000 + b"\xe7\x8c"  # a character that is cut off
    result = run("tokens", "-c", stdin=late)
    assert_error(result, 6, "0xe7", f"offset {len(late) - 2}")
