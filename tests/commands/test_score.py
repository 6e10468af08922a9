"""gpt2 score as people and scripts use it: rows, order, formats, exit codes."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree

import pytest
from checkpoints import make_checkpoint
from conftest import assert_error, read_by
from texts import LINES

from gpt2cli.analysis.scoring import Scorer


@pytest.fixture
def score(run, checkpoint):
    """gpt2 score with the small random checkpoint."""

    def call(*argv, **options):
        return run("score", "-m", checkpoint, "--precision", "fp32", *argv, **options)

    return call


def rows(result):
    assert result.code == 0, result.stderr
    return [line.split("\t") for line in result.stdout.splitlines()]


def objects(result):
    assert result.code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def logprob(model, text, **options):
    found = Scorer(model, **options).tokens(model.tokenizer.encode(text))
    return [one.logprob for one in found if one.logprob is not None]


def test_a_row_a_line_that_is_not_empty(score, story, small):
    found = objects(score("--jsonl", "-f", story))
    assert [(one["line"], one["text"]) for one in found] == [(n, t) for n, t in enumerate(LINES, 1) if t]
    for one in found:
        logprobs = logprob(small, one["text"])
        assert one["logprob"] == pytest.approx(sum(logprobs), abs=1e-3)
        assert one["tokens"] == len(logprobs)
        assert one["bytes"] == len(one["text"].encode())
        assert one["perplexity"] == pytest.approx(math.exp(-one["logprob"] / one["tokens"]))
        assert one["bits_per_byte"] == pytest.approx(-one["logprob"] / one["bytes"] / math.log(2))
        assert one["logprobs"] is None
        assert (one["file"], one["precision"], one["start"]) == (str(story), "fp32", True)


def test_columns_are_those_of_json(score, story):
    for row, one in zip(rows(score("-f", story)), objects(score("--jsonl", "-f", story)), strict=True):
        assert [float(cell) for cell in row[:4]] == pytest.approx(
            [one["perplexity"], one["tokens"], one["logprob"], one["bits_per_byte"]], rel=1e-3
        )
        assert row[4:] == [f"{story}:{one['line']}", one["text"]]


def test_every_way_in_is_the_same(score, story):
    expected = [row[:4] for row in rows(score("-f", story))]
    text = "\n".join(LINES)
    assert [row[:4] for row in rows(score(*filter(None, LINES)))] == expected
    for argv, stdin in [((), text), (("-f", "-"), text + "\n"), (("-",), text.replace("\n", "\r\n"))]:
        found = rows(score(*argv, stdin=stdin))
        assert [row[:4] for row in found] == expected
        assert [row[4] for row in found] == ["1", "2", "4", "5"] if not argv or argv == ("-",) else True
    mixed = rows(score("the cat sat down", "-", "a", stdin="zzz qqq\n\nthe old man"))
    assert [row[:4] for row in mixed] == expected


def test_the_columns_of_line_and_text_are_one_field_each(score, tmp_path):
    """Escaped as -e reads it, so that a newline and a backslash with an n are two things."""
    text = "a\tb\nc\\nd\x1b[2Jé"
    (row,) = rows(score(text))
    assert row[4:] == ["1", r"a\tb\nc\\nd\x1b[2Jé"]
    (again,) = objects(score("-e", "--jsonl", row[5]))
    assert again["text"] == text
    odd = tmp_path / "a\tb\nc.txt"
    odd.write_text("the cat\tsat")
    (row,) = rows(score("-f", odd))
    assert row[4:] == [rf"{tmp_path}/a\tb\nc.txt:1", r"the cat\tsat"]


@pytest.mark.skipif(sys.platform != "linux", reason="names that are no text")
def test_a_file_whose_name_is_no_text(score, tmp_path):
    file = tmp_path / os.fsdecode(b"\xff.txt")
    file.write_text("the cat")
    assert rows(score("-f", file))[0][4] == rf"{tmp_path}/\xff.txt:1"
    assert objects(score("--jsonl", "-f", file))[0]["file"] == str(file)


def test_arguments_and_lines_of_stdin_are_told_apart(score):
    mixed = ("-", "the cat", "a"), {"stdin": "the old man\nzzz"}
    assert [row[4] for row in rows(score(*mixed[0], **mixed[1]))] == ["-:1", "-:2", "2", "3"]
    found = [(one["file"], one["line"]) for one in objects(score("--jsonl", *mixed[0], **mixed[1]))]
    assert found == [("-", 1), ("-", 2), (None, 2), (None, 3)]


def test_an_escaped_dash_is_text(score):
    assert [row[5] for row in rows(score("-e", r"\x2d", "foo", stdin="unread"))] == ["-", "foo"]
    mixed = rows(score("-e", r"\x2d", "-", "foo", stdin="read"))
    assert [row[4:] for row in mixed] == [["1", "-"], ["-:1", "read"], ["3", "foo"]]


def test_order(score, story):
    found = objects(score("--jsonl", "-f", story))
    for key in ("perplexity", "bits_per_byte", "logprob", "tokens"):
        high = sorted(found, key=lambda one: -one[key])
        assert [one["line"] for one in objects(score("--jsonl", "--sort", key, "-f", story))] == [
            o["line"] for o in high
        ]
        low = sorted(found, key=lambda one: one[key])
        reverse = objects(score("--jsonl", "--sort", key, "--reverse", "--top", 3, "-f", story))
        assert [one["line"] for one in reverse] == [one["line"] for one in low[:3]]
    top = objects(score("--jsonl", "--top", 1, "-f", story))
    assert [one["perplexity"] for one in top] == [max(one["perplexity"] for one in found)]


def test_top_of_many_lines(score):
    lines = [f"{number} the" for number in range(300)]
    everything = objects(score("--jsonl", stdin="\n".join(lines)))
    best = sorted(everything, key=lambda one: -one["perplexity"])[:2]
    found = objects(score("--jsonl", "--top", 2, stdin="\n".join(lines)))
    assert [one["line"] for one in found] == [one["line"] for one in best]


def test_whole_files_longer_than_the_window(score, tmp_path, small):
    text = "the cat and the old man\n\nwent to the sea, " * 20
    (tmp_path / "long.txt").write_text(text + "\n")
    (tmp_path / "empty.txt").write_text("")
    long, empty = objects(
        score("--whole", "--jsonl", "--stride", 10, "-f", tmp_path / "long.txt", "-f", tmp_path / "empty.txt")
    )
    logprobs = logprob(small, text, stride=10)
    assert len(logprobs) > 3 * small.engine.window
    assert (long["tokens"], long["bytes"], long["stride"]) == (len(logprobs), len(text), 10)
    assert long["logprob"] == pytest.approx(sum(logprobs), abs=1e-2)
    assert (long["line"], long["text"]) == (None, None)
    assert (empty["tokens"], empty["logprob"], empty["perplexity"], empty["bits_per_byte"]) == (0, 0, None, None)
    assert rows(score("--whole", stdin=text))[0][4:] == ["-", ""]


def test_context_precedes_and_is_not_scored(score, tmp_path, small):
    (tmp_path / "context.txt").write_text("the old man\n")
    (found,) = objects(score("--jsonl", "--context", tmp_path / "context.txt", " went"))
    context = small.tokenizer.encode("the old man")
    assert found["logprob"] == pytest.approx(sum(logprob(small, " went", context=context)), abs=1e-4)
    assert found["context_tokens"] == len(context)
    assert found["bytes"] == 5
    (tmp_path / "context.txt").write_text("the old man " * 99)
    result = score("--context", tmp_path / "context.txt", " went", "--stride", 40)
    assert (
        result.stderr
        == f"note: of the context's {len(small.tokenizer.encode('the old man ' * 99))} tokens the last 23 count\n"
    )
    assert score("-q", "--context", tmp_path / "context.txt", " went").stderr == ""


def test_without_the_first_token(score, small):
    (found,) = objects(score("--jsonl", "--no-start", "--tokens", "the old man"))
    logprobs = logprob(small, "the old man", start=False)
    assert found["logprob"] == pytest.approx(sum(logprobs), abs=1e-4)
    assert found["tokens"] == len(logprobs) == len(found["logprobs"]) - 1
    assert found["logprobs"][0]["logprob"] is None
    assert found["bytes"] == len("the old man") - len(found["logprobs"][0]["bytes"])
    assert rows(score("--no-start", "a"))[0][:4] == ["-", "0", "0.0000", "-"]


def test_each_token(score, small):
    (found,) = objects(score("--jsonl", "--tokens", "--alternatives", 2, "the old man"))
    assert [one["id"] for one in found["logprobs"]] == small.tokenizer.encode("the old man")
    assert sum(one["logprob"] for one in found["logprobs"]) == pytest.approx(found["logprob"])
    for one in found["logprobs"]:
        assert len(one["top"]) == 2
        assert one["top"][0]["logprob"] >= max(one["logprob"], one["top"][1]["logprob"])
        assert (one["rank"] == 1) == (one["top"][0]["id"] == one["id"])
    *tokens, text, empty = score("--tokens", "the old man").stdout.splitlines()
    assert [line.split("\t")[:4] for line in tokens] == [
        [f"{one['logprob']:.4f}", str(one["rank"]), str(one["id"]), one["token"]] for one in found["logprobs"]
    ]
    assert text.endswith("\t1\tthe old man")
    assert empty == ""
    # in order or not, as one text or a line
    assert score("--tokens", "--top", 1, "the old man").stdout == score("--tokens", "the old man").stdout
    assert len(rows(score("--tokens", "--whole", stdin="the old man"))) == len(tokens) + 2


def test_json_is_one_object(score, story):
    value = json.loads(score("--json", "-f", story).stdout)
    assert list(value) == [
        *("model", "revision", "precision", "device", "window", "stride", "start", "context_tokens"),
        *("texts", "total", "interrupted"),
    ]
    assert (value["window"], value["stride"]) == (64, 32)
    for key in ("tokens", "bytes", "logprob"):
        assert value["total"][key] == pytest.approx(sum(text[key] for text in value["texts"]))
    lines = objects(score("--jsonl", "-f", story))
    assert [text["logprob"] for text in value["texts"]] == [line["logprob"] for line in lines]
    assert json.loads(score("--json", stdin="").stdout)["texts"] == []


def test_fail_above(score, story):
    found = objects(score("--jsonl", "-f", story))
    highest = max(one["perplexity"] for one in found)
    lowest = min(one["perplexity"] for one in found)
    fine = score("--fail-above", highest + 1, "-f", story)
    assert (fine.code, fine.stderr) == (0, "")
    result = score("--fail-above", lowest, "-f", story)
    assert (result.code, result.stderr.count("\n")) == (8, 1)
    assert "3 of 4" in result.stderr
    assert result.stdout == fine.stdout
    assert score("-q", "--fail-above", lowest, "--json", "--top", 1, "-f", story).stderr == ""


def test_stats(score, story):
    result = score("--stats", "-f", story)
    assert re.fullmatch(
        r"4 texts · \d+ tokens · perplexity [\d.]+ · logprob -[\d.]+ · \d+ tokens/s\n", result.stderr
    ), result.stderr
    assert score("--stats", "--no-start", "cat").stderr.startswith("1 text · ")
    assert "note: 1 of 1 text has a " in score("--fail-above", 0.5, "the cat").stderr


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals")
class TestOnATerminal:
    def test_a_bar_tells_how_far_it_has_come_and_makes_way(self, terminal, endless):
        shown = terminal("--whole", "-f", endless)
        bar = re.compile(r"scoring \S+endless.txt [━╸╺]+ [\d,]+ tokens · [\d,]+/s · (\d+:)+\d\d left")
        shown.wait(lambda terminal: any(map(bar.fullmatch, terminal.lines)), "the bar")
        shown.type("\x03")
        assert shown.exit_code() == 130
        head, row, note, *_ = shown.lines
        assert head.split() == ["perplexity", "tokens", "logprob", "bits/byte", "file"]
        assert str(endless).endswith(row.split()[-1].lstrip("…"))
        assert note.startswith("note: interrupted: ")
        assert not any("━" in line for line in shown.lines)

    def test_quiet_shows_no_bar(self, terminal, endless):
        shown = terminal("-q", "--json", "-f", endless)
        shown.wait(lambda _: time.sleep(4) is None)
        assert not any(shown.lines)

    @pytest.mark.parametrize("columns", [80, 120])
    def test_no_row_is_wider_than_the_terminal(self, terminal, tmp_path, columns):
        lines = ["The cat sat on the mat. " * 9, "猫はマットの上に座った。" * 9, "a"]
        files = [tmp_path / name for name in ("one.txt", "two.txt")]
        for file in files:
            file.write_text("\n".join(lines))
        shown = terminal("-f", files[0], "-f", files[1], columns=columns)
        assert shown.exit_code() == 0
        head, *rows = [line for line in shown.lines if line]
        assert head.split() == ["perplexity", "tokens", "logprob", "bits/byte", "line", "text"]
        assert [row.split()[4][-5:] for row in rows] == [f"txt:{number}" for number in (1, 2, 3)] * 2
        assert [row[-1] for row in rows] == ["…", "…", "a"] * 2

    def test_an_error_before_the_first_row_has_no_heading(self, terminal, tmp_path):
        (tmp_path / "broken.txt").write_bytes(b"caf\xe9\xff")
        shown = terminal("-f", tmp_path / "broken.txt", columns=120)
        assert shown.exit_code() != 0
        assert shown.lines[0].startswith("error: ")

    def test_tokens_have_headings(self, terminal):
        shown = terminal("--tokens", "The cat", "a")
        assert shown.exit_code() == 0
        heads = [line.split() for line in shown.lines if "logprob" in line]
        assert (
            heads
            == [
                ["logprob", "rank", "id", "token", "most", "likely"],
                ["perplexity", "tokens", "logprob", "bits/byte", "line", "text"],
            ]
            * 2
        )


@pytest.mark.long
def test_lines_arrive_while_the_pipe_is_open(spawn):
    process = spawn("score", "-m", "tiny", stdin=subprocess.PIPE)
    process.stdin.write(b"The cat\nThe dog\n")
    process.stdin.flush()
    assert process.stdout.readline().endswith(b"\t1\tThe cat\n")
    assert process.stdout.readline().endswith(b"\t2\tThe dog\n")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("options", [["--json"], ["--sort", "tokens", "--jsonl"], ["--jsonl"]])
@pytest.mark.long
def test_an_interruption_keeps_what_there_is(spawn, options, story, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    process = spawn("score", "-m", "tiny", *options, "-f", story, "-f", fifo)
    with read_by(process, fifo):  # as soon as it is read, and the story is done
        process.send_signal(signal.SIGINT)
        out = process.communicate(timeout=30)[0]
    assert process.returncode == 130
    lines = out.decode().splitlines()
    texts = json.loads(out)["texts"] if options == ["--json"] else [json.loads(line) for line in lines]
    assert {text["line"] for text in texts} == {1, 2, 4, 5}


@pytest.fixture
def endless(tmp_path):
    """A file whose scoring takes longer than anybody waits."""
    path = tmp_path / "endless.txt"
    path.write_text("The cat sat on the mat.\n" * 200_000)
    return path


@pytest.fixture
def terminal():
    """terminal(*argv, **options) -> gpt2 score in a terminal."""
    from terminals import Terminal

    opened = []

    def start(*argv, **options):
        opened.append(Terminal("score", "-m", "tiny", *argv, **options))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


@pytest.mark.long
@pytest.mark.process
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(
    ("number", "code", "options"),
    [("SIGINT", 130, []), ("SIGTERM", 143, ["--json"]), ("SIGHUP", 129, ["--jsonl"]), ("SIGINT", 130, ["--top", "1"])],
)
def test_an_interruption_keeps_the_sums_of_the_text_that_it_was_at(terminal, endless, number, code, options, tmp_path):
    file = tmp_path / "out"
    shown = terminal("--whole", *options, "-f", endless, shell=f"exec \"$@\" > '{file}'", columns=200)
    shown.wait(" tokens · ")
    shown.process.send_signal(getattr(signal, number))
    assert shown.exit_code() == code
    out = file.read_text()
    if options in (["--json"], ["--jsonl"]):
        value = json.loads(out)
        assert value["interrupted"]
        (row,) = value.get("texts", [value])
        assert (row["file"], row["interrupted"], row["logprobs"]) == (str(endless), True, None)
        assert value.get("total", row)["logprob"] == row["logprob"]
        tokens, logprob = row["tokens"], row["logprob"]
    else:
        cells = out.removesuffix("\n").split("\t")
        tokens, logprob = int(cells[1]), float(cells[2])
    assert tokens > 100
    assert logprob < 0
    assert [line for line in shown.lines if line] == [f"note: interrupted: scored {tokens} tokens of {endless}"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.long
def test_an_interruption_of_tokens_keeps_them(spawn, tmp_path):
    (tmp_path / "line.txt").write_text("The cat sat on the mat. " * 5000)  # a line is a text too
    process = spawn("score", "-m", "tiny", "--tokens", "--stats", "-f", tmp_path / "line.txt", bufsize=0)
    first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = (text.decode() for text in process.communicate(timeout=60))
    assert process.returncode == 130
    *tokens, row, empty = (first.decode() + out).removesuffix("\n").split("\n")
    # the signal may come between the two: when a token is counted, and before its line is begun
    assert 0 <= int(row.split("\t")[1]) - len(tokens) <= 1
    assert float(row.split("\t")[2]) == pytest.approx(sum(float(line.split("\t")[0]) for line in tokens), abs=20)
    assert empty == ""
    assert re.search(r"note: interrupted: scored \d+ tokens? of .*line.txt:1\n1 text · ", err)


@pytest.mark.long
def test_an_error_amid_a_text_keeps_its_sums(score, tmp_path):
    (tmp_path / "broken.txt").write_bytes(b"the cat sat " * 7000 + b"\xff")
    result = score("--whole", "--json", "-f", tmp_path / "broken.txt", "--stride", 63)
    assert result.code == 6
    value = json.loads(result.stdout)
    assert (value["interrupted"], value["texts"][0]["interrupted"]) == (True, True)
    assert value["texts"][0]["tokens"] > 1000
    assert [line.split(":")[0] for line in result.stderr.splitlines()][-3:] == ["note", "error", "hint"]


@pytest.mark.parametrize("options", [["--json"], ["--jsonl"], ["--sort", "tokens", "--jsonl"], ["--top", 2, "--json"]])
def test_an_error_in_the_middle_keeps_what_there_is(score, options):
    result = score(*options, stdin=b"the cat\n" + b"\n" * 70_000 + b"\xff")
    assert result.code == 6
    assert "0xff" in result.stderr
    value = json.loads(result.stdout)
    assert value.get("texts", [value])[0]["text"] == "the cat"


def data_of(page):
    """What a page shows, as it holds it."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


@pytest.mark.parametrize("form", [[], ["--json"], ["--jsonl", "--sort", "logprob"], ["--tsv", "--tokens"]])
def test_a_page_and_a_picture_stand_beside_what_is_printed(score, story, tmp_path, form):
    files = tmp_path / "a.html", tmp_path / "a.svg"
    drawn = score(*form, "-f", story, "--html", files[0], "--svg", files[1])
    assert (drawn.code, "note: --" in drawn.stderr) == (0, False)
    assert drawn.stdout == score(*form, "-f", story).stdout
    order = ["--sort", "logprob"] if "--sort" in form else []
    expected = json.loads(score("--json", "--tokens", *order, "-f", story).stdout)
    found = data_of(files[0].read_text(encoding="utf-8"))
    assert [one["name"] for one in found["texts"]] == [f"{story}:{one['line']}" for one in expected["texts"]]
    for text, one in zip(found["texts"], expected["texts"], strict=True):
        assert text["tokens"] == one["logprobs"]
    assert found["note"] == ""
    words = [node.text for node in ElementTree.parse(files[1]).getroot().iter("{http://www.w3.org/2000/svg}text")]
    assert "thecatsatdown" in "".join(words)


def test_a_page_of_no_text_and_one_of_a_token_without_a_probability(score, tmp_path):
    file = tmp_path / "a.html"
    assert score("-f", os.devnull, "--html", file).code == 0
    assert data_of(file.read_text(encoding="utf-8"))["texts"] == []
    assert score("--no-start", "a", "--html", file, "--svg", tmp_path / "a.svg").code == 0
    (text,) = data_of(file.read_text(encoding="utf-8"))["texts"]
    assert [(one["token"], one["logprob"], one["rank"]) for one in text["tokens"]] == [("a", None, None)]


def test_how_many_tokens_are_drawn_is_said(score, tmp_path, monkeypatch):
    monkeypatch.setattr("gpt2cli.console.drawn.PAGE_MOST", 5)
    result = score("the cat sat down", "the old man", "--html", tmp_path / "a.html")
    tokens = sum(one["tokens"] for one in objects(score("--jsonl", "the cat sat down", "the old man")))
    assert result.stderr.splitlines()[-1] == f"note: --html: the first 5 of {tokens} tokens are drawn"
    assert sum(len(one["tokens"]) for one in data_of((tmp_path / "a.html").read_text())["texts"]) == 5
    assert score("-q", "the cat sat down", "--html", tmp_path / "a.html").stderr == ""


def test_what_was_read_before_an_error_is_drawn(score, tmp_path):
    file = tmp_path / "a.html"
    assert score("--html", file, stdin=b"the cat\n" + b"\n" * 70_000 + b"\xff").code == 6
    found = data_of(file.read_text(encoding="utf-8"))
    assert ["".join(one["token"] for one in text["tokens"]) for text in found["texts"]] == ["the cat"]
    assert "interrupted" in found["note"]


def test_nothing_is_written_where_the_texts_cannot_be_read(score, tmp_path):
    assert_error(score("-f", tmp_path / "none", "--html", tmp_path / "a.html"), 2, "none")
    assert_error(score("--html", tmp_path / "a.html", stdin=b"\xff"), 6, "0xff")
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith((".gpt2", "a."))] == []


def test_errors(score, run, tmp_path, story):
    assert_error(score(), 2, "no text", "gpt2 score")
    assert_error(score("-f", tmp_path / "none"), 2, "none")
    assert_error(score("--context", tmp_path / "none", "x"), 2, "none")
    assert_error(score("x", "-f", story), 2, str(story))
    assert_error(score("-", "-", stdin="x"), 2, "twice")
    assert_error(score("-f", "-", "-f", story, "-f", "-", stdin="x"), 2, "twice")
    assert_error(score("--sort", "size", "x"), 2, "size", "perplexity")
    assert_error(score("--reverse", "x"), 2, "--reverse", "--sort")
    assert_error(score("--stride", 64, "x"), 2, "64", "63")
    assert_error(score("--alternatives", 2, "x"), 2, "--tokens", "--html")
    assert_error(score("--html", tmp_path / "none/a.html", "x"), 7, "none")
    assert_error(score("--svg", "a.xml", "--html", "a.xml", "x"), 2, "--html", "--svg")
    assert_error(score("--json", "--tsv", "x"), 2, "--json", "--tsv")
    assert_error(score("--fail-above", -1, "x"), 2, "--fail-above")
    assert_error(score("--fail-above", "nan", "x"), 2, "--fail-above")
    assert_error(score("--whole", "x"), 2, "--whole")
    assert_error(score("-q", "-v", "x"), 2, "--quiet")
    assert_error(score(stdin=b"\xff"), 6, "0xff")
    assert_error(run("score", "-m", "nope", "x"), 3, "nope")


@pytest.mark.parametrize("texts", [[], ["a", "-"], ["-f", "-"]])
def test_stdin_is_not_both_context_and_text(score, texts):
    assert_error(score("--context", "-", *texts, stdin="one\n"), 2, "--context", "stdin")


@pytest.mark.skipif(sys.platform == "win32", reason="pipes that can be asked")
@pytest.mark.long
def test_a_context_on_stdin_is_used(spawn):
    process = spawn("score", "-m", "tiny", "--context", "-", "--jsonl", " went", stdin=subprocess.PIPE)
    out, err = process.communicate(b"The cat", timeout=30)
    assert json.loads(out)["context_tokens"] > 0
    assert err == b""


# Corpora: lines of JSON, documents, several models, histograms

DOCUMENTS = [
    {"id": "a", "body": "the cat sat"},
    {"id": "a", "body": "the old man"},
    {"id": 7, "body": "zzz\nqqq"},
    {"body": "a"},
    {"body": "a"},
    {"id": "a", "body": "dog"},
]


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_text("\n".join(json.dumps(one) for one in DOCUMENTS) + "\n")
    return path


def test_a_line_of_json_is_a_text_with_an_id(score, corpus):
    found = objects(score("--jsonl", "--field", "body", "-f", corpus))
    assert [one["text"] for one in found] == [one["body"] for one in DOCUMENTS]
    assert [one["id"] for one in found] == [one.get("id") for one in DOCUMENTS]
    assert [one["line"] for one in found] == [1, 2, 3, 4, 5, 6]
    alone = objects(score("--jsonl", *(one["body"] for one in DOCUMENTS)))
    assert [one["logprob"] for one in found] == [one["logprob"] for one in alone]
    assert [one["id"] for one in alone] == [None] * 6
    called = [row[4] for row in rows(score("--field", "body", "-f", corpus))]
    assert called == ["a", "a", "7", f"{corpus}:4", f"{corpus}:5", "a"]


def test_lines_of_one_document_are_one_text(score, corpus):
    found = objects(score("--jsonl", "--by", "document", "--field", "body", "-f", corpus))
    texts = ["the cat sat\nthe old man", "zzz\nqqq", "a", "a", "dog"]
    assert [one["text"] for one in found] == texts
    assert [one["id"] for one in found] == ["a", 7, None, None, "a"]
    assert [one["line"] for one in found] == [1, 3, 4, 5, 6]
    alone = objects(score("--jsonl", *texts))
    for name in ("tokens", "logprob", "perplexity"):
        assert [one[name] for one in found] == [one[name] for one in alone]


@pytest.mark.long
def test_a_document_may_be_longer_than_the_window_and_come_bit_by_bit(score, tmp_path):
    path = tmp_path / "long.jsonl"
    line = json.dumps({"id": 1, "text": "the cat and the dog went to the sea"})
    path.write_text(f"{line}\n" * 3000)  # more than is read at a time
    (found,) = objects(score("--jsonl", "--by", "document", "-f", path))
    assert found["text"] == "\n".join(["the cat and the dog went to the sea"] * 3000)
    whole = tmp_path / "whole.txt"
    whole.write_text(found["text"])
    assert found["logprob"] == pytest.approx(objects(score("--jsonl", "--whole", "-f", whole))[0]["logprob"])


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--by", "page"], "'page' is unknown"),
        (["--by", "document", "--whole"], "--whole contradicts --by document"),
        (["--by", "document"], "line 1 has no text in 'text'"),
        (["--field", "title"], "line 1 has no text in 'title'"),
        (["--field", "body", "x"], "--field with texts as arguments"),
        (["--histogram", "words"], "'words' is unknown"),
        (["--histogram", "tokens", "--json"], "--histogram contradicts --json"),
        (["--histogram", "tokens", "--tokens"], "--histogram contradicts --tokens"),
        (["--histogram", "texts", "--top", "3"], "--histogram contradicts --top"),
        (["-m", "tiny", "--tokens"], "--tokens is of one model"),
        (["-m", "tiny", "--fail-above", "3"], "--fail-above is of one model"),
        (["-m", "tiny", "--html", "x.html"], "--html or --svg is of one model"),
    ],
)
def test_mistakes_of_corpora_are_one_error(score, argv, said):
    assert_error(score(*argv, stdin='{"id": 1, "body": "the cat"}\n'), 2, said)


@pytest.fixture
def other(tmp_path):
    folder = tmp_path / "other"
    make_checkpoint(folder, seed=1)
    return folder


@pytest.mark.parametrize("whole", [False, True])
def test_models_stand_side_by_side(score, run, checkpoint, other, story, whole):
    argv = ["--precision", "fp32", "-f", story, *["--whole"] * whole]
    one, two = (json.loads(run("score", "-m", name, "--json", *argv).stdout) for name in (checkpoint, other))
    both = json.loads(run("score", "-m", checkpoint, "-m", other, "--json", *argv).stdout)
    assert list(both) == ["models", "texts", "total", "interrupted"]
    assert [model["model"] for model in both["models"]] == [str(checkpoint), str(other)]
    assert both["total"] == [one["total"], two["total"]]
    for found, *alone in zip(both["texts"], one["texts"], two["texts"], strict=True):
        for sums, text in zip(found["scores"], alone, strict=True):
            assert sums == {name: text[name] for name in sums}
    columns = [rows(run("score", "-m", name, *argv)) for name in (checkpoint, other)]
    for row, first, second in zip(rows(run("score", "-m", checkpoint, "-m", other, *argv)), *columns, strict=True):
        assert row == [*first[:4], *second]


def test_several_models_are_put_in_the_order_of_the_first(run, checkpoint, other, story):
    argv = ["-m", checkpoint, "-m", other, "--precision", "fp32", "--sort", "logprob", "--top", "2", "-f", story]
    found = [float(row[2]) for row in rows(run("score", *argv))]
    assert len(found) == 2
    assert found == sorted(found, reverse=True)


@pytest.mark.terminal
@pytest.mark.skipif(sys.platform == "win32", reason="needs pseudo-terminals")
@pytest.mark.parametrize("columns", [80, 120])
def test_a_table_has_columns_for_each_model(checkpoint, other, story, columns):
    from terminals import Terminal

    shown = Terminal("score", "-q", "-m", checkpoint, "-m", other, "--precision", "fp32", "-f", story, columns=columns)
    try:
        assert shown.exit_code() == 0
        lines = [line for line in shown.lines if line.strip()]
        text = "\n".join(lines)
        assert re.search(r"^A {2}\S", text, re.M)
        assert re.search(r"^B {2}\S", text, re.M)
        assert re.search(r"A perplexity +A bits/byte +B perplexity +B bits/byte +line +text$", text, re.M)
        assert re.search(r"4 +the old man$", text, re.M)
    finally:
        shown.close()


@pytest.mark.skipif(sys.platform == "win32", reason="needs pseudo-terminals")
@pytest.mark.long
def test_an_interruption_keeps_the_texts_that_all_models_have_scored(terminal, story, endless, tmp_path):
    target = tmp_path / "out.json"
    argv = ("-m", "tiny", "--json", "--whole", "-f", story, "-f", endless)
    shown = terminal(*argv, shell=f'exec "$@" > {target}')
    shown.wait(lambda terminal: any("endless.txt" in line for line in terminal.lines), "a bar")
    shown.type("\x03")
    assert shown.exit_code() == 130
    found = json.loads(target.read_text(encoding="utf-8"))
    (text,) = found["texts"]
    assert (text["file"], found["interrupted"]) == (str(story), True)
    assert found["total"] == text["scores"]


def test_a_histogram_counts_tokens_or_texts(score, story):
    found = objects(score("--jsonl", "--tokens", "-f", story))
    for kind, logprobs in (
        ("tokens", [one["logprob"] for text in found for one in text["logprobs"]]),
        ("texts", [text["logprob"] / text["tokens"] for text in found]),
    ):
        bits = [min(16, int(-one / math.log(2))) for one in logprobs]
        head, *lines = score("--histogram", kind, "-f", story).stdout.splitlines()
        assert head.split()[-2:] == [kind, "share"]
        counts = [int(line.split()[1 if kind == "tokens" else 2]) for line in lines]
        assert counts == [bits.count(one) for one in range(min(bits), max(bits) + 1)]
        names = [f"{n}-{n + 1}" if n < 16 else "16+" for n in range(min(bits), max(bits) + 1)]
        assert [line.split()[0] for line in lines] == names
        assert max(map(len, lines)) <= 80
        assert max(line.count("█") for line in lines) > 20
    assert score("--histogram", "texts", "-f", story).stdout.splitlines()[1].split()[1].count("-") == 1
    assert (score("--histogram", "tokens", stdin="").stdout, score("--histogram", "texts", stdin="").code) == ("", 0)
