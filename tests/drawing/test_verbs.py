"""`--html` and `--svg` of `gpt2 explain`: what `--json` prints, drawn."""

import json
import re
import xml.etree.ElementTree as ElementTree

import pytest
from conftest import assert_error

from gpt2cli.drawing import explanation

TEXT = "the cat sat down and the old man"


@pytest.fixture
def explain(run, checkpoint):
    """gpt2 explain with the small random checkpoint."""

    def call(*argv, **options):
        return run("explain", "-m", checkpoint, "--precision", "fp32", *argv, **options)

    return call


@pytest.mark.parametrize("form", [["--json"], [], ["--json", "--lens"], ["--json", "--instead", "!"]])
def test_an_explanation_is_drawn_beside_what_is_printed(explain, tmp_path, form):
    files = tmp_path / "a.html", tmp_path / "a.svg"
    drawn = explain(*form, TEXT, "--html", files[0], "--svg", files[1])
    assert (drawn.code, "note: --" in drawn.stderr) == (0, False)
    assert drawn.stdout == explain(*form, TEXT).stdout
    plain = json.loads(explain("--json", *form, TEXT).stdout)
    assert files[0].read_text(encoding="utf-8") == explanation.page(plain)
    assert files[1].read_text(encoding="utf-8") == explanation.picture(plain)
    ElementTree.parse(files[1])


def test_what_a_page_leaves_out_is_said(explain, tmp_path, monkeypatch):
    monkeypatch.setattr(explanation, "PAGE_WEIGHTS", 100)
    monkeypatch.setattr(explanation, "PICTURE_TOKENS", 3)
    drawn = explain("-q", TEXT, "--html", tmp_path / "a.html", "--svg", tmp_path / "a.svg")
    assert (drawn.code, drawn.stderr) == (0, "")
    drawn = explain(TEXT, "--html", tmp_path / "a.html", "--svg", tmp_path / "a.svg")
    assert re.search(
        r"note: --html: where \d of \d+ tokens look is in the page\n"
        r"note: --svg: 3 of \d+ tokens are drawn\n$",
        drawn.stderr,
    )


def test_errors(explain, tmp_path):
    assert_error(explain(TEXT, "--html", tmp_path / "none/a.html"), 7, "none")
    assert_error(explain(TEXT, "--html", "a", "--svg", "a"), 2, "--html", "--svg")
    assert_error(explain(TEXT, "--html", "a", "-o", "a"), 2, "'a'")
    assert_error(explain(TEXT, "--token", "99", "--html", tmp_path / "a.html"), 2, "99")
    assert list(tmp_path.glob("a.*")) == []
