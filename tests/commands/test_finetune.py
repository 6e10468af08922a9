"""gpt2 finetune as people use it: from a text to a model that speaks, and whatever comes between."""

import contextlib
import json
import os
import shutil
import signal
import sys
import time

import numpy as np
import pytest
from checkpoints import SMALL, make_checkpoint, random_tensors
from conftest import assert_error
from runs import STORY
from safetensors.numpy import load_file

from gpt2cli import paths

pytest.importorskip("torch")
pytestmark = pytest.mark.train

QUICK = ("--batch", "128", "--length", "32", "--rate", "0.003")


@pytest.fixture
def finetune(run, checkpoint):
    def call(*argv, **options):
        return run("finetune", "-m", checkpoint, *argv, **options)

    return call


@pytest.fixture
def models(monkeypatch, tmp_path):
    """The folder of the models that have names."""
    monkeypatch.setenv("GPT2_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def weights(folder):
    return {name: value.tobytes() for name, value in load_file(folder / "model.safetensors").items()}


def test_a_text_is_learnt_by_heart_and_comes_out_again(finetune, run, text, models):
    result = finetune(
        text,
        "-o",
        "story",
        "--validation",
        text,
        "--steps",
        "150",
        "--patience",
        "0",
        "--rate",
        "0.01",
        *QUICK[:4],
        "--json",
    )
    assert result.code == 0
    told = json.loads(result.stdout)
    assert told["best"]["perplexity"] < 1.2 < told["before"]["perplexity"]
    assert (told["name"], told["ended"], told["folder"]) == ("story", "done", str(models / "story"))
    said = run("generate", "-m", "story", "--greedy", "-n", "40", "The cat and")
    assert said.stdout.startswith(" the dog went to the sea. The sea was old, and the dog was wet.")


def test_what_is_shown(finetune, text, models):
    result = finetune(text, "-o", "story", "--steps", "4", *QUICK)
    assert result.code == 0
    assert result.stdout.startswith("story: step 4 is the best: loss ")
    first, header, *rows = result.stderr.splitlines()
    assert "learns story.txt: " in first
    assert header.split() == ["step", "epoch", "train", "validation", "perplexity", "bits/byte"]
    assert rows[0].split()[0] == "0"
    assert (models / "story/loss.svg").read_text().startswith("<svg")
    metrics = [json.loads(line) for line in (models / "story/run/metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in metrics] == [0, 1, 2, 3, 4]
    card = (models / "story/README.md").read_text()
    assert "sha256" in card
    assert str(text.parent) not in card.partition("| command |")[0]


def test_quiet_says_nothing(finetune, text, models):
    result = finetune(text, "-q", "-o", "story", "--steps", "2", *QUICK)
    assert (result.code, result.stdout, result.stderr) == (0, "", "")


def test_a_name_is_listed_runs_is_completed_and_goes(finetune, run, text, models, monkeypatch):
    assert finetune(text, "-q", "-o", "story", "--steps", "2", *QUICK).code == 0
    rows = {row["name"]: row for row in json.loads(run("list", "--json").stdout)}
    assert rows["story"]["trained"]
    assert rows["story"]["parameters"] == 37_120
    assert "story" in run("list").stdout
    assert run("generate", "-m", "story", "-n", "3", "The").code == 0
    with monkeypatch.context() as patch:
        patch.setenv("_GPT2_COMPLETE", "1")
        patch.setenv("_GPT2_WORD", "st")
        assert run("generate", "-m").stdout.split("\t")[0] == "story"
    assert_error(run("rm", "story"), 2, "was trained here", "gpt2 rm --yes story")
    assert (models / "story/config.json").exists()
    assert run("rm", "--yes", "story").code == 0
    assert list(models.iterdir()) == []
    assert run("generate", "-m", "story", "The").code == 3


def test_a_trained_model_can_be_trained_again(finetune, run, text, models):
    assert finetune(text, "-q", "-o", "one", "--steps", "2", *QUICK).code == 0
    assert run("finetune", "-m", "one", text, "-q", "-o", "two", "--steps", "2", *QUICK).code == 0
    assert weights(models / "one") != weights(models / "two")


def test_the_built_in_model_can_be_trained(run, text, models):
    assert run("finetune", text, "-q", "-o", "mine", "--steps", "1", *QUICK).code == 0
    assert json.loads((models / "mine/config.json").read_text())["n_layer"] == 6
    assert run("generate", "-m", "mine", "-n", "3", "The").code == 0


def test_a_model_can_be_made_from_nothing(run, text, models):
    shape = (
        "--from-scratch",
        "--layers",
        "1",
        "--width",
        "16",
        "--heads",
        "2",
        "--positions",
        "64",
        "--vocabulary",
        "270",
    )
    assert run("finetune", text, "-q", "-o", "new", *shape, "--steps", "3", *QUICK).code == 0
    config = json.loads((models / "new/config.json").read_text())
    assert [config[key] for key in ("n_layer", "n_embd", "n_head", "n_positions", "vocab_size")] == [1, 16, 2, 64, 270]
    assert run("generate", "-m", "new", "-n", "3", "The").code == 0
    assert run("tokens", "-m", "new", "ein Wörtchen 🐈").code == 0


def test_stdin_is_a_text(finetune, models):
    assert finetune("-q", "-o", "a", "--steps", "1", *QUICK, stdin=STORY).code == 0
    assert finetune("-q", "-", "-o", "b", "--steps", "1", *QUICK, stdin=STORY).code == 0
    assert weights(models / "a") == weights(models / "b")


def test_a_run_goes_on_only_as_it_was_begun(finetune, run, text, models):
    assert finetune(text, "-q", "-o", "story", "--steps", "2", *QUICK).code == 0
    assert_error(finetune(text, "-o", "story"), 2, "a run is in", "choose another -o")
    assert_error(run("finetune", "--resume", "-o", "story"), 2, "has ended", "-m")


MISTAKES = [
    (("{text}",), 2, "how the new model is to be called", "-o NAME"),
    (("{text}", "-o", "gpt2"), 2, "'gpt2' is a model of the catalogue", "-o ./NAME"),
    (("{text}", "-o", "a b"), 2, "'a b' can be no name", "-o ./NAME"),
    (("none.txt", "-o", "x"), 2, "there is no 'none.txt'", "that exists"),
    (("-o", "x"), 2, "no text to learn from", "FILE -o NAME"),
    (("{text}", "-o", "x", "--steps", "3", "--epochs", "2"), 2, "--steps contradicts --epochs", "one of them"),
    (("{text}", "-o", "x", "--layers", "3"), 2, "--layers is for a new model", "--from-scratch"),
    (("{text}", "-o", "x", "--length", "65"), 2, "more than the model's 64 positions", "at most 64"),
    (("{text}", "-o", "x", "--freeze", "3"), 2, "the model has 2 layers", "fewer"),
    (("{text}", "-o", "x", "--optimizer", "sgd"), 2, "--optimizer 'sgd' is unknown", "muon"),
    (("{text}", "-o", "x", "--lora-alpha", "3"), 2, "--lora-alpha", "--lora 8"),
    (("{text}", "-o", "x", "--lora", "3", "--lora-targets", "wte"), 2, "'wte' is unknown", "c_attn"),
    (("{text}", "-o", "x", "--lora", "3", "--freeze", "1"), 2, "--lora contradicts", "one of them"),
    (("{text}", "-o", "x", "--device", "cuda"), 2, "no CUDA device", "--device cpu"),
    (("{text}", "-o", "x", "--validation", "none.txt"), 2, "there is no 'none.txt'", "that exists"),
    (("{text}", "-o", "{text}/x"), 7, "cannot write to", "choose another -o"),
    (("--resume", "-o", "x"), 2, "there is no run in", "name its text"),
    (("-", "-", "-o", "x"), 2, "stdin is named twice", "into a file"),
    (("-", "--validation", "-", "-o", "x"), 2, "stdin is named twice", "into a file"),
    (("{text}", "--validation", os.devnull, "-o", "x"), 6, "no token to measure the loss on", "more text"),
    (("{text}", "-o", "x", "--lora", "2", "--lora-alpha", "0"), 2, "--lora-alpha 0 learns nothing", "16"),
    (("{text}", "-o", "x", "--lora", "2", "--lora-alpha", "nan"), 2, "--lora-alpha nan is out of", "usual"),
    *(
        (("{text}", "-o", "x", option, value), 2, f"{option} {value} is out of all reason", "usual number")
        for option in ("--rate", "--epochs", "--minutes", "--dropout", "--weight-decay", "--clip")
        for value in ("nan", "inf")
        if (option, value) != ("--dropout", "inf")
    ),
    (("{text}", "-o", "x", "--seed", str(2**63)), 2, "--seed 9223372036854775808 is too large", "2^63"),
]


FROM_SCRATCH = [
    (("{text}", "--freeze", "1"), 2, "nothing that could stay", "--freeze"),
    (("{text}", "--lora", "2"), 2, "nothing that could stay", "--lora"),
    (("-",), 2, "stdin gives it once", "into a file"),
    ((os.devnull,), 2, "gives it once", "into a file"),
    (("{text}", "--width", "7", "--heads", "2"), 2, "cannot be divided into 2 heads", "--width 6"),
]


@pytest.mark.parametrize(("argv", "code", "message", "hint"), FROM_SCRATCH)
def test_a_mistake_with_a_new_model_is_one_error_and_one_hint(run, text, models, argv, code, message, hint):
    result = run("finetune", "--from-scratch", "-o", "x", *(word.format(text=text) for word in argv))
    assert_error(result, code, message, hint)
    assert not (models / "x").exists()


def test_a_new_model_of_any_width_has_heads_that_divide_it(run, text, models):
    shape = ("--from-scratch", "--layers", "1", "--width", "100", "--positions", "64", "--vocabulary", "270")
    assert run("finetune", text, "-q", "-o", "new", *shape, "--steps", "1", *QUICK).code == 0
    assert json.loads((models / "new/config.json").read_text())["n_head"] == 2


@pytest.mark.skipif(os.name != "posix", reason="names of POSIX")
def test_files_of_any_name_are_learnt_and_stand_in_the_card(finetune, models, tmp_path):
    folder = tmp_path / "odd"
    folder.mkdir()
    for name in (b"bad\xff.txt", b"new\nline|`.txt"):
        with contextlib.suppress(OSError):  # some file systems know only Unicode
            (folder / os.fsdecode(name)).write_text(STORY)
    result = finetune(folder, "-o", "odd", "--steps", "1", *QUICK)
    assert (result.code, result.stderr.count("error:")) == (0, 0)
    rows = (models / "odd/README.md").read_text(encoding="utf-8").splitlines()
    assert any(row.startswith("| files | `") and "new?line\\|'.txt" in row for row in rows)


def test_the_card_says_what_was_measured_where_it_was_another_file(finetune, text, models):
    assert finetune(text, "-q", "--validation", text, "-o", "story", "--steps", "1", *QUICK).code == 0
    card = (models / "story/README.md").read_text()
    assert "| text | 1 document, " in card
    assert " of another |" in card
    assert "not learnt from |\n" not in card.partition("| sha256")[0]


def test_the_hint_after_a_loss_that_is_no_number_leads_on(finetune, text, models):
    argv = (text, "-q", "--steps", "9", *QUICK[:4])
    result = finetune(*argv, "-o", "wild", "--rate", "1e9")
    assert_error(result, 6, "the loss at step 2 is no number", "another -o, and a lower --rate than 1e+09")
    assert finetune(*argv, "-o", "tame", "--rate", "0.001").code == 0


def test_targets_of_lora_may_stand_apart(finetune, text, models):
    argv = ("--lora", "2", "--lora-targets", "c_attn, c_fc")
    assert finetune(text, "-q", "-o", "story", "--steps", "1", *argv, *QUICK).code == 0
    plan = json.loads((models / "story/run/plan.json").read_text())
    assert plan["plan"]["lora"]["targets"] == ["c_attn", "c_fc"]


@pytest.mark.parametrize(("argv", "code", "message", "hint"), MISTAKES)
def test_a_mistake_is_one_error_and_one_hint(finetune, text, models, argv, code, message, hint):
    result = finetune(*(word.format(text=text) for word in argv))
    assert_error(result, code, message, hint)
    assert not (models / "x").exists()


def test_without_pytorch_one_line_says_how_to_get_it(finetune, text, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert_error(finetune(text, "-o", "x"), 2, "PyTorch is not installed", "pip install 'gpt2cli[train]'")


def test_what_is_odd_in_the_checkpoint_is_told(run, text, models, tmp_path):
    tensors = random_tensors(SMALL) | {"lm_head.weight": np.ones((300, 32), np.float32)}
    make_checkpoint(tmp_path / "c", tensors={f"module.{name}": value for name, value in tensors.items()})
    result = run("finetune", "-m", tmp_path / "c", "-o", "odd", "--steps", 1, text)
    assert result.code == 0, result.stderr
    assert [result.stderr.count(words) for words in ("read without module.", "another is stored")] == [1, 1]


def test_a_readymade_graph_is_refused(run, checkpoint, text, models, tmp_path):
    folder = tmp_path / "graph"
    shutil.copytree(checkpoint, folder)
    (folder / "model.safetensors").unlink()
    assert_error(run("finetune", text, "-m", folder, "-o", "x"), 3, "is no checkpoint that can be read", "")


@pytest.mark.process
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_the_run_goes_on_to_the_same_end(spawn, run, checkpoint, text, models, number, code):
    argv = ["finetune", "-m", checkpoint, text, "--steps", "40", "--threads", "1", *QUICK]
    process = spawn(*argv, "-o", "cut")
    awaited(process, models / "cut/run/metrics.jsonl", lines=3)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code
    assert "to go on: gpt2 finetune --resume -o cut" in said.decode()
    assert_error(run(*argv, "-o", "cut"), 2, "a run is in", "--resume")
    assert_error(
        run("finetune", "--resume", "-o", "cut", "--rate", "1"), 2, "was begun with --rate 0.003", "leave it out"
    )
    same_end(run, argv, models)


@pytest.mark.process
def test_a_run_that_was_killed_again_and_again_ends_the_same(spawn, run, checkpoint, text, models):
    argv = ["finetune", "-m", checkpoint, text, "--steps", "40", "--threads", "1", *QUICK]
    for lines in (1, 4):
        process = spawn(*argv, "-o", "cut", "--resume")
        awaited(process, models / "cut/run/metrics.jsonl", lines=lines)
        process.kill()
        process.wait()
        if (models / "cut/config.json").exists():  # whole, or not there
            assert weights(models / "cut").keys() == weights(checkpoint).keys()
    same_end(run, argv, models)


def same_end(run, argv, models):
    for name, more in (("cut", ["--resume"]), ("whole", [])):
        assert run(*argv, "-q", "-o", name, *more).code == 0
    assert weights(models / "cut") == weights(models / "whole")
    assert weights(models / "cut/run/last") == weights(models / "whole/run/last")


def awaited(process, path, *, lines):
    while process.poll() is None and (not path.exists() or path.read_bytes().count(b"\n") < lines):
        time.sleep(0.02)


@pytest.mark.terminal
@pytest.mark.skipif(os.name != "posix", reason="needs pseudo-terminals")
@pytest.mark.parametrize(("columns", "names"), [(32, 3), (44, 4), (80, 6)])
def test_the_table_has_the_columns_that_a_terminal_has_room_for(checkpoint, text, models, columns, names):
    from terminals import Terminal

    with contextlib.closing(
        Terminal(*("finetune", "-m", checkpoint, text, "-o", "story", "--steps", 2, *QUICK), columns=columns)
    ) as one:
        assert one.exit_code() == 0
        header, *rows = [line for line in one.lines if line.split() and line.split()[0] in ("step", "0", "1", "2")]
    assert len(header.split()) == names
    assert header.split()[0] == "step"
    assert "validation" in header
    measured = [row for row in rows if "|" not in row]
    assert [row.split()[0] for row in measured[:3]] == ["0", "1", "2"]
    assert {len(row.removesuffix("*").split()) for row in measured[1:3]} == {names}


@pytest.mark.process
def test_what_is_being_trained_is_not_removed(spawn, run, checkpoint, text, models):
    process = spawn("finetune", "-m", checkpoint, text, "--steps", "4000", "--threads", "1", *QUICK, "-o", "busy")
    awaited(process, models / "busy/run/metrics.jsonl", lines=2)
    assert_error(run("rm", "--yes", "busy"), 2, "'busy' is being trained", "Ctrl-C")
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert "saved after step" in said.decode()
    assert run("rm", "--yes", "busy").code == 0


@pytest.mark.process
def test_help_and_usage_errors_import_no_pytorch():
    code = (
        "import sys; from gpt2cli import cli; cli.main(['finetune', '--help']); cli.main(['finetune', 'x'])\n"
        "assert not {'torch', 'numpy', 'tokenizers', 'huggingface_hub'} & set(sys.modules)"
    )
    import subprocess

    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_models_that_have_names_lie_in_a_folder_of_ours(models, monkeypatch):
    assert paths.models() == models
    monkeypatch.delenv("GPT2_MODELS")
    assert paths.models().name == "models"
