"""Files of data sets -> items, as each task's protocols read them: Parquet, JSONL, or the text itself."""

import itertools
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gpt2cli.analysis.evaluation import detokenizers
from gpt2cli.analysis.evaluation.items import (
    LINES,
    Choice,
    Continuation,
    Item,
    Pair,
    Passage,
    first,
    json_lines,
    text_lines,
)
from gpt2cli.errors import UsageError
from gpt2cli.store import datasets

_TEST_BYTES = 5_000_000  # of enwik8 and text8: the last are the test's
_BLANK = "XXXXX"


def rows(path: Path, *names: str) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """What a Parquet file, or lines of JSON, have in the columns `names`, each with what it is called. Raises
    UserError."""
    if path.suffix.lower() == ".parquet":
        for number, values in enumerate(datasets.rows(path, names), 1):
            yield f"row {number} of '{path}'", values
        return
    for name, value in json_lines(path):
        missing = [key for key in names if not isinstance(value, dict) or key not in value]
        if missing:
            raise UsageError(f"{name} has no '{missing[0]}'", f"a line has {', '.join(names)}: is it the right file?")
        yield name, tuple(value[key] for key in names)


def texts(path: Path, column: str) -> Iterator[tuple[str, str]]:
    """The texts of a column, or the lines of a text, with their ends."""
    if path.suffix.lower() in (".parquet", *LINES):
        for name, (text,) in rows(path, column):
            if not isinstance(text, str):
                raise UsageError(f"{name} has no text in '{column}'", "is it the right file?")
            yield name, text
        return
    for number, line in enumerate(text_lines(path), 1):
        yield f"line {number} of '{path}'", line


def last_words(path: Path, made: Callable[[str], str] = str) -> Iterator[Item]:
    """LAMBADA: what stands after the last space is to be said."""
    for name, text in texts(path, "text"):
        context, space, word = made(text.rstrip("\n")).rpartition(" ")
        if not context or not word:
            raise UsageError(f"{name} has no last word", "each text has words that are parted by spaces")
        yield Continuation(context, space + word, name)


def joined(path: Path, limit: int | None = None) -> Iterator[Item]:
    """WikiText, or its first `limit` articles, as Hugging Face's guide joins its rows, of which the blank ones are
    empty."""
    rows = itertools.chain.from_iterable(first(_articles(path), limit))
    yield Passage.of("\n\n".join(line if line.strip() else "" for line in rows), f"'{path}'")


def pages(path: Path) -> Iterator[Item]:
    """WikiText's articles, each from its heading on, without what its makers split off. Words and bytes are those of
    the original, words as lm-evaluation-harness counts them: the pieces between white space, also before the first."""

    def page(lines: list[str]) -> Item:
        original = "\n".join(lines)
        name = f"the page '{''.join(lines[:3]).strip(' =')}'"
        return Passage(detokenizers.wikitext(original), len(re.split(r"\s+", original)), len(original.encode()), name)

    held: list[str] = []
    for article in _articles(path):
        if held:
            yield page(held)
        held = [line.rstrip("\n") or " " for line in article]  # a blank row is a line of one space in the original
    yield page([*held, ""])


def _articles(path: Path) -> Iterator[list[str]]:
    """The rows of each of WikiText's articles."""
    held: list[str] = []
    for _, line in texts(path, "text"):
        if _is_heading(line) and any(map(str.strip, held)):
            yield held
            held = []
        held.append(line)
    yield held


def _is_heading(line: str) -> bool:
    """Whether an article begins there: its title stands between single signs."""
    bare = line.strip()
    return bare.startswith("= ") and bare.endswith(" =") and not (bare.startswith("= = ") or bare.endswith(" = ="))


def sentences(path: Path, limit: int | None = None) -> Iterator[Item]:
    """The Penn Treebank, or its first `limit` sentences, as one text, of a line each. The end of a line counts as a
    word, as is usual for it."""
    lines = [text.strip() for _, text in first(texts(path, "sentence"), limit)]
    original = " \n ".join(lines)
    words = sum(len(line.split()) + 1 for line in lines)
    yield Passage(detokenizers.ptb(original), words, len(original.encode()), f"'{path}'")


def news(path: Path) -> Iterator[Item]:
    """The One Billion Word Benchmark: each sentence alone, for they are shuffled."""
    for name, text in texts(path, "text"):
        if original := text.strip():
            yield Passage(detokenizers.lm1b(original), len(original.split()), len(original.encode()), name)


def last_bytes(path: Path) -> Iterator[Item]:
    """The end of enwik8 or text8, from the first whole character on; or a file that is no longer than that."""
    octets = _unzipped(path)
    if len(octets) > _TEST_BYTES:
        octets = octets[-_TEST_BYTES:]
        while octets[0] & 0xC0 == 0x80:
            octets = octets[1:]
    yield Passage.of(octets.decode(errors="replace"), f"'{path}'")


def _unzipped(path: Path) -> bytes:
    try:
        if path.suffix.lower() == ".parquet":
            return "".join(text for _, text in texts(path, "text")).encode()
        if not zipfile.is_zipfile(path):
            return path.read_bytes()
        with zipfile.ZipFile(path) as archive:
            return archive.read(archive.namelist()[0])
    except (OSError, zipfile.BadZipFile, IndexError) as reason:
        raise UsageError(
            f"cannot read '{path}': {getattr(reason, 'strerror', None) or reason}", "is it whole?"
        ) from None


def clozes(path: Path) -> Iterator[Item]:
    """The Children's Book Test: which of ten words fills the gap, judged by it and the rest of the sentence."""
    for name, (story, question, answer, options) in rows(path, "sentences", "question", "answer", "options"):
        parts = question.split(_BLANK) if isinstance(question, str) else []
        listed = isinstance(story, list) and isinstance(options, list)
        if len(parts) != 2 or not listed or not all(isinstance(text, str) and text for text in [*story, *options]):
            raise UsageError(f"{name} is no question with one {_BLANK}, sentences and options", "is it the right file?")
        if answer not in options:
            raise UsageError(f"{name} has an answer that is no option", "is it the right file?")
        context = " ".join([*story, parts[0]])
        endings = tuple(option + parts[1] for option in options)
        yield Choice(context, tuple(options), options.index(answer), endings, name)


def minimal_pairs(path: Path) -> Iterator[Item]:
    """BLiMP: which of two sentences is grammatical."""
    for name, pair in rows(path, "sentence_good", "sentence_bad"):
        if not all(isinstance(text, str) and text for text in pair):
            raise UsageError(f"{name} has an empty sentence", "is it the right file?")
        yield Pair("", pair, 0, name=name)
