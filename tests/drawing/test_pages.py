"""The pages of `--html` in a real browser: mouse, keys, light and dark, and nothing loaded from anywhere."""

import pytest
from conftest import opened
from plain import explained

from gpt2cli.analysis.scoring import Scorer
from gpt2cli.drawing import explanation, scores

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium (the extra dev)")
Keys = webdriver.Keys

TEXTS = ["The king was old,\nand he had a daughter.", "The king was 犬 </script><b>x</b>."]


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """What `gpt2 score --json --tokens` says of the texts."""
    tiny = opened("tiny", tmp_path_factory.getbasetemp())
    texts, scorer = [], Scorer(tiny, top=4)
    for number, text in enumerate(TEXTS, 1):
        tokens = [one.plain(tiny.tokenizer) for one in scorer.tokens(tiny.tokenizer.encode(text))]
        logprob = sum(one["logprob"] for one in tokens)
        sums = {"tokens": len(tokens), "bytes": 9, "logprob": logprob, "perplexity": 20.0, "bits_per_byte": 1.5}
        texts.append({"file": None, "line": number, "text": text, **sums, "logprobs": tokens})
    return {"model": "tiny", "precision": "int8", "texts": texts, "total": sums, "interrupted": False}


def test_the_text_stands_on_the_page_as_it_is(sheet, scored):
    page = sheet(scores.page(scored))
    found = page.run("return [...document.querySelectorAll('.tokens')].map(one => one.textContent)")
    assert [one.replace("\u22c5", "").replace("\u21b5", "") for one in found] == TEXTS
    assert page.run("return document.querySelectorAll('b').length") == 0
    assert page.run("return document.documentElement.lang") == "en"


def test_a_token_under_the_mouse_tells_what_it_is(sheet, scored):
    page = sheet(scores.page(scored))
    page.hover(page.all(".tokens span")[2])
    word, told = page.now
    plain = scored["texts"][0]["logprobs"][2]
    assert (word, told.splitlines()[0]) == ("was", "␣was")
    assert ("the likeliest" if plain["rank"] == 1 else f"the {plain['rank']}") in told
    assert len(page.all(".bars li")) == 4
    page.find(".now").click()
    page.hover(page.all(".tokens span")[4])
    assert page.now[0] == "was"
    page.find(".now").click()
    page.hover(page.all(".tokens span")[4])
    assert page.now[0] != "was"


def test_arrow_keys_go_from_token_to_token_and_from_row_to_row(sheet, scored):
    page = sheet(scores.page(scored))
    page.keys(Keys.TAB)  # the theme
    page.keys(Keys.TAB)  # the colours
    page.keys(Keys.TAB)
    assert page.now[0] == "The"
    page.keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert page.now[0] == "was"
    assert page.find(".tokens").get_attribute("aria-activedescendant") == page.find(".now").get_attribute("id")
    assert "was" in page.find(".now").get_attribute("aria-label")
    page.keys(Keys.ARROW_DOWN)
    assert page.run("return [...document.querySelectorAll('.tokens span')].indexOf(document.querySelector('.now'))") > 5
    page.keys(Keys.ARROW_UP)
    assert page.now[0] in ("king", "was", "old")
    page.keys(Keys.END)
    assert page.now[0] == "."
    page.keys(Keys.HOME)
    assert page.now[0] == "The"


def test_the_colours_are_of_surprise_or_of_ranks(sheet, scored):
    page = sheet(scores.page(scored))
    spans = "return [...document.querySelectorAll('.tokens > span')].map(one => one.className)"
    tokens = [one for text in scored["texts"] for one in text["logprobs"]]
    for name, one in zip(page.run(spans), tokens, strict=True):
        assert ("heat" in name) == (one["logprob"] < -0.52), (name, one)
    page.find("select option[value=rank]").click()
    for name, one in zip(page.run(spans), tokens, strict=True):
        kind = sum(one["rank"] > most for most in (10, 100, 1000))
        assert name.split()[0] == ("top10", "top100", "top1000", "beyond")[kind]
    assert "10 likeliest" in page.find(".legend").text


def test_by_day_by_night_and_as_the_reader_likes(sheet, scored):
    page = sheet(scores.page(scored))
    ground = "return getComputedStyle(document.documentElement).backgroundColor"
    light = page.run(ground)
    page.look(scheme="dark")
    dark = page.run(ground)
    assert light != dark
    page.find("#theme option[value=light]").click()
    assert page.run(ground) == light
    page.look()
    page.find("#theme option[value=dark]").click()
    assert page.run(ground) == dark


@pytest.mark.parametrize("width", [390, 1024, 1600])
def test_a_page_is_never_wider_than_its_window(sheet, scored, width):
    page = sheet(scores.page(scored))
    page.look(width=width)
    assert page.run("return document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1024])
def test_axe_finds_nothing_on_scores(sheet, axe, scored, scheme, width):
    page = sheet(scores.page(scored))
    page.look(width=width, scheme=scheme)
    page.run(axe)
    assert page.violations() == []
    page.hover(page.all(".tokens span")[2])
    page.find("select option[value=rank]").click()
    assert page.violations() == []


def test_as_many_tokens_as_are_drawn_are_no_trouble(sheet, scored):
    tokens = scored["texts"][0]["logprobs"] * 2000
    page = sheet(scores.page(scored | {"texts": [scored["texts"][0] | {"logprobs": tokens}]}))
    assert len(page.all(".tokens span")) == scores.PAGE_MOST
    assert "20,000" in page.find(".note").text


@pytest.fixture
def explained_page(sheet):
    """The page of an explanation; section(number) scrolls to one of its parts."""
    page = sheet(explanation.page(explained()))

    def section(number):
        node = page.all("section")[number]
        page.run("arguments[0].scrollIntoView()", node)
        return node

    page.section = section
    return page


def classes(section, selector):
    found = section.find_elements("css selector", selector)
    return [[name for name in one.get_attribute("class").split() if name.startswith(("heat", "cold"))] for one in found]


def test_what_a_prediction_rests_on_is_hot_and_what_holds_it_down_is_cold(explained_page):
    section = explained_page.section(1)
    assert classes(section, ".tokens span") == [[], [], ["heat8"], ["cold4"], ["heat2"], []]
    assert "␣mat leads ␣moon by 1.50 nats" in section.text
    rows = [one.text.split("\n") for one in section.find_elements("css selector", ".bars li")]
    assert rows == [["2 ␣cat", "0.50"], ["3 ␣sat", "−0.25"], ["4 ␣on", "0.10"]]
    section.find_element("css selector", "option[value='zeroing, layer 1']").click()
    assert classes(section, ".tokens span") == [["heat2"], ["heat3"], ["heat5"], ["heat6"], ["heat8"], []]
    section.find_element("css selector", "option[value=rollout]").click()
    assert classes(section, ".tokens span") == [["heat8"]] * 5 + [[]]


def test_the_lens_tells_what_each_layer_would_say(explained_page):
    page, section = explained_page, explained_page.section(2)
    rows = [one.text.split() for one in section.find_elements("css selector", "tbody tr")]
    assert rows[0] == ["<|endoftext|>", "The", "The", "The"]
    assert len(rows) == 6
    last = section.find_elements("css selector", "tbody tr:nth-child(5) td")
    assert [one.get_attribute("class").split() for one in last] == [
        ["heat1", "same"],
        ["heat2", "same"],
        ["heat7", "same"],
    ]
    page.hover(last[1])
    assert "␣on, layer 1: ␣mat 30.1 %" in section.find_element("css selector", ".told").text
    assert "(KL) 1.00" in section.find_element("css selector", ".told").text
    table = section.find_element("css selector", "table")
    table.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_UP)
    assert "␣sat, layer 2: ␣on" in section.find_element("css selector", ".told").text
    assert table.get_attribute("aria-activedescendant") == section.find_element("css selector", ".now").get_attribute(
        "id"
    )


def test_a_token_shows_where_it_looks_by_layer_and_head(explained_page):
    page, section = explained_page, explained_page.section(3)

    def looks():
        return [one.text.split("\n") for one in section.find_elements("css selector", ".bars li")]

    page.hover(section.find_elements("css selector", ".stack span")[3])
    assert section.find_element("css selector", ".details h3").text == "␣sat looks at"
    assert looks() == [["3 ␣sat", "50.0 %"], ["0 <|endoftext|>", "25.0 %"], ["2 ␣cat", "25.0 %"]]
    lit = section.find_elements("css selector", "line.lit")
    assert [one.get_attribute("y2") for one in lit] == ["12", "60", "84"]
    section.find_elements("css selector", ".heads input")[0].click()
    assert looks() == [["0 <|endoftext|>", "50.0 %"], ["2 ␣cat", "50.0 %"]]
    assert "heads 1" in section.find_element("css selector", ".details").text
    section.find_element("css selector", ".choices input").click()
    assert looks() == [["2 ␣cat", "100.0 %"]]
    section.find_element("css selector", "option[value=rollout]").click()
    assert [one[1] for one in looks()] == ["33.3 %"] * 3
    section.find_element("css selector", "option[value=shading]").click()
    assert classes(section, ".tokens span") == [[], ["heat8"], ["heat8"], ["heat8"], [], []]
    section.find_element("css selector", ".tokens").send_keys(Keys.ARROW_RIGHT)
    assert section.find_element("css selector", ".details h3").text == "␣on looks at"


def test_a_page_has_one_unit_and_the_start_token_stands_apart(explained_page, sheet, scored):
    page = explained_page
    page.hover(page.section(0).find_elements("css selector", ".tokens span")[2])
    assert "surprise 2.0 nats, entropy 1.0 nats" in page.section(0).text
    assert "8 nats and more" in page.section(0).text
    assert "bits" not in page.find("body").text
    first, second = (page.all(".tokens span")[at].rect for at in (0, 1))
    assert second["x"] - first["x"] - first["width"] > 4
    assert "nats" not in sheet(scores.page(scored)).find("body").text


def test_a_head_alone_and_all_of_them(explained_page):
    page, section = explained_page, explained_page.section(3)
    boxes = section.find_elements("css selector", ".heads input")
    label = section.find_elements("css selector", ".heads label")[1]
    webdriver.ActionChains(page.browser).double_click(label).perform()
    assert [one.is_selected() for one in boxes] == [False, True]
    section.find_element("css selector", ".heads button").click()
    assert [one.is_selected() for one in boxes] == [True, True]
    assert "layer 1, all heads" in section.text


def test_what_was_not_asked_for_has_no_place_on_the_page(sheet):
    page = sheet(explanation.page(explained() | {"lens": None, "attention": None, "influence": None, "rollout": None}))
    assert [one.text for one in page.all("h2")] == ["How surprising each token was", "What the prediction rests on"]
    bare = dict.fromkeys(("lens", "attention", "rollout", "influence", "value_zeroing"))
    assert len(sheet(explanation.page(explained() | bare)).all("section")) == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1024, 1600])
def test_axe_finds_nothing_on_explanations(explained_page, axe, scheme, width):
    page = explained_page
    page.look(width=width, scheme=scheme)
    assert page.run("return document.documentElement.scrollWidth") <= width
    page.run(axe)
    assert page.violations() == []
    page.section(3).find_element("css selector", "option[value=shading]").click()
    page.section(2).find_element("css selector", "table").send_keys(Keys.ARROW_UP)
    assert page.violations() == []
