"""Where the program runs: without a home, with one that is none, without streams, in a folder that is gone."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import assert_error
from hub import NAME

from gpt2cli import paths

UID = "54321"  # of nobody that the system knows
FOREIGN = (
    ["unshare", "--user", f"--map-user={UID}"],
    ["setpriv", f"--reuid={UID}", "--clear-groups", "--inh-caps=+dac_override", "--ambient-caps=+dac_override"],
)
pytestmark = [
    pytest.mark.process,
    pytest.mark.long,
    pytest.mark.skipif(os.name != "posix", reason="POSIX users and streams"),
]


@pytest.fixture
def foreign(tmp_path):
    """foreign(*argv, **environment): `gpt2` as a user without a home, in an empty folder, as containers are run."""
    code = "import os, pwd\ntry:\n    pwd.getpwuid(os.getuid())\nexcept KeyError:\n    print('nobody')"
    for prefix in FOREIGN:
        if shutil.which(prefix[0]):
            found = subprocess.run([*prefix, sys.executable, "-c", code], capture_output=True, text=True)
            if found.stdout == "nobody\n":
                break
    else:
        pytest.skip("this user cannot become nobody")
    (tmp_path / "work").mkdir(mode=0o777)

    def call(*argv, **environment):
        return called(*argv, prefix=prefix, cwd=tmp_path / "work", **environment)

    yield call
    assert [path.name for path in (tmp_path / "work").iterdir()] == []  # no folder called ~


def called(*argv, prefix=(), cwd=None, **environment):
    """`gpt2` with PATH and `environment` alone, and one thread, which waits for no other."""
    command = [*prefix, sys.executable, "-m", "gpt2cli", *map(str, argv)]
    variables = {"PATH": os.environ["PATH"], "HF_HUB_OFFLINE": "1", "GPT2_THREADS": "1"} | environment
    result = subprocess.run(
        command, cwd=cwd, env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )
    result.code = result.returncode
    return result


WITHOUT_HOME = (
    "generate -n 2 --seed 1 Once",
    "generate -m tiny -n 2 --seed 1 Once",
    "tokens -m tiny Once",
    "score -m tiny Once",
    "list",
    "show tiny",
    "show gpt2",
    "config",
    "config get top_k",
    "pull tiny",
    "verify tiny",
    "prune",
    "export tiny ../new",
    "bench -m tiny -p 4 -n 2 -r 1 --no-first-token",
    "completion bash",
    "embed -m tiny Once",
    "explain -m tiny Once upon",
    "compare -m tiny Once Twice",
)


@pytest.mark.parametrize("line", WITHOUT_HOME)
def test_without_a_home_everything_runs_that_needs_none(foreign, line):
    result = foreign(*line.split())
    assert (result.code, "error" in result.stderr) == (0, False), result.stderr
    assert result.stdout or line == "pull tiny"


@pytest.mark.parametrize(
    ("line", "variable"),
    [
        ("config path", "GPT2_CONFIG=FILE"),
        ("config set top_k 5", "GPT2_CONFIG=FILE"),
        ("pull CHECKPOINT", "GPT2_CACHE=FOLDER"),
        ("generate -q -m CHECKPOINT x", "GPT2_CACHE=FOLDER"),
        ("completion zsh --install", "HOME=FOLDER"),
        ("finetune text.txt -o name", "GPT2_MODELS=FOLDER"),
    ],
)
def test_without_a_home_what_needs_a_folder_says_which_variable_names_one(foreign, checkpoint, line, variable):
    assert_error(foreign(*line.replace("CHECKPOINT", str(checkpoint)).split()), 7, "no home folder", variable)


def test_without_a_home_the_variables_are_enough(foreign, checkpoint, tmp_path):
    (tmp_path / "c").mkdir(mode=0o777)
    (tmp_path / "c/file").write_text("top_k = 5\n")
    variables = {"GPT2_CACHE": str(tmp_path / "c/cache"), "GPT2_CONFIG": str(tmp_path / "c/file")}
    assert foreign("generate", "-q", "-m", checkpoint, "-n", 2, "x", **variables).code == 0
    assert foreign("config", "get", "top_k", **variables).stdout == "5\n"
    assert_error(foreign("config", "list", GPT2_CONFIG="~/file"), 7, "GPT2_CONFIG=~/file: there is no such home")


@pytest.mark.parametrize("cache", [{}, {"GPT2_CACHE": "/proc/nowhere"}])
def test_without_a_cache_files_that_grow_are_written(foreign, tmp_path, cache):
    """What keeps two runs from writing one file lies with what is temporary then."""
    (tmp_path / "prompts.txt").write_text("The cat\nThe dog\n")
    (tmp_path / "items.jsonl").write_text('{"context": "The cat", "target": " sat"}\n')
    (tmp_path / "out").mkdir(mode=0o777)
    (tmp_path / "temporary").mkdir(mode=0o777)
    variables = cache | {"TMPDIR": str(tmp_path / "temporary")}
    for line in ("batch ../prompts.txt -n 2 -o ../out/a", "eval ../items.jsonl --samples ../out/s"):
        result = foreign(*line.split(), "-m", "tiny", **variables)
        assert (result.code, "error" in result.stderr) == (0, False), result.stderr
    assert (tmp_path / "out/a").read_text().count("\n") == 2
    assert (tmp_path / "out/s").read_text().count("\n") == 1
    assert len(list((tmp_path / "temporary").iterdir())) == 2


def test_without_a_home_nothing_is_downloaded_into_a_folder_called_tilde(foreign, hub, files, tmp_path):
    hub.add(NAME, files)
    hub.add("openai-community/gpt2", files)
    network = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0"}
    assert_error(foreign("pull", "-q", NAME, **network), 7, "no home folder for downloads", "HF_HOME=FOLDER")
    result = foreign("generate", "-n", 2, "Once", **network)
    assert (result.code, result.stdout != "") == (0, True)
    assert "tiny answers (name one: HF_HOME=FOLDER)" in result.stderr
    assert hub.asked("") == []
    (tmp_path / "hf").mkdir(mode=0o777)
    folders = {"HF_HOME": str(tmp_path / "hf"), "GPT2_CACHE": str(tmp_path / "hf/ours")}
    assert foreign("pull", "-q", NAME, **network, **folders).code == 0


def test_without_a_home_a_session_has_no_history_and_keeps_its_text(foreign, tmp_path):
    from terminals import Terminal

    prefix = next(prefix for prefix in FOREIGN if shutil.which(prefix[0]))
    (tmp_path / "temporary").mkdir(mode=0o777)
    script = f'unset HOME GPT2_STATE; exec {" ".join(prefix)} "$@"'
    terminal = Terminal("repl", "-m", "tiny", "-n", 1, shell=script, columns=160, TMPDIR=str(tmp_path / "temporary"))
    try:
        terminal.wait(
            "no history: the user has no home folder, and GPT2_STATE is not set (name one: GPT2_STATE=FOLDER)"
        )
        terminal.wait("/help")
        terminal.type("The king\r")
        terminal.wait(lambda one: any("/1024" in line and " 0/1024" not in line for line in one.lines), "an answer")
        os.close(terminal.main)
        terminal.main = os.open(os.devnull, os.O_RDWR)
        assert terminal.process.wait(timeout=30) == 129
    finally:
        terminal.close()
    (kept,) = (tmp_path / "temporary").glob("gpt2-unsaved-*/*.json")
    assert "The king" in kept.read_text()


@pytest.mark.parametrize("home", ["", "relative", "FILE", "LOCKED"])
def test_a_home_that_is_none(home, tmp_path):
    """Empty, relative, a file, or somebody else's."""
    (tmp_path / "file").write_text("")
    (tmp_path / "locked").mkdir(mode=0)
    (tmp_path / "work").mkdir()
    home = home.replace("FILE", str(tmp_path / "file")).replace("LOCKED", str(tmp_path / "locked"))
    try:
        for line in ("generate -m tiny -n 1 Once", "list", "config", "prune --dry-run", "verify tiny"):
            result = called(*line.split(), cwd=tmp_path / "work", HOME=home)
            assert (result.code, result.stderr) == (0, ""), line
        assert list((tmp_path / "work").iterdir()) == []
    finally:
        (tmp_path / "locked").chmod(0o700)


def test_a_home_that_is_a_file_says_which_variable_helps(tmp_path, checkpoint):
    home = {"HOME": str(tmp_path / "file"), "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}
    (tmp_path / "file").write_text("")
    assert_error(called("config", "set", "top_k", 5, **home), 7, "GPT2_CONFIG=FILE")
    assert_error(called("config", "edit", **home), 7, "GPT2_CONFIG=FILE")
    assert_error(called("pull", "-q", checkpoint, **home), 7, "GPT2_CACHE")
    assert_error(called("pull", "-q", NAME, **home), 7, "HF_HOME=FOLDER")
    assert "tiny answers (name another folder for downloads: HF_HOME=FOLDER)" in called("tokens", "x", **home).stderr


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_closed_streams_are_not_taken_by_files(spawn, tmp_path):
    """What native libraries say on stderr would end up in them."""

    def close():
        for number in range(3):
            os.close(number)

    process = spawn("generate", "-n", "-1", "--ignore-eos", "Once", "-o", tmp_path / "out", preexec_fn=close)
    deadline = time.monotonic() + 20
    while not list(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [str(Path(f"/proc/{process.pid}/fd/{number}").readlink()) for number in range(3)] == ["/dev/null"] * 3


def test_a_working_folder_that_is_gone(tmp_path):
    script = f'mkdir "{tmp_path}/gone" && cd "{tmp_path}/gone" && rmdir ../gone && exec "$@"'

    def there(*argv):
        return called(*argv, prefix=["sh", "-c", script, "sh"], PYTHONPATH=str(paths.data("models").parent))

    for line in ("generate -m tiny -n 1 Once", "tokens -m tiny Once", "list -q", "verify tiny", "config path"):
        result = there(*line.split())
        assert (result.code, result.stderr) == (0, ""), line
    assert_error(there("generate", "-m", "tiny", "-n", 1, "Once", "-o", "out"), 7, "cannot write to 'out'")
    assert_error(there("export", "-q", "tiny", "new"), 7, "the working folder: No such file")
    assert_error(there("generate", "-m", ".", "x"), 7, "the working folder: No such file")


def test_an_output_file_that_is_mounted(tmp_path):
    """As a container's is: its name cannot be given to another file."""
    target = tmp_path / "out"
    target.write_text("what was there before, and is longer than what comes")
    prefix = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", 'mount --bind out out && exec "$@"', "sh"]
    if not shutil.which("unshare") or subprocess.run([*prefix, "true"], cwd=tmp_path, capture_output=True).returncode:
        pytest.skip("this user cannot mount")
    result = called("generate", "-m", "tiny", "-n", 2, "Once", "-o", "out", prefix=prefix, cwd=tmp_path)
    assert (result.code, result.stderr) == (0, "")
    assert 0 < len(target.read_text()) < 30
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_file_in_a_folder_that_is_not_ours(tmp_path):
    target = tmp_path / "out"
    target.write_text("before")
    tmp_path.chmod(0o500)
    try:
        assert called("generate", "-m", "tiny", "-n", 2, "Once", "-o", target).code == 0
        assert target.read_text() != "before"
        assert_error(called("generate", "-m", "tiny", "Once", "-o", tmp_path / "new"), 7, "Permission denied")
    finally:
        tmp_path.chmod(0o700)
