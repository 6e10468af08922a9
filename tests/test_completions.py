"""The files in completions/, in the shells that are installed."""

import os
import shutil
import subprocess
import sys

import pytest

from gpt2cli import paths

FOLDER = paths.data("completions")


@pytest.fixture
def environment(tmp_path):
    """A PATH on which `gpt2` is this one."""
    script = tmp_path / "gpt2"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m gpt2cli "$@"\n')
    script.chmod(0o755)
    return os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}


def shell(name, script, environment):
    if not shutil.which(name):
        pytest.skip(f"{name} is not installed")
    result = subprocess.run([name, "-c", script], capture_output=True, text=True, env=environment, timeout=30)
    return result.stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["gpt2", "gen"], ["generate"]),
        (["gpt2", "generate", "--temp"], ["--temperature", "--temp"]),
        (["gpt2", "generate", "-m", "ti"], ["tiny"]),
        (["gpt2", "generate", "--precision", ""], ["auto", "fp32", "int8", "int4"]),
    ],
)
def test_bash(words, expected, environment):
    quoted = " ".join(f"'{word}'" for word in words)
    script = (
        f". '{FOLDER}/gpt2.bash'; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _gpt2 gpt2;"
        ' printf "%s\\n" "${COMPREPLY[@]}"'
    )
    assert shell("bash", script, environment) == expected


def test_fish(environment):
    script = f"source '{FOLDER}/gpt2.fish'; complete -C 'gpt2 gen'"
    assert shell("fish", script, environment)[0] == "generate"


def test_zsh_syntax(environment):
    assert shell("zsh", f"zsh -n '{FOLDER}/_gpt2' && echo fine", environment) == ["fine"]


def test_all_four_are_there():
    assert {path.name for path in FOLDER.iterdir()} == {"gpt2.bash", "_gpt2", "gpt2.fish", "gpt2.ps1"}
