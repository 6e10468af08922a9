"""gpt2 explain as people and scripts use it: views, JSON, ways in, exit codes."""

import json
import os
import re
import shlex
import signal
import sys
from functools import partial

import pytest
from checkpoints import SMALL, make_checkpoint, random_tensors
from conftest import assert_error, read_by
from documents import PAGES, rows
from foreign import make_foreign

from gpt2cli import Question, load
from gpt2cli import explain as explained
from gpt2cli.console import explanations
from gpt2cli.console.wrapping import width

TEXT = "the cat and the old man went to the sea"
ALL = ["text", "tokens", "prediction", "influence", "rollout", "value_zeroing", "lens", "attention"]


@pytest.fixture
def explain(run, checkpoint, small):
    """gpt2 explain with the small random checkpoint, which `small` has exported."""

    def call(*argv, **options):
        return run("explain", "-m", checkpoint, "--precision", "fp32", *argv, **options)

    return call


@pytest.fixture
def tiny(run, monkeypatch):
    """tiny(*argv, columns=80) -> the lines of gpt2 explain with the built-in model."""

    def call(*argv, columns=80):
        monkeypatch.setenv("COLUMNS", str(columns))
        result = run("explain", "-m", "tiny", *argv)
        assert (result.code, result.stderr) == (0, "")
        assert all(width(line) <= columns or "%  " in line for line in result.stdout.splitlines())  # lists are whole
        return result.stdout.splitlines()

    return call


def close(found, expected):
    """The same but for last digits: what was computed twice."""
    if isinstance(found, dict):
        assert list(found) == list(expected)
        for name in found:
            close(found[name], expected[name])
    elif isinstance(found, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            close(one, other)
    elif isinstance(found, float):
        assert found == pytest.approx(expected, abs=2e-4)
    else:
        assert found == expected


def test_json_is_the_librarys(explain, small):
    result = explain("--json", TEXT)
    assert (result.code, result.stderr, result.stdout.count("\n")) == (0, "", 1)
    close(json.loads(result.stdout), explained(small, TEXT).plain())


@pytest.mark.parametrize(
    ("argv", "options"),
    [
        (["--lens"], {"parts": ["lens"]}),
        (["--tokens", "--top", "2", "--no-start"], {"parts": [], "top": 2, "start": False}),
        (["--attention", "--layer", "1", "--head", "0", "--head", "3"], {"layers": [1], "heads": [0, 3]}),
        (["--by", "rollout", "--tokens", "--token", "3"], {"parts": ["rollout"], "token": 3}),
        (["--by", "zeroing", "--lens"], {"parts": ["lens", "value_zeroing"]}),
        (["--instead", " the", "--lens", "--token", "-2"], {"parts": ["lens", "influence"], "instead": " the"}),
    ],
)
def test_json_of_chosen_views_has_their_parts(explain, small, argv, options):
    if "layers" in options:
        options = options | {"parts": ["attention"]}
    if "instead" in options:
        options = options | {"token": -2}
    close(
        json.loads(explain("--json", *argv, "the old man").stdout),
        explained(small, "the old man", Question(**options)).plain(),
    )


def test_every_way_in_is_the_same(explain, tmp_path):
    expected = explain("the cat\nsat").raw
    (tmp_path / "text.txt").write_text("the cat\nsat\n")
    (tmp_path / "one.txt").write_text("the cat\n")
    (tmp_path / "two.txt").write_text("sat\n")
    for argv, stdin in [
        (["-f", tmp_path / "text.txt"], None),
        (["-f", tmp_path / "one.txt", "-f", tmp_path / "two.txt"], None),
        ([], "the cat\nsat\n"),
        (["-"], "the cat\nsat\n"),
        (["-e", "the cat\\nsat"], None),
    ]:
        assert explain(*argv, stdin=stdin).raw == expected
    assert explain("the", "cat").raw == explain("the cat").raw


def test_the_first_view_marks_unlikely_tokens_and_says_what_the_last_rests_on(tiny):
    text, marks, _, legend, _, facts, likeliest, _, head, *bars = tiny("The cat ate the moon.")
    assert text == "The cat ate the moon."
    assert marks.split() == ["-" * 3, "=" * 4, "=" * 5]
    assert marks.index("=" * 5) == text.index(" moon")
    assert legend == "rank: - 11 to 100  = 101 to 1000  # beyond"
    assert facts.startswith("token 6, '.': ")
    assert likeliest.startswith("likeliest: ")
    assert head.startswith("log p('.') is -")
    assert [line.split()[0] for line in bars] == ["1", "2", "3", "4", "5"]
    assert any("█" in line or "░" in line for line in bars)


@pytest.mark.parametrize("columns", [50, 80, 120])
@pytest.mark.parametrize("lists", ["cut", "wrapped"])
@pytest.mark.long
def test_views_fit_the_terminal(columns, lists):
    text = "The cat sat on the mat, 猫が寝ている, and nobody \u0001 knew.\n\tWhy? " * 4
    found = explained(load("tiny"), text, Question(top=12, near=64))
    lines = explanations.page(found, ALL, columns, coloured=False, lists=lists).splitlines()
    assert all(width(line) <= columns for line in lines)
    assert "\x01" not in "".join(lines)
    assert "\\x01" in "".join(lines)


def test_all_that_was_asked_for_is_there_where_no_terminal_cuts_it_and_where_one_wraps_it(tiny, tmp_path):
    lines = tiny("--tokens", "--top", "10", "The cat")
    assert [line.count("%") for line in lines[2:]] == [0, 11, 11, 10]
    tiny("--tokens", "--top", "10", "-o", str(tmp_path / "why.txt"), "The cat")
    assert (tmp_path / "why.txt").read_text(encoding="utf-8").splitlines() == lines
    found = explained(load("tiny"), "The cat", Question(top=10, parts=[]))
    wrapped, cut = (
        explanations.page(found, ["tokens"], 80, coloured=False, lists=lists).splitlines()
        for lists in ("wrapped", "cut")
    )
    assert " ".join(" ".join(wrapped).split()) == " ".join(" ".join(lines).split())
    assert len(cut) == len(lines) < len(wrapped)


def test_a_text_whose_beginning_is_not_shown_begins_so():
    found = explained(load("tiny"), "The cat sat on the mat", Question(parts=[]))
    assert explanations.page(found, ["text"], 80, coloured=False, last=4).splitlines()[0] == "… on the mat"
    assert explanations.page(found, ["text"], 80, coloured=False, last=99).splitlines()[0] == "The cat sat on the mat"


def test_numbers_of_absurd_weights_stay_in_their_columns(run, tmp_path):
    tensors = random_tensors(SMALL)
    tensors["ln_f.weight"][:] = 1e37
    make_checkpoint(tmp_path / "absurd", tensors=tensors)
    result = run("explain", "-m", tmp_path / "absurd", "--precision", "fp32", "-q", "the old man went to the sea")
    assert result.code == 0, result.stderr
    assert all(width(line) <= 80 for line in result.stdout.splitlines() if not line.startswith("likeliest"))


@pytest.mark.long
def test_of_a_long_text_the_nearest_tokens_are_left_out(tiny):
    lines = tiny("the cat went to the sea " * 20)
    assert lines[-1].startswith("52 more tokens, each at most ")
    tries = [int(line.split()[0]) for line in lines[-13:-1]]
    assert min(tries) > 20 * 6 - 64


@pytest.mark.long
def test_a_long_text_is_broken_at_blanks_with_its_marks_below(tiny):
    lines = tiny("the cat went to the sea " * 9, columns=40)
    assert lines[0] == "the cat went to the sea the cat went to"
    assert all(line[:1] != " " or not line.strip("-=# ") for line in lines[: lines.index("")])


def test_colours_instead_of_marks(run, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    coloured = run("explain", "-m", "tiny", "The cat ate the moon").stdout
    assert "\x1b[31m moon\x1b[0m" in coloured
    assert "=" not in coloured.partition("rank")[0]
    assert "\x1b[31m101 to 1000\x1b[0m" in coloured
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in run("explain", "-m", "tiny", "The cat sat").stdout


@pytest.mark.long
def test_tables(tiny):
    lens = tiny("--lens", "The cat sat on the mat.")
    assert lens[1].split()[0] == "layer"
    assert [line.split()[0] for line in lens[2:9]] == [*"0123456"]
    assert "*" in "".join(lens[2:9])
    assert len(lens) == 10
    attention = tiny("--attention", "--layer", "0", "--layer", "5", "The cat sat on the mat.")
    assert [line.split()[:2] for line in attention[2:]] == [[layer, head] for layer in "05" for head in "012345"]
    title, *tokens = tiny("--tokens", "The cat sat on the mat.")
    assert title == "how each token was predicted, entropy in nats"
    assert [line.split()[0] for line in tokens[1:]] == [*map(str, range(10))]
    assert tokens[-1].split()[1] == "next"
    contrast = tiny("--instead", " dog", "--token", "2", "The cat sat")
    assert any(line.startswith("log p(' cat') - log p(' dog') is ") for line in contrast)
    assert tiny("--by", "rollout", "The cat sat")[8].startswith("attention rollout: how much of what predicts token 3")
    assert tiny("--by", "zeroing", "--layer", "2", "The cat sat")[8].endswith("(layer 2)")
    assert tiny("The")[-1] == "nothing comes before it that could be left out"


def test_into_a_file(explain, tmp_path):
    plain = explain(TEXT).raw
    result = explain("-o", tmp_path / "why.txt", TEXT)
    assert (result.raw, result.stderr) == (b"", "")
    assert (tmp_path / "why.txt").read_bytes() == plain


def test_a_note_where_not_all_of_attention_is_given(explain, monkeypatch):
    monkeypatch.setattr("gpt2cli.analysis.questions.Question", partial(Question, most=100))
    result = explain("--json", "the old man")
    assert result.stderr.startswith("note: attention is given for token ")
    assert result.stderr.count("\n") == 1
    (position,) = json.loads(result.stdout)["attention"]["positions"]
    assert position == json.loads(result.stdout)["target"] - 1
    assert explain("--json", "--layer", "0", "the old man").stderr == ""
    assert explain("--attention", "the old man").stderr == ""


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["--attention", "--layer", "2", "a b"], 2, ["--layer has 2, which does not exist", "0 to 1"]),
        (["--attention", "--head", "-1", "a b"], 2, ["--head has -1", "0 to 3"]),
        (["--layer", "1", "a b"], 2, ["--layer changes nothing in what is shown", "--attention, or --by zeroing"]),
        (["--tokens", "--head", "2", "a b"], 2, ["--head changes nothing in --tokens", "add --attention"]),
        (["--tokens", "--lens", "--layer", "1", "a b"], 2, ["--layer changes nothing in --tokens, --lens"]),
        (["--json", "--tokens", "--layer", "1", "a b"], 2, ["--layer changes nothing in --tokens"]),
        (["--by", "zeroing", "--head", "1", "a b"], 2, ["--head changes nothing"]),
        (["--lens", "--top", "2", "a b"], 2, ["--top changes nothing in --lens", "add --tokens"]),
        (["--tokens", "--token", "1", "a b"], 2, ["--token changes nothing in --tokens", "--lens or --attention"]),
        (["--json", "--by", "rollout", "a b"], 2, ["--by changes nothing: --json has all", "leave it out"]),
        (["--token", "0", "a b"], 2, ["--token is 0"]),
        (["--token", "99", "a b"], 2, ["--token is 99", "tokens 1 to 3 can be explained; -1 is the last"]),
        (["--no-start", "a"], 2, ["one token", "start token"]),
        ([""], 2, ["the text is empty"]),
        (["--instead", " the cat went", "a b"], 2, ["--instead is ' the cat went', which is", "give one token"]),
        (["--instead", " b", "--by", "rollout", "a b"], 2, ["--instead with --by rollout"]),
        (["--by", "gradients", "a b"], 2, ["'gradients'", "occlusion, rollout, zeroing"]),
        (["--top", "0", "a b"], 2, ["--top"]),
        (["-f", "no-such-file"], 2, ["no-such-file"]),
        (["a b", "-f", "x"], 2, ["'x'"]),
        (["a b " * 40], 6, ["tokens, and the model's window holds 63 beside the start token", "--limit 63"]),
    ],
)
def test_what_is_refused(explain, argv, code, words):
    assert_error(explain(*argv), code, *words)


def test_nothing_to_explain(explain):
    assert_error(explain(), 2, "no text", "gpt2 explain")
    assert_error(explain(stdin=""), 2, "the text is empty")


def test_an_error_leaves_no_file(explain, tmp_path):
    (tmp_path / "why.json").write_text("before")
    assert_error(explain("--json", "--layer", "7", "-o", tmp_path / "why.json", "a b"), 2, "--layer has 7")
    assert_error(explain("-o", tmp_path / "none" / "why.txt", "a b"), 7, "why.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["why.json"]
    assert (tmp_path / "why.json").read_text() == "before"


def test_a_ready_made_graph_and_weights_that_are_no_numbers(run, tmp_path):
    make_foreign(tmp_path / "foreign")
    assert_error(run("explain", "-m", tmp_path / "foreign", "a b"), 6, "ready-made")
    tensors = random_tensors(SMALL)
    tensors["h.1.mlp.c_proj.weight"][:] = 3e38
    make_checkpoint(tmp_path / "broken", tensors=tensors)
    result = run("explain", "-m", tmp_path / "broken", "--precision", "fp32", "-q", "a b")
    assert_error(result, 5, "not finite")


def test_the_json_of_the_page_is_what_is_printed(run):
    ((command, example),) = re.findall(
        r"^`gpt2 (explain [^`]+)`\n\n```json\n(.*?)^```", PAGES["docs/explain.md"], re.M | re.S
    )
    printed, shown = json.loads(run(*shlex.split(command)).stdout), json.loads(example)
    table = [row[0] for row in rows("docs/explain.md", "JSON")[2:]]
    assert [name for cell in table for name in re.findall(r"`(\w+)`", cell)] == list(printed)

    def keys(value):
        """Names and lengths, without the numbers."""
        if isinstance(value, dict):
            return {name: keys(one) for name, one in value.items()}
        return [keys(one) for one in value] if isinstance(value, list) else type(value).__name__

    for one in (printed, shown):
        one["revision"] = one["precision"] = ""
        one["lens"]["layers"], one["lens"]["said"] = one["lens"]["layers"][-1:], one["lens"]["said"][-1:]
        for part in one["tokens"]:
            part["bytes"] = []
    assert keys(shown) == keys(printed)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_an_interruption_leaves_nothing(spawn, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    process = spawn("explain", "-m", "tiny", "--json", "-o", tmp_path / "why.json", "-f", fifo)
    with read_by(process, fifo) as file:
        file.write(b"the cat went to the sea " * 120)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, b"", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["fifo"]


@pytest.mark.terminal
def test_on_a_real_terminal(checkpoint):
    from terminals import Terminal

    shown = Terminal("explain", "-m", "tiny", "The cat sat on the theorem.", columns=80)
    try:
        assert shown.exit_code() == 0
        assert shown.lines[0] == "The cat sat on the theorem."
        assert "rank: 1 to 10  11 to 100  101 to 1000  beyond" in shown.lines
    finally:
        shown.close()
