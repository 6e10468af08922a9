"""What the drawing room writes: several texts on one output, files that appear whole, progress."""

import io
import os
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt2cli.console import bars, outputs, terminal
from gpt2cli.console.wrapping import width
from gpt2cli.errors import StorageError


class Memory:
    """An output that remembers."""

    def __init__(self):
        self.text = ""

    def write(self, text, *, dim=False):
        self.text += text


def written(count, pushes, *, prompt="", null=False):
    memory = Memory()
    texts = outputs.Texts(memory, count, prompt=prompt, null=null)
    for row, text, done in pushes:
        texts.push(row, text, done=done)
    texts.finish()
    return memory.text


def test_finish_keeps_every_text_that_has_begun():
    """Samples 1 and 3 of 5 got text before the interruption; 0 and 2 got none yet, 4 had ended."""
    pushes = [(1, "one", False), (3, "three\n", False), (4, "", True)]
    assert written(5, pushes) == "one\n---\nthree\n---\n\n"
    assert written(5, pushes, null=True) == "one\0three\n\0\0"


def test_a_prompt_on_the_screen_gets_its_newline():
    assert written(3, [], prompt="Once") == "Once\n"
    assert written(2, [(1, " upon", False)], prompt="Once") == "Once\n---\nOnce upon\n"
    assert written(1, []) == ""


@given(
    st.lists(st.lists(st.text("ab\n", max_size=3), max_size=4), min_size=1, max_size=4),
    st.randoms(use_true_random=False),
)
@pytest.mark.long
def test_texts_come_in_order_however_they_interleave(rows, random):
    places = [row for row, parts in enumerate(rows) for _ in range(len(parts) + 1)]
    random.shuffle(places)
    remaining = {row: [*((part, False) for part in parts), ("", True)] for row, parts in enumerate(rows)}
    pushes = [(row, *remaining[row].pop(0)) for row in places]
    texts = ["".join(parts) for parts in rows]
    assert written(len(rows), pushes) == "---\n".join(text if text.endswith("\n") else text + "\n" for text in texts)
    assert written(len(rows), pushes, null=True) == "".join(f"{text}\0" for text in texts)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_protected_file_is_not_replaced(tmp_path):
    target = tmp_path / "text"
    target.write_text("precious")
    target.chmod(0o444)
    with pytest.raises(StorageError, match="Permission denied"):
        outputs.Output(target)


def test_a_file_with_the_longest_name_can_be_written(tmp_path):
    target = tmp_path / ("n" * 250)
    with outputs.Output(target) as output:
        output.write("text")
    assert target.read_text() == "text"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_file_on_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    """Each flush fails, that of closing too."""
    opened = os.fdopen
    monkeypatch.setattr(os, "fdopen", lambda *_: opened(os.open("/dev/full", os.O_WRONLY), "wb"))
    with (
        pytest.raises(StorageError, match=r"text.txt': No space left"),
        outputs.Output(tmp_path / "text.txt") as output,
    ):
        output.write("text")
    assert list(tmp_path.iterdir()) == []


def test_a_large_text_is_written_in_linear_time(tmp_path):
    """Its pieces are views of one and the same text: none copies what follows it, which takes minutes for 40 MB."""
    with outputs.Output(tmp_path / "text") as output:
        write, wholes = output._file.write, []
        output._file.write = lambda piece: (wholes.append(piece.obj), write(piece))[1]
        output.write("text" * (1 << 20))
    assert len(wholes) > 100
    assert all(whole is wholes[0] for whole in wholes)
    assert (tmp_path / "text").stat().st_size == 4 << 20


def test_a_note_drives_no_terminal(monkeypatch):
    stderr = io.TextIOWrapper(io.BytesIO(), "utf-8")
    monkeypatch.setattr(sys, "stderr", stderr)
    terminal.note("from ./\x1b[31mred\udce9")
    assert stderr.buffer.getvalue() == b"note: from ./\\x1b[31mred\\udce9\n"


@pytest.mark.parametrize("terminal_like", [True, False])
def test_a_title_is_no_markup(terminal_like, monkeypatch):
    stderr = io.TextIOWrapper(io.BytesIO(), "utf-8")
    stderr.isatty = lambda: terminal_like
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    with bars.progress(quiet=False) as update:
        update("exporting ./v[/b]x", 0, 10)
        update("exporting ./v[/b]x", 10, 10)
        update("nothing to do", 10, 10)
    stderr.flush()
    assert b"exporting ./v[/b]x" in stderr.buffer.getvalue()
    assert b"nothing to do" not in stderr.buffer.getvalue()


def test_only_a_terminal_gets_rows(tmp_path):
    with outputs.Output(tmp_path / "text") as output:
        texts = outputs.Texts(output, 1, prompt="Once ", null=False, wrap=True)
        texts.push(0, "upon a time " * 40, done=True)
    assert (tmp_path / "text").read_text() == "Once " + "upon a time " * 40 + "\n"


@pytest.fixture
def shown():
    """shown(*argv, columns) -> the rows that `gpt2 ARGV` leaves on a terminal."""
    if sys.platform == "win32":
        pytest.skip("needs pseudo-terminals")
    from terminals import Terminal

    running = []

    def rows(*argv, **options):
        running.append(Terminal(*argv, rows=40, **options))
        running[-1].exit_code()
        return [line for line in running[-1].lines if line]

    yield rows
    for one in running:
        one.close()


def test_a_streamed_text_ends_its_rows_at_blanks(shown, run):
    argv = ("generate", "-m", "tiny", "-s", 1, "-n", 60, "Once upon a time there was a king 日本語")
    whole = run(*argv, "--echo").stdout
    for columns in (30, 100):
        rows = shown(*argv, columns=columns)
        assert " ".join(rows).split() == whole.split(), "no word is torn"
        assert max(map(width, rows)) < columns
    torn = shown(*argv, "--no-wrap", columns=30)
    assert "".join("".join(torn).split()) == "".join(whole.split())
    assert " ".join(torn).split() != whole.split()
    dumb = shown(*argv, columns=30, term="dumb")
    assert dumb == torn


def test_the_line_of_stats_ends_its_rows_at_blanks(shown):
    for argv in (("generate", "-n", 3), ("score",)):
        rows = shown(*argv, "-m", "tiny", "--stats", "x", columns=40)
        told = " ".join(map(str.strip, rows[-3:]))
        assert re.search(r" tokens/s( · load \S+ s, first token \S+ s, total \S+ s)?$", told)


def test_an_error_ends_its_rows_at_blanks(shown):
    rows = shown("generate", "--greedy", "-t", 1, "-m", "tiny", "x", columns=30)
    assert rows == [
        "error: --greedy contradicts",
        "  --temperature 1.0",
        "hint: greedy is temperature",
        "  0: leave one out",
    ]
