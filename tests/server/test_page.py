"""The page of `gpt2 serve`: a person and the model write one text."""

import pytest
from pages import Page, until

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium (the extra dev)")
Keys = webdriver.Keys
ActionBuilder = pytest.importorskip("selenium.webdriver.common.actions.action_builder").ActionBuilder

START = "The king was old, and"


def authors(page):
    """The stretches that are marked as the model's."""
    return [span.get_attribute("textContent") for span in page.all("#overlay .model")]


def test_the_model_goes_on_where_the_text_ends(page):
    page.type(START)
    written = page.go_on()
    assert "".join(authors(page)).replace(" ", "") == "".join(written.split())
    assert page.find("#overlay").get_attribute("textContent") == page.text.replace("\n", "")


def test_the_model_goes_on_at_the_caret_and_what_stands_below_stays(page):
    page.type("The king\n\nThe end.")
    page.caret(len("The king"))
    page.begin()
    until(lambda: not page.busy)
    assert page.text.startswith("The king")
    assert page.text.endswith("\n\nThe end.")


def test_escape_stops_and_keeps(page):
    page.set_endless()
    page.type(START)
    page.begin()
    assert page.find("#go").text == "Stop"
    page.type(Keys.ESCAPE)
    until(lambda: not page.busy)
    kept = page.text
    assert page.status == "Stopped."
    page.type(Keys.CONTROL, "z")
    assert page.text == START
    page.type(Keys.CONTROL, "y")
    assert page.text == kept


def test_who_types_while_the_model_writes_takes_over(page):
    page.type(START)
    page.begin()
    page.type("!")
    assert not page.busy
    assert page.text.endswith("!")
    assert not authors(page)[-1].endswith("!")


def test_one_of_three_continuations_is_taken_by_keyboard(page):
    page.type(START)
    assert len(page.suggest()) == 3
    assert page.find("#text").get_attribute("aria-activedescendant") == "option-0"
    page.type(Keys.DOWN)
    chosen = page.find("[aria-selected=true]").text
    page.type(Keys.ENTER)
    assert page.text.startswith(START)
    assert page.text[len(START) :].replace("\n", " ").split() == chosen.replace("↵", " ").split()
    assert not page.find("#suggestions").is_displayed()
    page.type(Keys.CONTROL, "z")
    assert page.text == START


def test_tab_again_offers_others_a_click_takes_one_and_escape_none(page):
    page.type(START)
    first = page.suggest()
    assert page.suggest() != first
    page.type(Keys.ESCAPE)
    assert not page.find("#suggestions").is_displayed()
    assert page.text == START
    page.type(" still")
    page.suggest()
    page.click("#option-2")
    assert len(page.text) > len(START + " still")


def test_undo_and_redo_go_over_edits_and_generations_alike(page):
    states = [page.text]
    page.type(START)
    states.append(page.text)
    page.go_on()
    states.append(page.text)
    page.type(" And then?")
    states.append(page.text)
    page.caret(3)
    page.type(Keys.BACKSPACE * 3)
    states.append(page.text)
    page.caret(len(page.text))
    page.go_on()
    states.append(page.text)
    for state in states[-2::-1]:
        page.type(Keys.CONTROL, "z")
        assert page.text == state
    for state in states[1:]:
        page.type(Keys.CONTROL, Keys.SHIFT, "z")
        assert page.text == state


def test_a_token_is_explained_in_full(page):
    page.type(START)
    page.caret(len("The king was"))
    page.type(Keys.ALT, Keys.ENTER)
    until(lambda: page.find("#why").is_displayed())
    page.click("#why .more")
    until(lambda: page.all("#explained .lens"))
    headings = [one.text for one in page.all("#explained .view h2")]
    assert headings[0] == "How surprising each token was"
    assert headings[-1] == "Where each token looks"
    assert page.find("#explained .asked").text == "was"
    assert [one.text for one in page.all("#explained .lens tbody th")] == ["The", "␣king", "␣was"]
    page.find("#explained .lens").send_keys(Keys.ARROW_UP)
    assert "␣king, layer" in page.find("#explained .told").text
    page.keys(Keys.ESCAPE)
    assert not page.find("#explained").is_displayed()
    assert page.run("return document.activeElement.id") == "text"


def test_the_key_that_explains_edits_nothing_and_both_windows_tell_one_probability(page):
    page.type(START)
    page.caret(len("The king was"))
    page.type(Keys.ALT, Keys.ENTER)
    until(lambda: page.find("#why").is_displayed())
    probability = page.find("#why .chance").text.split(",")[0]
    page.keys(Keys.SHIFT, Keys.ENTER)  # on the likeliest other token, which Enter alone takes
    assert page.find("#why").is_displayed()
    page.keys(Keys.ALT, Keys.SHIFT, Keys.ENTER)
    until(lambda: page.all("#explained .lens"))
    assert page.text == START
    assert page.find("#explained .details p").text.split(",")[0] == probability
    page.keys(Keys.ESCAPE)
    page.caret(len("The"))
    page.type(Keys.ALT, Keys.SHIFT, Keys.ENTER)
    until(lambda: page.all("#explained [role=alert]"))
    assert page.find("#explained [role=alert]").text == "The first token: nothing precedes it."


def test_what_cannot_be_explained_is_said_in_its_place(page):
    page.type(START)
    page.run("window.fetch = () => Promise.reject(new TypeError('no way'))")
    page.type(Keys.ALT, Keys.SHIFT, Keys.ENTER)
    until(lambda: page.all("#explained [role=alert]"))
    assert page.find("#explained [role=alert]").text == "The server does not answer."
    page.keys(Keys.ESCAPE)
    assert page.text == START


def test_before_the_caret_of_a_long_text_the_last_tokens_are_explained(page):
    page.paste("The king was old" + ", and old" * 90)
    page.type(Keys.ALT, Keys.SHIFT, Keys.ENTER)
    until(lambda: page.all("#explained .lens"))
    assert "the last 200 tokens" in page.find("#explained .note").text
    assert len(page.all("#explained .lens tbody tr")) == 200
    page.click("#explained .icon")
    page.caret(0)
    page.type(Keys.ALT, Keys.SHIFT, Keys.ENTER)
    assert "no token" in page.status
    assert not page.find("#explained").is_displayed()


def test_a_token_tells_how_probable_it_was_and_another_is_taken(page):
    page.type(START)
    page.go_on()
    page.caret(len("The king was"))
    page.type(Keys.ALT, Keys.ENTER)
    until(lambda: page.find("#why").is_displayed())
    assert page.find("#why-token").text == "␣was"
    assert "%" in page.find("#why .chance").text
    assert "of 4,096" in page.find("#why .chance").text
    assert len(page.all("#why li")) == 10
    other = page.browser.switch_to.active_element.find_element("css selector", ".token").text
    page.keys(Keys.ENTER)
    start = "The king" + other.replace("␣", " ").replace("↵", "\n")
    until(lambda: not page.busy and page.text.startswith(start) and len(page.text) > len(start))
    page.type(Keys.CONTROL, "z")
    assert page.text == start
    page.type(Keys.CONTROL, "z")
    assert page.text.startswith(START)


def test_a_token_under_the_mouse_tells_and_a_click_takes_another(page):
    page.type(START)
    page.go_on()
    place = page.run(
        "const r = document.createRange(), t = document.querySelector('#overlay .model').firstChild;"
        "r.setStart(t, 1); r.setEnd(t, 2); const b = r.getBoundingClientRect(); return [b.x + 2, b.y + b.height / 2]"
    )
    mouse = ActionBuilder(page.browser)  # which another page may have moved
    mouse.pointer_action.move_to_location(*map(int, place))
    mouse.perform()
    until(lambda: page.find("#why").is_displayed())
    page.click("#why .other")
    until(lambda: not page.busy)
    assert page.text.startswith(START)


def test_surprise_colours_every_token_of_any_text(page):
    page.paste("The king was zygomorphic; é, 漢 and 👨‍👩‍👧.")
    page.show("surprise")
    marked = "#overlay .top10, #overlay .top100, #overlay .top1000, #overlay .beyond"
    until(lambda: page.all(marked))
    assert "".join(one.get_attribute("textContent") for one in page.all(marked)).replace(" ", "") == "".join(
        page.text[len("The") :].split()
    )
    assert page.all("#overlay .beyond")
    assert page.find("#legend").is_displayed()
    lines = {page.find(f"#legend .{name}").value_of_css_property("text-decoration-style") for name in LEVELS}
    assert len(lines) == len(LEVELS), "told apart by colour alone"


LEVELS = ("top100", "top1000", "beyond")


def test_every_version_has_a_place_to_go_back_to_and_may_have_a_name(page):
    page.type(START)
    first = page.go_on()
    page.type(Keys.CONTROL, "z")
    second = page.go_on()
    assert first != second
    page.panel("versions").find_element("css selector", "#version-name").send_keys("second try", Keys.ENTER)
    until(lambda: page.find(".versions strong").text == "second-try")
    page.click(".versions li.model:not(:has([aria-current])) button")
    assert page.text == START + first
    page.click(".versions li:has(strong) button")
    assert page.text == START + second
    page.reload()
    page.panel("versions")
    assert page.find(".versions strong").text == "second-try"


@pytest.mark.parametrize("wait", [False, True])
def test_a_reload_keeps_the_text_and_what_can_be_undone(page, wait):
    page.type(START)
    page.go_on()
    page.type(" Yes.")
    text = page.text
    if wait:
        page.saved()
    page.reload()
    assert page.text == text
    page.type(Keys.CONTROL, "z")
    assert page.text == text.removesuffix(" Yes.")
    page.type(Keys.CONTROL, "z")
    assert page.text == START


def test_what_the_model_was_writing_is_kept_over_a_reload(page):
    page.type(START)
    page.begin()
    page.reload()
    assert page.text.startswith(START)
    assert len(page.text) > len(START)
    assert authors(page)


def test_two_tabs_have_two_texts_and_none_overwrites_the_other(page):
    page.type("First text.")
    page.saved()
    page.browser.switch_to.new_window("tab")
    other = Page(page.browser, page.url).open()
    assert other.text == ""
    other.type("Second text.")
    other.saved()
    other.panel("texts")
    assert {one.text for one in other.all(".texts .name")} == {"First text.", "Second text."}
    other.reload()
    assert other.text == "Second text."
    page.browser.switch_to.window(page.tab)
    page.reload()
    assert page.text == "First text."


def test_two_tabs_on_one_text_make_branches_and_lose_nothing(page):
    page.type("One.")
    page.saved()
    address = page.run("return location.href")
    page.browser.switch_to.new_window("tab")
    other = Page(page.browser, page.url).open(address)
    other.type(" Two.")
    other.saved()
    page.browser.switch_to.window(page.tab)
    page.type(" Three.")
    page.saved()
    page.reload()
    assert page.text == "One. Three."
    page.panel("versions")
    assert {"Two.", "Three."} <= {one.text for one in page.all(".versions .snippet")}


def test_a_text_that_another_tab_deletes_is_kept_where_it_is_being_written(page):
    page.type("One.")
    page.saved()
    page.browser.switch_to.new_window("tab")
    other = Page(page.browser, page.url).open()
    other.panel("texts")
    other.click(".texts button")
    other.click(".texts button")
    until(lambda: other.run("return !document.querySelector('.texts [data-sure]')"), "the list without it")
    until(lambda: other.run("return document.querySelector('.texts .name')?.textContent === 'One.'"))
    page.browser.switch_to.window(page.tab)
    page.reload()
    assert page.text == "One."
