"""Rows that end at blanks: nothing wider than the terminal, nothing lost, however the text comes."""

import unicodedata

import pyte
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2cli.console.wrapping import Rows, folded, width

TEXT = st.text("abc  \n日。(é\u0301🙂", max_size=60)


def drawn(parts, columns, **options):
    """What stands on a terminal when the parts have come one after the other, and the Rows."""
    screen = pyte.Screen(columns, 60)
    screen.set_mode(pyte.modes.LNM)  # as a terminal driver does: a newline is a carriage return too
    stream = pyte.Stream(screen)
    rows = Rows(lambda: columns, **options)
    for part in parts:
        stream.feed("".join(text for _, text in rows.add([(False, part)])))
    return [line.rstrip() for line in screen.display], rows, screen


def letters(text):
    """Without blanks, and without marks: the emulator drops one that stands on no letter."""
    parted = unicodedata.normalize("NFD", text)
    return [one for one in parted if not unicodedata.combining(one) and not one.isspace()]


@settings(max_examples=60)
@given(st.lists(TEXT, max_size=6), st.integers(4, 20))
def test_a_text_stands_alike_however_it_comes(parts, columns):
    together, *_ = drawn(["".join(parts)], columns)
    apart, rows, screen = drawn(parts, columns)
    assert apart == together
    assert screen.cursor.x == sum(width(text) for _, text in rows.row) < columns
    assert letters("".join(together)) == letters("".join(parts))


@settings(max_examples=60)
@given(st.text("abcde  ", max_size=200), st.integers(7, 20))
def test_a_word_that_fits_into_a_row_is_whole(text, columns):
    lines, *_ = drawn(list(text), columns)
    words = [word for word in text.split() if len(word) < columns]
    shown = [word for line in lines for word in line.split()]
    assert all(word in shown for word in words)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("the old man went", ["the old", "man went"]),
        ("thirteen men", ["thirteen", "men"]),
        ("an incomprehensible x", ["an", "incompreh", "ensible x"]),
        ("a b日本語です。", ["a b日本語", "です。"]),
        ("abc 日本、", ["abc 日", "本、"]),
        ("1234567 🙂🙂", ["1234567", "🙂🙂"]),
        ("two\n\n  three", ["two", "", "  three"]),
    ],
)
def test_where_rows_end(text, lines):
    for parts in ([text], list(text)):
        shown, *_ = drawn(parts, 10)
        assert "\n".join(shown).rstrip() == "\n".join(lines)


def test_a_word_is_written_as_it_comes():
    rows = Rows(lambda: 12)
    assert rows.add([(False, "a king")]) == [(False, "a king")]
    assert rows.add([(True, "dom")]) == [(True, "dom")]
    assert rows.add([(True, "come")]) == [
        (False, "\b" * 7 + " " * 7 + "\nking"),
        (True, "domcome"),
    ]
    assert rows.row == [(False, "king"), (True, "domcome")]


def test_where_the_terminal_breaks_the_rows_the_text_is_untouched():
    for parts in (["the old man went"], list("the old man went")):
        lines, rows, _ = drawn(parts, 10, words=False)
        assert lines[:2] == ["the old ma", "n went"]
        assert rows.row == [(False, "n went")]
    assert Rows(lambda: 5, words=False).add([(False, "0123456789")]) == [(False, "0123456789")]


def test_a_window_that_changes_its_width():
    columns = 20
    rows = Rows(lambda: columns)
    rows.add([(False, "the old man")])
    columns = 12
    assert rows.add([(False, " and the sea")]) == [(False, "\nand the sea")]


@given(st.text("ab 日", max_size=80), st.integers(2, 30))
def test_folded_lines_fit(text, columns):
    lines = folded(text, columns)
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert max(map(width, lines)) <= max(columns, 2)
