"""The README's examples run as they stand, and its tree and tables are true."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    line for kind, block in BLOCKS if kind == "sh" for line in block.splitlines() if re.match(r"(gpt2|cat)\b", line)
]


@pytest.mark.skipif(os.name != "posix", reason="a POSIX shell")
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.process
def test_commands_run(command, tmp_path):
    if "jq" in command and not shutil.which("jq"):
        pytest.skip("jq is not installed")
    script = tmp_path / "bin/gpt2"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m gpt2cli "$@"\n')
    script.chmod(0o755)
    (tmp_path / "story.txt").write_text("It was a dark night.\n")
    environment = os.environ | {"PATH": f"{script.parent}:{os.environ['PATH']}", "GPT2_MAX_TOKENS": "3"}
    result = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()
    assert result.stderr == ""


def test_commands_were_found():
    assert len(COMMANDS) > 12


def test_the_transcript_is_what_the_command_prints(run):
    transcript = next(block for kind, block in BLOCKS if kind == "console")
    command, _, shown = transcript.removeprefix("$ gpt2 ").partition("\n")
    import shlex

    assert run(*shlex.split(command), "--echo", "--threads", 1).stdout == shown


def test_the_python_example_runs(capsys):
    code = next(block for kind, block in BLOCKS if kind == "python")
    exec(code, {})
    assert capsys.readouterr().out.strip()


def test_the_tree_names_every_room():
    tree = next(block for kind, block in BLOCKS if not kind or "pyproject.toml" in block)
    package = ROOT / "gpt2cli"
    rooms = [path.parent.name + "/" for path in package.glob("*/__init__.py")]
    names = [*rooms, *(path.name for path in package.glob("*.py"))]
    assert sorted(re.findall(r"^ {2}([\w.]+/?)", tree, re.MULTILINE)) == sorted(names)


def test_every_variable_of_the_program_is_named():
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "gpt2cli").rglob("*.py"))
    for name in set(re.findall(r"\bGPT2_[A-Z_]+\b", source)):
        assert name in README, name


@pytest.mark.skipif(sys.platform != "linux", reason="the folders of Linux")
def test_every_folder_that_is_to_be_removed_is_named(monkeypatch):
    from gpt2cli import paths

    for name in ("GPT2_CACHE", "GPT2_CONFIG", "GPT2_STATE", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for folder in (paths.cache(), paths.config().parent, paths.state()):
        assert f"`~/{folder.relative_to(Path.home())}`" in README


def test_every_exit_code_is_named():
    from gpt2cli import errors

    codes = {kind.exit_code for kind in errors.UserError.__subclasses__()} | {
        value for name, value in vars(errors).items() if name.startswith("EXIT_")
    }
    table = re.findall(r"^\| ([\d, ]+) \|", README, re.MULTILINE)
    named = {int(number) for row in table for number in row.split(",")}
    assert codes <= named
