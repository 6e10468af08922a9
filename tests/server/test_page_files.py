"""The page of `gpt2 serve`: files out and in, and the command that makes a text again."""

import json
import os
import subprocess
import sys

import pytest
from pages import until

from gpt2cli.model import load
from gpt2cli.repl.document import Document

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium (the extra dev)")
Keys = webdriver.Keys

START = "The king was old, and"
FAMILY = "\N{MAN}\N{ZERO WIDTH JOINER}\N{WOMAN}\N{ZERO WIDTH JOINER}\N{GIRL}"


def written(page):
    """A text with two branches, one of them named, and an edit in the middle of what the model wrote."""
    page.type(START)
    first = START + page.go_on()
    page.type(Keys.CONTROL, "z")
    page.go_on()
    page.panel("versions").find_element("css selector", "#version-name").send_keys("second", Keys.ENTER)
    second = page.text
    page.caret(len(START) + 4)
    page.type(f" *{FAMILY}*\n")
    return first, second, page.text


def test_the_repl_opens_what_the_page_exports(page):
    first, second, last = written(page)
    document = Document.from_json(page.export("json"), "the page's file")
    assert document.text == last
    assert document.text_at(document.names["second"]) == second
    assert {first, second, last} <= {document.text_at(node.id) for node in document.nodes}
    made = [node for node in document.nodes if node.seed is not None]
    assert made[0].model == "tiny"
    assert made[0].settings["top_k"] == 40
    assert [node.author for node in document.path()] == ["you", "model", "you", "model"]
    document.undo()
    assert document.text != last


@pytest.mark.parametrize("start", [START, "The king and the queen lived happily ever"], ids=["open", "ending"])
def test_each_text_of_the_models_has_its_tokens_in_the_exported_file(page, start):
    page.type(start)
    text = page.go_on()
    document = Document.from_json(page.export("json"), "the page's file")
    node = document.nodes[document.current]
    assert node.text == text
    assert load("tiny").tokenizer.decode(node.ids) == text


def test_the_page_opens_what_the_repl_saves(page, tmp_path):
    document = Document()
    document.append("you", "The king\n")
    begin = document.append("model", " was <b>old</b>.", ids=[1, 2], model="tiny", seed=5, settings={"top_k": 3})
    document.name("begin")
    document.append("you", f" {FAMILY}")
    document.goto(begin.id)
    document.append("model", " And rich.", model="tiny", seed=6)
    file = tmp_path / "story.json"
    file.write_text(document.to_json(), encoding="utf-8")
    page.take_in(file)
    assert page.text == document.text
    again = Document.from_json(page.export("json"), "the page's file")
    assert {again.text_at(node.id) for node in again.nodes} == {document.text_at(node.id) for node in document.nodes}
    assert again.text_at(again.names["begin"]) == document.text_at(begin.id)
    node = next(node for node in again.nodes if node.seed == 5)
    assert (node.author, node.ids, node.model, node.settings) == ("model", [1, 2], "tiny", {"top_k": 3})
    page.type(Keys.CONTROL, "z")
    assert page.text == document.text.removesuffix(" And rich.")


def test_text_and_markdown_go_out_and_come_back(page, tmp_path):
    page.type("My *own* words <i>here</i>.\n\nAnd so")
    page.go_on()
    text = page.text
    assert page.export("txt") == text
    markdown = page.export("md")
    document = Document.from_json(page.export("json"), "the page's file")
    assert markdown == document.to_markdown()
    marked = [one.get_attribute("textContent") for one in page.all("#overlay .model")]
    for ending, content in (("md", markdown), ("txt", text)):
        file = tmp_path / f"story.{ending}"
        file.write_text(content, encoding="utf-8")
        page.take_in(file)
        assert page.text.rstrip() == text.rstrip()
        found = [one.get_attribute("textContent") for one in page.all("#overlay .model")]
        assert [one.strip() for one in found] == ([one.strip() for one in marked] if ending == "md" else [])


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("broken.json", '{"format": "gpt2 document", "version"', "no JSON"),
        ("other.json", "[1, 2]", "no document of gpt2"),
        ("newer.json", '{"format": "gpt2 document", "version": 9, "nodes": []}', "newer gpt2"),
        (
            "loop.json",
            '{"format": "gpt2 document", "version": 1, "nodes": [{}, {"parent": 1, "text": "", "author": "you"}]}',
            "broken at node 1",
        ),
    ],
)
def test_a_file_that_is_no_document_is_refused_in_words(page, tmp_path, name, content, words):
    page.type("Mine.")
    file = tmp_path / name
    file.write_text(content)
    page.panel("file").find_element("css selector", "#import").send_keys(str(file))
    until(lambda: words in page.status)
    assert page.text == "Mine."


def shell(line, folder):
    """What a POSIX shell prints for a command line, with `gpt2` on its path."""
    gpt2 = folder / "gpt2"
    gpt2.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gpt2cli "$@"\n')
    gpt2.chmod(0o755)
    environment = os.environ | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-c", line], capture_output=True, env=environment, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def command(page):
    page.find("#title").click()  # the panel is drawn when the text has come to rest
    return page.panel("file").find_element("css selector", "#command").get_attribute("value")


needs_a_shell = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")


@needs_a_shell
@pytest.mark.parametrize(
    "prompt",
    [START, "-", "--help me, $HOME", 'It\'s "so" `odd`\\n; $(rm) !', f"Two\nlines, {FAMILY}\n", "long " * 20000],
    ids=["plain", "dash", "option", "quotes", "lines", "long"],
)
def test_the_copied_command_makes_the_same_text(page, tmp_path, prompt):
    page.paste(prompt)
    text = page.go_on()
    line = command(page)
    assert shell(line, tmp_path).removesuffix("\n") == text.removesuffix("\n")


@needs_a_shell
def test_the_copied_command_has_the_settings_that_were_changed(page, tmp_path):
    for name, value in (("temperature", "1.5"), ("top_k", "0"), ("seed", "7"), ("max_tokens", "25")):
        page.set(name, value)
    page.set("stop", "\\n\\n")
    page.paste(START)
    text = page.go_on()
    line = command(page)
    for changed in (" -s 7 ", " --temperature 1.5 ", " --top-k 0 ", " -n 25 "):
        assert changed in line
    assert "--top-p" not in line
    assert shell(line, tmp_path).removesuffix("\n") == text.removesuffix("\n")


@needs_a_shell
def test_the_copied_command_of_a_continuation_and_of_a_stopped_text(page, tmp_path):
    page.paste(START)
    page.suggest()
    page.type(Keys.DOWN, Keys.ENTER)
    chosen = page.text[len(START) :]
    assert shell(command(page), tmp_path).removesuffix("\n").endswith(chosen.removesuffix("\n"))
    page.set_endless()
    before = page.text
    page.begin()
    page.type(Keys.ESCAPE)
    text = page.text[len(before) :]
    assert shell(command(page), tmp_path).removesuffix("\n") == text.removesuffix("\n")


def test_the_exported_file_stays_small_however_often_the_middle_is_edited(page):
    page.paste("word " * 2000)
    for place in range(6):
        page.caret(5000 - place * 500)
        page.type("x")
    nodes = json.loads(page.export("json"))["nodes"]
    assert len(nodes) < 20
    assert Document.from_json(page.export("json"), "the page's file").text == page.text
