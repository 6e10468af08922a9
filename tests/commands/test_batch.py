"""gpt2 batch as people and scripts use it: rows, answers, what goes wrong, and going on."""

import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest
from batch_rows import PROMPTS, mixed, objects, write
from conftest import assert_error
from documents import blocks

from gpt2cli import Constraint, Limits, Sampling, choices, complete
from gpt2cli.errors import BrokenPipe


@pytest.fixture
def batch(run, checkpoint, small):
    """gpt2 batch with the small random checkpoint, which has been exported."""

    def call(*argv, precision="fp32", **options):
        return run("batch", "-m", checkpoint, "--precision", precision, *argv, **options)

    return call


@pytest.fixture
def rows(tmp_path):
    return write(tmp_path / "rows.jsonl", mixed())


def answers(result):
    assert (result.code, result.stderr) == (0, "")
    return objects(result.stdout)


def test_lines_are_prompts_and_their_numbers_the_ids(batch, tmp_path):
    path = write(tmp_path / "prompts.txt", ["the cat", "", '{"prompt": "a"}', "the dog"])
    found = answers(batch(path, "-n", 4))
    assert [one["custom_id"] for one in found] == [1, 3, 4]
    assert all(len(one["ids"]) == 4 and one["finish_reason"] == "length" for one in found)
    stdin = path.read_text()
    assert answers(batch("--format", "lines", "-n", 4, stdin=stdin)) == found
    assert answers(batch("-", "--format", "lines", "-n", 4, stdin=stdin)) == found


def test_a_text_has_the_form_that_its_row_or_the_command_line_asks_for(batch, run, small, tmp_path):
    """And is what it is alone."""
    rows = [
        {"prompt": "the cat", "regex": "[a-z]{3,8}[.]", "seed": 4},
        {"prompt": "the dog"},
        {"prompt": "sea", "n": 3, "structured_outputs": {"choice": ["zzz", "the"]}},
        {"method": "POST", "url": "/v1/completions", "body": {"prompt": "the cat", "seed": 1, "choice": ["a", "sea"]}},
        {"prompt": "the cat", "regex": "("},
    ]
    result = batch(write(tmp_path / "rows.jsonl", rows), "--regex", "[ a-z]{5,9}[.]", "-n", 30)
    assert result.code == 9
    first, second, third, fourth, fifth = objects(result.stdout)
    form = Constraint("regex", "[a-z]{3,8}[.]")
    assert first["text"] == complete(small, "the cat", Sampling(seed=4), Limits(max_tokens=30), constraint=form)
    assert re.fullmatch("[ a-z]{5,9}[.]", second["text"])
    assert {one["text"] for one in third["samples"]} <= {"zzz", "the"}
    assert [(one["text"], one["share"]) for one in third["choices"]] == [
        (one.text, one.share) for one in choices(small, "sea", ["zzz", "the"])
    ]
    assert fourth["response"]["body"]["choices"][0]["text"] in ("a", "sea")
    assert "the regular expression" in fifth["error"]["message"]


def test_what_has_not_its_form_within_its_tokens(batch, tmp_path):
    path = write(tmp_path / "rows.jsonl", [{"prompt": "the cat", "regex": "[a-z]{200}"}])
    result = batch(path, "-n", 3)
    assert (result.code, objects(result.stdout)[0]["finish_reason"]) == (0, "incomplete")
    assert result.stderr == 'note: a text does not have the form that was asked for: finish_reason is "incomplete"\n'
    result = batch(path, "-n", 3, "--strict")
    assert result.code == 9
    assert "were not enough" in objects(result.stdout)[0]["error"]["message"]


def test_answers_may_have_receipts(batch, run, rows, tmp_path):
    many = write(tmp_path / "many.jsonl", [*mixed(3), {"prompt": "the cat", "n": 3, "regex": "[a-z]{3,9}[.]"}])
    assert batch(many, "--receipt", "-o", tmp_path / "answers.jsonl", "--rows", 2).code == 0
    result = run("replay", tmp_path / "answers.jsonl")
    assert (result.code, result.stdout.count("the same")) == (0, 4)
    assert "receipt" not in answers(batch(many))[0]


def test_the_first_line_says_what_rows_are_where_the_name_does_not(batch, tmp_path):
    path = write(tmp_path / "rows", [{"prompt": "the cat"}, {"prompt": "the dog", "custom_id": "b"}])
    found = answers(batch(path, "-n", 2))
    assert [one["custom_id"] for one in found] == [1, "b"]
    assert found == answers(batch("-n", 2, stdin=path.read_text()))
    assert [one["prompt_tokens"] for one in found] != [
        one["prompt_tokens"] for one in answers(batch(path, "-n", 2, "--format", "lines"))
    ]


def test_a_row_is_what_generate_makes_of_it_with_its_seed(batch, run, checkpoint, tmp_path):
    settings = {"temperature": 1.3, "top_k": 7, "stop": ["e"], "max_tokens": 12, "repeat_penalty": 1.2}
    path = write(tmp_path / "rows.jsonl", [{"prompt": "the cat"} | settings, {"prompt": "the dog"}])
    flags = ["-t", 1.3, "--top-k", 7, "--stop", "e", "-n", 12, "--repeat-penalty", 1.2]
    for argv, number, prompt in (([], 0, "the cat"), (flags, 1, "the dog")):
        one = answers(batch(path, *argv))[number]
        alone = run(
            *("generate", "-m", checkpoint, "--precision", "fp32", "--jsonl", *flags, "--seed", one["seed"], prompt)
        )
        (expected,) = objects(alone.stdout)
        assert {name: one[name] for name in ("text", "ids", "finish_reason")} == {
            name: expected[name] for name in ("text", "ids", "finish_reason")
        }


def test_a_row_says_what_is_otherwise_for_it(batch, tmp_path):
    rows = [
        {"prompt": "the cat", "max_tokens": 3},
        {"prompt": "the cat", "temperature": 0},
        {"prompt": "the cat", "seed": 7},
        {"prompt": [1, 2, 3], "n": 2, "logprobs": 1},
        {"prompt": "the cat", "beams": 2},
        {"prompt": "the cat", "max_length": 5},
        {"prompt": "the cat", "max_tokens": None},
    ]
    found = answers(batch(write(tmp_path / "rows.jsonl", rows), "-n", 6))
    assert [len(one.get("ids", ())) for one in found] == [3, 6, 6, 0, 6, 5 - found[5]["prompt_tokens"], 6]
    assert found[2]["seed"] == 7
    assert len({one["seed"] for one in found}) == len(found)
    assert [len(one["ids"]) for one in found[3]["samples"]] == [6, 6]
    assert [len(one["logprobs"]) for one in found[3]["samples"]] == [6, 6]
    assert found[3]["samples"][0]["ids"] != found[3]["samples"][1]["ids"]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.long
def test_a_line_is_the_same_whatever_runs_beside_it(batch, rows, tmp_path, precision):
    whole = batch(rows, precision=precision).stdout
    lines = whole.splitlines()
    assert len(lines) == 24
    for count in (1, 2, 5, 64):
        assert batch(rows, "--rows", count, precision=precision).stdout == whole
    parts = [batch(rows, "--shard", f"{part}/3", precision=precision).stdout for part in (1, 2, 3)]
    assert all(parts)
    assert sorted("".join(parts).splitlines()) == sorted(lines)
    assert sorted(batch(rows, "--unordered", precision=precision).stdout.splitlines()) == sorted(lines)
    backwards = write(tmp_path / "backwards.jsonl", rows.read_text().splitlines()[::-1])
    assert batch(backwards, precision=precision).stdout.splitlines() == lines[::-1]
    for number in (0, 7, 23):
        alone = write(tmp_path / "alone.jsonl", [rows.read_text().splitlines()[number]])
        assert batch(alone, precision=precision).stdout.splitlines() == [lines[number]]


@pytest.mark.parametrize("way", ["--score", "--embed"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_scores_and_vectors_are_the_same_whatever_is_computed_beside_them(batch, rows, precision, way):
    whole = batch(rows, way, precision=precision).stdout
    parts = [batch(rows, way, "--shard", f"{part}/5", precision=precision).stdout for part in range(1, 6)]
    assert sorted("".join(parts).splitlines()) == sorted(whole.splitlines())


def test_scores_and_vectors_are_those_of_their_commands(batch, run, checkpoint, tmp_path):
    path = write(tmp_path / "prompts.txt", PROMPTS[:6])
    common = ("-m", checkpoint, "--precision", "fp32", "-f", path)
    scores = objects(run("score", *common, "--jsonl").stdout)
    for one, expected in zip(answers(batch(path, "--score")), scores, strict=True):
        assert {name: expected[name] for name in ("tokens", "bytes", "logprob", "perplexity")}.items() <= one.items()
    vectors = objects(run("embed", *common, "--pooling", "last", "--normalize", "--layer", 1).stdout)
    found = answers(batch(path, "--embed", "--pooling", "last", "--normalize", "--layer", 1))
    assert [one["embedding"] for one in found] == [one["embedding"] for one in vectors]


def test_special_tokens_are_read_where_they_are_asked_for(batch, tmp_path):
    path = write(tmp_path / "rows.jsonl", [{"prompt": "a<|endoftext|>"}, {"prompt": "a<|endoftext|>", "special": True}])
    assert [one["tokens"] for one in answers(batch(path, "--embed"))][1] == 2
    assert [one["tokens"] for one in answers(batch(path, "--embed", "--special"))] == [2, 2]


def request(number, url="/v1/completions", **body):
    return {"custom_id": f"r{number}", "method": "POST", "url": url, "body": body}


def test_openais_format_is_answered_as_openai_does(batch, tmp_path):
    from openai.types import Completion, CreateEmbeddingResponse

    rows = [
        request(1, prompt="the cat", max_tokens=5, n=2, logprobs=1),
        request(2, prompt=["the dog", "a"], best_of=3, model="mine"),
        request(3, "/v1/embeddings", input=["the cat", "a"]),
        request(4, "/v1/embeddings", input="the cat", encoding_format="base64"),
        request(5, prompt="the cat", max_tokens=0, echo=True),
    ]
    path = write(tmp_path / "rows.jsonl", rows)
    found = answers(batch(path))
    assert [one["custom_id"] for one in found] == ["r1", "r2", "r3", "r4", "r5"]
    assert all(one["error"] is None and one["response"]["status_code"] == 200 for one in found)
    bodies = [one["response"]["body"] for one in found]
    completion = Completion.model_validate(bodies[0])
    assert [len(choice.logprobs.tokens) for choice in completion.choices] == [5, 5]
    assert completion.usage.completion_tokens == 10
    assert (bodies[1]["model"], len(bodies[1]["choices"])) == ("mine", 2)
    assert bodies[1]["usage"]["completion_tokens"] <= 2 * 3 * 16  # the schema's default
    embedding = CreateEmbeddingResponse.model_validate(bodies[2])
    assert [one.index for one in embedding.data] == [0, 1]
    assert isinstance(bodies[3]["data"][0]["embedding"], str)
    assert bodies[4]["choices"][0]["text"] == "the cat"
    assert batch(path, "--rows", 1).stdout == batch(path, "--rows", 9).stdout


def test_what_the_command_line_says_itself_holds_for_requests_too(batch, tmp_path):
    path = write(tmp_path / "rows.jsonl", [request(1, prompt="the cat"), request(2, prompt="the cat", max_tokens=2)])
    found = answers(batch(path, "-n", 5, "--greedy"))
    counts = [one["response"]["body"]["usage"]["completion_tokens"] for one in found]
    assert counts == [5, 2]


def test_what_a_request_gets_is_what_a_server_answers(batch, client, tmp_path):
    body = {"prompt": "the cat", "max_tokens": 6, "seed": 5, "logprobs": 2, "n": 2}
    (one,) = answers(batch(write(tmp_path / "rows.jsonl", [request(1, **body)])))
    served = client.complete(**body)
    assert [choice["text"] for choice in one["response"]["body"]["choices"]] == [
        choice["text"] for choice in served["choices"]
    ]


BAD = [
    ({"prompt": []}, "prompt is []; it must be a text, or a list of token ids"),
    ('{"prompt": ' + "9" * 5000 + "}", "the line is no JSON: it holds a number of too many digits"),
    ("{", "no JSON"),
    ("7", "no JSON object"),
    ({"prompt": 7}, "a text, or a list of token ids"),
    ({"text": "the cat"}, "prompt is missing"),
    ({"prompt": "a", "temperature": "hot"}, "temperature is 'hot'"),
    ({"prompt": "a", "top_p": 2}, "`top_p` is 2"),
    ({"prompt": [999]}, "999"),
    ({"prompt": "a", "max_tokens": -1}, "no end"),
    ({"prompt": "a", "custom_id": [1]}, "custom_id"),
    ({"prompt": "a b c", "max_length": 1}, "max_length"),
    ({"prompt": "a", "beams": 100}, "beams"),
    ('{"prompt": "\\ud800"}', "half a character"),
    ('{"prompt": NaN}', "NaN"),
    ("[" * 100_000, "JSON"),
    ({"prompt": "a", "logit_bias": {"1": "x"}}, "logit_bias"),
]


def test_bad_rows_are_answered_with_their_line_and_reason_and_the_others_go_on(batch, tmp_path):
    rows = [row for bad, _ in BAD for row in (bad, {"prompt": "the cat"})]
    result = batch(write(tmp_path / "rows.jsonl", rows), "-n", 2)
    assert result.code == 9
    assert [line.split(":")[0] for line in result.stderr.splitlines()] == ["error", "hint"]
    assert f"{len(BAD)} of {len(rows)} rows failed" in result.stderr
    found = objects(result.stdout)
    assert len(found) == len(rows)
    for number, (_, reason) in enumerate(BAD):
        bad, good = found[2 * number : 2 * number + 2]
        assert bad["error"]["line"] == 2 * number + 1
        assert reason in bad["error"]["message"]
        assert len(good["ids"]) == 2


def test_bytes_that_are_no_text_and_lines_without_an_end_are_bad_rows(batch, tmp_path, monkeypatch):
    monkeypatch.setattr("gpt2cli.batch.rows.MOST_BYTES", 1000)
    path = tmp_path / "prompts.txt"
    path.write_bytes(b"\xef\xbb\xbfthe cat\n\xff\xfe\xff\n" + b"a" * 5000 + b"\r\nthe dog\r\n")
    result = batch(path, "-n", 1)
    found = objects(result.stdout)
    assert (result.code, [one["custom_id"] for one in found]) == (9, [1, 2, 3, 4])
    assert ["error" in one for one in found] == [False, True, True, False]


def test_bad_requests_have_openais_error(batch, tmp_path):
    rows = [
        request(1, prompt="a", top_p=7),
        request(2, "/v1/chat/completions", messages=[]),
        request(3, "/v1/embeddings", input=""),
        {"custom_id": "r4", "method": "GET", "url": "/v1/completions", "body": {}},
        {"custom_id": "r5", "url": "/v1/completions", "body": []},
        request(6, prompt="a" * 500),
    ]
    result = batch(write(tmp_path / "rows.jsonl", rows))
    assert result.code == 9
    for number, one in enumerate(objects(result.stdout), 1):
        assert (one["custom_id"], one["response"]) == (f"r{number}", None)
        assert one["error"]["line"] == number
        assert one["error"]["code"]
        assert one["error"]["message"]


def test_a_field_that_means_nothing_is_told_once(batch, tmp_path):
    result = batch(write(tmp_path / "rows.jsonl", [{"prompt": "a", "label": 1}] * 3), "-n", 1)
    assert result.code == 0
    assert result.stderr.count("label") == 1


def test_what_cannot_begin_is_refused_at_once(batch, tmp_path, rows):
    twice = write(tmp_path / "twice.jsonl", [{"prompt": "a", "custom_id": "x"}, {"prompt": "b", "custom_id": "x"}])
    number = write(tmp_path / "number.jsonl", [{"prompt": "a", "custom_id": 2}, {"prompt": "b"}])
    utf16 = tmp_path / "utf16.txt"
    utf16.write_text("the cat", encoding="utf-16")
    for argv, words in (
        ([twice], ["lines 1 and 2 of", '"x"', 'give each row a "custom_id" of its own']),
        ([number], ["lines 1 and 2 of", "that of a row without one is the number of its line"]),
        ([tmp_path / "none.txt"], ["cannot read"]),
        ([utf16], ["UTF-16"]),
        ([write(tmp_path / "empty.txt", [""])], ["no rows"]),
        ([rows, "--shard", "0/3"], ["--shard '0/3'"]),
        ([rows, "--shard", "4/3"], ["--shard '4/3'"]),
        ([rows, "--shard", "a"], ["is not I/N"]),
        ([rows, "--format", "csv"], ["--format"]),
        ([rows, "--score", "--embed"], ["--score contradicts"]),
        ([rows, "--embed", "--pooling", "none"], ["--pooling 'none'"]),
        ([rows, "-n", "-1"], ["without an end"]),
        ([rows, "--beams", 99], ["--beams is 99"]),
        ([rows, "-N", 3, "--beams", 2], ["3 samples of 2 beams"]),
        ([rows, "--regex", "a(b"], ["line 1, column 2: unclosed group"]),
        ([rows, "--logit-bias", "99999=1"], ["the token id 99999"]),
        ([rows, "--score", "-N", 2], ["--num-samples means nothing with --score"]),
        ([rows, "--embed", "--beams", 2], ["--beams means nothing with --embed"]),
        ([rows, "--score", "--receipt"], ["--receipt means nothing with --score"]),
        ([rows, "--score", "--regex", "a"], ["--regex means nothing with --score"]),
        ([rows, "--score", "-n", 5], ["--max-tokens means nothing with --score"]),
        ([rows, "--embed", "--greedy"], ["--greedy means nothing with --embed"]),
        ([rows, "--embed", "--logprobs", 1], ["--logprobs means nothing with --embed"]),
        ([rows, "--score", "--normalize"], ["--normalize means nothing with --score"]),
        ([rows, "--layer", 1], ["--layer is for vectors"]),
        ([rows, "--restart"], ["--restart is for a file"]),
        ([rows, "-o", rows], ["both read and written"]),
        ([rows, "--embed", "--layer", 9, "-o", tmp_path / "never"], ["layer"]),
        ([], ["no rows"]),
    ):
        assert_error(batch(*argv), 2, *words)
    assert not (tmp_path / "never").exists()


# A file that grows


@pytest.mark.long
def test_a_file_goes_on_from_wherever_it_was_cut(batch, rows, tmp_path):
    whole = batch(rows).stdout.encode()
    out = tmp_path / "out.jsonl"
    assert batch(rows, "-o", out).code == 0
    assert out.read_bytes() == whole
    for cut in random.Random(0).sample(range(len(whole)), 12):
        out.write_bytes(whole[:cut])
        result = batch(rows, "-o", out)
        assert (result.code, out.read_bytes()) == (0, whole), cut


def test_the_answers_that_are_there_are_not_computed_again(batch, rows, tmp_path, monkeypatch):
    out = tmp_path / "out.jsonl"
    assert batch(rows, "-o", out).code == 0
    whole = out.read_bytes()

    def never(*_):
        raise AssertionError("computed again")

    monkeypatch.setattr("gpt2cli.batch.running.Runner._work", never)
    result = batch(rows, "-o", out)
    assert (result.code, out.read_bytes()) == (0, whole)
    assert "24 of 24 rows are there already" in result.stderr


def test_without_order_what_is_there_is_found_by_its_id(batch, rows, tmp_path):
    out = tmp_path / "out.jsonl"
    assert batch(rows, "--unordered", "-o", out).code == 0
    lines = out.read_text().splitlines(keepends=True)
    kept = random.Random(1).sample(lines, 9)
    out.write_text("".join(kept) + lines[0][:20])
    assert batch(rows, "--unordered", "-o", out).code == 0
    assert out.read_text().splitlines(keepends=True)[:9] == kept
    assert sorted(out.read_text().splitlines(keepends=True)) == sorted(lines)


def test_failures_count_also_where_they_were_there_before(batch, tmp_path):
    path, out = write(tmp_path / "rows.jsonl", ["{", {"prompt": "a"}]), tmp_path / "out.jsonl"
    assert batch(path, "-o", out).code == 9
    result = batch(path, "-o", out)
    assert result.code == 9
    assert "1 of 2 rows failed" in result.stderr


@pytest.mark.long
def test_another_run_is_refused_and_changes_nothing(batch, run, rows, tmp_path):
    out = tmp_path / "out.jsonl"
    assert batch(rows, "-n", 1, precision="int8").code == 0  # which exports it, and says so
    assert batch(rows, "-o", out, "-n", 5).code == 0
    whole = out.read_bytes()
    out.write_bytes(whole[: len(whole) // 2])
    before = out.read_bytes()
    other = write(tmp_path / "other.jsonl", mixed(23))
    for argv, words in (
        ([rows, "-n", 6], ["--max-tokens was 5, and is 6"]),
        ([rows, "-n", 5, "--seed", 1], ["--seed was 0, and is 1"]),
        ([rows, "--score"], ["what is made of a row"]),
        ([rows, "-n", 5, "--shard", "1/2"], ["--shard"]),
        ([rows, "-n", 5, "--unordered"], ["--unordered"]),
        ([other, "-n", 5], ['the sha256 of the rows was "', '...", and is "', '..."']),
    ):
        assert_error(batch(*argv, "-o", out), 2, *words)
    assert_error(run("batch", "-m", "tiny", rows, "-n", 5, "-o", out), 2, "of another run")
    assert_error(batch(rows, "-n", 5, "-o", out, precision="int8"), 2, "precision")
    assert out.read_bytes() == before
    assert batch(rows, "-n", 5, "-o", out, "--restart").code == 0
    assert out.read_bytes() == whole


def test_a_file_of_something_else_is_never_touched(batch, rows, tmp_path):
    out = tmp_path / "precious.txt"
    out.write_text("mine\n")
    for argv in ([], ["--restart"]):
        assert_error(batch(rows, "-o", out, *argv), 2, "no batch has begun it")
    out2 = tmp_path / "out.jsonl"
    assert batch(rows, "-o", out2).code == 0
    lines = out2.read_text().splitlines(keepends=True)
    for strange in (["mine\n", *lines[1:]], [lines[1], lines[0], *lines[2:]], [*lines, lines[0]]):
        out2.write_text("".join(strange))
        assert_error(batch(rows, "-o", out2), 2, "is no answer of this run")
        assert out2.read_text() == "".join(strange)
    assert out.read_text() == "mine\n"
    if os.name == "posix":
        os.mkfifo(tmp_path / "pipe")
        assert_error(batch(rows, "-o", tmp_path / "pipe"), 7, "no plain file")
    assert_error(batch(rows, "-o", tmp_path / "no" / "folder"), 7, "cannot write")


def test_a_path_that_cannot_be_written(batch, rows, tmp_path):
    assert_error(batch(rows, "-o", tmp_path / "none" / "out.jsonl"), 7, "hint: check the path and its permissions")


def test_two_runs_do_not_write_one_file(batch, rows, tmp_path):
    from gpt2cli.store import locks

    out = tmp_path / "out.jsonl"
    with locks.unless_held(locks.file_path(out)):
        assert_error(batch(rows, "-o", out), 7, "another batch is writing")
    assert not out.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="limits are POSIX's")
def test_a_full_disk_keeps_whole_lines_and_the_same_command_goes_on(batch, rows, tmp_path):
    import resource

    out = tmp_path / "out.jsonl"
    assert batch(rows, "-o", out).code == 0
    whole = out.read_bytes()
    out.unlink()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1200, limits[1]))
        result = batch(rows, "-o", out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert_error(result, 7, "cannot write", "goes on")
    kept = out.read_bytes()
    assert kept.endswith(b"\n")
    assert whole.startswith(kept)
    assert batch(rows, "-o", out).code == 0
    assert out.read_bytes() == whole


# Processes


def cut(spawn, argv, out, lines, sign):
    """A run that gets a signal when so many lines are there, if it has not ended."""
    process = spawn("batch", *argv, "-o", out)
    while process.poll() is None and not (out.exists() and out.read_bytes().count(b"\n") >= lines):
        time.sleep(0.002)
    process.send_signal(sign)
    process.wait()
    return process


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.long
def test_an_interruption_keeps_what_is_done_and_says_how_to_go_on(spawn, batch, checkpoint, tmp_path):
    path, out = write(tmp_path / "rows.jsonl", mixed(2000)), tmp_path / "out.jsonl"
    argv = (path, "-m", checkpoint, "--precision", "fp32")
    process = cut(spawn, argv, out, 20, signal.SIGINT)
    assert process.returncode == 130
    told = process.stderr.read().decode()
    assert "rows are in" in told
    assert "the same command goes on" in told
    before = out.read_bytes()
    assert before.endswith(b"\n")
    assert batch(path, "-o", out).code == 0
    assert out.read_bytes().startswith(before)
    assert out.read_text() == batch(path).stdout


@pytest.mark.process
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("kills", [pytest.param(12, marks=pytest.mark.long), pytest.param(200, marks=pytest.mark.slow)])
def test_kills_at_any_moment_lose_double_and_change_nothing(spawn, batch, checkpoint, tmp_path, kills):
    path, out = write(tmp_path / "rows.jsonl", mixed(100 * kills)), tmp_path / "out.jsonl"
    argv, chance = (path, "-m", checkpoint, "--precision", "fp32"), random.Random(kills)
    there, under_way = b"", 0
    for number in range(kills):
        process = spawn("batch", *argv, "-o", out)
        if number % 3:  # when a line more is there, else at any moment of the start
            while process.poll() is None and len(out.read_bytes() if out.exists() else b"") <= len(there):
                time.sleep(0.001)
        time.sleep(chance.random() * (0.05 if number % 3 else 0.8))
        under_way += process.poll() is None
        process.kill()
        process.wait()
        now = out.read_bytes() if out.exists() else b""
        whole = now[: now.rfind(b"\n") + 1]
        assert whole.startswith(there)
        there = whole
    assert under_way > 0.9 * kills
    assert batch(path, "-o", out).code == 0
    assert out.read_text() == batch(path).stdout


def test_a_reader_that_leaves_is_no_error(batch, rows, monkeypatch):
    def gone(*_):
        raise BrokenPipe

    monkeypatch.setattr("gpt2cli.console.outputs.Output.write", gone)
    result = batch(rows)
    assert (result.code, result.stderr) == (141, "")


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of POSIX")
@pytest.mark.long
def test_head_takes_two_lines(spawn, batch, checkpoint, tmp_path):
    path = write(tmp_path / "rows.jsonl", mixed(500))
    process = spawn("batch", path, "-m", checkpoint, "--precision", "fp32")
    found = [process.stdout.readline() for _ in range(2)]
    process.stdout.close()
    assert process.wait() == 141
    assert process.stderr.read() == b""
    assert [json.loads(line)["custom_id"] for line in found] == ["row-0", "row-1"]


@pytest.mark.long
@pytest.mark.process
@pytest.mark.skipif(os.name != "posix" or not shutil.which("bash"), reason="bash")
def test_the_shards_of_the_page_are_the_whole(rows, tmp_path):
    (script,) = blocks("bash", "docs/batch.md")
    program = tmp_path / "bin/gpt2"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m gpt2cli "$@"\n')
    program.chmod(0o755)
    environment = os.environ | {"PATH": f"{program.parent}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-ec", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert (tmp_path / "whole.jsonl").read_text().count("\n") == 24


def test_the_rows_of_the_page_are_answered(batch, tmp_path):
    (shown,) = blocks("json", "docs/batch.md")
    path = write(tmp_path / "rows.jsonl", shown.splitlines())
    assert [one["custom_id"] for one in answers(batch(path, "-n", 2))] == [1, "tale-7", "r1", "r2"]
