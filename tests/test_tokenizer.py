"""Text -> ids -> text, whole characters, and the real GPT-2 files where they are at hand."""

import itertools
import json
import random

import pytest
from checkpoints import END, small_tokenizer
from hypothesis import given
from hypothesis import strategies as st

from gpt2cli import paths
from gpt2cli.errors import CorruptFile
from gpt2cli.tokenizer import IdStream, TextStream, Tokenizer


@pytest.fixture(scope="module")
def tokenizer(checkpoint):
    return Tokenizer(checkpoint)


def streamed(tokenizer, ids):
    stream = TextStream(tokenizer)
    return [stream.push(token) for token in ids] + [stream.finish()]


TEXTS = [
    "",
    "the cat",
    "  two  spaces\n\n\ttab ",
    "naïve café",
    "日本語のテキスト",
    "🦜 parrot 👩‍👩‍👧",
    "a\0b",
    "\u202eright",
]


@pytest.mark.parametrize("text", TEXTS)
def test_round_trip(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(st.text())
def test_any_text_round_trips(checkpoint, text):
    tokenizer = Tokenizer(checkpoint)
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(st.lists(st.integers(0, 299), max_size=30))
def test_joined_pieces_equal_decode_of_all(checkpoint, ids):
    """Cut characters, stray continuation bytes and end tokens included; the library's own decode agrees."""
    tokenizer = Tokenizer(checkpoint)
    assert "".join(streamed(tokenizer, ids)) == tokenizer.decode(ids)
    assert tokenizer.decode(ids) == small_tokenizer().decode(ids, skip_special_tokens=False)


def test_an_emoji_of_several_tokens_arrives_whole(tokenizer):
    ids = tokenizer.encode("🦜")
    assert len(ids) == 4
    assert streamed(tokenizer, ids) == ["", "", "", "🦜", ""]


def test_a_cut_character_becomes_one_replacement(tokenizer):
    ids = tokenizer.encode("a🦜")[:3]
    assert streamed(tokenizer, ids) == ["a", "", "", "\ufffd"]


def test_end_of_text_in_text_is_text_unless_special(tokenizer):
    assert 299 not in tokenizer.encode(f"a{END}b")
    assert tokenizer.decode(tokenizer.encode(f"a{END}b")) == f"a{END}b"
    assert tokenizer.encode(f"a{END}b", special=True)[1] == 299
    assert 299 not in tokenizer.encode(f"a{END}b")
    assert tokenizer.end == 299


def test_ids_without_a_piece_are_nothing(tokenizer):
    assert tokenizer.bytes_of(5000) == b""
    assert tokenizer.decode([5000]) == ""


def test_vocab_and_merges_equal_tokenizer_json(checkpoint, tmp_path):
    state = json.loads((checkpoint / "tokenizer.json").read_text())["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(state["vocab"] | {END: 299}))
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in state["merges"]]
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    old, new = Tokenizer(tmp_path), Tokenizer(checkpoint)
    for text in (*TEXTS, f"the {END} sea"):
        assert old.encode(text) == new.encode(text)
        assert old.encode(text, special=True) == new.encode(text, special=True)
    assert old.end == 299


def test_truncation_and_templates_of_the_file_are_ignored(checkpoint, tmp_path):
    """Some fine-tunes are saved with a maximum length or with tokens put around every text."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = small_tokenizer()
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=50)
    tokenizer.post_processor = TemplateProcessing(single=f"{END} $A", special_tokens=[(END, 299)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert Tokenizer(tmp_path).encode("the cat and the dog") == Tokenizer(checkpoint).encode("the cat and the dog")


@pytest.mark.parametrize("content", ["", "{}", "not json", '{"model": null}'])
def test_broken_files_are_refused(content, tmp_path):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(CorruptFile, match="cannot read the tokenizer"):
        Tokenizer(tmp_path)


def test_no_tokenizer(tmp_path):
    with pytest.raises(CorruptFile, match="has no tokenizer"):
        Tokenizer(tmp_path)


def test_other_kinds_of_tokenizers_are_refused(tmp_path):
    from tokenizers import Tokenizer as Raw
    from tokenizers import decoders, models

    raw = Raw(models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    raw.decoder = decoders.WordPiece()
    raw.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(CorruptFile, match="WordPiece"):
        Tokenizer(tmp_path)


def test_the_real_gpt2_tokenizer(data, tmp_path):
    """Published ids, both file formats, and the streaming invariant on real text."""
    folder = data / "reference/tokenizer"
    real = Tokenizer(folder)
    assert real.encode("The dog") == [464, 3290]
    assert real.encode("I enjoy walking with my cute dog") == [40, 2883, 6155, 351, 616, 13779, 3290]
    assert real.end == 50256
    assert real.encode(END) == [27, 91, 437, 1659, 5239, 91, 29]
    assert real.encode(END, special=True) == [50256]
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    old = Tokenizer(tmp_path)
    lines = (data / "reference/lambada/lambada_test.jsonl").read_text(encoding="utf-8").splitlines()
    for line in [json.loads(line)["text"] for line in lines[::50]] + TEXTS:
        ids = real.encode(line)
        assert old.encode(line) == ids
        assert "".join(streamed(real, ids)) == line


def test_published_prompts_have_their_published_ids(data):
    real = Tokenizer(data / "reference/tokenizer")
    checked = 0
    for case in json.loads((data / "reference/known_outputs.json").read_text(encoding="utf-8")):
        prompt, ids = case.get("prompt"), case.get("prompt_ids")
        if isinstance(prompt, str) and isinstance(ids, list) and ids and isinstance(ids[0], int):
            assert real.encode(prompt, special=True) == ids, prompt
            checked += 1
    assert checked > 20


LONG = [*TEXTS, "word " * 5000, "x" * 30000, " \n" * 9000, "The cat  sat.\n\nIt's 3 o'clock, naïve 🦜! " * 900]


@pytest.mark.parametrize("text", LONG, ids=range(len(LONG)))
@pytest.mark.parametrize(("first", "last"), [(0, 10), (5, 20), (30, 1)])
def test_the_ends_are_those_of_the_whole(tokenizer, text, first, last):
    whole = tokenizer.encode(text)
    ids, cut = tokenizer.encode_ends(text, first, last)
    assert cut == (len(whole) > first + last)
    assert ids == (whole[:first] + whole[len(whole) - last :] if cut else whole)


def test_the_middle_of_a_long_text_is_not_encoded(tokenizer, monkeypatch):
    asked = []
    encode = Tokenizer.encode
    monkeypatch.setattr(Tokenizer, "encode", lambda self, text, **o: asked.append(len(text)) or encode(self, text, **o))
    tokenizer.encode_ends("the cat and the dog " * 100_000, 10, 50)
    assert sum(asked) < 20_000


def test_added_tokens_stand_for_themselves(tmp_path):
    tokenizer = small_tokenizer()
    tokenizer.add_tokens(["é", "<pad>", "two words"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    ours = Tokenizer(tmp_path)
    for text in ("café", "a<pad>b", "in two words. " * 900):
        assert ours.decode(ours.encode(text)) == text
        assert (
            ours.encode_ends(text, 3, 7)[0] == (ours.encode(text)[:3] + ours.encode(text)[-7:])[-10:] or len(text) < 99
        )


def test_added_tokens_json_continues_the_vocabulary(tmp_path):
    tokenizer = small_tokenizer()
    tokenizer.model.save(str(tmp_path))
    size = tokenizer.get_vocab_size(with_added_tokens=False)
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<b>": size + 1, "<a>": size}))
    ours = Tokenizer(tmp_path)
    assert ours.encode("x<b><a>")[1:] == [size + 1, size]
    assert ours.decode([size + 1, size]) == "<b><a>"
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<b>": size + 5}))
    with pytest.raises(CorruptFile, match=f"has the id {size + 5}"):
        Tokenizer(tmp_path)


def test_held_is_what_finish_returns(tokenizer):
    ids = tokenizer.encode("naïve 🦜 日本")
    for count in range(len(ids) + 1):
        stream = TextStream(tokenizer)
        for token in ids[:count]:
            stream.push(token)
        assert stream.held == stream.finish()


# IdStream


PIECES = [*"abc  \n\n'sred.,!12\t\r", "日本", "é", "😀", "e\u0301", "\u3000", "\xa0", "\x1c", END, "<|endof", "text|>"]


def encoded(tokenizer, text, size, *, special=False):
    stream = IdStream(tokenizer, special=special)
    ids = [token for start in range(0, len(text), size) for token in stream.push(text[start : start + size])]
    return ids + stream.finish()


@pytest.mark.parametrize("special", [True, False])
def test_streamed_ids_are_those_of_the_whole_text(monkeypatch, checkpoint, special):
    monkeypatch.setattr("gpt2cli.tokenizer._BLOCK", 150)
    rng = random.Random(1)
    for folder in (checkpoint, paths.data("models") / "tiny"):
        tokenizer = Tokenizer(folder)
        for _ in range(150):
            text = "".join(rng.choices(PIECES, k=rng.randint(0, 900)))
            assert encoded(tokenizer, text, rng.randint(1, 200), special=special) == tokenizer.encode(
                text, special=special
            )


def test_a_tokenizer_that_puts_a_space_before_streams_too(monkeypatch, checkpoint, tmp_path):
    monkeypatch.setattr("gpt2cli.tokenizer._BLOCK", 150)
    value = json.loads((checkpoint / "tokenizer.json").read_text())
    value["pre_tokenizer"]["add_prefix_space"] = True
    (tmp_path / "tokenizer.json").write_text(json.dumps(value))
    tokenizer = Tokenizer(tmp_path)
    assert tokenizer.encode("ab") == tokenizer.encode(" ab")
    for text in ("the cat, 'tis said;\nand the dog " * 60, "cat\n" * 300, "the-cat-and " + "cat-" * 200 + " dog" * 200):
        assert encoded(tokenizer, text, 40) == tokenizer.encode(text)


def test_a_long_added_token_is_not_torn(monkeypatch, tmp_path):
    monkeypatch.setattr("gpt2cli.tokenizer._BLOCK", 150)
    tokenizer = small_tokenizer()
    tokenizer.add_tokens(["<a-1-b-2-c-3-d-4-e-5-f-6-g-7-h-8>"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer(tmp_path)
    text = "the cat <a-1-b-2-c-3-d-4-e-5-f-6-g-7-h-8>" * 20
    assert tokenizer.encode(text).count(300) == 20
    for size in range(1, 60):
        assert encoded(tokenizer, text, size) == tokenizer.encode(text)


def test_little_of_a_stream_is_held(monkeypatch, checkpoint):
    monkeypatch.setattr("gpt2cli.tokenizer._BLOCK", 300)
    for text in ("the cat and " * 1000, "日本語。" * 3000, "cat\n" * 3000, "a1" * 6000):
        stream = IdStream(Tokenizer(checkpoint))
        given = [len(stream.push(text[start : start + 100])) for start in range(0, len(text), 100)]
        longest_wait = max(len(list(group)) for empty, group in itertools.groupby(given, key=lambda n: n == 0) if empty)
        assert longest_wait <= 8, text[:8]
