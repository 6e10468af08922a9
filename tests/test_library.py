"""The package as a library: its names, its types, and what it says to those who use it wrongly."""

import importlib.metadata
import logging
import math
import pydoc
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import gpt2cli
from gpt2cli import Limits, Sampling, Score, UserError, complete, generate, load, score
from gpt2cli.analysis.scoring import Scorer
from gpt2cli.errors import UsageError
from gpt2cli.generation.speculation import Lookup

TEXTS = ["the cat sat down", "", "a", "the old man went to the sea " * 9]


def test_every_name_is_there_for_tools():
    assert set(gpt2cli.__all__) <= set(dir(gpt2cli))
    shown = pydoc.plain(pydoc.render_doc(gpt2cli))
    for name in (
        "class Sampling",
        "class Limits",
        "class Score",
        "score(model",
        "embed(model",
        "compare(model",
        "explain(model",
        "finetune(sources",
        "load(name",
        "complete(model",
    ):
        assert name in shown
    with pytest.raises(AttributeError, match="nothing"):
        gpt2cli.nothing  # noqa: B018


@pytest.mark.process
def test_importing_it_costs_nothing():
    code = "import gpt2cli, sys; dir(gpt2cli); print(*(name for name in {heavy} if name in sys.modules))"
    heavy = ("numpy", "onnxruntime", "tokenizers", "huggingface_hub", "typer", "dataclasses", "importlib.metadata")
    done = subprocess.run([sys.executable, "-c", code.format(heavy=heavy)], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


SCRIPT = """
from collections.abc import Iterator

import numpy as np

from gpt2cli import Comparison, Explanation, Limits, Model, Piece, Question, Sampling, Score, UserError
from gpt2cli import compare, complete, embed, explain, generate, load, score


def told(title: str, done: int, total: int) -> None: ...


model: Model = load("tiny", progress=told)
pieces: Iterator[Piece] = generate(model, "Once", Sampling(seed=1, top_k=3), Limits(max_tokens=5, stop="END"))
text: str = complete(model, [1, 2])
one: Score = score(model, text, context="Once")
same: Score = score(model, [1, 2], top=3)
several: list[Score] = score(model, ["a", "b"])
bits: float | None = one.bits_per_byte
vector: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = embed(model, text, layer=3)
vectors: list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]] = embed(model, ["a", "b"], pooling="last")
found: Comparison = compare(model, "the {cat|dog}", endings=["sat"], samples=2)
both: Comparison = compare([model, model], ["the cat"])
divergence: float = found.divergence(0, 1).js
why: Explanation = explain(model, text, Question(instead=" cat", parts=["lens"]))
error: type[Exception] = UserError
generate(model, 5)
load(5)
Sampling(top_k="3")
"""


@pytest.mark.long
@pytest.mark.process
def test_type_checkers_see_the_names(tmp_path, pytestconfig):
    (tmp_path / "script.py").write_text(SCRIPT)
    cache = pytestconfig.cache.mkdir("mypy")  # with which the next run takes a second
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", cache, "script.py"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    wrong = [line.partition(" error: ")[0] for line in done.stdout.splitlines() if " error: " in line]
    last = len(SCRIPT.splitlines())
    assert wrong == [f"script.py:{line}:" for line in (last - 2, last - 1, last)], done.stdout + done.stderr


def test_the_version_is_the_packages():
    assert gpt2cli.__version__ == importlib.metadata.version("gpt2cli")


# Scores


@pytest.mark.parametrize("options", [{}, {"context": "the old"}, {"start": False}, {"stride": 10, "top": 2}])
def test_a_score_sums_up_what_the_scorer_finds(small, options):
    ids = [small.tokenizer.encode(text) for text in TEXTS]
    scorer = Scorer(small, **options | {"context": small.tokenizer.encode(options.get("context", ""))})
    for text, tokens, found in zip(TEXTS, ids, score(small, TEXTS, **options), strict=True):
        each = list(scorer.tokens(tokens))
        assert [one.token for one in found.each] == tokens
        expected = [one.logprob for one in each if one.logprob is not None]
        assert found.tokens == len(expected)
        assert found.logprob == pytest.approx(sum(expected), abs=1e-3)
        alone = score(small, text, **options)
        assert alone.each == each
        if tokens:
            assert score(small, tokens, **options) == alone
            assert score(small, np.array(tokens, np.int32), **options) == alone
        if expected:
            assert alone.perplexity == pytest.approx(math.exp(-alone.logprob / alone.tokens))
    assert score(small, []) == []
    assert score(small, "").perplexity is None
    assert "each" not in repr(Score())


def test_scores_of_eight_threads(small):
    texts = [f"the cat {number} sat " * (1 + number * 3) for number in range(8)]
    expected = [score(small, text, top=1) for text in texts]
    found = [None] * 8

    def work(number):
        found[number] = [score(small, texts[number], top=1) for _ in range(3)]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [[one] * 3 for one in expected]


# Mistakes


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda model: generate(model, b"the cat"), "`prompt` is b'the cat'"),
        (lambda model: generate(model, None), "`prompt` is None"),
        (lambda model: generate(model, ["the", "cat"]), "`prompt` is ['the', 'cat']"),
        (lambda model: generate(model, [1.5]), "`prompt` is [1.5]"),
        (lambda model: generate(model, "a\ud800b"), "`prompt` is no text"),
        (lambda model: complete(model, 5), "`prompt` is 5"),
        (lambda model: complete("tiny", "the"), "`model` is 'tiny'"),
        (lambda model: generate(model, "the", Limits()), "`sampling` is Limits("),
        (lambda model: complete(model, "the", Sampling(), {"max_tokens": 3}), "`limits` is {"),
        (lambda model: generate(model, "the", samples="2"), "`samples` is '2'"),
        (lambda model: generate(model, "the", logprobs=1.0), "`logprobs` is 1.0"),
        (lambda model: generate(model, "the", beams=None), "`beams` is None"),
        (lambda model: generate(model, "the", drafter="lookup"), "`drafter` is 'lookup'"),
        (lambda model: generate(model, "the", drafter=Lookup), "`drafter` is <class"),
        (lambda model: Limits(stop=b"END"), "`stop` is b'END'"),
        (lambda model: Limits(stop=["END", b"END"]), "`stop` is "),
        (lambda model: Sampling(top_k="5"), "`top_k` is '5'"),
        (lambda model: Sampling(logit_bias={"the": 1}), "`logit_bias` is for 'the'"),
        (lambda model: load(b"tiny"), "`name` is b'tiny'"),
        (lambda model: load(Path("tiny")), "`name` is "),
        (lambda model: load("tiny", threads="2"), "`threads` is '2'"),
        (lambda model: load("tiny", threads=True), "`threads` is True"),
        (lambda model: generate(model, "the", samples=True), "`samples` is True"),
        (lambda model: generate(model, "the", beams=True), "`beams` is True"),
        (lambda model: generate(model, "the", logprobs=True), "`logprobs` is True"),
        (lambda model: generate(model, [1, True]), "`prompt` is [1, True]"),
        (lambda model: Sampling(temperature=True), "`temperature` is True"),
        (lambda model: Sampling(logit_bias={1: True}), "`logit_bias` is True"),
        (lambda model: Limits(max_tokens=True), "`max_tokens` is True"),
        (lambda model: score(model, "the", stride=True), "`stride` is True"),
        (lambda model: score(model, "the", top=True), "`top` is True"),
        (lambda model: load("tiny", precision=b"int8"), "int8"),
        (lambda model: load("nonesuch", device="gpu"), "no device 'gpu'"),  # before the model is looked for
        (lambda model: load("nonesuch", source="hub"), "no source 'hub'"),
        (lambda model: score("tiny", "the"), "`model` is 'tiny'"),
        (lambda model: score(model, b"the"), "`text` is b'the'"),
        (lambda model: score(model, ["the", b"the"]), "`text` is "),
        (lambda model: score(model, "the", context=b"the"), "`context` is b'the'"),
        (lambda model: score(model, "the", stride="5"), "`stride` is '5'"),
        (lambda model: score(model, "the", stride=999), "`stride` 999"),
        (lambda model: score(model, "the", top=-1), "`top` is -1"),
        (lambda model: score(model, [1, 300]), "300"),
    ],
)
def test_a_mistake_is_refused_in_words_that_name_the_parameter(small, call, named):
    with pytest.raises(UsageError) as caught:
        call(small)
    assert named in caught.value.message
    assert caught.value.hint
    assert isinstance(caught.value, UserError)


@pytest.mark.parametrize(
    "call",
    [
        lambda model, folder: load(""),
        lambda model, folder: load("tinny"),
        lambda model, folder: load("tiny@0"),
        lambda model, folder: load(str(folder / "config.json")),
        lambda model, folder: load("owner/name", offline=True),
        lambda model, folder: load("tiny", device="cuda", precision="int8"),
        lambda model, folder: load("tiny", device="cuda", source="onnx"),
        lambda model, folder: generate(load(str(folder), text=False), "the"),
        lambda model, folder: generate(model, "the", beams=2, limits=Limits(max_tokens=500)),
        lambda model, folder: generate(model, "the", samples=2, drafter=Lookup()),
    ],
)
def test_a_hint_names_no_flag_of_the_command_line(small, call, checkpoint, tmp_path):
    shutil.copytree(checkpoint, folder := tmp_path / "no-tokenizer")
    for name in ("tokenizer.json", "vocab.json", "merges.txt"):
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(UserError) as caught:
        call(small, folder)
    said = f"{caught.value.message} {caught.value.hint}".replace("at the command line with --ids", "")
    assert not re.search(r"(?:^|\s)--?[a-zA-Z]", said)


# Slow work


def test_an_export_is_told_before(checkpoint, tmp_path, monkeypatch, caplog, capfd):
    monkeypatch.setenv("GPT2_CACHE", str(tmp_path / "logged"))
    load(str(checkpoint), precision="fp32")
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("gpt2cli", logging.WARNING)
    assert record.getMessage().startswith(f"exporting {checkpoint} (fp32) (")
    caplog.clear()
    load(str(checkpoint), precision="fp32")
    seen = []
    monkeypatch.setenv("GPT2_CACHE", str(tmp_path / "called"))
    load(str(checkpoint), precision="fp32", progress=lambda *step: seen.append(step))
    assert not caplog.records
    assert {title for title, _, _ in seen} == {f"exporting {checkpoint} (fp32)"}
    assert seen[-1][1] == seen[-1][2] > 0
    assert capfd.readouterr() == ("", "")
