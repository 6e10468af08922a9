"""gpt2 repl as people use it: in a terminal, whose screen is read, and in a pipe."""

import itertools
import os
import re
import shutil
import signal
import stat
import sys
import time

import pytest
from conftest import assert_error
from texts import generate

from gpt2cli.console.wrapping import width
from gpt2cli.generation.parameters import Sampling
from gpt2cli.model import load
from gpt2cli.repl.document import Document

if sys.platform == "win32":
    pytest.skip("needs pseudo-terminals", allow_module_level=True)

from terminals import Terminal

CTRL_C, CTRL_D, CTRL_R, CTRL_Z, ALT_ENTER, ENTER, TAB = "\x03", "\x04", "\x12", "\x1a", "\x1b\r", "\r", "\t"


@pytest.fixture(scope="module")
def says():
    """says(prompt, seed, tokens) -> the text of the built-in model."""
    model = load("tiny")

    def text(prompt, seed, tokens=12):
        pieces = generate(model, prompt, sampling=Sampling(seed=seed), max_tokens=tokens)
        return "".join(piece.text for piece in pieces)

    return text


@pytest.fixture
def repl(tmp_path, monkeypatch):
    """repl(*argv, **terminal) -> `gpt2 repl` in a terminal, 12 tokens, seed 1, ready for the first line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GPT2_STATE", str(tmp_path / "state"))
    running = []

    def start(*argv, ready=True, **options):
        terminal = Terminal("repl", "--seed", 1, "-n", 12, *argv, **options)
        running.append(terminal)
        if ready:
            terminal.wait((lambda t: ">" in t.lines) if options.get("term") == "dumb" else "seed 1")
        return terminal

    yield start
    for terminal in running:
        terminal.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("wide")


@pytest.fixture(scope="module")
def shared(folder):
    (folder / "broken.json").write_text("{")
    (folder / "editor").write_text('#!/bin/sh\nprintf "The queen\\n" > "$1"\n')
    (folder / "editor").chmod(0o755)
    terminal = Terminal(
        *("repl", "--no-history", "-m", "tiny", "-n", 0), columns=120, rows=40, cwd=folder, EDITOR="./editor"
    )
    terminal.wait("seed")
    yield terminal
    terminal.close()


@pytest.fixture
def wide(shared):
    """One terminal for the tests that need no model: no tokens, an empty page and an empty screen."""
    shared.type(f"/clear{ENTER}\x0c")
    shared.wait(lambda t: re.search(r" 0/1024", t.screen.display[-1]) and not t.screen.display[0].strip(), "a page")
    return shared


def tokens(count):
    """A condition: the prompt is back, with so many tokens in the context."""
    return lambda terminal: re.search(rf" {count}/1024", terminal.screen.display[-1])


def seed(number):
    """A condition: the prompt is back, after text that was written with this seed."""
    return lambda terminal: re.search(rf" [1-9]\d*/1024 .*seed {number} *$", terminal.screen.display[-1])


def text_of(terminal):
    """What stands on the screen between the greeting and the status bar, joined where only the edge parted it."""
    lines = terminal.lines
    begin = next(number for number, line in enumerate(lines, 1) if line.endswith("leaves."))
    rows = lines[begin:-1]
    text = rows[0]
    for row, after in itertools.pairwise(rows):
        parted = width(row) + 1 + width(after.split(" ")[0]) >= terminal.screen.columns
        text += f" {after}" if parted and after else f"\n{after}"
    return text.rstrip("\n")


def all_kept(tmp_path):
    """What was not saved, oldest first."""
    paths = sorted((tmp_path / "state/unsaved").iterdir())
    return [Document.from_json(path.read_text(), str(path)) for path in paths]


def kept(tmp_path):
    (document,) = all_kept(tmp_path)
    return document


def saved(terminal, path):
    terminal.type(f"/save {path.name}{ENTER}")
    terminal.wait(f"saved: {path.name}")
    return Document.from_json(path.read_text(), str(path))


def squeezed(text):
    """Without blanks, so that it does not matter where rows are broken."""
    return "".join(text.split())


def test_the_screen_is_the_text(repl, says, tmp_path):
    terminal = repl()
    terminal.type(f"Once upon a time{ENTER}")
    first = "Once upon a time" + says("Once upon a time", 1)
    terminal.wait(seed(1))
    terminal.wait(lambda t: text_of(t) == first, first)
    terminal.type(f" and a king{ENTER}")
    second = f"{first} and a king"
    second += says(second, 2)
    terminal.wait(seed(2))
    terminal.wait(lambda t: text_of(t) == second, second)
    terminal.type(ENTER)  # go on
    terminal.wait(seed(3))
    whole = second + says(second, 3)
    document = saved(terminal, tmp_path / "story.json")
    assert document.text == whole
    assert [node.author for node in document.path()] == ["you", "model", "you", "model", "model"]
    terminal.type(CTRL_D)
    assert terminal.exit_code() == 0


@pytest.mark.parametrize("cells", [77, 78, 79, 80])
def test_the_mark_of_work_leaves_nothing_at_the_edge(repl, cells):
    """From the last column a terminal does not go back by one."""
    text = "The king " * 8 + "w" * (cells - 72)
    terminal = repl("-n", 3)
    terminal.type(f"{text}{ENTER}")
    terminal.wait(seed(1))
    assert not any("…" in line for line in terminal.lines[:-1])
    assert "".join(terminal.lines).replace(" ", "").count(text.replace(" ", "")) == 1


def test_undo_retry_redo_and_branches(repl, says, tmp_path):
    terminal = repl()
    terminal.type(f"The old man{ENTER}")
    terminal.wait(seed(1))
    terminal.type(f"/retry{ENTER}")
    terminal.wait(seed(2))
    second = says("The old man", 2)
    terminal.type(f"/branch second{ENTER}/undo{ENTER}/undo{ENTER}The queen{ENTER}")
    terminal.wait(seed(3))
    terminal.type(f"/branches{ENTER}")
    terminal.wait(lambda t: sum(bool(re.match(r"[* ] \d+ ", line)) for line in t.lines) == 3, "three branches")
    terminal.type(f"/goto second{ENTER}")
    terminal.wait(seed(2))
    terminal.type(f"/undo 99{ENTER}/redo 99{ENTER}")
    document = saved(terminal, tmp_path / "tree.json")
    assert document.text == "The old man" + second
    assert document.names == {"second": 3}
    texts = ["".join(step.text for step in document.path(node.id)) for node in document.branches()]
    assert texts == ["The old man" + says("The old man", 1), "The old man" + second, "The queen" + says("The queen", 3)]


def test_ctrl_c_stops_the_model_and_keeps_the_text(repl, tmp_path):
    terminal = repl("-n", -1, "--ignore-eos")
    terminal.type(f"Once{ENTER}")
    terminal.wait(lambda t: len(text_of(t)) > 100, "a hundred characters")
    terminal.type(CTRL_C)
    terminal.wait(seed(1))
    document = saved(terminal, tmp_path / "kept.json")
    assert len(document.text) > 100
    assert document.nodes[2].ids
    terminal.type(f"/set n 3{ENTER}{ENTER}")
    terminal.wait(seed(2))


def test_keys_typed_early_wait_and_are_not_shown_amid_the_text(repl, says, tmp_path):
    terminal = repl("-n", 60)
    terminal.type(f"Once{ENTER}")
    first = "Once" + says("Once", 1, 60)
    terminal.wait(lambda t: len(text_of(t)) > 20, "the model's first words")
    terminal.type(f"ZZ{ENTER}")
    terminal.wait(lambda t: "ZZ" in text_of(t), "what was typed")
    assert text_of(terminal).startswith(f"{first}ZZ")
    terminal.type(CTRL_D)
    assert terminal.exit_code() == 0
    assert kept(tmp_path).text == f"{first}ZZ" + says(f"{first}ZZ", 2, 60)


def test_ctrl_c_at_the_prompt_is_a_hint_and_drops_the_line(repl, tmp_path):
    terminal = repl()
    terminal.type(CTRL_C)
    terminal.wait("Ctrl-D or /exit leaves")
    terminal.type("never mind")
    terminal.wait("never mind")
    terminal.type(CTRL_C)
    terminal.wait(lambda t: not any("never mind" in line for line in t.lines), "an empty line")
    terminal.type(CTRL_D)
    assert terminal.exit_code() == 0
    assert not (tmp_path / "state/unsaved").exists()


def test_load_goes_on_where_save_was(repl, says, tmp_path):
    terminal = repl()
    terminal.type(f"The king{ENTER}")
    terminal.wait(seed(1))
    document = saved(terminal, tmp_path / "a.json")
    terminal.type(f"/save a.md{ENTER}/save a.txt{ENTER}/save a.txt{ENTER}")
    terminal.wait("error: 'a.txt' is there already")
    assert (tmp_path / "a.txt").read_text() == document.text
    assert (tmp_path / "a.md").read_text().startswith("**The king**")
    terminal.type(f"!{ENTER}")
    terminal.wait(seed(2))
    terminal.type(f"/load a.json{ENTER}")
    terminal.wait("error: the document is not saved")
    terminal.type(f"/load -f a.json{ENTER}")
    terminal.wait(seed(1))
    terminal.type(f"/exit{ENTER}")
    assert terminal.exit_code() == 0
    again = repl("--load", "a.json", "--seed", 9)
    again.type(ENTER)
    again.wait(seed(9))
    assert saved(again, tmp_path / "b.json").text == document.text + says(document.text, 9)


def test_alternatives_are_side_by_side_and_one_is_taken(repl, tmp_path):
    terminal = repl(columns=100)
    terminal.type(f"The king{ENTER}")
    terminal.wait(seed(1))
    terminal.type(f"/alternatives 3{ENTER}")
    terminal.wait("which one? [1-3")
    assert any(re.match(r"\[1\] +\[2\] +\[3\]", line) for line in terminal.lines)
    terminal.type(f"3{ENTER}")
    terminal.wait(seed(2))
    document = saved(terminal, tmp_path / "a.json")
    assert [node.parent for node in document.nodes[3:]] == [2, 2, 2]
    assert document.current == 5
    assert len({node.text for node in document.nodes[3:]}) == 3


def test_why_shows_what_else_there_was_and_takes_it(repl, tmp_path):
    terminal = repl()
    terminal.type(f"The king{ENTER}")
    terminal.wait(seed(1))
    terminal.type(f"/why{ENTER}")
    terminal.wait("/why TOKEN CHOICE")
    line = next(line for line in terminal.lines if re.match(r" 5  '", line))
    choices = re.findall(r"(\d) ('[^']*') \d+%", line)
    number, wanted = next((number, text) for number, text in choices if not line.startswith(f" 5  {text}"))
    terminal.type(f"/why 5 {number}{ENTER}")
    terminal.wait(seed(2))
    document = saved(terminal, tmp_path / "a.json")
    assert [node.author for node in document.path()] == ["you", "model", "model"]
    assert document.nodes[3].text.endswith(wanted[1:-1])
    assert document.nodes[3].ids[:4] == document.nodes[2].ids[:4]
    terminal.type(f"/why 99 1{ENTER}")
    terminal.wait("error: there is no token 99")


def test_explain_shows_what_the_last_tokens_rest_on(repl, tmp_path):
    terminal = repl(columns=80, rows=40)
    terminal.type(f"/explain{ENTER}")
    terminal.wait("error: there is nothing to explain yet")
    terminal.type(f"The king and the queen went to the sea{ENTER}")
    terminal.wait(seed(1))
    before = saved(terminal, tmp_path / "a.json").text
    terminal.type(f"/explain 2{ENTER}")
    terminal.wait("without a token it loses")
    terminal.wait("rank: 1 to 10  11 to 100  101 to 1000  beyond")  # in colours, as `gpt2 explain` has it
    terminal.wait(lambda t: any(line.startswith("likeliest: ") for line in t.lines), "the likeliest")
    bars = re.compile(r" +\d+  .+ [+-]\d+\.\d\d  [█░]+")
    terminal.wait(lambda t: any(bars.fullmatch(line) for line in t.lines), "what each token is worth")
    terminal.type(f"/explain 999{ENTER}")
    terminal.wait("error: '999' is no token that was predicted")
    assert saved(terminal, tmp_path / "b.json").text == before


def test_edit_with_an_editor(wide, folder):
    wide.type(f"The king{ENTER}")
    wide.wait("The king")
    wide.type(f"/edit{ENTER}")
    wide.wait("The queen")
    assert saved(wide, folder / "edited.json").text == "The queen"


def test_blocks_new_lines_and_slashes_are_text(wide, folder):
    terminal = wide
    for typed in (f'"""{ENTER}one{ENTER}two"""{ENTER}', f"{ALT_ENTER}three{ENTER}", f"//four{ENTER}", f" /five{ENTER}"):
        terminal.type(typed)
        terminal.wait(typed.strip(ENTER).strip('"').split("\r")[-1].lstrip("/\x1b"))
    terminal.type(f"\x1b[200~\nsix\nseven\x1b[201~{ENTER}")  # as a terminal pastes
    terminal.wait("seven")
    assert saved(terminal, folder / "block.json").text == "one\ntwo\nthree/four /five\nsix\nseven"


@pytest.mark.parametrize(
    ("typed", "error", "hint"),
    [
        ("/undoo", "there is no command /undoo", "did you mean /undo?"),
        ("/usr/bin", "there is no command /usr/bin", "a text that begins with a slash begins with //"),
        ("/undo", "there is nothing to undo", "beginning"),
        ("/undo x", "'x' is not a number", "/undo 2"),
        ("/set temperature warm", "is no value for temperature", "hint: temperature must be"),
        ("/set temprature 2", "there is no setting 'temprature'", "did you mean temperature?"),
        ("/set top-p 2", "error: top-p is 2.0", "hint: top-p must be"),
        ("/goto nowhere", "there is no branch or place 'nowhere'", "/branches"),
        ("/load -f nothing.json", "cannot read 'nothing.json'", "path"),
        ("/load -f broken.json", "'broken.json' is no document", "/save"),
        ("/model tinny", "tinny", "tiny"),
        ("/why", "the last text is not this model's", "empty line"),
        ("/explain x", "there is nothing to explain yet", "write a few words"),
        ("/set keep 5000", "keep 5000 leaves too little of the window", "at most 512"),
        ("/set logit-bias 99999=1", "the token id 99999 lies outside", "4095"),
        ("/goto " + "9" * 5000, "there is no branch or place", "/branches"),
        ("/undo ²", "'²' is not a number", "/undo 2"),
        ("/restore", "no unsaved text is kept", "/load"),
    ],
)
def test_a_mistake_is_an_error_a_hint_and_another_chance(wide, typed, error, hint):
    wide.type(f"{typed}{ENTER}")
    wide.wait(lambda t: any(line.startswith("error:") and error in line for line in t.screen.display), error)
    wide.wait(lambda t: any(line.startswith("hint:") and hint in line for line in t.screen.display), hint)
    wide.wait(tokens(0))


def test_help_names_every_command_on_one_small_screen(repl):
    from gpt2cli.repl.commands import COMMANDS

    terminal = repl(columns=80, rows=24)
    terminal.type(f"/help{ENTER}")
    terminal.wait("Ctrl-R searches")
    terminal.wait(tokens(0))
    shown = [line for line in terminal.screen.display if line.startswith("/")]
    named = [word for line in shown for word in re.findall(r"(?:^|  )/(\w+)", line)]
    assert named == list(COMMANDS)
    assert terminal.screen.display[-1].startswith("tiny"), "the prompt is there"
    assert terminal.screen.display[0].startswith("Write"), "nothing has scrolled out"
    terminal.type(f"/help goto{ENTER}")
    terminal.wait(lambda t: any(re.match("/goto PLACE +one, by name", line) for line in t.lines), "one alone")


def test_tab_completes_commands_settings_models_and_files(wide, folder):
    (folder / "story one.json").write_text("")
    terminal = wide
    for typed, completed in [
        ("/alt", "/alternatives"),
        ("/set temp", "/set temperature"),
        ("/model distil", "/model distilgpt2"),
        ("/load sto", "/load story one.json"),
    ]:
        terminal.type(f"{typed}{TAB}")
        terminal.wait(completed)
        terminal.type(CTRL_C)
        terminal.wait(lambda t, gone=completed: gone not in "".join(t.screen.display), "an empty line")


def test_settings_seed_tokens_stats_and_clear(repl):
    terminal = repl(columns=120, rows=50)
    terminal.type(f"The king{ENTER}")
    terminal.wait(seed(1))
    terminal.type(f"/set temperature 0.5{ENTER}/show temperature{ENTER}")
    terminal.wait("temperature       0.5")
    terminal.type(f"/set logit_bias 262=-5{ENTER}/show logit_bias{ENTER}")
    terminal.wait("logit-bias        262=-5")
    terminal.type(f"/seed 77{ENTER}/tokens{ENTER}/stats{ENTER}/clear{ENTER}")
    terminal.wait("' king'")
    terminal.wait("last: seed 1, 12 tokens")
    terminal.wait(lambda t: re.search(r" 0/1024 .*seed 77", t.screen.display[-1]), "an empty page")


def test_a_name_that_cannot_be_saves_nothing_and_loses_nothing(wide, folder):
    wide.type(f"The king{ENTER}/save {'x' * 300}{ENTER}")
    wide.wait(lambda t: "File name too long" in "".join(t.screen.display))
    assert saved(wide, folder / "after.json").text == "The king"


def test_read_appends_a_file(wide, folder):
    (folder / "it.txt").write_text("Line one\nline twö\n")
    wide.type(f"/read it.txt{ENTER}")
    wide.wait("line twö")
    assert saved(wide, folder / "read.json").text == "Line one\nline twö"


def test_forty_columns(repl, says, tmp_path):
    terminal = repl(columns=40, rows=12)
    prompt = "A king who had three sons and 日本語 went to the sea"
    terminal.type(f"{prompt}{ENTER}")
    whole = prompt + says(prompt, 1)
    terminal.wait(seed(1))
    assert len(terminal.screen.display[-1].rstrip()) <= 40
    rows = "".join(line.ljust(40) for line in terminal.lines[2:-1])
    assert re.sub(r"\s", "", whole) in re.sub(r"\s", "", rows)
    terminal.type(f"/alternatives 2{ENTER}")
    terminal.wait("which one?")
    assert "[2]" in terminal.lines  # below the first, not beside it
    terminal.type(ENTER)
    terminal.wait(tokens(r"\d+"))
    terminal.resize(60, 20)
    terminal.type(" more")
    terminal.wait(" more")
    assert saved_after_clearing(terminal, tmp_path / "a.json").text == whole


def saved_after_clearing(terminal, path):
    terminal.type(CTRL_C)
    return saved(terminal, path)


def test_a_dumb_terminal_gets_no_escapes(repl, says, tmp_path):
    terminal = repl(term="dumb")
    terminal.type(f"The king{ENTER}")
    terminal.wait(says("The king", 1).split("\n")[-1][-20:])

    def at_a_prompt(terminal):
        return [line for line in terminal.lines if line][-1:] == [">"]

    terminal.wait(at_a_prompt, "a prompt")
    terminal.type(f"/undo{ENTER}")
    assert saved(terminal, tmp_path / "a.json").text == "The king"
    terminal.wait(at_a_prompt, "a prompt")
    terminal.type(CTRL_C)
    terminal.wait("Ctrl-D or /exit leaves")
    terminal.type(CTRL_D)
    assert terminal.exit_code() == 0
    assert b"\x1b" not in terminal.raw


def test_no_color_underlines_what_is_yours(repl):
    terminal = repl(NO_COLOR="1")
    terminal.type(f"The king{ENTER}")
    terminal.wait(seed(1))
    assert not re.search(rb"\x1b\[[0-9;]*(3[0-8]|4[0-8]|9[0-7])m", terminal.raw)
    assert b"\x1b[1m" not in terminal.raw
    row = next(line for line in range(24) if terminal.screen.display[line].startswith("The king"))
    marked = [terminal.screen.buffer[row][place].underscore for place in range(20)]
    assert marked == [True] * 8 + [False] * 12


def test_control_characters_in_the_text_move_no_cursor(wide, folder):
    (folder / "evil.txt").write_text("a\x1b[2Jb\rc\x07\x9b31m d")
    wide.type(f"/read evil.txt{ENTER}")
    wide.wait("a␛[2Jb␍c␇␡31m d")


def test_lines_are_remembered_for_their_owner_alone(repl, tmp_path):
    terminal = repl("-n", 0)
    terminal.type(f"a remarkable line{ENTER}")
    terminal.wait(tokens(r"[3-9]"))
    terminal.type(CTRL_D)
    assert terminal.exit_code() == 0
    history = tmp_path / "state/history"
    assert "a remarkable line" in history.read_text()
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    second = repl("-n", 0)
    second.type(f"{CTRL_R}remark")
    second.wait("a remarkable line")


def test_no_history_leaves_nothing(repl, tmp_path):
    terminal = repl("--no-history", "-n", 0)
    terminal.type(f"secret{ENTER}")
    terminal.wait(tokens(r"[1-9]"))
    terminal.type(f"/exit{ENTER}")
    assert terminal.exit_code() == 0
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_text_is_not_lost_with_its_terminal(repl, tmp_path, number, code):
    terminal = repl("-n", 2)
    terminal.type(f"The king{ENTER}")
    terminal.wait(seed(1))
    terminal.process.send_signal(number)
    assert terminal.exit_code() == code
    assert kept(tmp_path).text.startswith("The king")


@pytest.mark.parametrize("term", ["xterm-256color", "dumb"])
@pytest.mark.parametrize("shell", [None, "trap '' HUP; exec \"$@\""])
@pytest.mark.long
def test_a_text_is_not_lost_with_its_window(repl, tmp_path, term, shell):
    """Whether its signal is heard or not."""
    terminal = repl("-n", 2, term=term, shell=shell)
    terminal.type(f"The king{ENTER}")
    if term == "dumb":
        terminal.wait("> The king")
        terminal.wait(lambda t: [line for line in t.lines if line][-1] == ">", "another prompt")
    else:
        terminal.wait(tokens(r"[3-9]"))
    os.close(terminal.main)  # as a terminal emulator does whose window is closed
    terminal.main = os.open(os.devnull, os.O_RDWR)
    assert terminal.process.wait(timeout=30) == 129
    assert kept(tmp_path).text.startswith("The king")


@pytest.mark.long
def test_a_terminal_that_closes_amid_the_writing_costs_nothing(repl, tmp_path):
    terminal = repl("-n", -1, "--ignore-eos", shell="trap '' HUP; exec \"$@\"")
    terminal.type(f"The king{ENTER}")
    terminal.wait(lambda t: len(text_of(t)) > 40, "text")
    os.close(terminal.main)
    terminal.main = os.open(os.devnull, os.O_RDWR)
    assert terminal.process.wait(timeout=30) == 129
    assert len(kept(tmp_path).text) > 30


def test_a_second_signal_does_not_interrupt_the_first(repl, tmp_path):
    for gap in (0, 0.002, 0.005, 0.01, 0.02):
        shutil.rmtree(tmp_path / "state", ignore_errors=True)
        terminal = repl("-n", 2)
        terminal.type(f"The king{ENTER}")
        terminal.wait(seed(1))
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGTERM):
            if terminal.process.poll() is None:
                terminal.process.send_signal(number)
            time.sleep(gap)
        assert terminal.exit_code() == 143
        assert kept(tmp_path).text.startswith("The king")


def test_many_presses_of_ctrl_c_are_one(repl, tmp_path):
    terminal = repl("-n", -1, "--ignore-eos")
    terminal.type(f"Once{ENTER}")
    terminal.wait(lambda t: len(text_of(t)) > 60, "sixty characters")
    for _ in range(8):
        terminal.process.send_signal(signal.SIGINT)
    terminal.wait(tokens(r"\d+"))
    document = saved(terminal, tmp_path / "kept.json")
    assert document.nodes[2].ids
    assert len(document.text) > 60


def test_unsaved_texts_are_kept_each_and_come_back(repl, tmp_path):
    for text in ("The first text", "The second text"):
        terminal = repl("-n", 0)
        terminal.type(f"{text}{ENTER}")
        terminal.wait(tokens(r"[1-9]\d*"))
        terminal.type(CTRL_D)
        assert terminal.exit_code() == 0
        time.sleep(1)  # the names have seconds in them
    assert [document.text for document in all_kept(tmp_path)] == ["The first text", "The second text"]
    terminal = repl("-n", 0)
    terminal.wait("/restore brings it back")
    terminal.type(f"/restore{ENTER}")
    terminal.wait("The second text")
    assert saved(terminal, tmp_path / "back.json").text == "The second text"
    terminal.type(f"/undo{ENTER}{CTRL_D}")  # to stand elsewhere is no change
    assert terminal.exit_code() == 0
    assert len(all_kept(tmp_path)) == 2


def test_nothing_kept_is_said_before_it_is_lost(repl, tmp_path):
    terminal = repl("--no-history", "-n", 0)
    terminal.type(f"secret{ENTER}{CTRL_D}")
    terminal.wait("not saved and will be lost")
    terminal.type(CTRL_D)
    assert terminal.exit_code() == 0


def test_a_state_folder_that_cannot_be_is_no_loss(repl, tmp_path):
    (tmp_path / "state").write_text("a file")
    terminal = repl("-n", 0, TMPDIR=str(tmp_path))
    terminal.type(f"precious{ENTER}{CTRL_D}")
    assert terminal.exit_code() == 0
    (path,) = tmp_path.glob("gpt2-unsaved-*/*.json")
    assert Document.from_json(path.read_text(), "it").text == "precious"


def test_two_windows_do_not_overwrite_each_other(repl, tmp_path):
    document = Document()
    document.append("you", "The king")
    (tmp_path / "doc.json").write_text(document.to_json())
    first, second = (repl("-n", 0, "--load", "doc.json") for _ in range(2))
    for terminal, answer in ((first, "saved: doc.json"), (second, "'doc.json' has changed since it was read")):
        terminal.type(f" and more{ENTER}/save{ENTER}")
        terminal.wait(answer)
    second.type(f"/save -f{ENTER}")
    second.wait("saved: doc.json")


def test_ctrl_c_ends_a_search(repl, tmp_path):
    terminal = repl("-n", 0)
    terminal.type(f"Hello{ENTER}")
    terminal.wait(tokens(r"[1-9]"))
    terminal.type(f"{CTRL_R}x")
    terminal.wait("I-search")
    terminal.type(CTRL_C)
    terminal.wait(lambda t: not any("I-search" in line for line in t.screen.display), "the prompt")
    terminal.type(f" again{ENTER}")
    assert saved(terminal, tmp_path / "a.json").text == "Hello again"


def test_bytes_that_are_no_text_end_nothing(repl, tmp_path):
    for term in ("xterm-256color", "dumb"):
        terminal = repl("-n", 0, term=term)
        os.write(terminal.main, b"caf\xe9 x\r")
        assert saved(terminal, tmp_path / f"{term}.json").text == "caf\ufffd x"


def test_a_wider_window_shows_the_text_anew(repl, says, tmp_path):
    terminal = repl("-n", 40, columns=40, rows=30)
    terminal.type(f"Once upon a time{ENTER}")
    terminal.wait(seed(1))
    letters = squeezed(saved(terminal, tmp_path / "a.json").text)
    terminal.resize(100, 30)
    terminal.wait(lambda t: squeezed("".join(t.screen.display)).startswith(letters), "the text, and nothing above it")
    assert squeezed("".join(terminal.screen.display)).count(letters[-20:]) == 1


@pytest.mark.parametrize("columns", [30, 70, 81, 120])
@pytest.mark.parametrize("answers", [True, False])
def test_another_width_shows_the_text_anew_on_a_cleared_screen(repl, tmp_path, columns, answers):
    """Also in a terminal that never says where its cursor is."""
    (tmp_path / "story.txt").write_text("".join(f"line {number}\n" for number in range(6)) + "The king")
    terminal = repl("-n", 0, "-f", "story.txt", columns=80, rows=24, ready=answers, answers=answers)
    terminal.wait("The king")
    terminal.type("\x0c")  # Ctrl-L
    terminal.wait(lambda t: t.screen.display[0].startswith("The king"), "the last row alone")
    for dragged in (columns + 7, columns - 3, columns):  # as a mouse drags it
        terminal.resize(dragged, 24)
    shown = [*(f"line {number}" for number in range(6)), "The king"]
    terminal.wait(lambda t: [line.rstrip() for line in t.screen.display[:7]] == shown, "the text")
    terminal.type(" sat")
    terminal.wait("The king sat")
    assert [line.rstrip() for line in terminal.screen.display[:7]] == [*shown[:-1], "The king sat"]
    if answers:
        terminal.wait(tokens(r"\d+"))  # at the bottom


def test_edits_are_undone_and_a_failing_editor_loses_nothing(repl, tmp_path):
    for name, script in (
        ("good", 'printf "The queen\\n" > "$1"'),
        ("latin", 'printf "caf\\351\\n" > "$1"'),
        ("bad", "exit 3"),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "editor").symlink_to("good")
    terminal = repl("-n", 0, EDITOR="./editor", TMPDIR=str(tmp_path), columns=160)
    terminal.type(f"The king{ENTER}/edit{ENTER}")
    terminal.wait("The queen")
    terminal.type(f"/undo{ENTER}/redo{ENTER}/undo{ENTER}")
    assert saved(terminal, tmp_path / "a.json").text == "The king"
    for name, message, hint in (
        ("latin", "is not UTF-8", "what you wrote is in"),
        ("bad", "ended with 3", "as it was"),
    ):
        (tmp_path / "editor").unlink()
        (tmp_path / "editor").symlink_to(name)
        terminal.type(f"/edit{ENTER}")
        terminal.wait(message)
        terminal.wait(hint)
    (path,) = tmp_path.glob("gpt2-*/document.txt")
    assert path.read_bytes() == b"caf\xe9\n"
    terminal.type(CTRL_D)
    assert terminal.exit_code() == 0


def test_an_editor_that_cannot_be_is_an_error(repl):
    terminal = repl("-n", 0, EDITOR='vi "')
    terminal.type(f"/edit{ENTER}")
    terminal.wait("No closing quotation")
    terminal.type(CTRL_D)
    assert terminal.exit_code() == 0


def test_an_answer_that_is_none_is_asked_again(repl, tmp_path):
    terminal = repl(columns=100)
    terminal.type(f"The king{ENTER}")
    terminal.wait(seed(1))
    terminal.type(f"/alternatives 3{ENTER}")
    terminal.wait("which one? [1-3")
    for wrong in ("7", "²"):
        terminal.type(f"{wrong}{ENTER}")
        terminal.wait(f"there is no alternative '{wrong}'")
    terminal.type(f"2{ENTER}")
    assert saved(terminal, tmp_path / "a.json").current == 4


def test_a_text_file_is_a_beginning(repl, says, tmp_path):
    (tmp_path / "story.txt").write_text("The king\n")
    terminal = repl("-f", "story.txt")
    terminal.wait("The king")
    terminal.type(ENTER)
    terminal.wait(seed(1))
    assert saved(terminal, tmp_path / "a.json").text == "The king" + says("The king", 1)


@pytest.mark.long
def test_ctrl_z_gives_the_shell_its_terminal(repl, tmp_path):
    terminal = repl("-n", -1, "--ignore-eos", shell='set -m; "$@"; stty -a; fg', rows=50)
    terminal.type(f"Once{ENTER}")
    terminal.wait(lambda t: len(text_of(t)) > 20, "text")
    terminal.type(CTRL_Z)
    terminal.wait(lambda t: any(re.search(r"(?<!-)\bicanon\b", line) for line in t.lines), "whole lines")
    terminal.wait(lambda t: any(re.search(r"(?<!-)\becho\b", line) for line in t.lines), "an echo")
    terminal.wait(lambda t: len(t.lines) > 60, "more text")
    terminal.type(CTRL_C)
    terminal.wait(tokens(r"\d+"))


def test_a_pipe_is_answered_once(run, says):
    result = run("repl", "-n", 12, "--seed", 1, stdin="The king\n/exit\n")
    assert (result.code, result.stderr) == (0, "")
    assert result.stdout == says("The king\n/exit", 1).rstrip("\n") + "\n"


def test_a_pipe_goes_on_with_a_document(run, says, tmp_path):
    document = Document()
    document.append("you", "The king")
    (tmp_path / "a.json").write_text(document.to_json())
    for stdin, text in (("", "The king"), (" and queen", "The king and queen")):
        result = run("repl", "-n", 12, "--seed", 1, "--load", tmp_path / "a.json", stdin=stdin)
        assert result.stdout == says(text, 1).rstrip("\n") + "\n"


def test_wrong_uses(run, tmp_path):
    assert_error(run("repl", stdin=""), 2, "stdin is empty")
    assert_error(run("repl"), 2, "stdout is not a terminal")
    assert_error(run("repl", "--greedy", "-t", 1, stdin="x"), 2, "--greedy contradicts")
    assert_error(run("repl", "--keep", 900, stdin="x"), 6, "keep 900 leaves too little")
    assert_error(run("repl", "--logit-bias", "8000=-inf", stdin="x"), 2, "8000 lies outside")
    assert_error(run("repl", "--load", tmp_path / "no", stdin="x"), 2, "no'")
    (tmp_path / "bad").write_text("{}")
    assert_error(run("repl", "--load", tmp_path / "bad", stdin="x"), 5, "is no document")


def test_rows_stay_where_they_stand(repl, says):
    terminal = repl("-n", 40, columns=60)
    terminal.type(f"Once upon a time{ENTER}")
    terminal.wait(seed(1))
    first = says("Once upon a time", 1, 40)
    text = text_of(terminal)
    assert text == "Once upon a time" + first
    terminal.type(f"/seed 9{ENTER}")
    terminal.wait("the next continuation has the seed 9")
    terminal.type(f"/retry{ENTER}")
    terminal.wait(seed(9))
    lines = terminal.lines
    rejected = " ".join(lines[2 : lines.index("── /seed 9 ──")])
    assert rejected.split() == text.split(), "it can still be read"
    again = " ".join(lines[lines.index("── /retry ──") + 1 : -1])
    assert again.split() == ("Once upon a time" + says("Once upon a time", 9, 40)).split()


@pytest.mark.long
def test_words_are_whole_in_every_window(repl, says):
    for columns in (40, 120):
        terminal = repl("-n", 60, columns=columns)
        terminal.type(f"日本語 and a king{ENTER}")
        terminal.wait(seed(1))
        assert text_of(terminal) == "日本語 and a king" + says("日本語 and a king", 1, 60)
        assert max(map(width, terminal.lines[1:-1])) < columns


def test_without_wrapping_the_terminal_breaks_the_rows(repl, says):
    terminal = repl("-n", 40, "--no-wrap", columns=40)
    terminal.type(f"Once upon a time{ENTER}")
    terminal.wait(seed(1))
    whole = "Once upon a time" + says("Once upon a time", 1, 40)
    rows = [line.ljust(40) for line in terminal.lines[2:-1]]
    assert "".join(rows).replace(" ", "").startswith(whole.replace("\n", "").replace(" ", ""))
    assert rows[0] == whole[:40]


def killed(terminal):
    terminal.process.kill()
    assert terminal.exit_code() == 128 + signal.SIGKILL


def test_a_killed_repl_loses_no_text(repl, says, tmp_path):
    terminal = repl()
    terminal.type(f"The king{ENTER}")
    terminal.wait(seed(1))
    killed(terminal)
    again = repl()
    again.wait("was not saved: /restore brings it back")
    again.type(f"/restore{ENTER}")
    again.wait(tokens(r"[1-9]\d"))
    assert saved(again, tmp_path / "back.json").text == "The king" + says("The king", 1)
    assert not list((tmp_path / "state/unsaved").glob("*.lock")), "what is saved needs no draft"


def test_two_at_once_keep_a_text_each(repl, tmp_path):
    first, second = repl("-n", 0), repl("-n", 0)
    for terminal, text in ((first, "The first"), (second, "The second")):
        terminal.type(f"{text}{ENTER}")
        terminal.wait(tokens(r"[1-9]\d*"))
    second.type(f"/restore -f{ENTER}")
    second.wait("no unsaved text is kept")  # the first still has its own
    killed(first)
    killed(second)
    paths = (tmp_path / "state/unsaved").glob("*.json")
    texts = {Document.from_json(path.read_text(), str(path)).text for path in paths}
    assert texts == {"The first", "The second"}


def test_without_history_a_killed_repl_leaves_nothing(repl, tmp_path):
    terminal = repl("--no-history", "-n", 0)
    terminal.type(f"secret{ENTER}")
    terminal.wait(tokens(r"[1-9]"))
    killed(terminal)
    assert not (tmp_path / "state").exists()


def test_a_word_that_would_grow_into_the_one_before_is_told(repl, tmp_path):
    terminal = repl("-n", 0)
    terminal.type(f"Let me go{ENTER}")
    terminal.wait(tokens(r"[1-9]"))
    terminal.type("said")
    terminal.wait("'gosaid' · a new word begins with a space")
    terminal.type(ENTER)
    terminal.wait("note: your text went on in the word before it: 'gosaid'")
    terminal.type(f", and{ENTER} left{ENTER}")
    assert saved(terminal, tmp_path / "a.json").text == "Let me gosaid, and left"


def test_a_text_longer_than_the_window_is_told(repl):
    terminal = repl("-n", 0, columns=120)
    terminal.type(f"\x1b[200~{'A king. ' * 600}\x1b[201~{ENTER}")
    terminal.wait(
        lambda t: any(re.match(r"note: of \d{4} tokens the model sees \d+", line) for line in t.lines), "a note"
    )


def test_the_place_where_one_stands_is_marked(wide):
    wide.type(f"The king{ENTER} and queen{ENTER}/undo{ENTER}/branches{ENTER}")
    wide.wait(lambda t: any(re.match(r"\* \d+  .*The king$", line) for line in t.lines), "a star")
    assert any(re.match(r"  \d+  .*The king and queen$", line) for line in wide.lines)


def test_the_menu_says_what_there_is(wide):
    wide.type(f"/s{TAB}")
    wide.wait(lambda t: any(re.search(r"/stats +context, speed", line) for line in t.screen.display), "a menu")
    wide.type(CTRL_C)


def test_a_mark_stands_where_the_model_will_write(repl):
    terminal = repl()
    terminal.type(f"The king{ENTER}")
    terminal.wait(seed(1))
    assert re.search("…\b[^\b]* \b".encode(), terminal.raw)
    assert "…" not in text_of(terminal)
