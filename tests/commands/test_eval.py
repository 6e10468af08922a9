"""gpt2 eval as people and scripts use it: ways in, tables, samples, exit codes."""

import contextlib
import dataclasses
import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from conftest import assert_error

from gpt2cli import evaluate

ITEMS = [{"context": "the cat and the", "target": word} for word in ("dog", "old man", "sea", "rain", "cat")]
CHOICES = [{"context": "the cat", "choices": ["sat down", "was wet"], "answer": 0}] * 2


@pytest.fixture
def eval(run, checkpoint, small):
    """gpt2 eval with the small random checkpoint, which is exported."""

    def call(*argv, **options):
        return run("eval", "-m", checkpoint, "--precision", "fp32", *argv, **options)

    return call


@pytest.fixture
def items(tmp_path):
    return write(tmp_path / "items.jsonl", ITEMS)


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def found(result):
    assert (result.code, result.stderr) == (0, "")
    return json.loads(result.stdout)


def values(result):
    return {one["name"]: one["value"] for one in result["metrics"]}


def test_a_file_of_items(eval, items, small):
    (expected,) = evaluate(small, ITEMS)
    shown = found(eval(items, "--json"))
    (result,) = shown["results"]
    assert (result["items"], result["tokens"]) == (5, expected.tokens)
    assert result["logprob"] == pytest.approx(expected.logprob, abs=1e-4)
    assert values(result) == pytest.approx({one.name: one.value for one in expected.metrics}, rel=1e-4)
    assert result["data"][0]["file"] == str(items)
    assert len(result["data"][0]["sha256"]) == 64
    assert not shown["interrupted"]
    assert [one.logprob for one in evaluate(small, str(items))] == [expected.logprob]


def test_a_table(eval, items):
    result = eval(items)
    assert (result.code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].endswith("     value         ±")
    assert [line.split("  ")[1] for line in lines[1:5]] == [
        "acc (whole target)",
        "acc (last token)",
        "perplexity (target)",
        "perplexity (token)",
    ]
    assert lines[5].startswith("  5 items, ")
    assert all(len(line) <= 80 for line in lines)


def test_every_kind_of_item_and_a_text(eval, tmp_path):
    kinds = {
        "choices.jsonl": (CHOICES, "acc_norm (characters)"),
        "pairs.jsonl": ([{"good": "the cat was", "bad": "cat the was"}], "acc"),
        "texts.jsonl": ([{"text": "the old man"}, {"text": "the sea"}], "bits per byte (rolling)"),
    }
    files = [write(tmp_path / name, rows) for name, (rows, _) in kinds.items()]
    (tmp_path / "text.txt").write_text("the cat and the dog\n" * 20)
    results = found(eval(*files, tmp_path / "text.txt", "--json"))["results"]
    for result, (_, name) in zip(results, kinds.values(), strict=False):
        assert name in values(result)
    assert results[-1]["words"] == 100
    assert set(values(found(eval(tmp_path / "text.txt", "--stride", 10, "--json"))["results"][0])) == {
        "perplexity (token, stride 10)",
        "perplexity (word, stride 10)",
        "perplexity (byte, stride 10)",
        "bits per byte (stride 10)",
    }


def test_tasks_with_their_data_by_hand(eval, tmp_path):
    write(tmp_path / "l.jsonl", [{"text": "the old man went to the sea"}] * 3)
    results = found(eval("lambada", "--data", tmp_path / "l.jsonl", "--limit", 2, "--json"))["results"]
    assert [(one["protocol"], one["items"]) for one in results] == [("lm-eval", 2), ("openai", 2)]
    (tmp_path / "w.raw").write_text(" \n = A = \n \n The cat and the dog . \n" * 20)
    results = found(eval("wikitext2", "--data", tmp_path / "w.raw", "--json"))["results"]
    assert [one["stride"] for one in results] == [32, 64, None]
    assert set(values(results[0])) == {"perplexity (token, hf, stride 32)"}
    assert results[2]["items"] == 20
    (tmp_path / "blimp").mkdir()
    for name in "ab":
        write(tmp_path / "blimp" / f"{name}.jsonl", [{"sentence_good": "the cat", "sentence_bad": "cat the"}])
    (result,) = found(eval("blimp", "--data", tmp_path / "blimp", "--json"))["results"]
    assert result["items"] == 2
    assert len(result["data"]) == 2


def test_the_published_value_stands_beside(eval, checkpoint, tmp_path, monkeypatch):
    """Where the model is one whose figures are known."""
    from gpt2cli.analysis.evaluation import metrics, tasks

    known = {str(checkpoint): metrics.Published(0.4667, "a paper")}
    measures = (metrics.Measure("acc (last token)", metrics.last_token, published=known),)
    protocol = dataclasses.replace(tasks.TASKS["lambada"].protocols[0], measures=measures)
    monkeypatch.setitem(tasks.TASKS, "lambada", tasks.Task("lambada", (protocol,)))
    argv = ("lambada", "--data", write(tmp_path / "l.jsonl", [{"text": "the old man went to the sea"}] * 3))
    (metric,) = found(eval(*argv, "--json"))["results"][0]["metrics"]
    assert (metric["published"], metric["source"]) == (0.4667, "a paper")
    assert metric["difference"] == pytest.approx(metric["value"] - 0.4667)
    head, row, _ = eval(*argv).stdout.splitlines()
    assert head.endswith("value         ±  published       diff")
    assert row.split()[-3] == "46.67%"
    assert row.endswith("-46.67 pp")
    assert len(row) <= 80


@pytest.mark.long
def test_the_published_values_stand_in_the_table_of_gpt2(hub, run, files, tmp_path):
    """Small files under its name: what stands beside them is what is known of it."""
    from gpt2cli.store import catalog

    for name in ("gpt2", "gpt2-xl", "distilgpt2"):
        entry = catalog.find(name)
        hub.add(entry.repository, files, branches=("main", entry.revision))
    data = write(tmp_path / "l.jsonl", [{"text": "the old man went to the sea"}] * 3)
    argv = ("eval", "lambada", "--data", data, "--precision", "fp32", "-q")
    one = run(*argv, "-m", "gpt2")
    assert (one.code, one.stderr) == (0, "")
    lines = one.stdout.splitlines()
    assert lines[0].endswith("value         ±  published       diff")
    assert [line[-20:].split()[0] for line in lines[1:4]] == ["46.67%", "32.56%", "40.06"]
    assert [line.endswith(" pp") for line in lines[1:4]] == [True, True, False]
    several = run(*argv, "-m", "gpt2", "-m", "openai-community/gpt2-xl", "-m", "distilgpt2").stdout.splitlines()
    assert several[0].endswith("value         ±  published    to first         ±")
    shown = {line.split()[0]: line.split()[4] for line in several[8:12] if line.startswith("    ")}
    assert shown == {"gpt2": "40.06", "…ommunity/gpt2-xl": "10.63", "distilgpt2": "-"}
    assert all(len(line) <= 80 for line in [*lines, *several])


def test_the_published_values_of_gpt2_are_those_of_the_card():
    from gpt2cli.analysis.evaluation.tasks import TASKS
    from gpt2cli.store import catalog

    card = catalog.find("gpt2").published
    for task, key in (("cbt-cn", "cbt_cn_accuracy"), ("cbt-ne", "cbt_ne_accuracy")):
        assert 100 * TASKS[task].protocols[0].measures[0].published["gpt2"].value == pytest.approx(card[key])
    for task, place, key in (
        ("wikitext103", 2, "wikitext103_perplexity"),
        ("enwik8", 0, "enwik8_bits_per_byte"),
        ("text8", 0, "text8_bits_per_character"),
        ("1bw", 0, "one_billion_words_perplexity"),
    ):
        assert TASKS[task].protocols[place].measures[0].published["gpt2"].value == card[key]


@pytest.mark.long
def test_several_models_and_precisions(run, checkpoint, items):
    argv = ("eval", items, "-m", checkpoint, "-m", "tiny", "--precision", "fp32,int8")
    results = json.loads(run(*argv, "--json").stdout)["results"]
    named = [(one["model"], one["precision"]) for one in results]
    assert named == [(str(checkpoint), "fp32"), (str(checkpoint), "int8"), ("tiny", "fp32"), ("tiny", "int8")]
    firsts = [one["metrics"][2]["to_first"] for one in results]
    assert firsts[0] is None
    assert firsts[1]["difference"] == pytest.approx(
        results[1]["metrics"][2]["value"] - results[0]["metrics"][2]["value"]
    )
    assert firsts[1]["stderr"] < results[1]["metrics"][2]["stderr"]
    lines = run(*argv).stdout.splitlines()
    assert lines[0].endswith("value         ±    to first         ±")
    assert [line.split()[-2:] for line in lines if line.startswith("    ")][:2] == [["-", "-"], ["0.00", "pp"]]
    assert all(len(line) <= 80 for line in lines)


# Samples


def test_samples_are_not_computed_twice(eval, items, tmp_path, monkeypatch):
    from gpt2cli.engine.engine import Engine

    calls = []
    real = Engine._run
    monkeypatch.setattr(Engine, "_run", lambda *args, **others: calls.append(1) or real(*args, **others))
    file = tmp_path / "samples.jsonl"
    first = eval(items, "--samples", file, "--limit", 3, "--json")
    assert len(calls) >= 1
    calls.clear()
    assert eval(items, "--samples", file, "--limit", 3, "--json").stdout == first.stdout
    assert not calls
    lines = list(map(json.loads, file.read_text().splitlines()))
    assert sorted(line["item"] for line in lines) == [1, 2, 3]
    assert set(lines[0]) == {
        *("key", "model", "revision", "precision", "device", "task", "protocol"),
        *("item", "ids", "answers"),
    }
    assert set(lines[0]["answers"][0]) == {"logprob", "tokens", "greedy", "last"}
    whole = eval(items, "--json").stdout
    calls.clear()
    assert eval(items, "--samples", file, "--json").stdout == whole
    assert calls
    assert len(file.read_text().splitlines()) == 5


def test_samples_are_of_one_model_precision_and_protocol(run, eval, items, tmp_path):
    file = tmp_path / "samples.jsonl"
    eval(items, "--samples", file)
    run("eval", items, "-m", "tiny", "--samples", file)
    write(tmp_path / "l.jsonl", [{"text": "the old man went to the sea"}])
    eval("lambada", "--data", tmp_path / "l.jsonl", "--samples", file)
    lines = list(map(json.loads, file.read_text().splitlines()))
    assert len(lines) == 12
    assert len({line["key"] for line in lines}) == 12


def test_samples_know_a_model_by_its_files_and_not_by_when_they_were_exported(run, items, tmp_path, monkeypatch):
    from checkpoints import make_checkpoint

    file = tmp_path / "samples.jsonl"
    argv = ("eval", items, "-m", tmp_path / "model", "--precision", "fp32", "-q", "--samples", file)
    make_checkpoint(tmp_path / "model")
    first = run(*argv).stdout
    monkeypatch.setenv("GPT2_CACHE", str(tmp_path / "cache"))
    assert run(*argv).stdout == first
    assert len(file.read_text().splitlines()) == 5
    make_checkpoint(tmp_path / "model", seed=1)
    assert run(*argv).stdout != first
    assert len(file.read_text().splitlines()) == 10


def test_windows_of_a_text_have_a_line_each(eval, tmp_path):
    (tmp_path / "t.txt").write_text("the cat and the dog " * 40)
    file = tmp_path / "s.jsonl"
    whole = eval(tmp_path / "t.txt", "--json").stdout
    eval(tmp_path / "t.txt", "--samples", file)
    kept = file.read_text().splitlines(keepends=True)
    assert sorted(json.loads(line)["part"] for line in kept) == list(range(1, len(kept) + 1))
    file.write_text("".join(kept[:2]) + kept[2][:30])  # as kill -9 leaves it
    assert json.loads(eval(tmp_path / "t.txt", "--samples", file, "--json").stdout) == json.loads(whole)
    assert sorted(file.read_text().splitlines(keepends=True)) == sorted(kept)


def test_half_a_last_line_is_mended(eval, items, tmp_path):
    file = tmp_path / "samples.jsonl"
    eval(items, "--samples", file)
    whole = file.read_bytes()
    for end in (5, 40, 1):
        file.write_bytes(whole[:-end])
        assert eval(items, "--samples", file).code == 0
        assert sorted(file.read_bytes().splitlines()) == sorted(whole.splitlines())


def test_another_file_is_no_file_of_samples(eval, items, tmp_path):
    for content in (items.read_text(), "hello", '{"key": 1}\n', "\n"):
        file = tmp_path / "other.jsonl"
        file.write_text(content)
        assert_error(eval(items, "--samples", file), 2, f"line 1 of '{file}' is no sample of an eval")
        assert file.read_text() == content
    assert_error(eval(items, "--samples", tmp_path), 7, "cannot write")
    assert_error(eval(items, "--samples", tmp_path / "none/s.jsonl"), 7, "cannot write")


def changed(line, **answer):
    """A line of samples, with something else in its first answer."""
    value = json.loads(line)
    value["answers"][0] |= answer
    return json.dumps(value) + "\n"


def test_samples_that_no_eval_has_written(eval, items, tmp_path):
    file = tmp_path / "samples.jsonl"
    eval(items, "--samples", file)
    first, second, *rest = file.read_text().splitlines(keepends=True)
    answers = json.loads(second)["answers"]
    for wrong in (
        changed(second, logprob=None),
        changed(second, logprob="x"),
        changed(second, logprob=float("nan")),
        changed(second, logprob=10**400),
        changed(second, last="no"),
        changed(second, tokens=True),
        changed(second, tokens=answers[0]["tokens"] + 1),
        json.dumps(json.loads(second) | {"answers": []}) + "\n",
        json.dumps(json.loads(second) | {"answers": answers * 2}) + "\n",
    ):
        file.write_text("".join([first, wrong, *rest]))
        assert_error(eval(items, "--samples", file), 2, f"line 2 of '{file}' is no sample of an eval")
        assert file.read_text() == "".join([first, wrong, *rest])


def test_zeros_after_a_power_cut_are_removed(eval, items, tmp_path):
    file = tmp_path / "samples.jsonl"
    eval(items, "--samples", file)
    whole = file.read_bytes()
    for torn in (whole + bytes(4000), whole[:-30] + bytes(30)):
        file.write_bytes(torn)
        assert eval(items, "--samples", file).code == 0
        assert sorted(file.read_bytes().splitlines()) == sorted(whole.splitlines())
    file.write_bytes(bytes(100))
    assert_error(eval(items, "--samples", file), 2, "line 1 of")
    assert file.read_bytes() == bytes(100)


def test_samples_of_items_that_have_moved(eval, items, tmp_path):
    """To another line, and to another file."""
    file, moved = tmp_path / "samples.jsonl", write(tmp_path / "moved.jsonl", [*ITEMS[2:], *ITEMS[:2]])
    eval(items, "--samples", file)
    kept = file.read_bytes()
    assert eval(moved, "--samples", file).code == 0
    assert file.read_bytes() == kept
    write(moved, [{"context": "a man", "target": "was"}, *ITEMS])
    assert eval(moved, "--samples", file).code == 0
    assert len(file.read_bytes().splitlines()) == 6


def test_one_eval_at_a_time_writes_samples(eval, items, tmp_path):
    from gpt2cli.analysis.evaluation.samples import Samples

    file = tmp_path / "samples.jsonl"
    eval(items, "--samples", file)
    torn = file.read_bytes()[:-20]
    file.write_bytes(torn)
    with contextlib.closing(Samples(file)):
        kept = file.read_bytes()
        assert_error(eval(items, "--samples", file), 7, f"another eval is writing '{file}'", "a file of its own")
        assert file.read_bytes() == kept
    assert eval(items, "--samples", file).code == 0


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX devices")
def test_samples_go_to_plain_files(eval, items, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("/dev/zero", "/dev/full", tmp_path / "pipe", tmp_path):
        assert_error(eval(items, "--samples", name), 7, f"cannot write samples to '{name}': it is no plain file")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.long
def test_a_run_that_was_killed_goes_on(spawn, run, tmp_path):
    rows = [
        {"context": "Once upon a time there was " * (1 + number % 7), "target": f"a {number}"} for number in range(3000)
    ]
    items, file = write(tmp_path / "items.jsonl", rows), tmp_path / "samples.jsonl"
    process = spawn("eval", items, "-m", "tiny", "--samples", file)
    while not (file.exists() and file.read_bytes().count(b"\n") > 20):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    before = file.read_bytes()
    before = before[: before.rfind(b"\n") + 1]
    limit = before.count(b"\n") + 20
    result = run("eval", items, "-m", "tiny", "--samples", file, "--limit", limit, "--json")
    after = file.read_bytes()
    assert after.startswith(before)
    keys = [json.loads(line)["key"] for line in after.splitlines()]
    assert len(set(keys)) == len(keys)
    assert result.stdout == run("eval", items, "-m", "tiny", "--limit", limit, "--json").stdout


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("form", ["table", "json"])
@pytest.mark.long
def test_an_interruption_writes_what_is_complete(spawn, tmp_path, form):
    short = write(tmp_path / "short.jsonl", ITEMS)
    long = write(tmp_path / "long.jsonl", [{"context": "Once upon a time " * 30, "target": "the"}] * 100_000)
    file = tmp_path / "samples.jsonl"
    argv = ["eval", short, long, "-m", "tiny", "--samples", file, *(["--json"] if form == "json" else [])]
    process = spawn(*argv)
    while not (file.exists() and file.read_bytes().count(b"\n") > 20):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.decode() == f"note: interrupted in {long} targets: the same command goes on\n"
    if form == "json":
        shown = json.loads(out)
        assert shown["interrupted"]
        assert [one["task"] for one in shown["results"]] == [str(short)]
    else:
        assert out.decode().count("items, ") == 1


# What is refused


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["nonesuch"], 2, ["'nonesuch' is no task, and no file", "lambada"]),
        (["lambda"], 2, ["did you mean lambada?"]),
        (["lambada", "--offline"], 3, ["data/lambada_test.jsonl", "--data FILE"]),
        (["enwik8"], 2, ["enwik8.zip", "--data FILE"]),
        (["lambada", "--data", "none.jsonl"], 2, ["cannot read 'none.jsonl'"]),
        (["items.jsonl", "--data", "items.jsonl"], 2, ["--data is for one task"]),
        (["items.jsonl", "--protocol", "hf"], 2, ["no protocol 'hf'", "leave it out: it is for tasks"]),
        (["lambada", "--data", "items.jsonl"], 2, ["line 1 of 'items.jsonl' has no 'text'"]),
        (["items.jsonl", "--stride", "5"], 2, ["--stride 5", "no window moves"]),
        (["text.txt", "--stride", "65"], 2, ["--stride 65", "1 to 63"]),
        (["text.txt", "--precision", "fp32,"], 2, ["'fp32,'"]),
        (["empty.jsonl"], 2, ["'empty.jsonl' is empty"]),
        (["empty.txt"], 2, ["'empty.txt' is empty"]),
        (["bad.jsonl"], 2, ["line 2 of 'bad.jsonl' has an empty 'target'"]),
        (["long.jsonl"], 6, ["line 1 of 'long.jsonl' asks for"]),
        (["."], 2, ["'.' is a folder"]),
        (["lambada", "--data", os.devnull], 2, ["is a pipe or a device", "name a file"]),
        (["blimp", "--data", "empty"], 2, ["the folder 'empty' has no .jsonl"]),
        (["lambada", "--data", "empty"], 2, ["'empty' is a folder", "name a file"]),
        (["-"], 2, ["stdin can be read only once", "into a file"]),
        (["lambada", "--protocol", "hf"], 2, ["lambada has no protocol 'hf'", "lm-eval, openai"]),
        (["lambada", "nonesuch"], 2, ["'nonesuch' is no task"]),
        (["lambada", "enwik8", "--limit", "2"], 2, ["--limit 2", "enwik8 is one text"]),
        (["text.txt", "--limit", "2"], 2, ["--limit 2", "text.txt is one text"]),
        (["items.jsonl", "-m", "nosuch"], 3, ["no model named 'nosuch'"]),
        (["items.jsonl", "-m", "./none"], 3, ["no folder './none'"]),
        (["items.jsonl", "--precision", "int8,foo"], 2, ["no precision 'foo'"]),
    ],
)
def test_what_is_refused(eval, tmp_path, monkeypatch, argv, code, words):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "items.jsonl", ITEMS)
    write(tmp_path / "bad.jsonl", [*ITEMS[:1], {"context": "a", "target": ""}])
    write(tmp_path / "long.jsonl", [{"context": "a", "target": "the cat " * 70}])
    (tmp_path / "text.txt").write_text("the cat sat")
    (tmp_path / "empty").mkdir()
    for name in ("empty.jsonl", "empty.txt"):
        (tmp_path / name).write_text("")
    assert_error(eval(*argv), code, *words)


def test_the_names_in_the_help_are_the_tasks():
    from gpt2cli.analysis.evaluation.tasks import TASKS
    from gpt2cli.console.evalitems import PROTOCOLS, SAID

    assert list(SAID) == list(TASKS)
    assert {name: tuple(one.name for one in task.protocols) for name, task in TASKS.items()} == PROTOCOLS


def test_a_name_without_meaning_is_told_before_anything_is_downloaded(hub, run, checkpoint):
    for argv in (["lambada", "--protocol", "hf"], ["lambada", "none"], ["lambada", "-m", "none"]):
        assert run("eval", "-m", checkpoint, *argv).code in (2, 3)
    assert not hub.requests


def test_a_model_that_is_named_twice_is_measured_once(eval, run, checkpoint, items):
    result = run("eval", items, "-m", "tiny", "-m", "tiny", "--precision", "int8,int8", "--json")
    assert [one["model"] for one in json.loads(result.stdout)["results"]] == ["tiny"]
    assert result.stderr.splitlines() == [
        "note: 'tiny' is named twice, and measured once",
        "note: --precision 'int8,int8' has a name twice: it is measured once",
    ]
    assert run("eval", items, "-m", "tiny", "-m", "tiny", "-q").stderr == ""
    again = eval(items, items)
    assert (again.code, again.stderr) == (0, f"note: '{items}' is named twice, and measured once\n")
    assert again.stdout == eval(items).stdout


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX pipes")
def test_a_pipe_is_refused(eval, tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    for name in (tmp_path / "pipe.jsonl", "/dev/zero"):
        assert_error(eval(name), 2, f"'{name}' is a pipe or a device", "name a file")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("form", [[], ["--json"], ["--precision", "fp32,int8"]])
@pytest.mark.long
def test_a_full_disk_is_told_in_two_lines(spawn, items, form):
    with Path("/dev/full").open("wb") as full:
        process = spawn("eval", items, "-m", "tiny", "-q", *form, stdout=full)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 7
    assert [line.split(b":")[0] for line in err.splitlines()] == [b"error", b"hint"]


def test_a_limit(eval, items, tmp_path):
    """Of items, of articles that are joined, of sentences; one that is larger than any file is none."""
    assert found(eval(items, "--limit", 10**30, "--json"))["results"][0]["items"] == 5
    wiki = tmp_path / "w.raw"
    counts = []
    for articles in (5, 2):
        wiki.write_text(" \n" + " = A = \n \n The cat and the dog . \n \n" * articles)
        results = found(eval("wikitext2", "--data", wiki, "--json", "--limit", 2))["results"]
        assert [one["items"] for one in results] == [1, 1, 2]
        counts.append([one["tokens"] for one in results[:2]])
    assert counts[0] == counts[1]
    ptb = tmp_path / "p.txt"
    ptb.write_text("the cat sat\n" * 5)
    assert found(eval("ptb", "--data", ptb, "--json", "--limit", 2))["results"][0]["words"] == 8


def test_a_text_is_that_of_gpt2_score(eval, run, checkpoint, tmp_path):
    text = tmp_path / "t.txt"
    text.write_text("the cat and the dog sat there\n" * 30)
    mine = found(eval(text, "--stride", 32, "--json"))["results"][0]
    argv = ("score", "--whole", "-f", text, "-m", checkpoint, "--precision", "fp32", "--json")
    (theirs,) = json.loads(run(*argv).stdout)["texts"]
    assert (mine["tokens"], mine["bytes"]) == (theirs["tokens"], theirs["bytes"])
    assert mine["logprob"] == pytest.approx(theirs["logprob"], rel=1e-5)


def test_a_bad_line_is_told_before_anything_is_computed(eval, tmp_path):
    good, bad = write(tmp_path / "good.jsonl", ITEMS), write(tmp_path / "bad.jsonl", [*ITEMS * 100, {}])
    result = eval(good, bad, "--samples", tmp_path / "s.jsonl")
    assert_error(result, 2, f"line 501 of '{bad}' has none of the fields")
    assert not (tmp_path / "s.jsonl").exists()


def test_weights_that_give_no_numbers(run, tmp_path, items):
    import numpy as np
    from checkpoints import SMALL, make_checkpoint, random_tensors

    tensors = random_tensors(SMALL)
    tensors["ln_f.bias"] = np.full_like(tensors["ln_f.bias"], 3e38)
    make_checkpoint(tmp_path / "huge", tensors=tensors)
    assert_error(run("eval", items, "-m", tmp_path / "huge", "--precision", "fp32", "-q"), 5, "not finite numbers")


def test_a_context_that_was_cut_is_told(eval, tmp_path):
    file = write(tmp_path / "x.jsonl", [{"context": "the cat and the dog " * 40, "target": "a"}, *ITEMS])
    result = eval(file)
    assert result.code == 0
    assert result.stderr == f"note: {file}: the window of 64 tokens holds only the end of 1 context\n"
    assert "1 context cut" in result.stdout
    assert eval(file, "-q").stderr == ""


@pytest.mark.long
def test_a_hub_gives_the_data(hub, run, checkpoint, monkeypatch):
    from gpt2cli.analysis.evaluation import tasks
    from gpt2cli.store.datasets import DataFile

    lines = b'{"text": "the old man went to the sea"}\n' * 3
    commit = hub.add("some/lines", {"data/test.jsonl": lines})
    task = tasks.Task("lambada", tasks.TASKS["lambada"].protocols, (DataFile("some/lines", commit, "data/test.jsonl"),))
    monkeypatch.setitem(tasks.TASKS, "lambada", task)
    argv = ("eval", "lambada", "-m", checkpoint, "--precision", "fp32", "--json")
    (result, _) = json.loads(run(*argv).stdout)["results"]
    assert result["items"] == 3
    asked = len(hub.requests)
    assert run(*argv, "--offline").code == 0
    assert len(hub.requests) == asked


@pytest.mark.terminal
@pytest.mark.skipif(sys.platform == "win32", reason="needs pseudo-terminals")
@pytest.mark.parametrize("columns", [80, 120])
def test_a_bar_says_how_far_it_has_come(tmp_path, columns):
    from terminals import Terminal

    file = write(tmp_path / "items.jsonl", [{"context": "Once upon a time " * 30, "target": "the"}] * 20_000)
    shown = Terminal("eval", file, "-m", "tiny", columns=columns)
    try:
        shown.wait(lambda t: any("items.jsonl targets" in line and "left" in line for line in t.lines), "a bar")
        shown.type("\x03")
        assert shown.exit_code() == 130
        assert "with --samples FILE it would go on" in " ".join(" ".join(shown.lines).split())
    finally:
        shown.close()
