"""Rows, columns and tables: nothing wider than the terminal, nothing lost."""

import pytest

from gpt2cli.console.wrapping import width
from gpt2cli.generation.requests import Logprob
from gpt2cli.model import load
from gpt2cli.repl import layout

WORDS = "The old man went to the sea 日本語 and the fish said: let me go"


def test_control_characters_are_pictures():
    assert layout.visible("a\x1b[2J\r\x7f\x9b\tb\nc") == "a␛[2J␍␡␡    b\nc"
    assert layout.visible("plain é 日") == "plain é 日"


@pytest.mark.parametrize(("columns", "beside"), [(120, True), (88, True), (87, False), (40, False), (5, False)])
def test_alternatives_are_beside_each_other_where_there_is_room(columns, beside):
    texts = [WORDS, "short", f"two\n\n{WORDS}"]
    lines = layout.alternatives(texts, columns)
    assert (lines[0].split() == ["[1]", "[2]", "[3]"]) == beside
    assert max(map(width, lines)) <= columns
    if not beside:
        joined = "".join("".join(lines).split())
        assert joined == "".join(f"[{n}]{''.join(text.split())}" for n, text in enumerate(texts, 1))


def test_one_alternative_needs_no_columns():
    assert layout.alternatives(["text"], 100) == ["[1]", "text"]


@pytest.mark.parametrize("columns", [24, 40, 80, 200])
def test_why_lists_the_alternatives_that_fit(columns):
    tokenizer = load("tiny").tokenizer
    ids = tokenizer.encode(" the king\n日")
    top = tuple((token, -1.0 - place) for place, token in enumerate(tokenizer.encode(" a queen and her daughter")))
    lines = layout.why(ids, [Logprob(-0.5, top)] * len(ids), tokenizer, columns, 8)
    assert len(lines) == len(ids)
    assert lines[0].split()[:4] == ["8", "'", "the'", "60.7%"]
    assert max(map(width, lines)) <= max(columns, 30)
    assert ("1 ' a' 37%" in lines[0]) == (columns >= 40)
    assert any("\\n" in line for line in lines)


def test_the_status_bar_drops_what_does_not_fit():
    parts = ["tiny int8", "5/1024", "seed 1"]
    assert layout.status(parts, 80) == "tiny int8 · 5/1024 · seed 1"
    assert layout.status(parts, 20) == "tiny int8 · 5/1024"
    assert layout.status(parts, 5) == ""


def test_the_ending_of_a_text():
    text = [(True, "one\ntwo"), (False, " and\nthree"), (True, " four")]
    assert layout.ending(text, 1) == [(False, "three"), (True, " four")]
    assert layout.ending(text, 2) == [(True, "two"), (False, " and\nthree"), (True, " four")]
    assert layout.ending(text, 9) == text
    assert layout.split(text, "\n") == [
        [(True, "one\n")],
        [(True, "two"), (False, " and\n")],
        [(False, "three"), text[2]],
    ]
