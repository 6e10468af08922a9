"""gpt2 generate as people and scripts use it: what is on stdout, what on stderr, and the exit code."""

import json
import os
import re
import sys

import pytest
from checkpoints import make_checkpoint
from conftest import assert_error

from gpt2cli.errors import Terminated

PROMPT = "The old man"


@pytest.fixture
def gen(run, checkpoint):
    """gpt2 generate with the small random checkpoint, 12 tokens, seed 1, no notes."""

    def call(*argv, **options):
        defaults = ("--seed", 1) if "--beams" not in argv else ()
        return run("generate", "-m", checkpoint, "-q", "-n", 12, *defaults, *argv, **options)

    return call


def test_stdout_is_only_text(gen):
    result = gen(PROMPT, "--stats")
    assert result.code == 0
    assert result.stdout.endswith("\n")
    assert "seed 1" in result.stderr
    assert "tokens/s" in result.stderr
    quiet = gen(PROMPT)
    assert (quiet.stdout, quiet.stderr) == (result.stdout, "")


def test_same_seed_same_text_on_every_way_in(gen, tmp_path):
    (tmp_path / "prompt.txt").write_text(PROMPT + "\n")
    texts = {
        gen(PROMPT).stdout,
        gen("The", "old", "man").stdout,
        gen(stdin=PROMPT).stdout,
        gen(stdin=f"{PROMPT}\n").stdout,
        gen(stdin=f"{PROMPT}\r\n").stdout,
        gen(stdin=b"\xef\xbb\xbfThe old man").stdout,
        gen("-", stdin=PROMPT).stdout,
        gen("-", "man", stdin="The old\n").stdout,
        gen("The", "-", stdin="old man").stdout,
        gen("-f", tmp_path / "prompt.txt").stdout,
        gen("-f", "-", stdin=PROMPT).stdout,
        gen("-e", r"The\x20old man").stdout,
    }
    assert len(texts) == 1


def test_arguments_are_joined_by_nothing_after_white_space(gen):
    def prompt(*argv, **options):
        return json.loads(gen(*argv, "--json", **options).stdout)["prompt"]

    assert prompt("a", "b") == "a b"
    assert prompt("a\n", "b ", "c") == "a\nb c"
    assert prompt("-", "b", stdin="a\n\n") == "a\nb"
    assert prompt("-e", r"a\n\tb\\n\q") == "a\n\tb\\n\\q"
    assert prompt(r"a\n") == r"a\n"
    assert prompt("-e", r"\x2d", "a", stdin="unread") == "- a"


def test_echo_is_the_prompt_before_the_text(gen):
    text = gen(PROMPT).stdout
    assert gen(PROMPT, "--echo").stdout == PROMPT + text
    assert gen(PROMPT, "--no-echo").stdout == text


def test_echo_does_not_touch_json(gen):
    assert json.loads(gen(PROMPT, "--json", "--echo").stdout)["prompt"] == PROMPT


def test_samples_are_separated_and_in_order(gen):
    three = gen(PROMPT, "-N", 3).stdout.split("---\n")
    assert len(three) == 3
    assert three[0] == gen(PROMPT).stdout
    rows = [json.loads(line) for line in gen(PROMPT, "-N", 3, "--jsonl").stdout.splitlines()]
    assert [row["index"] for row in rows] == [0, 1, 2]
    assert [row["text"] for row in rows] == [text.removesuffix("\n") for text in three]
    nul = gen(PROMPT, "-N", 3, "-0").stdout
    assert nul == "".join(row["text"] + "\0" for row in rows)


def test_json_is_one_object_of_the_documented_shape(gen):
    result = gen(PROMPT, "-N", 2, "--json", "--logprobs", 3)
    value = json.loads(result.stdout)
    assert list(value) == [
        *("model", "revision", "precision", "device", "prompt", "prompt_ids", "seed", "settings"),
        *("samples", "timings"),
    ]
    assert (value["revision"], value["precision"], value["device"], value["seed"]) == (None, "int8", "cpu", 1)
    assert value["settings"]["temperature"] == 0.8
    assert value["settings"]["max_tokens"] == 12
    assert list(value["timings"]) == ["load_s", "first_token_s", "total_s", "tokens_per_second"]
    for index, sample in enumerate(value["samples"]):
        assert list(sample) == ["index", "text", "ids", "finish_reason", "logprobs"]
        assert sample["index"] == index
        assert sample["finish_reason"] in ("length", "end")
        assert [entry["id"] for entry in sample["logprobs"]] == sample["ids"]
        spoken = b"".join(bytes(entry["bytes"]) for entry in sample["logprobs"])
        assert spoken.decode(errors="replace") == sample["text"]
        for entry in sample["logprobs"]:
            assert len(entry["top"]) == 3
            assert entry["logprob"] <= entry["top"][0]["logprob"] <= 0
    line = json.loads(gen(PROMPT, "--jsonl").stdout)
    assert line["logprobs"] is None
    assert set(line) == (set(value) | set(value["samples"][0])) - {"samples"}


def test_ids_as_prompt(gen):
    ids = json.loads(gen(PROMPT, "--json").stdout)["prompt_ids"]
    value = json.loads(gen("--ids", " ".join(map(str, ids)), "--json").stdout)
    assert value["prompt"] == PROMPT
    assert value["samples"][0]["text"] + "\n" == gen(PROMPT).stdout


def test_a_model_without_tokenizer_runs_by_ids(run, tmp_path):
    make_checkpoint(tmp_path, tokenizer=False)
    result = run("generate", "-q", "-m", tmp_path, "--ids", "1 2 3", "-n", 4, "--seed", 1)
    assert len(result.stdout.split()) == 4
    assert all(word.isdigit() for word in result.stdout.split())
    assert_error(run("generate", "-q", "-m", tmp_path, "hello"), 5, "has no tokenizer", "--ids")


def test_stop_strings_and_escapes(gen):
    text = gen(PROMPT, "--seed", 4).stdout.removesuffix("\n")
    stop = text[6]
    assert gen(PROMPT, "--seed", 4, "--stop", stop).stdout == text.partition(stop)[0] + "\n"
    assert (
        gen(PROMPT, "--seed", 4, "-e", "--stop", f"\\x{ord(text[3]):02x}", "-r", stop).stdout.strip()
        == min((text.partition(text[3])[0], text.partition(stop)[0]), key=len).strip()
    )


def test_empty_prompt_and_special(gen):
    assert json.loads(gen("", "--json").stdout)["prompt_ids"] == [299]
    assert json.loads(gen("a<|endoftext|>b", "--special", "--json").stdout)["prompt_ids"][1] == 299
    assert 299 not in json.loads(gen("a<|endoftext|>b", "--json").stdout)["prompt_ids"]


@pytest.mark.parametrize("end", [0, 66])
def test_every_end_token_ends_a_text_whoever_generates_it(end, run, tmp_path):
    make_checkpoint(tmp_path, eos_token_id=5)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, 66]}))
    common = ("-q", "-m", tmp_path, "-n", 5, "--logit-bias", f"{end}=1000")
    (found,) = json.loads(run("generate", *common, "--json", PROMPT).stdout)["samples"]
    assert (found["ids"], found["finish_reason"]) == ([], "end")
    row = json.loads(run("batch", "-", *common, stdin=json.dumps({"prompt": PROMPT})).stdout)
    assert (row["ids"], row["finish_reason"]) == ([], "end")
    assert run("repl", *common, stdin=f"{PROMPT}\n").stdout.strip() == ""
    (found,) = json.loads(run("generate", *common, "--json", "--ignore-eos", PROMPT).stdout)["samples"]
    assert (len(found["ids"]), set(found["ids"]) & {0, 66}) == (5, set())


def test_logit_bias_by_id_and_by_text(gen):
    def ids(*argv):
        return json.loads(gen(PROMPT, "--greedy", "--json", *argv).stdout)["samples"][0]["ids"]

    assert set(ids("--logit-bias", "7=1000")) == {7}
    quoted = set(ids("--logit-bias", '"7"=1000'))
    assert len(quoted) == 1
    assert quoted != {7}
    assert set(ids("--logit-bias", "x=1000")) == set(ids("--logit-bias", '"x"=1000'))
    free = ids()
    assert free[0] not in ids("--logit-bias", f"{free[0]}=-inf")
    banned = json.loads(gen(PROMPT, "--json", "--logit-bias", "7=-inf").stdout)
    assert banned["settings"]["logit_bias"] == {"7": "-inf"}


def test_greedy_is_temperature_0(gen):
    assert gen(PROMPT, "--greedy").stdout == gen(PROMPT, "-t", 0, "--seed", 9).stdout


def test_beams(gen):
    result = gen(PROMPT, "--beams", 4, "-N", 2)
    assert len(result.stdout.split("---\n")) == 2
    assert gen(PROMPT, "--beams", 4).stdout == result.stdout.split("---\n")[0]


def test_max_length_alone_sets_the_length(gen, run, checkpoint):
    result = run("generate", "-q", "-m", checkpoint, "--max-length", 40, "--ignore-eos", "--json", PROMPT)
    value = json.loads(result.stdout)
    assert len(value["prompt_ids"]) + len(value["samples"][0]["ids"]) == 40


def test_zero_tokens(gen):
    assert gen(PROMPT, "-n", 0, "--echo").stdout == f"{PROMPT}\n"
    assert json.loads(gen(PROMPT, "-n", 0, "--json").stdout)["samples"][0]["finish_reason"] == "length"


def test_long_prompts_are_cut_with_a_notice(run, checkpoint):
    text = "the cat and the dog " * 30
    result = run("generate", "-m", checkpoint, "-n", 3, text)
    assert result.code == 0
    assert "its beginning was cut off" in result.stderr
    assert_error(run("generate", "-q", "-m", checkpoint, "--strict", text), 6, "--strict")


def test_output_file(gen, tmp_path):
    target = tmp_path / "out.txt"
    result = gen(PROMPT, "-o", target)
    assert result.stdout == ""
    assert target.read_text() == gen(PROMPT).stdout
    target.write_text("precious")
    assert_error(gen("-o", target, "-m", "nothing-like-it", PROMPT), 3)
    assert target.read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.txt"]
    assert_error(gen(PROMPT, "-o", tmp_path / "no/such/folder.txt"), 7, "folder.txt")


def test_environment_variables_and_precedence(gen, monkeypatch):
    monkeypatch.setenv("GPT2_TEMPERATURE", "0")
    monkeypatch.setenv("GPT2_TOP_K", "3")
    value = json.loads(gen(PROMPT, "--json", "--top-k", 5).stdout)
    assert value["settings"]["temperature"] == 0
    assert value["settings"]["top_k"] == 5
    monkeypatch.setenv("GPT2_TEMPERATURE", "warm")
    assert_error(gen(PROMPT), 2, "warm")


def test_a_variable_does_not_contradict_a_flag(gen, monkeypatch):
    monkeypatch.setenv("GPT2_TEMPERATURE", "1.5")
    assert gen(PROMPT, "--greedy").code == 0


def test_a_wrong_variable_is_named(gen, run, monkeypatch):
    monkeypatch.setenv("GPT2_TOP_P", "2")
    assert_error(gen(PROMPT), 2, "--top-p is 2.0", "unset GPT2_TOP_P, or give it another value")
    assert gen(PROMPT, "--top-p", "0.5").code == 0
    assert_error(gen(PROMPT, "--top-p", "3"), 2, "--top-p is 3.0", "hint: --top-p must be")
    monkeypatch.setenv("GPT2_SEED", "-5")
    assert_error(run("generate", PROMPT, "--top-p", "1"), 2, "unset GPT2_SEED", "0 to 2^53 - 1, or -1")


def test_minus_one_is_a_drawn_seed(gen, run, monkeypatch):
    monkeypatch.setenv("GPT2_SEED", "-1")
    seeds = {json.loads(run("generate", "-n", 1, PROMPT, "--json").stdout)["seed"] for _ in range(2)}
    assert len(seeds) == 2
    assert json.loads(gen(PROMPT, "--seed", 7, "--json").stdout)["seed"] == 7


@pytest.mark.long
def test_max_length_alone_ends_the_text(run):
    argv = ("-m", "tiny", PROMPT, "--max-length", 200, "--min-tokens", 150, "--ignore-eos", "--json")
    value = json.loads(run("generate", *argv).stdout)
    assert len(value["prompt_ids"]) + len(value["samples"][0]["ids"]) == 200
    assert value["settings"]["max_tokens"] is None


# Notes: one line on stderr, and none with -q


def test_files_are_one_text_in_their_order(run, tmp_path):
    for name, text in (("a", "The old man\n"), ("b", "and the sea\n")):
        (tmp_path / name).write_text(text)

    def prompt(*argv, **options):
        return json.loads(run("generate", "-n", 1, "--json", *argv, **options).stdout)["prompt"]

    assert prompt("-f", tmp_path / "a", "-f", tmp_path / "b") == "The old man\nand the sea"
    assert prompt("-f", tmp_path / "b", "-f", "-", stdin="x\n") == "and the sea\nx"
    assert_error(run("generate", "-f", "-", "-f", "-", stdin="x"), 2, "- stands twice")
    for name in "ab":
        (tmp_path / name).write_text("")
    assert_error(run("generate", "-f", tmp_path / "a", "-f", tmp_path / "b"), 2, "a' and '", "are empty")


@pytest.mark.parametrize(
    ("argv", "note"),
    [
        (["generate", "-n", 1, "story.txt"], "'story.txt' is taken as the text"),
        (["score", "story.txt"], "'story.txt' is taken as the text"),
        (["tokens", "-c", "story.txt"], "'story.txt' is taken as the text"),
        (["generate", "-n", 1, "The king "], "the prompt ends in a space"),
        (["generate", "-n", 1, "The king", "--stop", r"\n"], r"--stop '\n' is taken as it stands"),
    ],
)
def test_what_was_hardly_meant_gets_a_note(run, tmp_path, monkeypatch, argv, note):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "story.txt").write_text("Once upon a time")
    result = run(*argv)
    assert result.code == 0
    assert result.stderr.startswith(f"note: {note}")
    assert result.stderr.count("\n") == 1
    assert run(*argv, "-q").stderr == ""


@pytest.mark.long
def test_what_was_meant_gets_no_note(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "story.txt").write_text("Once upon a time")
    for argv in (
        ["generate", "-n", 1, "-f", "story.txt"],
        ["generate", "-n", 1, "story.txt", "is a name"],
        ["generate", "-n", 1, "x" * 5000],
        ["generate", "-n", 1, "The king", "--stop", r"\n", "-e"],
        ["generate", "-n", 1, "The king", "--stop", r"\d", "--stop", r"C:\xff"],
        ["score", "-f", "story.txt"],
    ):
        assert run(*argv).stderr.count("taken") == 0, argv


def test_verbose_says_what_is_used(run, checkpoint):
    result = run("generate", "-v", "-m", checkpoint, "-n", 1, PROMPT)
    assert "int8 on cpu" in result.stderr


def test_precisions(gen, run, checkpoint):
    assert json.loads(gen(PROMPT, "--precision", "int8", "--json").stdout)["precision"] == "int8"
    assert_error(gen(PROMPT, "--precision", "int3"), 2, "int3", "int8")


# Wrong input: one error line, one hint line, nothing on stdout


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["-t", "-1"], ["--temperature is -1.0"]),
        (["-t", "nan"], ["--temperature is nan"]),
        (["--top-p", "0"], ["--top-p is 0.0"]),
        (["--top-p", "1.01"], ["--top-p is 1.01"]),
        (["--top-k", "-1"], ["--top-k"]),
        (["--seed", "-2"], ["--seed"]),
        (["-n", "-2"], ["--max-tokens is -2", "0 or more, or -1"]),
        (["-n", "many"], ["many"]),
        (["-N", "0"], ["-N"]),
        (["--greedy", "-t", "1"], ["--greedy contradicts --temperature 1.0"]),
        (["--json", "--jsonl"], ["--json contradicts --jsonl"]),
        (["-q", "-v"], ["--quiet contradicts --verbose"]),
        (["--json", "-0"], ["--null contradicts --json"]),
        (["--logprobs", "2"], ["--logprobs", "--json"]),
        (["--ids", "1 2"], ["--ids"]),
        (["-n", "-1", "--json"], ["-n -1 contradicts --json"]),
        (["-n", "-1", "-N", "2"], ["-n -1 contradicts -N"]),
        (["--beams", "2", "--top-k", "4"], ["--beams contradicts --top-k"]),
        (["--min-tokens", "20"], ["--min-tokens 20"]),
        (["--stop", ""], ["--stop holds an empty text"]),
        (["--logit-bias", "7"], ["--logit-bias '7'"]),
        (["--logit-bias", "7=heavy"], ["--logit-bias '7=heavy'"]),
        (["--logit-bias", "zebra crossing=1"], ["tokens ("]),
        (["--logit-bias", "300=1"], ["token id 300 lies outside"]),
        (["--logit-bias", "3=inf"], ["--logit-bias is inf for 3"]),
        (["-f", "nowhere.txt"], ["nowhere.txt"]),
        (["--topk", "3"], ["--topk", "--top-k"]),
        (["--precision"], ["--precision"]),
        (["--threads", "99999"], ["--threads"]),
    ],
)
def test_usage_errors(run, checkpoint, argv, words):
    prompt = [] if argv[0] == "-f" else [PROMPT]
    assert_error(run("generate", "-q", "-m", checkpoint, "-n", "12", *prompt, *argv, stdin=""), 2, *words)


@pytest.mark.parametrize(("ids", "word"), [("one", "'one'"), ("", "empty"), ("5 300", "300"), ("-4", "-4")])
def test_ids_that_are_none(run, checkpoint, ids, word):
    assert_error(run("generate", "-q", "-m", checkpoint, "--ids", ids), 2, word)


def test_no_prompt(run):
    assert_error(run("generate"), 2, "no prompt")
    assert_error(run("generate", stdin=""), 2, "stdin is empty")
    assert_error(run("generate", "-", "-", stdin="x"), 2, "only once")


def test_stdin_that_is_not_utf8(run):
    assert_error(run("generate", stdin=b"caf\xe9 au lait"), 6, "stdin is not UTF-8: byte 0xe9 at offset 3")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("text", ["The cat sat.\n", "naïve – 猫\n", "Старик сказал: «да, и нет».\n"])
def test_windows_text_says_how_to_convert_it(run, tmp_path, encoding, text):
    """The hint's iconv makes the text again; without a mark at the beginning it is mostly UTF-8 too, with NULs."""
    data = text.encode(encoding)
    (tmp_path / "text").write_bytes(data)
    for argv in (
        ("generate", "-f", tmp_path / "text"),
        ("score", "-f", tmp_path / "text"),
        ("score", "x", "--context", tmp_path / "text"),
        ("tokens", "-f", tmp_path / "text"),
        ("repl", "-f", tmp_path / "text"),
    ):
        result = run(*argv, stdin="unused" if argv[0] == "repl" else None)
        assert_error(result, 6, f"is {encoding[:6].upper()}, not UTF-8", "iconv -f UTF-")
    name = re.search(r"iconv -f (\S+) -t UTF-8", run("generate", stdin=data).stderr)[1]
    assert data.decode(name.lower()) == text


def test_bytes_that_are_no_windows_text(run, tmp_path):
    for data in (b"caf\xe9\0", b"\0\0caf\xe9 au lait", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"):
        assert_error(run("generate", stdin=data), 6, "is not UTF-8: byte")
    for data in (b"a\0", b"one\0two\0three\0", b"\0" * 20, "\ufeffThe cat".encode()):
        assert run("generate", "-n", 1, stdin=data).code == 0


@pytest.mark.parametrize("content", ["", "\n", "\r\n", "\ufeff"])
def test_an_empty_file_is_no_prompt(run, tmp_path, content):
    (tmp_path / "prompt").write_bytes(content.encode())
    for argv in (["-f", tmp_path / "prompt"], ["-f", "-"], [], ["-"]):
        result = run("generate", *argv, stdin=content.encode())
        assert_error(result, 2, "is empty", 'or "" to start from nothing')
    assert run("generate", "-n", 1, "").code == 0
    assert run("score", "-m", "tiny", "x", "--context", tmp_path / "prompt").code == 0


def test_ids_as_json_prints_them(gen):
    ids = json.loads(gen(PROMPT, "--json").stdout)["prompt_ids"]
    for text in (str(ids), ",".join(map(str, ids)), f"\n{json.dumps(ids, indent=2)}\n"):
        assert json.loads(gen("--ids", text, "--json").stdout)["prompt_ids"] == ids


def test_unknown_models(run, tmp_path):
    assert_error(run("generate", "-m", "tinny", "x"), 3, "no model named 'tinny'", "did you mean tiny?")
    assert_error(run("generate", "-m", tmp_path, "x"), 3, "is no checkpoint")
    assert_error(run("generate", "-m", "", "x"), 3, "name is empty", "gpt2 list")
    assert_error(run("generate", "--draft-model", "", "x"), 3, "name is empty")
    assert_error(run("generate", "-m", tmp_path / "nowhere", "x"), 3, "no folder")
    make_checkpoint(tmp_path / "foreign")
    (tmp_path / "foreign/model.safetensors").rename(tmp_path / "foreign/model.weights")
    assert_error(run("generate", "-m", tmp_path / "foreign", "x"), 3, "model.safetensors")
    (tmp_path / "file.bin").write_bytes(b"")
    assert_error(run("generate", "-m", tmp_path / "file.bin", "x"), 3, "is a file")


def test_a_folder_whose_path_is_no_text(run, odd_name, monkeypatch):
    odd_name.unlink()
    (odd_name / "m").mkdir(parents=True)
    assert_error(run("generate", "-m", odd_name, "x"), 3, "is not UTF-8 text", "another name")
    monkeypatch.chdir(odd_name)
    assert_error(run("generate", "-m", "./m", "x"), 3, "is not UTF-8 text")
    assert_error(run("config", "set", "model", "./m"), 2, "is not UTF-8 text")


@pytest.mark.skipif(sys.platform == "win32", reason="arguments are bytes on POSIX")
@pytest.mark.parametrize("command", ["generate", "score", "tokens"])
def test_an_argument_that_is_not_utf8(run, command):
    assert_error(run(command, os.fsdecode(b"caf\xe9")), 2, "the argument 'caf?' is not UTF-8 text")


def test_corrupt_files(run, tmp_path):
    make_checkpoint(tmp_path / "c")
    (tmp_path / "c/tokenizer.json").write_text("{")
    assert_error(run("generate", "-q", "-m", tmp_path / "c", "x"), 5, "tokenizer")
    make_checkpoint(tmp_path / "d")
    (tmp_path / "d/model.safetensors").write_bytes(b"\0" * 50)
    assert_error(run("generate", "-q", "-m", tmp_path / "d", "x"), 5, "model.safetensors")


def test_everything_banned(gen):
    assert_error(gen(PROMPT, *(f"--logit-bias={token}=-inf" for token in range(300))), 6, "every token is banned")


def test_max_length_shorter_than_the_prompt(gen):
    assert_error(gen(PROMPT, "--max-length", 1), 6, "--max-length is 1")


# What there is belongs to the user


@pytest.fixture
def dying(gen, monkeypatch):
    """gen(...) whose third text has every token banned after five steps."""
    from gpt2cli.generation.sampling import Sampler

    choose = Sampler.choose

    def call(*argv, **options):
        steps = iter(range(1000))

        def limited(self, logits, rows, banned=()):
            if next(steps) == 5:
                banned = range(logits.shape[1])
            return choose(self, logits, rows, banned)

        monkeypatch.setattr(Sampler, "choose", limited)
        return gen(PROMPT, "-N", 3, "--ignore-eos", *argv, **options)

    return call


def test_an_error_in_the_middle_keeps_the_text(dying, gen, tmp_path):
    whole = gen(PROMPT, "-N", 3, "--ignore-eos", "-n", 5).stdout
    result = dying()
    assert result.code == 6
    assert result.stdout == whole
    assert [line.split(":")[0] for line in result.stderr.splitlines()] == ["error", "hint"]
    assert dying("-o", tmp_path / "out").code == 6
    assert (tmp_path / "out").read_text() == whole


def test_an_error_in_the_middle_keeps_the_json(dying):
    result = dying("--json")
    assert result.code == 6
    samples = json.loads(result.stdout)["samples"]
    assert [(len(sample["ids"]), sample["finish_reason"]) for sample in samples] == [(5, "interrupted")] * 3


def test_an_interrupted_text_has_what_was_held_back(gen, monkeypatch):
    """A stop string that began at the moment of Ctrl-C is text."""
    from gpt2cli.generation import texts

    text = json.loads(gen(PROMPT, "--json").stdout)["samples"][0]["text"]
    whole = texts.stream

    def interrupted(*positional, **named):
        for count, piece in enumerate(whole(*positional, **named), 1):
            yield piece
            if count == 6:
                raise KeyboardInterrupt

    monkeypatch.setattr(texts, "stream", interrupted)
    plain = gen(PROMPT)
    held = gen(PROMPT, "--stop", plain.stdout[2:-1] + "never")
    assert (plain.code, held.code) == (130, 130)
    assert held.stdout == plain.stdout
    assert text.startswith(plain.stdout[:-1].rstrip("\ufffd"))
    value = json.loads(gen(PROMPT, "--json", "--stop", plain.stdout[2:-1] + "never").stdout)
    assert value["samples"][0]["text"] == plain.stdout[:-1]
    assert value["samples"][0]["finish_reason"] == "interrupted"


@pytest.mark.parametrize(("reason", "code"), [(KeyboardInterrupt, 130), (Terminated, 143)])
def test_what_an_interruption_breaks_is_no_bug(gen, monkeypatch, reason, code):
    from gpt2cli.generation import texts

    def interrupted(*positional, **named):
        try:
            raise reason
        finally:
            raise RuntimeError("release unlocked lock")

    monkeypatch.setattr(texts, "stream", interrupted)
    result = gen(PROMPT)
    assert (result.code, result.stdout, result.stderr) == (code, "", "")


@pytest.mark.parametrize("options", [[], ["--json"], ["-o", "out"]])
def test_interrupted_beams_give_the_best_so_far(gen, monkeypatch, tmp_path, options):
    from gpt2cli.engine.engine import Engine

    expected = gen(PROMPT, "--beams", 3, "-n", 5, "--ignore-eos").stdout
    feed, calls = Engine.feed, []

    def interrupted(*positional, **named):
        calls.append(1)
        if len(calls) == 6:  # the prompt, and four tokens
            raise KeyboardInterrupt
        return feed(*positional, **named)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Engine, "feed", interrupted)
    result = gen(PROMPT, "--beams", 3, "--ignore-eos", *options)
    assert result.code == 130
    if "-o" in options:
        assert (tmp_path / "out").read_text() == expected
    elif options:
        sample = json.loads(result.stdout)["samples"][0]
        assert (sample["text"] + "\n", len(sample["ids"]), sample["finish_reason"]) == (expected, 5, "interrupted")
    else:
        assert result.stdout == expected


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (r"\xf0\x9f\xa6\x9c", "🦜"),
        (r"\ud83e\udd9c \u00e9", "🦜 é"),
        (r"\\x41 \q", r"\x41 \q"),
        (r"a\0b", "a\0b"),
    ],
)
def test_escapes_are_bytes_and_utf16(gen, written, meant):
    assert json.loads(gen("-e", written, "--json").stdout)["prompt"] == meant


def test_escapes_that_are_no_text(gen):
    assert_error(gen("-e", r"\xff"), 2, r"\xff are not UTF-8")
    assert_error(gen("-e", r"\ud83e"), 2, r"\ud83e are not UTF-16")


def test_escapes_reach_stops_and_biases(gen):
    value = json.loads(gen(PROMPT, "-e", "--logit-bias", r"\n=900", "--greedy", "--stop", r"\n\n", "--json").stdout)
    assert value["samples"][0]["finish_reason"] == "stop"


def test_a_dash_as_output_file_is_stdout(gen, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert gen(PROMPT, "-o", "-").stdout == gen(PROMPT).stdout
    assert list(tmp_path.iterdir()) == []


def test_text_that_begins_with_a_dash_gets_a_hint(run):
    assert_error(run("generate", "-5 degrees"), 2, "gpt2 generate -- TEXT")


def test_the_speed_of_beams_is_over_the_whole_time(gen):
    timings = json.loads(gen(PROMPT, "--beams", 3, "--json").stdout)["timings"]
    assert timings["tokens_per_second"] <= 12 / timings["first_token_s"] * 1.1


@pytest.mark.parametrize("name", ["x" * 300, "~nosuchuser/x", "a\0b", "x/" + "y" * 300])
def test_names_that_no_folder_can_have(run, name):
    assert_error(run("generate", "-m", name, "x"), 3, ascii(name[:5])[1:-1])


# The form of a text


def test_a_form_holds_on_every_way_out(gen, tmp_path):
    forms = {
        "regex": ("--regex", " [ab]{2}!", " [ab]{2}!"),
        "schema": ("--json-schema", "ok bool", r'\{"ok": (true|false)\}'),
        "choice": ("--choice", " yes", " yes"),
    }
    (tmp_path / "g.lark").write_text('start: " the " /[a-c]/ "."')
    (tmp_path / "s.json").write_text('{"enum": ["a", "b"]}')
    forms["grammar"] = ("--grammar", tmp_path / "g.lark", r" the [a-c]\.")
    forms["file"] = ("--json-schema", tmp_path / "s.json", '"(a|b)"')
    for flag, value, pattern in forms.values():
        argv = (flag, value, "-n", 40)
        assert re.fullmatch(f"{pattern}\n", gen(PROMPT, *argv).stdout)
        assert re.fullmatch(f"{pattern}\n---\n{pattern}\n", gen(PROMPT, *argv, "-N", 2).stdout)
        found = json.loads(gen(PROMPT, *argv, "--json").stdout)
        assert found["samples"][0]["finish_reason"] == "end"
        assert re.fullmatch(pattern, found["samples"][0]["text"])
        assert found["settings"]["constraint"]["kind"] in ("regex", "json_schema", "choice", "grammar")


def test_json_tells_how_probable_each_choice_is(gen, run, checkpoint, tmp_path):
    (tmp_path / "before.txt").write_text(PROMPT)
    choices = (" the cat", " the dog sat", " no")
    argv = [word for one in choices for word in ("--choice", one)]
    found = json.loads(gen(PROMPT, *argv, "--json").stdout)
    assert [one["text"] for one in found["choices"]] == [*choices]
    assert sum(one["share"] for one in found["choices"]) == pytest.approx(1)
    for one in found["choices"]:
        scored = run(
            "score", "-m", checkpoint, "--json", "--no-start", "--context", tmp_path / "before.txt", one["text"]
        )
        (text,) = json.loads(scored.stdout)["texts"]
        assert one["logprob"] == pytest.approx(text["logprob"], abs=1e-4)
        assert len(one["ids"]) == text["tokens"]
    assert found["samples"][0]["text"] in choices
    lines = [json.loads(line) for line in gen(PROMPT, *argv, "--jsonl", "-N", 2).stdout.splitlines()]
    assert [line["choices"] for line in lines] == [found["choices"]] * 2
    assert "choices" not in json.loads(gen(PROMPT, "--json").stdout)


def test_a_text_that_does_not_come_to_its_end_is_kept_and_told(run, checkpoint):
    argv = ("generate", "-m", checkpoint, "-s", 1, "-n", 5, "--regex", "[ab]{50}", PROMPT)
    told = run(*argv)
    assert told.code == 0
    assert re.fullmatch("[ab]{5,}\n", told.stdout)
    (note,) = told.stderr.splitlines()
    assert note == "note: the text does not have the form that was asked for: 5 tokens were not enough"
    strict = run(*argv, "--strict")
    assert (strict.code, strict.stdout) == (6, told.stdout)
    assert [line.split(":")[0] for line in strict.stderr.splitlines()] == ["error", "hint"]
    found = run(*argv, "--strict", "--json", "-N", 2)
    assert found.code == 6
    assert [one["finish_reason"] for one in json.loads(found.stdout)["samples"]] == ["incomplete"] * 2
    assert "2 texts do not have the form" in found.stderr


def test_a_wrong_form_is_told_before_anything_is_written(gen, tmp_path):
    target = tmp_path / "out.txt"
    target.write_text("before")
    (tmp_path / "g.lark").write_text('start: "a" |\n  )')
    for argv, code, words in [
        (["--regex", "(a"], 2, ["line 1, column 1", "unclosed group"]),
        (["--regex", "a", "--choice", "b"], 2, ["--regex contradicts --choice"]),
        (["--json-schema", '{"type":\n 1}'], 2, ["the JSON schema, line"]),
        (["--json-schema", "name, age foo"], 2, ["line 1, column 7", "'age foo'"]),
        (["--json-schema", tmp_path / "none.json"], 2, ["none.json"]),
        (["--grammar", tmp_path / "none"], 2, ["none"]),
        (["--grammar", tmp_path / "g.lark"], 2, ["line 2, column 3"]),
        (["--choice", ""], 2, ["empty text"]),
        (["--regex", r"[^\s\S]"], 6, ["nothing that this model can say"]),
    ]:
        assert_error(gen(PROMPT, *argv, "-o", target), code, *words)
        assert target.read_text() == "before"
