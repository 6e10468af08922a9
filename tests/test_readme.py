"""README.md and docs/: the examples run as they stand, and the trees, tables and links are true."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import MISSING
from pathlib import Path
from xml.etree import ElementTree

import pytest
from conftest import Result
from documents import PAGES, ROOT, anchors, blocks, rows, transcripts

COMMANDS = [line for block in blocks("sh") for line in block.splitlines() if re.match(r"(gpt2|cat)\b(?! serve)", line)]


@pytest.fixture
def shell(tmp_path, monkeypatch, run):
    """shell(command) in a folder with a story; the result. A shell runs it where there is something for one to do."""
    (tmp_path / "story.txt").write_text("It was a dark night.\n")
    (tmp_path / "notes.txt").write_text("Once upon a time\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GPT2_MAX_TOKENS", "3")
    monkeypatch.setenv("GPT2_SEED", "1")  # of some, the text ends before it has begun

    def call(command):
        if not set("|<>$&") & set(command):
            return run(*shlex.split(command, comments=True)[1:], stdin=b"")
        if os.name != "posix":
            pytest.skip("a POSIX shell")
        program = tmp_path / "bin/gpt2"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m gpt2cli "$@"\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
        return Result(done.stdout, done.stderr, done.returncode, b"")

    return call


# a shell starts a process for each of its commands
LONG = re.compile(r"[|<>$]|&&|bench")


@pytest.mark.parametrize(
    "command", [pytest.param(one, marks=[pytest.mark.long] * bool(LONG.search(one))) for one in dict.fromkeys(COMMANDS)]
)
def test_commands_run(command, shell):
    if "jq" in command and not shutil.which("jq"):
        pytest.skip("jq is not installed")
    result = shell(command)
    assert result.code == 0, result.stderr
    assert result.stdout.strip()
    assert result.stderr == ""


def test_commands_were_found():
    assert len(COMMANDS) > 30


@pytest.mark.parametrize("command", transcripts())
def test_transcripts_are_what_the_commands_print(command, run):
    assert run(*shlex.split(command)[1:], "--echo", "--threads", 1).stdout == transcripts()[command]


def test_a_transcript_was_found():
    assert transcripts()


EXAMPLES = [pytest.param(code, marks=[pytest.mark.train] * ("finetune" in code)) for code in blocks("python")]


@pytest.mark.parametrize("code", EXAMPLES, ids=range(len(EXAMPLES)))
def test_the_python_examples_run(code, capsys, tmp_path, monkeypatch):
    """And print what the comments say."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GPT2_MODELS", str(tmp_path / "models"))
    Path("diary.txt").write_text("Day 1. The sea was quiet. No letter came.\n" * 20)
    exec(code, {})
    printed = capsys.readouterr().out
    assert printed.strip()
    said = re.findall(r"print\(.*\)  # (.+)", code)
    assert not said or printed.splitlines() == said


def test_the_package_says_the_same_as_the_first_example():
    import gpt2cli

    assert blocks("python", "docs/python.md")[0] in gpt2cli.__doc__ + "\n"


def test_the_readme_fits_two_screens():
    assert len(PAGES["README.md"].splitlines()) <= 120


def test_links_lead_somewhere():
    for page, text in {**PAGES, "CONTRIBUTING.md": (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")}.items():
        for link in re.findall(r"\]\(([^)]+)\)", text):
            path, _, anchor = link.partition("#")
            target = (ROOT / page).parent / path if path else ROOT / page
            assert target.exists(), f"{page}: {link}"
            assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), f"{page}: {link}"


def test_the_pages_are_a_chain_that_the_readme_shows():
    order = re.findall(r"^\| \[.+?\]\((docs/\w[\w-]*\.md)\)", PAGES["README.md"], re.M)
    assert sorted(order) == sorted(page for page in PAGES if page.startswith("docs/"))
    for before, page, after in zip([None, *order], order, [*order[1:], None], strict=False):
        links = re.findall(r"(?:(before|next): )?\[.+?\]\((.+?)\)", PAGES[page].partition("\n")[0])
        near = [(word, one.removeprefix("docs/")) for word, one in (("before", before), ("next", after)) if one]
        assert links == [("", "../README.md"), *near], page


def test_the_tree_names_every_room():
    tree = next(block for block in blocks("", "docs/develop.md") if "pyproject.toml" in block)
    package = ROOT / "gpt2cli"
    rooms = [path.parent.name + "/" for path in package.glob("*/__init__.py")]
    names = [*rooms, *(path.name for path in package.glob("*.py"))]
    assert sorted(re.findall(r"^ {2}([\w.]+/?)", tree, re.MULTILINE)) == sorted(names)


def test_the_list_of_walls_is_the_linters():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = next(one["layers"] for one in project["tool"]["importlinter"]["contracts"] if one["name"] == "the rooms")
    said = re.search(r"^`__main__` →.*?`errors`$", PAGES["docs/develop.md"], re.MULTILINE | re.DOTALL)[0]
    assert re.findall(r"`(\w+)`", said) == re.findall(r"(?<=gpt2cli\.)\w+", " ".join(layers))


def test_every_variable_of_the_program_is_named():
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "gpt2cli").rglob("*.py"))
    for name in set(re.findall(r"\bGPT2_[A-Z_]+\b", source)):
        assert f"`{name}`" in PAGES["docs/environment.md"], name


def test_every_setting_stands_in_the_table(run, monkeypatch):
    for name in ("GPT2_MODEL", "GPT2_THREADS"):
        monkeypatch.delenv(name, raising=False)
    table = {
        row[1].strip("`"): (row[0], row[3].partition(":")[0]) for row in rows("docs/environment.md", "Settings")[2:]
    }
    lines = [line.split() for line in run("config").stdout.splitlines()[1:]]
    assert table == {key: (f"`GPT2_{key.upper()}`", value) for key, value, _ in lines}


@pytest.mark.skipif(sys.platform != "linux", reason="the folders of Linux")
def test_every_folder_that_is_to_be_removed_is_named(monkeypatch):
    from gpt2cli import paths

    for name in ("GPT2_CACHE", "GPT2_CONFIG", "GPT2_STATE", "GPT2_MODELS"):
        monkeypatch.delenv(name, raising=False)
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    for folder in (paths.cache(), paths.config().parent, paths.state(), paths.models()):
        assert f"`~/{folder.relative_to(Path.home())}`" in PAGES["docs/install.md"]


def test_every_exit_code_is_named():
    from gpt2cli import errors

    codes = {kind.exit_code for kind in errors.UserError.__subclasses__()} | {
        value for name, value in vars(errors).items() if name.startswith("EXIT_")
    }
    table = re.findall(r"^\| ([\d, ]+) \|", PAGES["docs/environment.md"], re.MULTILINE)
    named = {int(number) for row in table for number in row.split(",")}
    assert codes <= named


def test_every_option_and_command_is_named():
    """On some page, by one of its names."""
    from gpt2cli.cli import command as tree

    everything = "".join(PAGES.values())
    for name, command in tree().commands.items():
        assert re.search(rf"`(gpt2 )?{name}\b|gpt2 {name}\b", everything), name
        for option in command.params:
            named = [one for one in [*option.opts, *option.secondary_opts] if one.startswith("-")]
            assert not named or any(re.search(rf"(?<![\w-]){one}(?![\w-])", everything) for one in named), named


def test_every_command_of_the_repl_is_named():
    from gpt2cli.repl.commands import COMMANDS

    for name in COMMANDS:
        assert f"`/{name}" in PAGES["docs/repl.md"], name


@pytest.mark.parametrize("kind", ["Sampling", "Limits"])
def test_every_parameter_has_its_default_and_its_range(kind):
    import gpt2cli
    from gpt2cli.generation.parameters import parameters

    table = {row[0].strip("`"): row[1:] for row in rows("docs/python.md", kind)[2:]}
    known = parameters(getattr(gpt2cli, kind))
    assert list(table) == list(known)
    for name, (parameter, one) in known.items():
        default, said = table[name]
        assert default == repr({} if one.default is MISSING else one.default), name
        if abs(parameter.least) < 2**53 or abs(parameter.most) < 2**53:
            assert said.startswith(parameter.range), name


def test_every_public_name_is_explained():
    import gpt2cli

    for name in gpt2cli.__all__:
        assert name == "__version__" or re.search(rf"`{name}`|^#+ .*\b{name}\b", PAGES["docs/python.md"], re.M), name


VERBS = "load generate complete choices score embed evaluate explain compare receipt replay finetune"


@pytest.mark.parametrize("name", VERBS.split())
def test_signatures_are_those_of_the_page(name):
    import inspect

    import gpt2cli

    said = re.search(rf"`{name}\((.*?)\)`", PAGES["docs/python.md"], re.DOTALL)[1]
    words = [word.lstrip("*").partition("=") for word in " ".join(said.split()).split(", ") if word != "*"]
    real = inspect.signature(getattr(gpt2cli, name)).parameters
    assert [word for word, _, _ in words] == [one for one in real if one != "listener"]
    for word, _, default in words:
        expected = real[word].default
        assert default == ("" if expected is inspect.Parameter.empty else repr(expected).replace("'", '"')), word


SVG = "{http://www.w3.org/2000/svg}"
PICTURES = sorted((ROOT / "docs").glob("*.svg"))


@pytest.mark.parametrize("picture", PICTURES, ids=lambda path: path.stem)
def test_pictures_need_no_network_and_are_shown(picture):
    text = picture.read_text(encoding="utf-8")
    ElementTree.fromstring(text)
    assert set(re.findall(r"https?://[^\"' )]+", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"@import|@font-face|url\(|<script|<image", text)
    assert picture.stat().st_size < 40_000
    assert any(f"({relative}{picture.name})" in "".join(PAGES.values()) for relative in ("", "docs/"))


def test_the_first_picture_shows_what_the_command_prints(run):
    picture = ElementTree.fromstring((ROOT / "docs/generate.svg").read_text(encoding="utf-8"))
    rows = [element.text for element in picture.iter(f"{SVG}text")]
    command = next(row for row in rows if row.startswith("gpt2 generate"))
    printed = run(*shlex.split(command)[1:], "--echo", "--threads", 1).stdout
    assert "".join(printed.split()) in "".join("".join(rows).split())  # wherever its lines end


@pytest.mark.terminal
@pytest.mark.skipif(os.name != "posix", reason="a pseudo-terminal")
@pytest.mark.long
def test_pictures_are_drawn_from_what_a_terminal_shows(tmp_path, monkeypatch):
    pyte = pytest.importorskip("pyte")
    monkeypatch.syspath_prepend(ROOT / "docs")
    import pictures

    monkeypatch.setitem(pyte.graphics.FG_ANSI, pictures.DIM, "dim")
    monkeypatch.setattr(pictures, "HERE", tmp_path)
    pictures.draw("drawn", pictures.commands('echo "A <b> 猫" | gpt2 generate -n 0'), "a title")
    drawn = ElementTree.parse(tmp_path / "drawn.svg").getroot()
    dim = [element for element in drawn.iter(f"{SVG}text") if element.get("class") == "dim"]
    assert [element.text for element in dim] == ["$", "A <b> 猫"]
    assert float(dim[1].get("textLength")) == pytest.approx(8 * pictures.CELL)  # the last character has two cells
