"""gpt2 generate --receipt and gpt2 replay: the same text again, and what is said where it is another one."""

import json
import os
import shutil

import numpy as np
import pytest
from checkpoints import make_checkpoint
from conftest import assert_error
from hub import NAME

from gpt2cli.generation.receipts import seal

PROMPT = "The old man"
# What is asked for, each in another way: `SMALL` is another model with the same tokenizer.
WAYS = {
    "drawn": [],
    "greedy": ["--greedy"],
    "several": ["-N", 3],
    "beams": ["--beams", 3, "-N", 2],
    "lookup": ["--greedy", "--lookup", "--precision", "fp32", "-n", 40],
    "lookup by itself": ["--greedy", "--precision", "fp32"],
    "draft model": ["--draft-model", "SMALL", "--seed", 3],
    "stop": ["--stop", "e", "--stop", "a"],
    "biased": ["--logit-bias", "5=-inf", "--logit-bias", "7=2.5", "--repeat-penalty", 1.3, "--no-repeat-ngram", 2],
    "filtered": ["-t", 1.7, "--top-k", 0, "--top-p", 0.9, "--min-p", 0.01, "--typical", 0.8],
    "beyond the window": ["-n", 150, "--keep", 4],
    "beyond the window, several": ["-n", 100, "-N", 2],
    "nothing": ["-n", 0],
    "short": ["--max-length", 9, "--min-tokens", 2],
}


@pytest.fixture
def gen(run, checkpoint, tmp_path, monkeypatch):
    """gpt2 generate with the small checkpoint, which writes r.json."""
    monkeypatch.chdir(tmp_path)

    def call(*argv, receipt="r.json", prompt=PROMPT, **options):
        defaults = [] if "--seed" in argv or "--beams" in argv else ["--seed", 1]
        length = [] if {"-n", "--max-length"} & set(argv) else ["-n", 12]
        words = [prompt] if prompt is not None else []
        return run(
            "generate", "-m", checkpoint, "-q", *defaults, *length, "--receipt", receipt, *argv, *words, **options
        )

    return call


@pytest.fixture
def changed(tmp_path):
    """changed(change): r.json with its object changed and sealed again, as the file c.json."""

    def call(change):
        facts = json.loads((tmp_path / "r.json").read_text())
        del facts["seal"]
        change(facts)
        (tmp_path / "c.json").write_text(json.dumps(facts | {"seal": seal(facts)}))
        return "c.json"

    return call


@pytest.mark.parametrize("way", WAYS)
def test_every_text_is_made_again(gen, run, tmp_path, way):
    make_checkpoint(tmp_path / "SMALL", seed=1, n_layer=1)
    result = gen(*WAYS[way])
    assert result.code == 0, result.stderr
    assert (tmp_path / "r.json").read_text().count("\n") == 1
    again = run("replay", "r.json")
    assert (again.code, again.stderr) == (0, ""), again.stdout
    assert again.stdout.startswith("r.json: the same, ")


def test_the_text_is_what_it_is_without_a_receipt(gen, run, checkpoint):
    for way in ("drawn", "several", "stop", "beams"):
        defaults = [] if way == "beams" else ["--seed", 1]
        expected = run("generate", "-m", checkpoint, "-q", "-n", 12, *defaults, *WAYS[way], PROMPT).stdout
        assert gen(*WAYS[way]).stdout == expected


def test_prompts_from_everywhere(gen, run, tmp_path):
    (tmp_path / "prompt.txt").write_text("the man <|endoftext|> the dog\n")
    for options in (
        {"stdin": "The old man\n"},
        {"stdin": "x" * 5000},  # cut to the window
        {"argv": ["--ids", "1 2 3"]},
        {"argv": ["-f", "prompt.txt", "--special"]},
        {"argv": [""], "prompt": None},
    ):
        argv = options.pop("argv", [])
        assert gen(*argv, prompt=None, **{key: value for key, value in options.items() if key != "prompt"}).code == 0
        assert run("replay", "r.json", stdin=b"not to be read").stdout.startswith("r.json: the same, 12 tokens")


def test_a_receipt_says_all(gen, tmp_path, checkpoint):
    value = json.loads(gen("-N", 2, "--json").stdout)
    facts = json.loads((tmp_path / "r.json").read_text())
    assert list(facts) == [
        *("receipt", "model", "draft_model", "versions", "machine", "prompt", "seed", "settings", "texts", "seal")
    ]
    assert facts["prompt"] == {"ids": value["prompt_ids"]}
    assert facts["seed"] == value["seed"]
    assert value["settings"].items() <= (facts["settings"] | {"draft_model": None}).items()
    assert [one["ids"] for one in facts["texts"]] == [one["ids"] for one in value["samples"]]
    assert set(facts["model"]["files"]) == {"model.onnx", "weights.safetensors", "tokenizer.json"}
    assert facts["model"]["name"] == str(checkpoint)
    assert facts["machine"]["threads"] == 1
    assert facts["versions"]["numpy"] == np.__version__


def test_the_receipt_in_the_json(gen, run, tmp_path):
    result = gen("--json", receipt="-")
    (tmp_path / "whole.json").write_text(result.stdout)
    assert list(json.loads(result.stdout))[-1] == "receipt"
    assert run("replay", "whole.json").stdout == "whole.json: the same, 12 tokens\n"
    assert run("replay", "-", stdin=result.stdout).stdout == "-: the same, 12 tokens\n"


def test_another_text_is_told_with_its_first_token(gen, run, tmp_path, checkpoint):
    gen("-n", 30, "--precision", "int4")
    result = run("replay", "--json", "-q", "--precision", "fp32", "r.json")
    assert (result.code, result.stderr) == (10, "")
    (row,) = json.loads(result.stdout)
    assert (row["same"], row["precision"], row["differences"]["precision"]) == (
        *(False, "fp32"),
        {"there": "int4", "here": "fp32"},
    )
    (text,) = row["texts"]
    first = text["first"]
    facts = json.loads((tmp_path / "r.json").read_text())
    ids, place = facts["texts"][0]["ids"], first["place"]
    argv = ("generate", "-m", checkpoint, "--precision", "fp32", "-q", "-n", 30, "-s", 1, "--json", "--logprobs", 300)
    here = json.loads(run(*argv, PROMPT).stdout)["samples"][0]
    assert here["ids"][:place] == ids[:place]
    assert (first["there"]["id"], first["here"]["id"]) == (ids[place], here["ids"][place])
    logprobs = {one["id"]: one["logprob"] for one in here["logprobs"][place]["top"]}
    expected = abs(logprobs[first["there"]["id"]] - logprobs[first["here"]["id"]])
    assert first["gap"] == pytest.approx(expected, abs=1e-5)
    assert first["gap"] == pytest.approx(abs(first["there"]["logit"] - first["here"]["logit"]))
    said = run("replay", "--precision", "fp32", "r.json")
    assert said.stdout.startswith(f"r.json: another text from token {place + 1} of 30: ")
    assert " apart)\n" in said.stdout
    assert said.stderr.startswith("note: not as it was there: precision int4 there, fp32 here; model.onnx ")


@pytest.mark.parametrize("way", ["several", "lookup", "beams", "stop", "beyond the window"])
def test_a_token_that_was_another_is_found_where_it_stands(gen, run, changed, way):
    gen(*WAYS[way])
    place = 3 if way != "stop" else 0

    def change(facts):
        facts["texts"][-1]["ids"][place] = 299 - facts["texts"][-1]["ids"][place]

    result = run("replay", "--json", changed(change))
    (row,) = json.loads(result.stdout)
    assert result.code == 10
    assert [text["same"] for text in row["texts"]] == [True] * (len(row["texts"]) - 1) + [False]
    first = row["texts"][-1]["first"]
    assert (first["place"], first["there"]["id"]) == (place, 299 - first["here"]["id"])
    assert (first["gap"] is None) == (way == "beams")


def test_a_text_that_ended_elsewhere(gen, run, changed):
    gen()

    def shorter(facts):
        del facts["texts"][0]["ids"][5:]

    assert 'another text from token 6 of 5: the end there, "' in run("replay", changed(shorter)).stdout
    longer = changed(lambda facts: facts["texts"][0]["ids"].append(7))
    assert "another text from token 13 of 13: " in run("replay", longer).stdout
    other = changed(lambda facts: facts["texts"][0].update(sha256="0" * 64))
    result = run("replay", other)
    assert (result.code, result.stdout) == (10, "c.json: the same tokens, but another text, or another end\n")


def test_what_is_not_as_it_was_is_said_before(gen, run, changed):
    gen()

    def change(facts):
        facts["versions"]["onnxruntime"] = "1.2.3"
        facts["machine"]["features"] = ["old", *(facts["machine"]["features"] or [])]
        facts["machine"]["cores"] = 999
        facts["model"]["files"]["model.onnx"] = "0" * 64

    result = run("replay", changed(change), "c.json")
    assert result.code == 0
    (note,) = result.stderr.splitlines()  # once
    for words in (
        *("model.onnx 000000000000 there, ", "onnxruntime 1.2.3 there, ", "features old there, no more here"),
        "cores 999 there, ",
    ):
        assert words in note
    assert run("replay", "-q", "c.json").stderr == ""


def test_threads_are_those_of_the_receipt_and_change_nothing(gen, run):
    gen("--threads", 2, "-n", 30)
    result = run("replay", "r.json")
    assert (result.code, result.stderr) == (0, "")
    result = run("replay", "--threads", 1, "r.json")
    assert (result.code, result.stderr) == (0, "note: not as it was there: threads 2 there, 1 here\n")


# Private receipts


def test_a_private_receipt_wants_its_prompt(gen, run, tmp_path):
    gen("--private", prompt="the secret <|endoftext|> of the sea")
    written = (tmp_path / "r.json").read_text()
    prompt = json.loads(written)["prompt"]
    assert list(prompt) == ["tokens", "salt", "sha256", "special"]
    assert "secret" not in written
    words = "the secret <|endoftext|> of the sea"
    (tmp_path / "prompt.txt").write_text(words + "\n")
    ids = run("tokens", "-m", json.loads(written)["model"]["name"], "--ids", words).stdout
    same = "r.json: the same, 12 tokens\n"
    for argv in (
        ["--prompt", words],
        ["-f", "prompt.txt"],
        ["--ids", ids],
        ["-e", "--prompt", words.replace(" ", r"\x20")],
    ):
        assert run("replay", *argv, "r.json").stdout == same
    assert run("replay", "r.json", stdin=words).stdout == same
    assert run("replay", "--prompt", "-", "r.json", stdin=words).stdout == same
    for nothing in ({}, {"stdin": b""}):
        assert_error(run("replay", "r.json", **nothing), 2, "the receipt is private", "--prompt")
    assert_error(run("replay", "--prompt", f"{words} ", "r.json"), 2, "not the receipt's prompt", "space")
    assert_error(run("replay", "-", stdin=written), 2, "the receipt is private")
    assert_error(run("replay", "-", "-f", "-", stdin=written), 2, "both be stdin's")
    assert_error(run("replay", "r.json", "--ids", "1", "--prompt", words), 2, "two ways")


def test_a_private_prompt_is_read_as_it_was(gen, run):
    gen("--private", "--special", prompt="the sea<|endoftext|>")
    assert run("replay", "--prompt", "the sea<|endoftext|>", "r.json").code == 0


def test_two_private_receipts_of_one_prompt_have_nothing_in_common(gen, tmp_path):
    hashes = set()
    for _ in range(2):
        gen("--private")
        hashes.add(json.loads((tmp_path / "r.json").read_text())["prompt"]["sha256"])
    assert len(hashes) == 2


def test_a_prompt_for_a_receipt_that_has_its_own_must_be_that(gen, run):
    gen()
    assert run("replay", "--prompt", PROMPT, "r.json").code == 0
    assert_error(run("replay", "--prompt", "The dog", "r.json"), 2, "not the receipt's prompt")


# Receipts that are none


def test_receipts_that_are_none(gen, run, tmp_path):
    gen()
    written = (tmp_path / "r.json").read_text()

    def bad(text):
        (tmp_path / "bad.json").write_bytes(text if isinstance(text, bytes) else text.encode())
        return run("replay", "bad.json")

    for torn in (written[:500], '{"receipt": NaN', '{"receipt":' * 100_000):
        assert_error(bad(torn), 5, "bad.json: this is ")
    for other in ("", "text", b"\xff\xfe\x00", "[" * 100_000):
        assert_error(bad(other), 5, "bad.json: there is no receipt in it")
    assert_error(bad("[1]"), 5, "no receipt")
    for other in ('{"model": "tiny"}', '{"receipt": null}'):
        assert_error(bad(other), 5, "no receipt in it", "--receipt FILE")
    assert_error(bad('{"receipt": "yes"}'), 5, "this is no receipt")
    assert_error(bad(written.replace('"receipt": 1', '"receipt": 2')), 5, "schema 2", "upgrade")
    assert_error(bad(written.replace('"seed": 1', '"seed": 2')), 5, "was changed after it was written")
    assert_error(bad(written.replace('"seal"', '"sael"')), 5, "damaged: 'seal' is missing")
    assert_error(run("replay", "none.json"), 2, "none.json: cannot be read: ", "path")
    assert_error(run("replay", "-"), 2, "no receipt on stdin")
    assert_error(run("replay", "-", "-", stdin=written), 2, "stdin can be read only once")


CHANGES = {
    "a parameter out of range": lambda facts: facts["settings"].update(top_p=5),
    "a text for a number": lambda facts: facts["settings"].update(top_k="many"),
    "samples without end": lambda facts: facts["settings"].update(samples=10**12),
    "no texts": lambda facts: facts.update(texts=[]),
    "an id that is none": lambda facts: facts["texts"][0].update(ids=[1.5]),
    "no settings": lambda facts: facts.pop("settings"),
    "a model that is none": lambda facts: facts.update(model="tiny"),
    "files that are none": lambda facts: facts["model"].update(files=["model.onnx"]),
    "no prompt": lambda facts: facts.update(prompt={}),
    "a prompt that is none": lambda facts: facts.update(prompt={"ids": "1 2"}),
    "biases that are none": lambda facts: facts["settings"].update(logit_bias={"the": 1}),
    "versions that are none": lambda facts: facts.update(versions=None),
    "threads that are none": lambda facts: facts["machine"].update(threads=None),
    "threads below none": lambda facts: facts["machine"].update(threads=-1),
    "threads without end": lambda facts: facts["machine"].update(threads=100_000_000_000),
}


@pytest.mark.parametrize("change", CHANGES)
def test_receipts_that_somebody_has_made_up(gen, run, changed, change):
    gen()
    assert_error(run("replay", changed(CHANGES[change])), 5, "c.json: the receipt is damaged: ")


def test_long_words_of_a_receipt_are_cut(gen, run, changed):
    gen()
    result = run("replay", changed(lambda facts: facts["versions"].update(numpy="9" * 5000)))
    assert result.code == 0
    assert f"numpy {'9' * 80}... there" in result.stderr
    result = run("replay", changed(lambda facts: facts["model"].update(name="m" * 5000, repository=None)))
    assert_error(result, 5, "damaged: a name has more than 1024 characters")


def test_receipts_of_what_cannot_be_here(gen, run, changed, tmp_path):
    gen()
    assert_error(run("replay", changed(lambda facts: facts["prompt"].update(ids=[1] * 65))), 6, "does not fit")
    assert_error(run("replay", changed(lambda facts: facts["prompt"].update(ids=[]))), 6, "does not fit")
    assert_error(run("replay", changed(lambda facts: facts["prompt"].update(ids=[5000]))), 2, "5000 lies outside")
    gone = str(tmp_path / "gone")
    assert_error(run("replay", changed(lambda facts: facts["model"].update(name=gone))), 3, gone)
    assert_error(run("replay", changed(lambda facts: facts["model"].update(precision="int2"))), 2, "int2")


def test_a_model_that_lies_elsewhere_now(gen, run, changed, tmp_path, checkpoint):
    gen()
    shutil.copytree(checkpoint, tmp_path / "here")
    path = changed(lambda facts: facts["model"].update(name="gone"))
    result = run("replay", "-q", "-m", "here", path)
    assert (result.code, result.stdout) == (0, "c.json: the same, 12 tokens\n")
    make_checkpoint(tmp_path / "other", seed=5)
    result = run("replay", "-m", "other", path)
    assert result.code == 10
    assert "weights.safetensors" in result.stderr


# Many


def test_many_receipts_go_on_after_one_that_fails(gen, run, tmp_path):
    lines = []
    for seed in (1, 2, 3):
        gen("--seed", seed)
        lines.append((tmp_path / "r.json").read_text())
    lines[1] = lines[1].replace('"seed": 2', '"seed": 5')
    records = [*lines[:2], '{"custom_id": "x", "error": "bad"}\n', json.dumps({"receipt": json.loads(lines[2])}) + "\n"]
    (tmp_path / "many.jsonl").write_text("".join(records) + "\n" + lines[0][:100])
    result = run("replay", "many.jsonl", "r.json")
    assert result.stdout == "".join(
        f"{place}: the same, 12 tokens\n" for place in ("many.jsonl:1", "many.jsonl:4", "r.json")
    )
    assert result.code == 5
    errors = [line for line in result.stderr.splitlines() if line.startswith("error")]
    assert errors == [
        "error: many.jsonl:2: the receipt was changed after it was written",
        "error: many.jsonl:6: this is cut off, or no JSON",
    ]
    (tmp_path / "many.jsonl").write_text(f"torn\n{{\n{lines[0]}")  # whatever stands before
    result = run("replay", "many.jsonl")
    assert (result.code, result.stdout) == (5, "many.jsonl:3: the same, 12 tokens\n")
    assert [line for line in result.stderr.splitlines() if line.startswith("error")] == [
        "error: many.jsonl:1: there is no receipt in it",
        "error: many.jsonl:2: this is cut off, or no JSON",
    ]
    (tmp_path / "many.jsonl").write_text("".join(records[2:]))
    result = run("replay", "many.jsonl", "r.json", "--json")
    assert [row["receipt"] for row in json.loads(result.stdout)] == ["many.jsonl:2", "r.json"]
    assert result.stderr == "note: many.jsonl: 1 line without a receipt passed over\n"


def test_one_model_is_opened_once(gen, run, tmp_path, monkeypatch):
    from gpt2cli import model

    gen()
    opened, real = [], model.open_model
    monkeypatch.setattr(model, "open_model", lambda *argv, **named: opened.append(1) or real(*argv, **named))
    assert run("replay", "r.json", "r.json", "r.json").code == 0
    assert len(opened) == 1


def test_what_other_programs_write_again_is_the_same(gen, run, tmp_path):
    """Indented, in another order, with 1 for 1.0."""
    gen("-t", "1.0")

    def rewritten(value):
        if isinstance(value, dict):
            return {key: rewritten(value[key]) for key in sorted(value)}
        if isinstance(value, list):
            return list(map(rewritten, value))
        return int(value) if isinstance(value, float) and value.is_integer() else value

    facts = rewritten(json.loads((tmp_path / "r.json").read_text()))
    (tmp_path / "r.json").write_text(json.dumps(facts, indent=4))
    assert run("replay", "r.json").code == 0


# How it is written


def test_contradictions(gen, run):
    for argv, words in (
        (["--receipt", "-"], "stdout is the text's"),
        (["--receipt", "-", "--jsonl"], "stdout is the text's"),
        (["--private"], "--private is about a receipt"),
        (["--private", "--receipt", "-", "--json"], "--private contradicts --receipt -"),
        (["--receipt", "x", "-o", "./x"], "would both be 'x'"),
        (["--receipt", "x", "--server", "http://127.0.0.1:9"], "--receipt contradicts --server"),
    ):
        assert_error(run("generate", *argv, "x"), 2, words)


def test_a_receipt_that_cannot_be_written_is_told_before_the_work(gen, tmp_path):
    assert_error(gen(receipt=tmp_path / "no" / "r.json"), 7, "cannot write to")


@pytest.mark.parametrize("count", [0, 1, 6])
def test_interrupted_text_has_a_receipt_as_far_as_it_came(gen, run, monkeypatch, tmp_path, count):
    from gpt2cli.generation import texts

    (tmp_path / "r.json").write_text("before")
    whole = texts.stream

    def interrupted(*positional, **named):
        for number, piece in enumerate(whole(*positional, **named)):
            if number == count:
                raise KeyboardInterrupt
            yield piece

    with monkeypatch.context() as patch:
        patch.setattr(texts, "stream", interrupted)
        assert gen("-n", -1).code == 130
    if not count:
        assert (tmp_path / "r.json").read_text() == "before"
        return
    assert json.loads((tmp_path / "r.json").read_text())["texts"][0]["finish_reason"] == "interrupted"
    assert run("replay", "r.json").stdout == f"r.json: the same, {count} token{'s' * (count > 1)}\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.json"]


def test_interrupted_beams_have_none(gen, monkeypatch, tmp_path):
    from gpt2cli.engine.engine import Engine

    feed, calls = Engine.feed, []

    def interrupted(*positional, **named):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return feed(*positional, **named)

    monkeypatch.setattr(Engine, "feed", interrupted)
    result = gen("--beams", 3, "--ignore-eos")
    assert result.code == 130
    assert result.stdout
    assert "interrupted have no receipt" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.process
@pytest.mark.skipif(os.name != "posix", reason="POSIX pipes")
@pytest.mark.long
def test_where_the_reader_has_gone_there_is_no_receipt(spawn, checkpoint, tmp_path):
    process = spawn("generate", "-m", checkpoint, "-q", "-n", -1, "--receipt", tmp_path / "r.json", "x")
    process.stdout.read(1)
    process.stdout.close()
    assert process.wait(60) == 141
    assert list(tmp_path.iterdir()) == []


# The files of a model


def test_a_receipt_reads_no_weights(gen, monkeypatch, tmp_path):
    """Of what the store has written or downloaded the hashes are known."""
    import hashlib

    gen()
    read = []
    monkeypatch.setattr(hashlib, "file_digest", lambda file, name: read.append(file.name))
    assert gen().code == 0
    assert read == []


def test_other_weights_are_hashed_once(run, tmp_path, checkpoint, monkeypatch):
    """Those of an export in a folder of one's own, whose size and time stay."""
    from gpt2cli.store import builds, hashes

    monkeypatch.setattr(hashes, "_REMEMBERED", 0)
    monkeypatch.setenv("GPT2_CACHE", str(tmp_path / "cache"))
    assert run("export", "-q", checkpoint, tmp_path / "own").code == 0
    read, real = [], builds.fingerprint
    monkeypatch.setattr(builds, "fingerprint", lambda path: read.append(path.name) or real(path))
    argv = ("generate", "-q", "-m", tmp_path / "own", "-n", 3, "--receipt", tmp_path / "r.json", "x")
    assert run(*argv).code == 0
    assert sorted(read) == ["model.onnx", "tokenizer.json", "weights.safetensors"]
    assert run(*argv).code == 0
    assert len(read) == 3
    weights = tmp_path / "own/weights.safetensors"
    os.utime(weights, ns=(1, 1))
    assert run(*argv).code == 0
    assert read[3:] == ["weights.safetensors"]
    (tmp_path / "cache/hashes.json").write_text("{")
    assert run(*argv).code == 0
    assert len(read) == 7


@pytest.mark.long
@pytest.mark.hub
def test_the_model_is_pulled_at_the_commit_of_the_receipt(hub, files, run, tmp_path, monkeypatch):
    commit = hub.add(NAME, files)
    receipt = tmp_path / "r.json"
    assert run("generate", "-q", "-m", NAME, "-n", 8, "-s", 1, "--receipt", receipt, "The cat").code == 0
    model = json.loads(receipt.read_text())["model"]
    assert (model["repository"], model["revision"]) == (NAME, commit)
    make_checkpoint(tmp_path / "new", seed=5)
    hub.add(NAME, {path.name: path.read_bytes() for path in (tmp_path / "new").iterdir()})
    shutil.rmtree(tmp_path / "hf")
    shutil.rmtree(tmp_path / "cache")
    assert_error(run("replay", "--offline", receipt), 3, "not downloaded")
    result = run("replay", "-q", receipt)
    assert (result.code, result.stderr, result.stdout) == (0, "", f"{receipt}: the same, 8 tokens\n")
