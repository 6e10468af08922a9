"""Text -> ids -> text, whole characters, and the real GPT-2 files where they are at hand."""

import itertools
import json
import os
import random
import threading
import time
from pathlib import Path

import pytest
from checkpoints import END, small_tokenizer
from conftest import assert_error
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt2cli import paths
from gpt2cli.errors import CorruptFile
from gpt2cli.tokenizer.tokenizer import IdStream, TextStream, Tokenizer


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


def in_eight_threads(work):
    """The results of work(number), between any two lines of which the others may run."""
    results, barrier = [None] * 8, threading.Barrier(8)

    def pause(frame, event, argument):
        if Path(frame.f_code.co_filename).name in ("tokenizer.py", "contextlib.py"):
            time.sleep(0)
            return pause
        return None

    def run(number):
        barrier.wait()
        try:
            results[number] = work(number)
        except BaseException as error:
            results[number] = error

    threading.settrace(pause)
    try:
        threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
    finally:
        threading.settrace(None)
    for thread in threads:
        thread.join(60)
    return results


def test_threads_that_read_special_tokens_and_threads_that_do_not(tokenizer):
    text = f"a{END}b the cat "
    expected = [tokenizer.encode(text, special=special) for special in (False, True)]
    results = in_eight_threads(lambda n: [tokenizer.encode(text, special=bool(n % 2)) for _ in range(15)])
    assert results == [[expected[n % 2]] * 15 for n in range(8)]


def test_stderr_outlives_threads_whose_tokenizer_may_panic(checkpoint, tmp_path, capfd):
    written = json.loads((checkpoint / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps(written | {"pre_tokenizer": splitting("[a-z]+")}))
    tokenizer = Tokenizer(tmp_path)
    assert (
        len({str(found) for found in in_eight_threads(lambda n: [tokenizer.encode("the cat") for _ in range(5)])}) == 1
    )
    os.write(2, b"still here")
    assert capfd.readouterr().err == "still here"


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


# the ends of a long text

LONG = [*TEXTS, "word " * 5000, "x" * 30000, " \n" * 9000, "The cat  sat.\n\nIt's 3 o'clock, naïve 🦜! " * 900]


def assert_ends(tokenizer, text, first, last, *, special=False):
    whole = tokenizer.encode(text, special=special)
    ids, cut = tokenizer.encode_ends(text, first, last, special=special)
    assert cut == (len(whole) > first + last)
    assert ids == (whole[:first] + whole[len(whole) - last :] if cut else whole)


@pytest.mark.parametrize("text", LONG, ids=range(len(LONG)))
@pytest.mark.parametrize(("first", "last"), [(0, 10), (5, 20), (30, 1)])
def test_the_ends_are_those_of_the_whole(tokenizer, text, first, last):
    assert_ends(tokenizer, text, first, last)


@pytest.fixture(scope="module")
def several(checkpoint, tmp_path_factory):
    """Tokenizers: small, built in, with added tokens that overlap text and each other, and GPT-2's if it is there."""
    folder = tmp_path_factory.mktemp("added")
    tokenizer = small_tokenizer()
    tokenizer.add_tokens(["é", "<pad>", "two words", "<a-1-b>", "aab"])
    tokenizer.save(str(folder / "tokenizer.json"))
    real = [Path(os.environ["GPT2CLI_TEST_DATA"]) / "reference/tokenizer"] if "GPT2CLI_TEST_DATA" in os.environ else []
    return [Tokenizer(path) for path in (checkpoint, paths.data("models") / "tiny", folder, *real)]


SCRIPTS = [
    *"abc  \n\n'sred.,!12\t\r中文字。，한",
    "日本",
    "é",
    "😀",
    "e\u0301",
    "\u3000",
    "\xa0",
    "\x1c",
    "ไทย",
    "नमस्ते",
    "مرحبا",
]
PARTS = [
    *SCRIPTS,
    END,
    "<|endof",
    "text|>",
    "<pad>",
    "two",
    " words",
    "<a-1",
    "-b>",
    "aab",
    "'ll",
    "don't",
    "----",
    "''",
]


@given(st.data())
@settings(max_examples=60)
@pytest.mark.long
def test_the_ends_of_texts_in_any_script(several, data):
    """And their streams, also where words are long and pieces short."""
    tokenizer = data.draw(st.sampled_from(several))
    parts = data.draw(st.lists(st.sampled_from(PARTS), min_size=1, max_size=5))
    rng = random.Random(data.draw(st.integers(0, 1 << 32)))
    text = "".join(rng.choices(parts, k=data.draw(st.sampled_from([10, 1000, 4000]))))
    first, last = data.draw(st.sampled_from([(0, 1), (0, 20), (4, 9)]))
    special = data.draw(st.booleans())
    assert_ends(tokenizer, text, first, last, special=special)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gpt2cli.tokenizer.tokenizer._BLOCK", 300)
        patch.setattr("gpt2cli.tokenizer.tokenizer._LONG", 20)
        assert_ends(tokenizer, text, first, last, special=special)
        size = data.draw(st.sampled_from([20, 500]))
        assert encoded(tokenizer, text, size, special=special) == tokenizer.encode(text, special=special)


@pytest.mark.parametrize(
    "unit", ["the cat and the dog ", "今天天气很好，我们去公园。", "今天天气很好", "abcdefghij", "cat\n", "🦜"]
)
@pytest.mark.long
def test_the_middle_of_a_long_text_is_not_encoded(several, unit, monkeypatch):
    asked = []
    encode = Tokenizer.encode
    monkeypatch.setattr(Tokenizer, "encode", lambda self, text, **o: asked.append(len(text)) or encode(self, text, **o))
    for tokenizer in several:
        tokenizer.encode_ends(unit * 50_000, 0, 50)
    assert sum(asked) < 30_000 * len(several)


@pytest.mark.parametrize("unit", ["a", "\n", "今天", "ACCA"])
@pytest.mark.long
def test_one_long_word_is_encoded_in_pieces(several, unit, monkeypatch):
    """Also where only all of the word says how it ends."""
    monkeypatch.setattr("gpt2cli.tokenizer.tokenizer._BLOCK", 5000)
    monkeypatch.setattr("gpt2cli.tokenizer.tokenizer._LONG", 200)
    asked = []
    encoded = Tokenizer._encoded
    for tokenizer in several:
        whole = tokenizer.encode(unit * 15_000)
        with monkeypatch.context() as patch:
            patch.setattr(
                Tokenizer, "_encoded", lambda self, text, s: asked.append(len(text)) or encoded(self, text, s)
            )
            assert tokenizer.encode_ends(unit * 15_000, 0, 50) == (whole[-50:], True)
            assert tokenizer.encode_ends(unit * 15_000, 3, 50) == (whole[:3] + whole[-50:], True)
    assert max(asked) < 20_000


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


# transformers' settings: the ids are those of its own classes


def gpt2_files(folder, form, **others):
    """tokenizer.json or vocab.json and merges.txt, and files beside it."""
    folder.mkdir(exist_ok=True)
    value = json.loads(small_tokenizer().to_str())
    if form == "json":
        (folder / "tokenizer.json").write_text(json.dumps(value | others.pop("changes", {})))
    else:
        (folder / "vocab.json").write_text(json.dumps(value["model"]["vocab"] | {END: 299}))
        merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in value["model"]["merges"]]
        (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    for name, content in others.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


BARE, SPACED = [66, 276], [271, 276]  # "cat" and " cat"


@pytest.mark.parametrize("form", ["json", "vocab"])
@pytest.mark.parametrize(
    ("config", "ids"),
    [
        ({}, BARE),
        ({"add_prefix_space": True}, SPACED),
        ({"add_prefix_space": False}, BARE),
        ({"add_prefix_space": True, "tokenizer_class": "GPT2Tokenizer"}, SPACED),
        ({"add_prefix_space": True, "tokenizer_class": "GPT2TokenizerFast"}, SPACED),
        ({"add_prefix_space": True, "tokenizer_class": "PreTrainedTokenizerFast"}, BARE),
    ],
)
def test_add_prefix_space(form, config, ids, tmp_path):
    assert Tokenizer(gpt2_files(tmp_path, form, tokenizer_config=config)).encode("cat") == ids


@pytest.mark.parametrize(
    ("config", "ids"),
    [
        ({"tokenizer_class": "PreTrainedTokenizerFast"}, SPACED),
        ({"tokenizer_class": "GPT2Tokenizer"}, BARE),
        ({}, BARE),
        (None, BARE),
    ],
)
def test_add_prefix_space_of_tokenizer_json(config, ids, tmp_path):
    splitter = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    settings = {} if config is None else {"tokenizer_config": config}
    folder = gpt2_files(tmp_path, "json", changes={"pre_tokenizer": splitter}, **settings)
    assert Tokenizer(folder).encode("cat") == ids


def declared(special=True, **flags):
    plain = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": special}
    return plain | flags


BOTH = {"300": declared(content="[PAD]"), "301": declared(special=False, content="<x>")}
TEXT = "a[PAD]b <x>c"
PAD, PLAIN_PAD = [300], [58, 47, 32, 35, 60]
X, PLAIN_X = [301], [27, 87, 29]


@pytest.mark.parametrize("form", ["json", "vocab"])
@pytest.mark.parametrize(
    ("files", "special", "plain"),
    [
        ({"tokenizer_config": {"added_tokens_decoder": BOTH}}, [PAD, X], [PLAIN_PAD, X]),
        ({"added_tokens": {"[PAD]": 300, "<x>": 301}}, [PAD, X], [PAD, X]),
        (
            {"added_tokens": {"<x>": 301, "[PAD]": 300}, "tokenizer_config": {"pad_token": "[PAD]"}},
            [PAD, X],
            [PLAIN_PAD, X],
        ),
        (
            {
                "added_tokens": {"[PAD]": 300, "<x>": 301},
                "special_tokens_map": {"pad_token": declared(content="[PAD]")},
            },
            [PAD, X],
            [PLAIN_PAD, X],
        ),
        ({"tokenizer_config": {"pad_token": "[PAD]"}}, [PAD, PLAIN_X], [PLAIN_PAD, PLAIN_X]),
        (
            {"special_tokens_map": {"pad_token": "[PAD]", "additional_special_tokens": ["<x>"]}},
            [PAD, X],
            [PLAIN_PAD, PLAIN_X],
        ),
        ({"tokenizer_config": {"extra_special_tokens": {"x_token": "<x>"}}}, [PLAIN_PAD, [300]], [PLAIN_PAD, PLAIN_X]),
    ],
)
def test_added_and_special_tokens_of_every_form(form, files, special, plain, tmp_path):
    tokenizer = Tokenizer(gpt2_files(tmp_path, form, **files))
    for ids, (pad, x) in ((tokenizer.encode(TEXT, special=True), special), (tokenizer.encode(TEXT), plain)):
        assert ids == [64, *pad, 65, 220, *x, 66]
    assert tokenizer.decode(tokenizer.encode(TEXT, special=True)) == TEXT


@pytest.mark.parametrize("special", [True, False])
def test_what_tokenizer_json_says_of_its_added_tokens(special, tmp_path):
    """The same rule; a token that is named as padding is special whatever the file says."""
    end = {"id": 299, "content": END} | declared()
    pad, x = {"id": 300} | declared(special, content="[PAD]"), {"id": 301} | declared(False, content="<x>")
    changes = {"added_tokens": [end, pad, x]}
    tokenizer = Tokenizer(gpt2_files(tmp_path, "json", changes=changes))
    assert tokenizer.encode(TEXT) == [64, *(PLAIN_PAD if special else PAD), 65, 220, 301, 66]
    tokenizer = Tokenizer(gpt2_files(tmp_path, "json", changes=changes, tokenizer_config={"pad_token": "[PAD]"}))
    assert tokenizer.encode(TEXT) == [64, *PLAIN_PAD, 65, 220, 301, 66]
    assert tokenizer.encode(TEXT, special=True) == [64, 300, 65, 220, 301, 66]


def test_the_end_token_is_special_whatever_tokenizer_json_says(tmp_path):
    changes = {"added_tokens": [{"id": 299, "content": END} | declared(False)]}
    tokenizer = Tokenizer(gpt2_files(tmp_path, "json", changes=changes))
    assert 299 not in tokenizer.encode(f"a{END}")
    assert tokenizer.encode(f"a{END}", special=True) == [64, 299]


def test_ids_are_not_drawn(tmp_path):
    model = json.loads(small_tokenizer().to_str())["model"] | {"dropout": 0.5}
    tokenizer = Tokenizer(gpt2_files(tmp_path, "json", changes={"model": model}))
    assert {tuple(tokenizer.encode("the cat and the dog")) for _ in range(20)} == {
        tuple(small_tokenizer().encode("the cat and the dog").ids)
    }


def test_a_token_that_takes_the_space_before_it(tmp_path):
    added = {"300": declared(special=False, content="<x>", lstrip=True)}
    folder = gpt2_files(tmp_path, "vocab", tokenizer_config={"added_tokens_decoder": added})
    tokenizer = Tokenizer(folder)
    assert tokenizer.encode("b <x>c") == [65, 300, 66]
    text = "the cat  <x> sat " * 900
    assert encoded(tokenizer, text, 50) == tokenizer.encode(text)
    assert_ends(tokenizer, text, 3, 9)


@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer_config": []},
        {"tokenizer_config": {"added_tokens_decoder": {"300": "x"}}},
        {"tokenizer_config": {"added_tokens_decoder": {"x": declared(content="x")}}},
        {"tokenizer_config": {"added_tokens_decoder": {"301": declared(content="<x>")}}},
        {"tokenizer_config": {"pad_token": 3}},
        {"special_tokens_map": {"pad_token": {"x": 1}}},
        {"added_tokens": {"<x>": "300a"}},
        {"added_tokens": {"<x>": [300]}},
    ],
)
def test_broken_settings_are_errors_with_their_names(files, tmp_path):
    (name,) = files
    with pytest.raises(CorruptFile) as error:
        Tokenizer(gpt2_files(tmp_path, "json", **files))
    assert f"{name}.json" in error.value.message + error.value.hint


# tokenizers from strangers


def replacing(pattern, content):
    return {"type": "Replace", "pattern": pattern, "content": content}


def splitting(*patterns):
    split = {"type": "Split", "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {"type": "Sequence", "pretokenizers": [*(split | {"pattern": {"Regex": p}} for p in patterns), level]}


@pytest.mark.parametrize(
    "changes",
    [
        {"normalizer": replacing({"String": "a"}, "a" * 100_000)},
        {"normalizer": {"type": "Sequence", "normalizers": [replacing({"String": "a"}, "aaaaaaaaaa")] * 9}},
        {"normalizer": {"type": "Prepend", "prepend": "a" * 1000}},
        {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}] * 1000}},
        {"normalizer": replacing({"Regex": "(a|aa)+$"}, "b")},
        {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [splitting()] * 20}},
        *(
            {"pre_tokenizer": splitting(p)}
            for p in (
                *("(a+)+$", "(?:a|b?)*c", "((?:ab*)?){3,}", r"(a)\1+", "((a+)c?)+", "a*" * 4 + "b"),
                *("a*a*b", "(?=a*a*b)a", "(?:a*)(?:a*)b", "(?:a*a*|c)b", "(?:a*(?:a*b)?)?c", "(?i)a+[ab]+$"),
                *("a{0,500}a{0,500}b", "a{0,99}" * 3 + "b", "a?" * 20 + "b", "(?:a|a)" * 20 + "b", "a{1,3}+b"),
            )
        ),
    ],
)
def test_what_may_take_any_memory_or_time_is_refused(changes, checkpoint, tmp_path, run):
    folder = gpt2_files(tmp_path / "model", "json", changes=changes)
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes((checkpoint / name).read_bytes())
    for command in ("generate", "tokens", "score"):
        assert_error(run(command, "-q", "-m", folder, "a" * 40 + "b"), 5, "tokenizer.json")


@pytest.mark.parametrize(
    "pattern",
    [
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+(?!\S)|\s+",
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\s++$|\s+",
        r"(?:\d{3})+(?!\d)|[(\[)]+|\(+",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lo}\p{M}]*[\p{Ll}\p{Lo}\p{M}]+(?i:'s|'t|'re)?|\p{N}{1,3}|\s*[\r\n]+|\s+(?!\S)",
        r"'(?i:[sdmt])|\p{L}++|\p{N}{1,3}+|\s*[\r\n]|\s++$",
        r"\p{N}{1,3}(?=(?:\p{N}{3})*(?:\P{N}|$))|(?i)\w+",
    ],
)
def test_patterns_that_others_use_are_taken(pattern, tmp_path):
    changes = {"pre_tokenizer": splitting(pattern), "normalizer": {"type": "NFKC"}}
    tokenizer = Tokenizer(gpt2_files(tmp_path, "json", changes=changes))
    for text in ("It's 1234567 (o'clock)  \n", "the cat " * 3000):
        assert tokenizer.decode(tokenizer.encode(text)) == text
        assert_ends(tokenizer, text, 3, 7)


def lines_of(run, capfd, folder):
    """What `tokens` writes to stderr, the library's own words included."""
    capfd.readouterr()
    result = run("tokens", "-q", "-m", folder, "ab" * 1000 + "c")
    said = (result.stderr + capfd.readouterr().err).splitlines()
    assert (result.code, result.stdout) == (5, "")
    assert [line.split(":")[0] for line in said] == ["error", "hint"]
    return said


@pytest.mark.long
def test_a_failure_of_the_library_is_an_error_line(tmp_path, run, monkeypatch, capfd):
    """Its regular expressions panic after ten million steps, and say so on stderr by themselves."""
    monkeypatch.setattr("gpt2cli.tokenizer.files._WAYS", 10**9)  # as of a pattern that is not seen through
    folder = gpt2_files(tmp_path, "json", changes={"pre_tokenizer": splitting("[ab]*[ab]*[ab]*$")})
    assert "fails on this text" in lines_of(run, capfd, folder)[0]
    with pytest.raises(CorruptFile):
        Tokenizer(folder).encode_ends("ab" * 300_000 + "c", 0, 9)


def test_other_failures_of_the_library_are_error_lines_too(tmp_path, run, capfd):
    """It panics on a text, or would while it reads the file."""
    steps = [{"type": "FixedLength", "length": 0}, *splitting()["pretokenizers"]]
    folder = gpt2_files(tmp_path / "1", "json", changes={"pre_tokenizer": splitting() | {"pretokenizers": steps}})
    assert "fails on this text" in lines_of(run, capfd, folder)[0]
    folder = gpt2_files(tmp_path / "2", "json")
    found = json.loads((folder / "tokenizer.json").read_text())
    found["model"]["continuing_subword_prefix"] = "##"
    (folder / "tokenizer.json").write_text(json.dumps(found))
    assert "marks what goes on within a word" in lines_of(run, capfd, folder)[0]


@pytest.mark.parametrize("added", [False, True])
def test_a_token_longer_than_any_word_costs_no_time(tmp_path, added):
    """Places to cut were looked for once for each of its bytes."""
    folder = gpt2_files(tmp_path, "json")
    found = json.loads((folder / "tokenizer.json").read_text())
    if added:
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
        found["added_tokens"].append({"id": 300, "content": "b" * 50_000, **flags})
    else:
        found["model"]["vocab"]["b" * 50_000] = 300
    (folder / "tokenizer.json").write_text(json.dumps(found))
    tokenizer = Tokenizer(folder)
    text = "abcdefgh" * 40_000
    assert_ends(tokenizer, text, 0, 9)
    assert encoded(tokenizer, text, 70_000) == tokenizer.encode(text)


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json"])
def test_files_too_large_to_be_true_are_not_read(name, tmp_path):
    folder = gpt2_files(tmp_path, "json" if name == "tokenizer.json" else "vocab")
    with (folder / name).open("wb") as file:
        file.truncate(3_000_000_000)
    with pytest.raises(CorruptFile, match=f"{name}: 3,000,000,000 bytes"):
        Tokenizer(folder)


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
@pytest.mark.long
def test_streamed_ids_are_those_of_the_whole_text(monkeypatch, checkpoint, special):
    monkeypatch.setattr("gpt2cli.tokenizer.tokenizer._BLOCK", 150)
    rng = random.Random(1)
    for folder in (checkpoint, paths.data("models") / "tiny"):
        tokenizer = Tokenizer(folder)
        for _ in range(150):
            text = "".join(rng.choices(PIECES, k=rng.randint(0, 900)))
            assert encoded(tokenizer, text, rng.randint(1, 200), special=special) == tokenizer.encode(
                text, special=special
            )


def test_a_tokenizer_that_puts_a_space_before_streams_too(monkeypatch, tmp_path):
    monkeypatch.setattr("gpt2cli.tokenizer.tokenizer._BLOCK", 150)
    tokenizer = Tokenizer(gpt2_files(tmp_path, "json", tokenizer_config={"add_prefix_space": True}))
    assert tokenizer.encode("ab") == tokenizer.encode(" ab")
    for text in ("the cat, 'tis said;\nand the dog " * 60, "cat\n" * 300, "the-cat-and " + "cat-" * 200 + " dog" * 200):
        assert encoded(tokenizer, text, 40) == tokenizer.encode(text)


def test_a_long_added_token_is_not_torn(monkeypatch, tmp_path):
    monkeypatch.setattr("gpt2cli.tokenizer.tokenizer._BLOCK", 150)
    tokenizer = small_tokenizer()
    tokenizer.add_tokens(["<a-1-b-2-c-3-d-4-e-5-f-6-g-7-h-8>"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer(tmp_path)
    text = "the cat <a-1-b-2-c-3-d-4-e-5-f-6-g-7-h-8>" * 20
    assert tokenizer.encode(text).count(300) == 20
    for size in range(1, 60):
        assert encoded(tokenizer, text, size) == tokenizer.encode(text)


def test_little_of_a_stream_is_held(monkeypatch, checkpoint):
    monkeypatch.setattr("gpt2cli.tokenizer.tokenizer._BLOCK", 300)
    for text in ("the cat and " * 1000, "日本語。" * 3000, "cat\n" * 3000, "a1" * 6000):
        stream = IdStream(Tokenizer(checkpoint))
        given = [len(stream.push(text[start : start + 100])) for start in range(0, len(text), 100)]
        longest_wait = max(len(list(group)) for empty, group in itertools.groupby(given, key=lambda n: n == 0) if empty)
        assert longest_wait <= 8, text[:8]
