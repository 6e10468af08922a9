"""The page and the picture of `gpt2 compare`: whole whatever the texts are, and in a real browser."""

import json
import xml.etree.ElementTree as ElementTree

import pytest
from test_drawing import HOSTILE, SVG, Reader

from gpt2cli import Limits, Sampling, compare, load
from gpt2cli.drawing import comparison

PROMPTS = ["The king sat on </script><b>x</b>", "The queen sat on 犬", "The cat"]


@pytest.fixture(scope="module")
def found():
    tiny, limits = load("tiny"), Limits(max_tokens=6)
    made = {
        count: compare(
            tiny, PROMPTS[:count], endings=["his throne"], samples=9, sampling=Sampling(seed=1), limits=limits
        )
        for count in (2, 3)
    }
    return {count: one.plain() | {"seed": 1, "settings": {}, "interrupted": False} for count, one in made.items()}


def hostile(plain):
    copy = json.loads(json.dumps(plain))
    for side in copy["sides"]:
        side["prompt"] = side["model"] = side["endings"][0]["text"] = side["words"][0]["word"] = HOSTILE
        side["likeliest"][0] |= {"token": HOSTILE, "bytes": list(HOSTILE.encode(errors="replace"))}
        side["texts"][0] = HOSTILE
    return copy


@pytest.mark.long
@pytest.mark.parametrize("count", [2, 3])
def test_nothing_that_a_text_says_breaks_them(found, count):
    plain = hostile(found[count])
    script, *_ = (text for tag, kind, text in Reader(comparison.page(plain)).found if kind.get("id") == "data")
    assert json.loads(script)["sides"][0]["prompt"] == plain["sides"][0]["prompt"]
    drawn = ElementTree.fromstring(comparison.picture(plain))
    assert "Where they differ most" in [one.text for one in drawn.iter(f"{SVG}text")]


def test_a_picture_holds_its_rows(found):
    for plain in found.values():
        drawn = ElementTree.fromstring(comparison.picture(plain))
        right = float(drawn.get("width"))
        for one in drawn.iter(f"{SVG}text"):
            assert float(one.get("x")) + float(one.get("textLength")) <= right
        for one in drawn.iter(f"{SVG}rect"):
            assert float(one.get("x", 0)) + float(one.get("width")) <= right


def test_columns_have_headings_and_nothing_that_was_asked_for_is_cut(found, sheet):
    words = [one.text for one in ElementTree.fromstring(comparison.picture(found[3])).iter(f"{SVG}text")]
    assert "log most/least" in words
    assert "Endings, logarithms in nats" in words
    assert not any("…" in word for word in words if "%" in word)
    assert sum(word.count("%") for word in words if " · " in word) == 30
    page = sheet(comparison.page(found[3]))
    heads = page.run("return [...document.querySelectorAll('.wide')].map(one => one.querySelector('tr').innerText)")
    assert [head.split("\t") for head in heads[:1]] == [["Token", "A", "B", "log B/A", "C", "log C/A"]]
    assert heads[2].split("\t")[:3] == ["Ending", "A log p", "A a token"]
    assert heads[3].split("\t")[:4] == ["Word", "A texts", "A share", "95 %"]


def test_what_is_left_out_is_told(found):
    plain = json.loads(json.dumps(found[2]))
    for side in plain["sides"]:
        side["words"] = side["words"][:12]
    assert comparison.notes(plain) == {"html": "", "svg": ""}
    for side in plain["sides"]:
        side["words"] *= 100
        side["texts"] *= 100
    told = comparison.notes(plain)
    assert "the first 200" in told["html"]
    assert "the first 12 words" in told["svg"]
    plain["sides"] *= 7
    assert "the first 12 of 14 sides" in comparison.notes(plain)["svg"]
    assert "the first 12 of 14 sides" in comparison.picture(plain)
    many = comparison.page(plain | {"interrupted": True})
    assert "the work was interrupted" in many


def test_the_page_shows_the_sides(sheet, found):
    page = sheet(comparison.page(found[3]))
    shown = page.run("return [...document.querySelectorAll('.prompt')].map(one => one.textContent)")
    assert shown == PROMPTS
    assert page.run("return document.querySelectorAll('.prompt b').length") == 0
    heads = page.run("return [...document.querySelectorAll('h2')].map(one => one.textContent)")
    assert [head.split()[0] for head in heads] == ["The", "Where", "Divergences", "Endings", "First"]
    assert page.run("return document.querySelectorAll('.columns section').length") == 3
    assert page.run("return document.querySelectorAll('.samples li').length") == 27


@pytest.mark.parametrize("width", [390, 1024, 1600])
@pytest.mark.parametrize("count", [2, 3])
def test_the_page_is_never_wider_than_its_window(sheet, found, width, count):
    page = sheet(comparison.page(found[count]))
    page.look(width=width)
    assert page.run("return document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1024])
def test_axe_finds_nothing_on_comparisons(sheet, axe, found, scheme, width):
    page = sheet(comparison.page(found[3]))
    page.look(width=width, scheme=scheme)
    page.run(axe)
    assert page.violations() == []
