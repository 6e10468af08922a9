"""The page of `gpt2 serve`: strange texts, the server that goes away, the keyboard alone, and who hears instead of
seeing."""

import pytest
from checkpoints import make_checkpoint
from pages import Page, ServerProcess, until

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium (the extra dev)")
Keys = webdriver.Keys

FAMILY = "\N{MAN}\N{ZERO WIDTH JOINER}\N{WOMAN}\N{ZERO WIDTH JOINER}\N{GIRL}"
HOSTILE = {
    "script": "<script>document.title = 'caught'</script><img src=x onerror=\"document.title='caught'\">&amp;",
    "emoji": f"Here {FAMILY}{FAMILY} and \N{REGIONAL INDICATOR SYMBOL LETTER D}\N{REGIONAL INDICATOR SYMBOL LETTER E}",
    "leftwards": "שלום עולם, hello\nمرحبا \N{RIGHT-TO-LEFT OVERRIDE}abc\N{POP DIRECTIONAL FORMATTING} end",
    "marks": "Z\u0351\u036b\u0343a\u0306\u0310l\u0307g\u0334o \x0b \u2028 \ufeff \u00ad tab\there",
    "half": "half of a pair: \ud83d.",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_strange_text_is_a_text(page, kind):
    text = HOSTILE[kind]
    page.run(
        "const t = document.getElementById('text'); t.value = JSON.parse(arguments[0]);"
        "t.dispatchEvent(new InputEvent('input'))",
        '"' + "".join(f"\\u{unit:04x}" for unit in units(text)) + '"',
    )
    before = page.length
    page.begin()
    until(lambda: not page.busy)
    page.show("surprise")
    until(lambda: page.all("#overlay .beyond"))
    drawn, text = "document.getElementById('overlay').textContent", "document.getElementById('text').value"
    assert page.run(f"return {drawn} === {text}.replaceAll('\\n', '')")
    assert page.run("return document.querySelectorAll('#overlay script, #overlay img, #panel script').length") == 0
    page.panel("versions")
    page.panel("texts")
    assert page.browser.title != "caught"
    page.reload()
    page.find("#text").send_keys(Keys.CONTROL, "z")
    assert page.length == before


def units(text):
    data = text.encode("utf-16-le", "surrogatepass")
    return [int.from_bytes(data[place : place + 2], "little") for place in range(0, len(data), 2)]


def test_a_long_text_goes_on_is_kept_and_draws_only_what_changed(page):
    text = "\n".join(f"{number}. The captain said that he would come again." for number in range(2000))
    page.paste(text)
    page.go_on()
    page.run(
        "window.touched = 0; new MutationObserver(all => window.touched += all.length)"
        ".observe(document.getElementById('overlay'), {childList: true, subtree: true, characterData: true})"
    )
    page.caret(50_000)
    page.type("new")
    assert 0 < page.run("return window.touched") <= 12
    page.saved()
    page.reload()
    assert page.text[50_000:50_003] == "new"
    assert len(page.text) > len(text) + 3


def test_the_server_goes_away_and_comes_back_and_nothing_is_lost(browser, downloads, page, tmp_path):
    server = ServerProcess(tmp_path)
    server.start()
    own = Page(browser, server.url, downloads).open()
    own.type("Once upon a time", Keys.CONTROL, Keys.ENTER)
    until(lambda: len(own.text) > 20)
    server.stop()
    until(lambda: "does not answer" in own.status and not own.busy)
    own.type(" I kept writing.")
    text = own.text
    own.type(Keys.CONTROL, Keys.ENTER)
    until(lambda: not own.busy)
    assert own.text == text
    server.start()
    until(lambda: own.run("return document.documentElement.dataset.server") == "ready")
    own.go_on()
    own.reload()
    assert own.text.startswith(text)
    server.stop()
    browser.get_log("browser")  # it says there what did not answer


def test_another_model_at_the_same_address_is_noticed_and_named(browser, downloads, page, tmp_path):
    def command():
        found = own.panel("file").find_element("css selector", "#command").get_attribute("value")
        own.click("#open-file")
        return found

    server = ServerProcess(tmp_path)
    server.start("tiny", "--alias", "nick")
    own = Page(browser, server.url, downloads).open()
    own.type("Once upon a time")
    own.go_on()
    assert command().startswith("gpt2 generate -m tiny ")
    # it was away between two looks
    own.run("const f = fetch; fetch = (path, ...more) => path === '/health' ? new Response('{}') : f(path, ...more)")
    server.stop()
    make_checkpoint(tmp_path / "other")
    server.start(tmp_path / "other")
    text = own.text
    own.type(Keys.CONTROL, Keys.ENTER)
    until(lambda: "another model" in own.status and not own.busy)
    assert own.text == text

    def asked_again():
        own.type(Keys.CONTROL, Keys.ENTER)
        until(lambda: not own.busy)
        return own.text != text

    until(asked_again)
    assert f"-m {tmp_path / 'other'} " in command()
    server.stop()
    browser.get_log("browser")  # it says there what was refused


def test_all_can_be_done_without_a_mouse(page):
    focus = "return document.activeElement.id || document.activeElement.className"
    start = "The king was old, and"
    assert page.run(focus) == "text"
    page.keys(start, Keys.CONTROL, Keys.ENTER)
    until(lambda: not page.busy and len(page.text) > len(start))
    page.keys(Keys.ESCAPE)
    assert "Tab leaves" in page.status
    page.keys(Keys.TAB)
    assert page.run(focus) == "undo"
    page.keys(Keys.ENTER)
    assert page.text == start
    page.keys(Keys.SHIFT, Keys.TAB)
    assert page.run(focus) == "text"
    page.keys(Keys.SHIFT + Keys.TAB)
    assert page.run(focus) == "open-settings"
    page.keys(Keys.ENTER)
    assert page.run(focus) == "close"
    page.keys(Keys.TAB, Keys.TAB)
    assert page.run(focus).startswith("set-")
    page.keys(Keys.ESCAPE)
    assert page.run(focus) == "open-settings"
    page.run("document.getElementById('text').focus()")
    page.begin()
    until(lambda: not page.busy)
    page.keys(Keys.ALT, Keys.ENTER)
    until(lambda: page.find("#why").is_displayed())
    first = page.find("#why-token").text
    page.keys(Keys.LEFT)
    assert page.find("#why-token").text != first
    page.keys(Keys.DOWN, Keys.ESCAPE)
    assert not page.find("#why").is_displayed()
    assert page.run(focus) == "text"


def test_a_screen_reader_hears_a_text_at_its_end_and_never_its_tokens(page):
    page.run(
        "window.heard = []; const hear = () => window.heard.push(document.getElementById('spoken').textContent);"
        "new MutationObserver(hear).observe(document.getElementById('spoken'), {childList: true, characterData: true,"
        "subtree: true})"
    )
    page.type("The king was old, and")
    written = page.go_on()
    until(lambda: page.run("return window.heard.length"))
    assert page.run("return window.heard") == [f"The model wrote: {written}"]
    assert page.find("#overlay").get_attribute("aria-hidden") == "true"
    page.suggest()
    page.type(Keys.DOWN)
    assert page.run("return window.heard.at(-1)").startswith("2 of 3: ")


@pytest.mark.parametrize("width", [320, 390, 1024, 1600])
def test_nothing_lies_outside_of_the_window(page, width):
    page.look(width=width, height=800)
    page.type("The king was old, and " + "x" * 200)
    inside = "return document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    page.suggest()
    assert page.run(inside)
    page.type(Keys.ESCAPE)
    for name in ("texts", "versions", "file", "settings"):
        page.panel(name)
        assert page.run(inside), name
        page.click("#close")


def test_field_and_overlay_break_lines_alike(page):
    for width in (390, 1024):
        page.look(width=width)
        page.run("document.getElementById('text').select()")
        page.paste(f"The old  king   was {FAMILY} old. " * 40 + "\n\n\ttabs\tand " + "w" * 300 + "\n")
        heights = page.run(
            "const t = document.getElementById('text'), o = document.getElementById('overlay'); t.style.height = '0';"
            "const found = [t.scrollHeight, o.getBoundingClientRect().height]; t.style.height = ''; return found"
        )
        assert abs(heights[0] - heights[1]) < 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1024])
def test_axe_finds_nothing(page, axe, scheme, width):
    page.look(width=width, scheme=scheme)
    page.run(axe)

    def check(where):
        assert page.violations() == [], where

    check("empty")
    page.type("The king was old, and")
    page.go_on()
    page.run("document.documentElement.classList.remove('writing')")
    check("text")
    page.suggest()
    check("continuations")
    page.type(Keys.ESCAPE, Keys.ALT, Keys.ENTER)
    until(lambda: page.find("#why").is_displayed())
    check("why")
    page.click("#why .more")
    until(lambda: page.all("#explained .lens"))
    check("explained")
    page.keys(Keys.ESCAPE)
    page.show("surprise")
    until(lambda: page.all("#overlay .top10"))
    check("surprise")
    for name in ("texts", "versions", "file", "settings"):
        page.panel(name)
        check(name)
        page.click("#close")
