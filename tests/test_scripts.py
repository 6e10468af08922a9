"""The one-liners of docs/scripts.md, each run in bash as it stands."""

import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
from documents import blocks

from gpt2cli import cli

# the comment above a line -> the line
SCRIPTS = dict(re.findall(r"^# (.+)\n(.+)$", "".join(blocks("bash", "docs/scripts.md")), re.MULTILINE))
COMMANDS = set(cli.COMMANDS)

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not shutil.which("bash") or os.name != "posix", reason="bash"),
]


@pytest.fixture
def bash(tmp_path, monkeypatch):
    """bash(script) in a git repository with some files, `gpt2` on the PATH, and a fixed seed; the result."""
    if not shutil.which("git"):
        pytest.skip("git is not installed")
    program = tmp_path / "bin/gpt2"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\necho "$@" >>"${{0%/*}}/calls"\nexec {shlex.quote(sys.executable)} -m gpt2cli "$@"\n'
    )
    program.chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()
    (work / "openings.txt").write_text("Once upon a time\n\nThe old man\nIn a dark wood")
    (work / "story.txt").write_text("The king had a son.\nHe went into the wood.\nQx zzv kkk.\nHe came home.\n")
    who = {"NAME": "A", "EMAIL": "a@example.org"}
    environment = os.environ | {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "GPT2_MAX_TOKENS": "16",
        "GPT2_SEED": "1",
        "GIT_EDITOR": "true",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
    }
    environment |= {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in who.items()}

    def call(script):
        return subprocess.run(
            ["bash", "-c", script], cwd=work, env=environment, capture_output=True, text=True, timeout=60
        )

    call("git init -q; git commit -q --allow-empty -m 'Add the first chapter'; git add story.txt")
    call.folder = work
    return call


def lines(result):
    return [line for line in result.stdout.splitlines() if line.strip()]


def each_line(result, bash):
    openings = "Once upon a time", "The old man", "In a dark wood"
    calls = (bash.folder.parent / "bin/calls").read_text().splitlines()
    return len(calls) == 3 and all(re.search(f"^{opening}.", result.stdout, re.MULTILINE) for opening in openings)


def three_files(result, bash):
    return all(len((bash.folder / f"{name}.txt").read_text()) > 10 for name in ("king", "wolf", "miller"))


def a_commit(result, bash):
    subjects = bash("git log --format=%s").stdout.splitlines()
    return len(subjects) == 2 and re.match("Add.", subjects[0])


def a_hook_that_works(result, bash):
    good = bash("git commit -q -m 'The king had a son, and he went into the wood.'")
    bad = bash("git commit -q --allow-empty -m 'qx#zzv kk~Wj {{ 0x7f 9#9%'")
    subjects = bash("git log --format=%s").stdout.splitlines()
    (bash.folder / "message").write_text(
        "The king had a son, and he went into the wood.\n# qx#zzv kk~Wj {{ 0x7f 9#9%\n"
    )
    comments = bash(".git/hooks/commit-msg message")
    return (
        (good.returncode, bad.returncode, comments.returncode) == (0, 1, 0)
        and "perplexity above 1000" in bad.stderr
        and subjects[0].startswith("The king")
    )


# what else has to be true of a line, by a word of its comment
CHECKS = {
    "each line of a file": each_line,
    "a file for each word": three_files,
    "best of five": lambda result, bash: len(result.stdout.split()) > 3,
    "with a king": lambda result, bash: lines(result) and all("king" in line for line in lines(result)),
    "numbered list": lambda result, bash: [line.split()[0] for line in lines(result)] == ["1", "2", "3"],
    "without end": lambda result, bash: len(result.stdout) > 500 and max(map(len, lines(result))) <= 72,
    "commit message in the manner": a_commit,
    "likeliest": lambda result, bash: re.fullmatch(r"The cat sat on the \w+\.\n", result.stdout),
    "three oddest": lambda result, bash: len(lines(result)) == 3 and lines(result)[0] == "Qx zzv kkk.",
    "a hook": a_hook_that_works,
}


@pytest.mark.parametrize("comment", SCRIPTS)
def test_scripts_run(comment, bash):
    script = SCRIPTS[comment]
    missing = set(re.findall(r"gpt2 ([a-z]+)", script)) - COMMANDS
    if missing or ("jq" in script and not shutil.which("jq")):
        pytest.skip(f"{' '.join(missing) or 'jq'} is not there")
    result = bash(script)
    assert (result.returncode, result.stderr) == (0, ""), result
    checks = [check for word, check in CHECKS.items() if word in comment]
    assert checks or result.stdout.strip()
    assert all(check(result, bash) for check in checks), result


def test_there_are_ten_and_every_check_has_its_line():
    assert len(SCRIPTS) >= 10
    for word in CHECKS:
        assert any(word in comment for comment in SCRIPTS), word
