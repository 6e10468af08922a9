"""Pages and pictures as files: whole, safe, and well-formed whatever the texts are."""

import base64
import hashlib
import html.parser
import json
import re
import xml.etree.ElementTree as ElementTree

import pytest
from plain import explained, scored, token

from gpt2cli.drawing import explanation, scores
from gpt2cli.drawing.cells import fitted, seen, width
from gpt2cli.drawing.colours import COLOURS, rank_class, scaled, surprise
from gpt2cli.drawing.page import page
from gpt2cli.drawing.svg import Picture, Run
from gpt2cli.drawing.tokens import readable

HOSTILE = "</script><script>alert(1)</script><!-- ]]> & \"'\x00\x1b[2J\x7f\x85\u2028\ud800\ufffe\uffff 犬 é́ \u202e"
SVG = "{http://www.w3.org/2000/svg}"


class Reader(html.parser.HTMLParser):
    """The scripts, styles and attributes of a page."""

    def __init__(self, text):
        super().__init__()
        self.found, self.tags, self.open = [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag in ("script", "style"):
            self.open = [tag, dict(attributes), ""]
            self.found.append(self.open)

    def handle_endtag(self, tag):
        self.open = None

    def handle_data(self, data):
        if self.open:
            self.open[2] += data


def test_what_a_text_says_can_neither_end_a_script_nor_a_title():
    whole = page(HOSTILE, "scores", {"note": HOSTILE, "texts": []}, about=HOSTILE)
    reader = Reader(whole)
    assert [one[0] for one in reader.found] == ["style", "script", "script"]
    data = reader.found[1]
    assert data[1]["type"] == "application/json"
    assert json.loads(data[2])["note"] == HOSTILE
    assert not re.search("[\x00\x1b\x7f-\x9f\ud800-\udfff]", whole)
    whole.encode()


def test_a_page_may_load_nothing_and_run_only_its_own_script():
    reader = Reader(page("A", "scores", {"texts": []}))
    ((_, policy),) = [one for one in reader.tags if "http-equiv" in one[1]]
    rules = dict(rule.strip().split(" ", 1) for rule in policy["content"].split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    for kind, element in (("style", reader.found[0]), ("script", reader.found[2])):
        hashed = base64.b64encode(hashlib.sha256(element[2].encode()).digest()).decode()
        assert rules[f"{kind}-src"] == f"'sha256-{hashed}'"
    assert not [one for one in reader.tags if {"src", "href", "style"} & set(one[1])]


def test_the_scripts_of_a_page_need_no_other_file_and_no_name_is_taken_twice():
    script = Reader(page("A", "scores", {"texts": []})).found[2][2]
    assert not re.search(r"^\s*(import|export)\b", script, re.M)
    names = re.findall(r"^(?:async )?(?:function|const|let|class) (\w+)", script, re.M)
    assert len(names) == len(set(names))
    assert script.endswith("start(scores);\n")


def test_values_that_json_does_not_know_are_refused():
    with pytest.raises(ValueError, match="JSON"):
        page("A", "scores", float("nan"))


def test_ink_can_be_read_on_every_ground():
    """4.5 to 1, as the guidelines for accessibility ask of text."""

    def light(colour):
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(factor * part for factor, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True))

    for shade in (0, 1):
        ink = light(COLOURS["ink"][shade])
        for name in COLOURS:
            if re.fullmatch(r"(heat|cold)\d|top\d+|beyond|ground|raised|chosen", name):
                low, high = sorted((ink, light(COLOURS[name][shade])))
                assert (high + 0.05) / (low + 0.05) >= 4.5, name


def test_colours_of_numbers():
    assert [scaled(share) for share in (0, 0.5, 1, 7, -0.5, -1)] == [None, "heat4", "heat8", "heat8", "cold4", "cold8"]
    assert [surprise(logprob) for logprob in (None, 0, -99)] == [None, None, "heat8"]
    assert [rank_class(rank) for rank in (None, 1, 10, 11, 100, 1000, 1001)] == [
        *(None, "top10", "top10", "top100", "top100", "top1000", "beyond")
    ]


def test_a_picture_is_well_formed_whatever_the_texts_are():
    drawn = Picture(HOSTILE, columns=30)
    drawn.row(Run(HOSTILE, "quiet", "heat3", bold=True, title=HOSTILE))
    drawn.paragraph([Run(HOSTILE)])
    root = ElementTree.fromstring(drawn.svg())
    assert root.find(f"{SVG}title").text == seen(HOSTILE)
    assert "".join(root.find(f"{SVG}g/{SVG}text").itertext()) == seen(HOSTILE)
    assert not {name for node in root.iter() for name in node.attrib if "href" in name or name.startswith("on")}


def boxes(drawn):
    """Of each text: what it says, its first cell, its cells, its row."""
    root = ElementTree.fromstring(drawn.svg())
    return [
        (
            one.text,
            round((float(one.get("x")) - 18) / 8.4),
            round(float(one.get("textLength")) / 8.4),
            (float(one.get("y")) - 32) // 20,
        )
        for one in root.iter(f"{SVG}text")
    ]


def test_each_run_takes_its_cells():
    drawn = Picture("x")
    drawn.row(Run("ab"), Run(" 犬猫"), Run("e\u0301x"), Run("\u0301"))
    assert [one[:3] for one in boxes(drawn)] == [("ab", 0, 2), ("犬猫", 3, 4), ("e\u0301x", 7, 2), ("◌\u0301", 9, 1)]


def test_a_paragraph_is_broken_at_blanks_and_at_newlines():
    drawn = Picture("x", columns=10)
    drawn.paragraph([Run("one"), Run(" t"), Run("wo"), Run(" three"), Run("\n"), Run("w" * 24), Run(" 犬")])
    found = boxes(drawn)
    rows = ["".join(text for text, _, _, row in found if row == number) for number in range(6)]
    assert rows == ["onetwo", "three↵", "w" * 10, "w" * 10, "wwww犬", ""]
    assert all(column + cells <= 10 for _, column, cells, _ in found)


def test_a_share_is_a_bar():
    drawn = Picture("x")
    drawn.row(Run(" " * 10, ground="accent", share=0.25))
    bar = [one for one in ElementTree.fromstring(drawn.svg()).iter(f"{SVG}rect") if one.get("class") == "accent"]
    assert [float(one.get("width")) for one in bar] == [21]


def test_texts_are_cut_and_padded_to_cells():
    assert [fitted(text, 4) for text in ("ab", "abcd", "abcde", "犬猫鳥", "")] == [
        "ab  ",
        "abcd",
        "abc…",
        "犬… ",
        "    ",
    ]
    assert fitted("7", 3, left=False) == "  7"
    assert all(width(fitted(text, 5)) == 5 for text in ("犬猫鳥", "a\u0301bcdefg", "x"))


def test_characters_come_with_the_token_that_completes_them():
    octets = "a犬\n".encode()
    tokens = [token(octets[:2]), token(octets[2:3]), token(octets[3:])]
    assert [one["text"] for one in readable(tokens)] == ["a", "", "犬\n"]
    assert [one["text"] for one in readable([token(b"\xe7\x8a")])] == ["\ufffd"]
    assert list(readable([])) == []


def test_scores_as_a_picture_in_the_colours_of_surprise():
    tokens = [token("The", None, None), token(" cat", -0.01, 1), token(" theorem", -12.0, 3000)]
    root = ElementTree.fromstring(scores.picture(scored(tokens)))
    groups = [(one.find(f"{SVG}title").text, one.find(f"{SVG}rect")) for one in root.iter(f"{SVG}g")]
    assert [title for title, _ in groups] == ["The", " cat  99.00%, rank 1", " theorem  0.00%, rank 3000"]
    assert [None if rect is None else rect.get("class") for _, rect in groups] == [None, None, "heat8"]


@pytest.mark.long
def test_what_is_not_drawn_is_said_on_the_page_and_on_the_picture():
    plain = scored([token("a")] * 15_000, [token("b")] * 15_000, [token("c")])
    data = json.loads(Reader(scores.page(plain)).found[1][2])
    assert [len(text["tokens"]) for text in data["texts"]] == [15_000, 5_000]
    assert data["note"] == "The first 20,000 of 30,001 tokens are drawn."
    assert scores.notes(plain | {"left_out": 4})["html"] == "the first 20,000 of 30,005 tokens are drawn"
    assert "The first 2,000 of 30,001" in "".join(ElementTree.fromstring(scores.picture(plain)).itertext())
    few = scored([token("a")], interrupted=True)
    assert json.loads(Reader(scores.page(few)).found[1][2])["note"].startswith("The work was interrupted")
    assert scores.notes(few) == {"html": "", "svg": ""}


def test_an_explanation_as_a_picture():
    root = ElementTree.fromstring(explanation.picture(explained()))
    titled = {}
    for group in root.iter(f"{SVG}g"):
        titled.setdefault(group.find(f"{SVG}title").text, []).append(group)
    (first,) = titled[" cat  0.5000"]
    assert first.find(f"{SVG}rect").get("class") == "heat8"
    assert titled[" sat  −0.2500"][0].find(f"{SVG}rect").get("class") == "cold4"
    (sure,) = titled[" mat  81.9%, KL 0.00 nats"]
    assert (sure.find(f"{SVG}rect").get("class"), sure.find(f"{SVG}text").get("font-weight")) == ("heat7", "bold")
    words = "".join("".join(root.itertext()).split())
    assert "'mat'leads'moon'by1.50nats" in words
    assert "why'mat'at5" in words


def test_what_was_not_asked_for_is_not_drawn():
    bare = explained() | dict.fromkeys(("lens", "attention", "rollout", "influence", "value_zeroing"))
    words = "".join(ElementTree.fromstring(explanation.picture(bare)).itertext())
    assert "Each layer" not in words
    assert "rests" not in words
    assert json.loads(Reader(explanation.page(bare)).found[1][2])["attention"] is None
    assert explanation.notes(bare) == {"html": "", "svg": ""}


def test_attention_beyond_what_a_page_holds_is_that_before_the_prediction(monkeypatch):
    whole = json.loads(Reader(explanation.page(explained())).found[1][2])
    assert whole["note"] == ""
    assert whole["attention"] == explained()["attention"]
    monkeypatch.setattr(explanation, "PAGE_WEIGHTS", 41)  # of four heads: 20 for the fifth token, 16 for the fourth
    cut = json.loads(Reader(explanation.page(explained())).found[1][2])
    assert cut["note"] == "Where 2 of 6 tokens look is in the page."
    assert cut["attention"]["positions"] == [3, 4]
    assert explanation.notes(explained())["html"] == "where 2 of 6 tokens look is in the page"


def test_of_a_long_text_a_picture_has_the_end(monkeypatch):
    monkeypatch.setattr(explanation, "PICTURE_TOKENS", 3)
    words = "".join(ElementTree.fromstring(explanation.picture(explained())).itertext())
    assert "3 of 6 tokens are drawn" in words
    assert explanation.notes(explained())["svg"] == "3 of 6 tokens are drawn"


def test_a_hostile_explanation_is_still_a_page_and_a_picture():
    plain = explained(words=[HOSTILE] * 6)
    ElementTree.fromstring(explanation.picture(plain))
    assert [one[0] for one in Reader(explanation.page(plain)).found] == ["style", "script", "script"]


def test_the_picture_of_a_long_text_has_the_token_that_is_questioned(monkeypatch):
    monkeypatch.setattr(explanation, "PICTURE_TOKENS", 2)
    plain = explained() | {"target": 2, "lens": None, "influence": None}
    titles = [node.text for node in ElementTree.fromstring(explanation.picture(plain)).iter(f"{SVG}title")][1:]
    assert [one.split("  ")[0].strip() for one in titles] == ["The", "cat"]
