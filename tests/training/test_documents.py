"""Texts as ids on disk: every kind of file, and every mistake in one."""

import io
import itertools
import json
import os
import sys

import pytest

pytest.importorskip("torch")

from gpt2cli.errors import CorruptFile, UsageError
from gpt2cli.tokenizer.tokenizer import Tokenizer
from gpt2cli.training import documents, sources

pytestmark = pytest.mark.train
END = 299


@pytest.fixture
def tokenizer(checkpoint):
    return Tokenizer(checkpoint)


@pytest.fixture
def gather(tokenizer, tmp_path):
    def call(*files, **options):
        target = tmp_path / "ids"
        target.mkdir(exist_ok=True)
        return documents.gather(files, target, tokenizer=tokenizer, end=END, vocabulary=300, **options)

    return call


def texts(corpus, tokenizer):
    """The documents again."""
    ids = corpus.ids.tolist()
    assert ids[-1] == END
    assert [ids[start] for start in corpus.starts] == [END] * len(corpus.starts)
    bounds = [*corpus.starts.tolist(), len(ids) - 1]
    return [tokenizer.decode(ids[a + 1 : b]) for a, b in itertools.pairwise(bounds)]


def test_a_file_is_a_document_and_so_is_what_stands_between_marks(gather, tokenizer, tmp_path):
    one, two = tmp_path / "one.txt", tmp_path / "two.md"
    one.write_text("the cat\n\nthe dog")
    two.write_text("<|endoftext|>the sea<|endoftext|>\n \n<|endoftext|>the man<|endoftext|>")
    found = gather(one, two)
    assert texts(found, tokenizer) == ["the cat\n\nthe dog", "the sea", "the man"]
    assert found.facts.documents == 3
    assert found.facts.nbytes == len("the cat\n\nthe dogthe seathe man")


def test_split_on_names_another_mark(gather, tokenizer, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("the cat\n---\nthe dog\n---\nthe <|endoftext|> sea")
    assert texts(gather(path, split_on="\n---\n"), tokenizer) == ["the cat", "the dog", "the <|endoftext|> sea"]


def test_a_mark_across_the_blocks_that_are_read(gather, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_BLOCK", 7)
    path = tmp_path / "a.txt"
    path.write_text("the cät 🐈<|endoftext|>the dog<|end of it", encoding="utf-8")
    assert texts(gather(path), tokenizer) == ["the cät 🐈", "the dog<|end of it"]


def test_a_folder_gives_its_texts_sorted(gather, tokenizer, tmp_path):
    folder = tmp_path / "books"
    (folder / "b").mkdir(parents=True)
    (folder / "b/2.txt").write_text("two")
    (folder / "a.md").write_text("one")
    (folder / "c.jsonl").write_text('{"text": "three"}\n\n{"text": "four"}')
    (folder / "picture.png").write_bytes(b"\x89PNG\0")
    assert texts(gather(folder), tokenizer) == ["one", "two", "three", "four"]


def test_of_a_folder_suffixes_may_be_capitals_and_what_is_hidden_or_a_model_is_left_out(gather, tokenizer, tmp_path):
    folder = tmp_path / ".books"
    (folder / ".git").mkdir(parents=True)
    (folder / ".git/a.txt").write_text("no")
    (folder / ".b.txt").write_text("no")
    (folder / "C.TXT").write_text("one")
    (folder / "model/run").mkdir(parents=True)
    for name in ("README.md", "run/plan.json", "run/metrics.jsonl"):
        (folder / "model" / name).write_text("no")
    (folder / "D.JSONL").write_text('{"text": "two"}')
    assert texts(gather(folder), tokenizer) == ["one", "two"]


def test_lines_of_windows_end_as_others(gather, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_BLOCK", 7)  # the first ends between the two bytes
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfcat\r\nthe\rdog\r\n\r\nsea\r")
    assert texts(gather(path, split_on="\n\n"), tokenizer) == ["cat\nthe\rdog", "sea\r"]


def test_of_prompt_and_completion_only_the_second_has_a_loss(gather, tokenizer, tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [{"prompt": "the cat ", "completion": "sat"}, {"text": "the dog"}]
    path.write_text("\n".join(map(json.dumps, rows)))
    found = gather(path)
    assert texts(found, tokenizer) == ["the cat sat", "the dog"]
    (prompt,) = found.prompts.tolist()
    assert tokenizer.decode(found.ids[prompt[0] : prompt[1]].tolist()) == "the cat "


def test_stdin_is_a_document(gather, tokenizer, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"the cat"), "utf-8"))
    assert texts(gather(sources.STDIN), tokenizer) == ["the cat"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"ab\xff", "byte 3 begins no character"),
        ("a.txt", b"cut in a character \xc3", "byte 20 begins no character"),
        ("a.txt", b"a\0b", "byte 2 is NUL"),
        ("a.jsonl", b'{"text": "a"}\nnonsense', "line 2"),
        ("a.jsonl", b'{"text": 3}', "line 1"),
        ("a.jsonl", b'{"prompt": "a"}', "line 1"),
        ("a.jsonl", b'["a"]', "line 1"),
        ("a.jsonl", b"[" * 100_000, "line 1"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "\\ud83d"}', r"line 2: \\ud83d is half a character"),
    ],
)
def test_what_is_no_text_is_refused_with_its_place(gather, tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CorruptFile, match=said):
        gather(path)


def test_what_is_not_there_is_refused(gather, tmp_path):
    with pytest.raises(UsageError, match="there is no"):
        gather(tmp_path / "none.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"has no \.txt"):
        gather(tmp_path / "empty")


def test_a_file_that_changes_meanwhile_is_refused(gather, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("the cat")

    def change(nbytes):
        path.write_text("another text")
        os.utime(path, (1, 1))

    with pytest.raises(CorruptFile, match="has changed"):
        gather(path, progress=change)


def test_a_file_that_vanishes_meanwhile_is_refused(gather, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("the cat")
    with pytest.raises(CorruptFile, match="has changed"):
        gather(path, progress=lambda nbytes: path.unlink(missing_ok=True))


def test_a_tokenizer_that_lacks_bytes_is_refused(gather, tmp_path, tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "encode", lambda text, special=False: [1] if text else [])
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "the cat"}')
    with pytest.raises(CorruptFile, match="leaves out"):
        gather(path)


def test_the_last_documents_are_held_out(gather, tmp_path, tokenizer):
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps({"text": f"the cat {n} went"}) for n in range(100)))
    found = gather(path)
    learnt, held = documents.split(found, 0.05)
    assert texts(learnt, tokenizer) + texts(held, tokenizer) == [f"the cat {n} went" for n in range(100)]
    assert 3 <= len(held.starts) <= 7


def test_a_single_document_is_cut(gather, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("the cat went to the sea " * 50)
    found = gather(path)
    learnt, held = documents.split(found, 0.05)
    assert len(learnt.ids) + len(held.ids) == len(found.ids) + 1
    assert 0.04 < len(held.ids) / len(found.ids) < 0.07
