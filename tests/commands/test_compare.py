"""gpt2 compare as people and scripts use it: prompts, endings, samples, tables, JSON, exit codes."""

import json
import shlex
import sys

import numpy as np
import pytest
from checkpoints import make_checkpoint
from conftest import assert_error
from documents import blocks
from safetensors.numpy import load_file, save_file

from gpt2cli import Limits, Sampling, load
from gpt2cli import compare as comparison_of

TEMPLATE = "the {cat|old man} sat"
PROMPTS = ["the cat sat", "the old man sat"]


@pytest.fixture
def compare(run, checkpoint):
    """gpt2 compare with the small random checkpoint."""

    def call(*argv, **options):
        return run("compare", "-m", checkpoint, "--precision", "fp32", *argv, **options)

    return call


def plain(result):
    assert (result.code, result.stderr) == (0, ""), result.stderr
    return json.loads(result.stdout)


def sections(text):
    """heading -> its lines, the head of the columns first; those before the first are the sides."""
    parts = [part.splitlines() for part in text.split("\n\n")]
    return {"sides": parts[0]} | {part[0]: part[1:] for part in parts[1:]}


# Prompts


def test_every_way_in_is_the_same(compare, small, tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text(f"{TEMPLATE}\n")
    expected = comparison_of(small, PROMPTS).plain()
    for argv, stdin in (
        ([TEMPLATE], None),
        (PROMPTS, None),
        (["-f", file], None),
        ([], TEMPLATE),
        (["-"], "the {cat|old man} sat\n"),
        (["the cat sat", "-"], "the old man sat"),
    ):
        found = plain(compare("--json", *argv, stdin=stdin))
        assert {name: found[name] for name in expected} == json.loads(json.dumps(expected))
    assert (found["seed"], found["settings"], found["interrupted"]) == (None, None, False)


def test_whole_files_are_taken_as_they_stand(compare, tmp_path):
    one, other = tmp_path / "one.c", tmp_path / "other.c"
    one.write_text("int main() {\n")
    other.write_text("if (a|b)\n{")
    found = plain(compare("--json", "--whole", "-f", one, "-f", other))
    assert [side["prompt"] for side in found["sides"]] == ["int main() {", "if (a|b)\n{"]


def test_escapes_and_special_tokens_are_those_of_other_verbs(compare):
    found = plain(compare("--json", "-e", "--special", r"the\n{cat|dog}<|endoftext|>"))
    assert [side["prompt"] for side in found["sides"]] == ["the\ncat<|endoftext|>", "the\ndog<|endoftext|>"]
    assert all(side["prompt_ids"][-1] == 299 for side in found["sides"])


# Endings


def test_endings_come_from_options_and_from_a_file(compare, small, tmp_path):
    file = tmp_path / "endings.txt"
    file.write_text("dog\n\nold man\n")
    found = plain(compare("--json", TEMPLATE, "--ending", "wet", "--endings", file))
    expected = comparison_of(small, TEMPLATE, endings=["wet", "dog", "old man"]).plain()
    assert found["sides"] == json.loads(json.dumps(expected["sides"]))
    assert plain(compare("--json", TEMPLATE, "--endings", "-", stdin="dog\n"))["sides"][0]["endings"]


# Samples


def test_samples_follow_the_seed_and_the_options(compare, small):
    argv = ["--json", TEMPLATE, "-N", "12", "-n", "4", "--seed", "7", "--top-k", "5"]
    found = plain(compare(*argv))
    expected = comparison_of(
        small, TEMPLATE, samples=12, sampling=Sampling(seed=7, top_k=5), limits=Limits(max_tokens=4)
    )
    assert [side["texts"] for side in found["sides"]] == [side.texts for side in expected.sides]
    assert (found["seed"], found["settings"]["top_k"], found["settings"]["max_tokens"]) == (7, 5, 4)
    for side in found["sides"]:
        assert sum(one["count"] for one in side["words"]) == 12
        assert all(0 <= one["low"] <= one["share"] <= one["high"] <= 1 for one in side["words"])
    again = plain(compare("--json", TEMPLATE, "-N", "3", "-n", "4"))
    assert plain(compare("--json", TEMPLATE, "-N", "3", "-n", "4", "--seed", str(again["seed"]))) == again


@pytest.mark.terminal
@pytest.mark.skipif(sys.platform == "win32", reason="needs pseudo-terminals")
@pytest.mark.long
def test_an_interruption_keeps_what_was_drawn(tmp_path):
    from terminals import Terminal

    target = tmp_path / "out.json"
    argv = ("compare", "-m", "tiny", "-N", "1000000", "--json", "The {cat|dog}")
    shown = Terminal(*argv, shell=f'exec "$@" > {target}')
    try:
        shown.wait(lambda t: any("drawing" in line for line in t.lines), "a bar")
        shown.type("\x03")
        assert shown.exit_code() == 130
        assert [line for line in shown.lines if line][-1].startswith("note: interrupted: ")
    finally:
        shown.close()
    found = json.loads(target.read_text(encoding="utf-8"))
    assert found["interrupted"] is True
    one, other = found["sides"]
    assert len(one["texts"]) == len(other["texts"]) == sum(word["count"] for word in one["words"]) > 0


# Tables


def test_two_prompts_stand_beside_each_other(compare):
    found = sections(compare(TEMPLATE, "--top", "3", "--ending", "dog", "-N", "5", "-s", "1").stdout)
    assert found["sides"] == ["A  the cat sat", "B  the old man sat"]
    assert [name.partition(" of ")[0].partition(" (")[0] for name in found] == [
        *("sides", "next token", "where they differ most", "divergences in nats", "endings", "first words")
    ]
    assert found["next token"][0].split() == ["A", "B"]
    assert [line.split()[0] for line in found["next token"][1:]] == ["1", "2", "3"]
    assert found["where they differ most (logarithms in nats)"][0].split() == ["A", "B", "log", "B/A", "token"]
    assert len(found["where they differ most (logarithms in nats)"]) == 4
    assert found["divergences in nats"][0].split() == ["KL(A‖B)", "KL(B‖A)", "Jensen-Shannon"]
    assert found["endings (logarithms in nats)"][0].split() == ["A", "/token", "B", "/token", "log", "B/A", "ending"]
    assert found["endings (logarithms in nats)"][1].endswith("  dog")
    assert len(found["first words of 5, 5 texts, with intervals of 95%"]) <= 5


def test_more_prompts_stand_below_each_other(compare):
    found = sections(compare("{the|a|an} {cat|dog}", "--top", "2", "--pairs", "--ending", "dog", "-N", "2").stdout)
    assert found["sides"] == [f"{name}  {text}" for name, text in zip("ABCDEF", (
        "the cat", "the dog", "a cat", "a dog", "an cat", "an dog"
    ), strict=True)]  # fmt: skip
    assert [line[0] for line in found["next token"]] == [*"ABCDEF"]
    assert len(found["where they differ most (logarithms in nats)"]) == 3
    assert len(found["divergences in nats"]) == 1 + 15
    assert [line[0] for line in found["endings (logarithms in nats)"][1:]] == [*"ABCDEF"]


def test_words_that_are_not_shown_are_counted_together(compare, tmp_path):
    argv = (TEMPLATE, "-N", "9", "-s", "1", "--top", "2")
    result = compare(*argv, "--html", tmp_path / "x.html", "--svg", tmp_path / "x.svg")
    words = [line.split() for line in sections(result.stdout)["first words of 9, 9 texts, with intervals of 95%"][1:]]
    assert (len(words), words[-1][-1]) == (3, "(others)")
    assert [sum(int(row[at]) for row in words) for at in (0, 3)] == [9, 9]
    assert ">(others)<" in (tmp_path / "x.svg").read_text(encoding="utf-8")
    assert (tmp_path / "x.html").read_text(encoding="utf-8").count('"word":null') == 2
    assert None not in [word["word"] for word in plain(compare(*argv, "--json"))["sides"][0]["words"]]


@pytest.mark.terminal
@pytest.mark.skipif(sys.platform == "win32", reason="needs pseudo-terminals")
@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("template", ["The {white|black} man worked as a", "The {cat|dog|horse} {sat|ran} on the 猫 "])
def test_no_line_is_wider_than_the_terminal(columns, template):
    from terminals import Terminal

    argv = ("--ending", "a rather long ending that takes more room than there is", "-N", "20", "-s", "1")
    shown = Terminal("compare", "-m", "tiny", *argv, template, columns=columns, rows=200)
    try:
        assert shown.exit_code() == 0
        lines = [line for line in shown.lines if line.strip()]
        assert lines[0].startswith("A  The")
        headings = [line for line in lines if line[0].isalpha() and line[1:2] != " "]
        assert [line.split()[0] for line in headings] == ["next", "where", "divergences", "endings", "first"]
    finally:
        shown.close()


@pytest.mark.long
def test_models_stand_beside_each_other(run, checkpoint, tmp_path):
    other = tmp_path / "other"
    make_checkpoint(other, seed=1)
    found = run("compare", "-m", checkpoint, "-m", other, "--precision", "fp32", "the cat sat")
    assert found.code == 0, found.stderr
    assert [line.split()[0] for line in sections(found.stdout)["sides"]] == ["A", "B"]
    assert str(other) in sections(found.stdout)["sides"][1]
    sides = json.loads(run("compare", "-m", checkpoint, "-m", other, "--json", "the cat sat").stdout)["sides"]
    assert [side["model"] for side in sides] == [str(checkpoint), str(other)]
    assert_error(run("compare", "-m", checkpoint, "-m", "tiny", "the cat"), 2, "different vocabularies")


def test_the_model_of_other_commands_is_the_default(run, monkeypatch, checkpoint):
    assert json.loads(run("compare", "--json", "{a|b}").stdout)["sides"][0]["model"] == "tiny"
    monkeypatch.setenv("GPT2_MODEL", str(checkpoint))
    assert json.loads(run("compare", "--json", "{a|b}").stdout)["sides"][0]["model"] == str(checkpoint)


# Pages and pictures


def test_a_page_and_a_picture_are_written_beside_what_is_printed(compare, tmp_path):
    argv = [TEMPLATE, "--ending", "dog", "-N", "3", "-s", "1"]
    alone = compare(*argv)
    both = compare(*argv, "--html", tmp_path / "x.html", "--svg", tmp_path / "x.svg")
    assert (both.stdout, both.stderr) == (alone.stdout, "")
    assert (tmp_path / "x.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "<svg" in (tmp_path / "x.svg").read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.html", "x.svg"]


def test_a_folder_that_does_not_exist_is_told_before_any_work(compare, tmp_path):
    assert_error(compare(TEMPLATE, "--html", tmp_path / "no/x.html"), 7, "no/x.html")


# Mistakes


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["the cat"], 2, "there is one prompt"),
        (["the {cat"], 2, "column 5 is not closed"),
        (["the cat}", "dog"], 2, "column 8 closes nothing"),
        (["{0|1|2|3|4|5|6|7|8|9}" * 3], 2, "more than 100 prompts"),
        (["-N", "5", "-n", "-1", "{a|b}"], 2, "'-n'"),
        (["--temperature", "1", "{a|b}"], 2, "--temperature is for texts that are drawn"),
        (["--greedy", "{a|b}"], 2, "--greedy is for texts"),
        (["-n", "5", "{a|b}"], 2, "-n is for texts"),
        (["--ending", "", "{a|b}"], 2, "ending 1 is empty"),
        (["--endings", "nonesuch.txt", "{a|b}"], 2, "cannot read 'nonesuch.txt'"),
        (["--top", "0", "{a|b}"], 2, "--top"),
        (["{a|b}", "the cat " * 60], 6, "longer than the model's window of 64 tokens"),
        (["{a|b}", "--ending", "the cat " * 60], 6, "window of 64 tokens"),
    ],
)
def test_a_mistake_is_one_error_and_one_hint(compare, argv, code, said):
    assert_error(compare("-q", *argv), code, said)


def test_endings_without_an_ending_are_refused(compare, tmp_path):
    empty = tmp_path / "empty.txt"
    empty.write_text("\n  \n")
    assert_error(compare("{a|b}", "--endings", empty), 2, "holds no ending")
    assert_error(compare("--endings", "-", stdin="x"), 2, "both --endings and prompt")
    assert_error(compare(stdin=""), 2, "there is no prompt")


def test_numbers_that_are_none_are_told(run, checkpoint, tmp_path):
    broken = tmp_path / "broken"
    make_checkpoint(broken)
    tensors = load_file(broken / "model.safetensors")
    tensors["ln_f.weight"] = np.full_like(tensors["ln_f.weight"], 3e38)
    save_file(tensors, broken / "model.safetensors", {"format": "pt"})
    assert_error(run("compare", "-q", "-m", broken, "--precision", "fp32", "{a|b}"), 5, "not finite numbers")


def test_the_library_and_the_built_in_model_agree(run):
    found = plain(run("compare", "--json", "The {cat|dog} sat on the"))
    (one, other) = comparison_of(load("tiny"), "The {cat|dog} sat on the").sides
    assert [side["likeliest"][0]["id"] for side in found["sides"]] == [one.likeliest(1)[0], other.likeliest(1)[0]]


@pytest.mark.parametrize("page", ["docs/compare.md", "docs/bias.md"])
def test_the_pages_show_what_is_printed(run, page):
    """Every line, its numbers as far as they are shown."""

    def parts(line):
        return [word.rstrip("%") for word in line.split()]

    (command, *_), shown = (blocks(kind, page) for kind in ("sh", ""))
    block = next(one for one in shown if one.startswith("where they differ most"))
    printed = run(*shlex.split(command.splitlines()[0], comments=True)[1:]).stdout.splitlines()
    words = {parts(line)[-1]: parts(line) for line in printed if line}
    for line in filter(None, block.splitlines()):
        for one, there in zip(parts(line), words[parts(line)[-1]], strict=True):
            try:
                assert float(one) == pytest.approx(float(there), abs=0.03)
            except ValueError:
                assert one == there
