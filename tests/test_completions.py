"""The files in completions/, in the shells that are installed; what they ask for; and `gpt2 completion`."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import assert_error
from huggingface_hub import constants

from gpt2cli import paths
from gpt2cli.commands.completion import FILES

FOLDER = paths.data("completions")
POSIX = pytest.mark.skipif(os.name != "posix", reason="POSIX shells")


@pytest.fixture
def environment(tmp_path):
    """A home of its own, and a PATH on which `gpt2` is this one."""
    script = tmp_path / "bin/gpt2"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m gpt2cli "$@"\n')
    script.chmod(0o755)
    home = tmp_path / "home"
    home.mkdir()
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "ZDOTDIR"))}
    return keep | {"PATH": f"{script.parent}:{os.environ['PATH']}", "HOME": str(home), "TERM": "xterm", "EDITOR": "ed"}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A shared cache with a GPT-2 that is in no catalogue, one that is, and another architecture."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf/hub"))  # in this process
    for name, kind in (("poet/tarot", "gpt2"), ("openai-community/gpt2", "gpt2"), ("poet/other", "bert")):
        folder = tmp_path / "hf/hub" / f"models--{name.replace('/', '--')}" / "snapshots" / ("0" * 40)
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"model_type": kind}))


@pytest.fixture
def answers(run, monkeypatch):
    """answers(*words): what the program offers for the last of the words: value -> help."""

    def call(*words):
        monkeypatch.setenv("_GPT2_COMPLETE", "1")
        monkeypatch.setenv("_GPT2_WORD", words[-1])
        result = run(*words[:-1])
        monkeypatch.delenv("_GPT2_COMPLETE")
        assert (result.code, result.stderr) == (0, "")
        return dict(line.split("\t") for line in result.stdout.splitlines())

    return call


def shell(name, script, environment):
    if not shutil.which(name):
        pytest.skip(f"{name} is not installed")
    result = subprocess.run([name, "-c", script], capture_output=True, text=True, env=environment, timeout=30)
    assert result.stderr == ""
    return result.stdout


def at_the_prompt(name, start, line, environment):
    """`line` typed into an interactive shell in which a tab is pressed after each "<Tab>": the line as it is then."""
    screen = on_the_screen(name, start, line, environment)
    printed = re.findall(r"^\[ (.*?) *\]\r?$", screen, re.MULTILINE)
    assert printed, screen
    return printed[-1]


def on_the_screen(name, start, line, environment):
    """Everything that the shell writes meanwhile."""
    if not shutil.which(name):
        pytest.skip(f"{name} is not installed")
    import pty
    import select

    main, side = pty.openpty()
    command = {"bash": ["bash", "--norc", "-i"], "zsh": ["zsh", "-f", "-i"]}[name]
    process = subprocess.Popen(
        command, stdin=side, stdout=side, stderr=side, env=environment | {"PS1": "> "}, start_new_session=True
    )
    os.close(side)
    try:
        # the line is not run but printed: Ctrl-A goes to its beginning
        keys = f"stty -echo columns 300\n{start}\n" + line.replace("<Tab>", "\t") + "\x01echo '[' \x05 ']'\nexit\n"
        os.write(main, keys.encode())
        data, deadline = b"", time.monotonic() + 30
        while time.monotonic() < deadline and select.select([main], [], [], 30)[0]:
            try:
                data += os.read(main, 65536)
            except OSError:  # the shell has gone
                break
        return data.decode()
    finally:
        process.kill()
        process.wait()
        os.close(main)


# What the program answers


def test_commands_options_and_subcommands(answers):
    assert "generate" in answers("")
    assert answers("gen")["generate"].startswith("Continue a text")
    assert set(answers("generate", "--temp")) == {"--temperature", "--temp"}
    assert set(answers("config", "")) == {"list", "get", "set", "unset", "path", "edit"}
    assert answers("no-such-command", "--no-such") == {}
    assert set(answers("help", "sc")) == {"score"}


def test_models_of_the_catalogue_of_the_hub_and_exported_folders(answers, hub, run, checkpoint):
    from gpt2cli.store import catalog

    assert run("generate", "-m", checkpoint, "x", "-n", 1).code == 0
    assert run("generate", "-m", "tiny", "--precision", "fp32", "x", "-n", 1).code == 0
    for words in (("generate", "-m", ""), ("show", ""), ("generate", "-m", "tiny", "--model", "")):
        found = answers(*words)
        assert set(catalog.names()) <= set(found)
        assert found["poet/tarot"] == "downloaded"
        assert found[str(checkpoint.resolve())] == "exported"
        assert "poet/other" not in found
        assert not any(name.endswith("models/tiny") for name in found)
        assert "openai-community/gpt2" not in found  # it is there as gpt2
    assert set(answers("generate", "--model=gpt2-")) == {"--model=gpt2-large", "--model=gpt2-medium", "--model=gpt2-xl"}


def test_precisions_sources_shells_and_settings(answers):
    assert set(answers("generate", "--precision", "")) == {"auto", "fp32", "int8", "int4", "fp16"}
    assert set(answers("eval", "lambada", "--precision", "fp32,int")) == {"fp32,int8", "fp32,int4"}
    assert set(answers("eval", "lambada", "--protocol", "")) == {"lm-eval", "openai"}
    assert set(answers("eval", "ptb", "cbt-cn", "--protocol", "s")) == {"stride-512", "sum"}
    assert {"lm-eval", "hf-512", "sentences"} <= set(answers("eval", "--protocol", ""))
    assert set(answers("generate", "--source", "")) == {"auto", "checkpoint", "onnx"}
    assert set(answers("completion", "")) == set(FILES)
    keys = {"model", "precision", "top_k", "seed"}
    for command in ("get", "set", "unset"):
        assert keys <= set(answers("config", command, ""))
    assert set(answers("config", "set", "precision", "i")) == {"int8", "int4"}
    assert "tiny" in answers("config", "set", "model", "t")
    assert answers("config", "set", "top_k", "") == {}


def test_a_broken_config_file_does_not_matter(answers, tmp_path, monkeypatch):
    (tmp_path / "c.toml").write_text("broken")
    monkeypatch.setenv("GPT2_CONFIG", str(tmp_path / "c.toml"))
    assert set(answers("generate", "-m", "ti")) == {"tiny"}


def test_models_are_completed_without_heavy_imports(hub):
    code = (
        "import os, sys; os.environ['_GPT2_COMPLETE'] = '1'; from gpt2cli.cli import main;"
        "main(['generate', '-m']); print(*sys.modules, file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert "poet/tarot" in result.stdout
    heavy = {"onnxruntime", "numpy", "tokenizers", "onnx", "safetensors", "pydantic", "rich", "httpx", "requests"}
    assert not heavy & set(result.stderr.split())


# The shells

LINES = [
    ("gpt2 generate -m ti<Tab>--prec<Tab>fp3<Tab>", "gpt2 generate -m tiny --precision fp32"),
    ("gpt2 generate --model=gpt2-x<Tab>", "gpt2 generate --model=gpt2-xl"),
    ("gpt2 show 'poet/t<Tab>", "gpt2 show poet/tarot"),
    ("gpt2 generate --stop 'a b' --model poet/t<Tab>", "gpt2 generate --stop a b --model poet/tarot"),
    ("gpt2 generate -f story<Tab>", "gpt2 generate -f story.txt"),
    ("../bin/gpt2 comple<Tab>fi<Tab>", "../bin/gpt2 completion fish"),
]


@POSIX
@pytest.mark.parametrize(("line", "expected"), LINES)
def test_bash(line, expected, environment, hub):
    start = f"cd; touch story.txt; . '{FOLDER}/gpt2.bash'"
    assert at_the_prompt("bash", start, line, environment | {"HF_HOME": os.environ["HF_HOME"]}) == expected


@pytest.mark.long
@POSIX
@pytest.mark.parametrize(("line", "expected"), LINES)
def test_zsh(line, expected, environment, hub):
    start = f"cd; touch story.txt; autoload -Uz compinit; compinit -D -u; . '{FOLDER}/_gpt2'"
    assert at_the_prompt("zsh", start, line, environment | {"HF_HOME": os.environ["HF_HOME"]}) == expected


@POSIX
@pytest.mark.long
def test_zsh_shows_backslashes_as_they_are(environment):
    start = f"cd; autoload -Uz compinit; compinit -D -u; . '{FOLDER}/_gpt2'"
    assert r"-- Read \n, \t, \xHH ... in arguments" in on_the_screen(
        "zsh", start, "gpt2 generate --e<Tab>", environment
    )


@POSIX
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("gpt2 gen", ["generate\tContinue a text, streaming."]),
        ("gpt2 generate -m poet", ["poet/tarot\tdownloaded"]),
        ("gpt2 generate --model=ti", ["--model=tiny\ttrained by this project on children's books and short stories"]),
        ("gpt2 generate --stop 'a b' --precision ", ["auto\tthe default", "fp32", "int8", "int4", "fp16"]),
        ("gpt2 explain --by z", ["zeroing\ta token's values are zero"]),
        ("gpt2 config set prec", ["precision\tauto, fp32, int8, int4; fp16."]),
        ("gpt2 generate -f sto", ["story.txt"]),
    ],
)
def test_fish(line, expected, environment, hub):
    quoted = line.replace("'", "\\'")
    script = f"cd; touch story.txt; source '{FOLDER}/gpt2.fish'; complete -C '{quoted}'"
    found = shell("fish", script, environment | {"HF_HOME": os.environ["HF_HOME"]}).splitlines()
    assert [one.rstrip("\t") for one in found] == expected


def test_powershell():
    if not shutil.which("pwsh"):
        pytest.skip("pwsh is not installed")
    code = f". '{FOLDER}/gpt2.ps1'; (TabExpansion2 'gpt2 generate -m ti' 19).CompletionMatches.CompletionText"
    result = subprocess.run(["pwsh", "-NoProfile", "-Command", code], capture_output=True, text=True, timeout=60)
    assert result.stdout.split() == ["tiny"]


# gpt2 completion


def test_all_four_are_there_and_printed(run):
    assert {path.name for path in FOLDER.iterdir()} == set(FILES.values())
    for name, file in FILES.items():
        assert run("completion", name).stdout == (FOLDER / file).read_text(encoding="utf-8")
    assert run("completion", "pwsh").stdout == run("completion", "powershell").stdout
    assert_error(run("completion", "tcsh"), 2, "'tcsh'", "bash, zsh, fish, powershell")


@POSIX
@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_the_shell_is_found_out(name, environment):
    output = shell(name, "gpt2 completion; true", environment | {"SHELL": "/bin/false"})
    assert output == (FOLDER / FILES[name]).read_text(encoding="utf-8")


@pytest.mark.long
@POSIX
@pytest.mark.parametrize(("name", "rc"), [("bash", ".bashrc"), ("zsh", ".zshrc")])
def test_install_changes_two_files_once_and_works(name, rc, environment, tmp_path):
    home = tmp_path / "home"
    (home / rc).write_text("# mine, without an end of line")
    said = shell(name, "gpt2 completion --install; true", environment).splitlines()
    wrote, added = said[0].removeprefix("wrote "), said[1].removeprefix(f"added to {home / rc}: ")
    assert (home / rc).read_text() == f"# mine, without an end of line\n{added}\n"
    assert added.count(wrote)
    assert said[2] == f"new sessions of {name} complete gpt2"
    again = shell(name, "gpt2 completion --install; true", environment)
    assert again == "it is installed already: nothing was changed\n"
    assert (home / rc).read_text().count("gpt2") == added.count("gpt2")
    assert at_the_prompt(name, f". ~/{rc}", "gpt2 gen<Tab>-m ti<Tab>", environment) == "gpt2 generate -m tiny"
    # an older script is replaced, and the line stays one
    Path(wrote).write_text("old")
    assert shell(name, "gpt2 completion --install; true", environment).splitlines() == [said[0], said[2]]


@POSIX
@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has no such names")
def test_install_in_a_home_whose_name_is_no_text(run, tmp_path, monkeypatch):
    home = tmp_path / "caf\udce9"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    assert run("completion", "bash", "--install").code == 0
    assert os.fsencode(home / ".local/share/bash-completion/completions/gpt2") in (home / ".bashrc").read_bytes()


@POSIX
@pytest.mark.long
def test_install_for_fish(environment, tmp_path):
    said = shell("fish", "gpt2 completion --install; true", environment).splitlines()
    target = tmp_path / "home/.config/fish/completions/gpt2.fish"
    assert said == [f"wrote {target}", "fish completes gpt2 from now on"]
    assert "already" in shell("fish", "gpt2 completion --install; true", environment)
    assert shell("fish", "complete -C 'gpt2 gen'", environment).startswith("generate\t")


def test_install_where_nothing_can_be_written(run, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    assert_error(run("completion", "fish", "--install"), 7, str(tmp_path / "file"), "gpt2 completion fish > FILE")


def test_install_replaces_what_is_no_text_and_ignores_relative_folders(run, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    target = tmp_path / ".local/share/bash-completion/completions/gpt2"
    target.parent.mkdir(parents=True)
    target.write_bytes(b"\xff\xfe")
    assert run("completion", "bash", "--install").code == 0
    assert b"complete" in target.read_bytes()
