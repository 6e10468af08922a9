"""gpt2 config, and what the file does to other commands."""

import json
import os
import stat
import sys
from pathlib import Path

import pytest
from conftest import assert_error

from gpt2cli import cli
from gpt2cli.console import configfile, display

POSIX = pytest.mark.skipif(os.name != "posix", reason="POSIX files and shells")
PROMPT = ("generate", "Once", "-n", 1, "--json")


@pytest.fixture
def file(monkeypatch, tmp_path):
    """Where the config file will be; GPT2_MODEL no longer hides the setting."""
    path = tmp_path / "folder" / "config.toml"
    monkeypatch.setenv("GPT2_CONFIG", str(path))
    monkeypatch.delenv("GPT2_MODEL")
    return path


def written(file, text):
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def rows(result):
    return {row["key"]: row for row in json.loads(result.stdout)}


# Precedence


def test_flag_then_environment_then_file_then_default(run, file, monkeypatch):
    def top_k(*flags):
        settings = json.loads(run(*PROMPT, "-m", "tiny", *flags).stdout)["settings"]
        origin = rows(run("config", "--json"))["top_k"]
        assert flags or settings["top_k"] == origin["value"]
        return settings["top_k"], origin["origin"], origin["place"]

    assert top_k() == (40, "default", None)
    written(file, "# mine\ntop_k = 5\n")
    assert top_k() == (5, "file", f"{file}:2")
    monkeypatch.setenv("GPT2_TOP_K", "6")
    assert top_k() == (6, "environment", "GPT2_TOP_K")
    assert top_k("--top-k", 7)[0] == 7


def test_every_setting_of_the_file_reaches_generate(run, file):
    values = {
        "model": "tiny",
        "precision": "fp32",
        "threads": 1,
        "max_tokens": 2,
        "keep": 3,
        "temperature": 0.5,
        "top_k": 9,
        "top_p": 0.9,
        "min_p": 0.01,
        "typical": 0.9,
        "repeat_penalty": 1.1,
        "seed": 4,
    }
    for key, value in values.items():
        assert run("config", "set", key, value).code == 0
    assert values.items() <= {key: row["value"] for key, row in rows(run("config", "--json")).items()}.items()
    record = json.loads(run("generate", "Once", "--json").stdout)
    seen = record["settings"] | {key: record[key] for key in ("model", "precision", "seed")}
    assert {key: seen[key] for key in values if key != "threads"} == {
        key: value for key, value in values.items() if key != "threads"
    }
    assert len(record["samples"][0]["ids"]) == 2


def test_a_setting_is_no_flag(run, file):
    """--greedy contradicts a temperature on the command line, not one in the file."""
    written(file, "temperature = 0.7\n")
    assert run(*PROMPT, "-m", "tiny", "--greedy").code == 0


def test_help_shows_the_programs_defaults_and_works_with_a_broken_file(run, file):
    plain = run("generate", "--help").stdout
    written(file, "temperature = 0.123\n")
    assert run("generate", "--help").stdout == plain
    written(file, "temperature = \n")
    assert run("generate", "--help").stdout == plain
    assert run("--help").code == run("--version").code == run("list").code == 0


# Listing


def test_list_names_every_variable_with_its_value_and_origin(run, file, monkeypatch):
    monkeypatch.setenv("GPT2_SEED", "3")
    result = run("config")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["SETTING", "VALUE", "FROM"]
    assert ["model", "gpt2", "default"] in lines
    assert ["seed", "3", "GPT2_SEED"] in lines
    assert run("config", "list").stdout == result.stdout
    assert run("config", "list", "--json").stdout == run("config", "--json").stdout
    assert not file.exists()
    text = "".join(run(name, "--help").stdout for name in cli.COMMANDS)
    for row in json.loads(run("config", "--json").stdout):
        assert f"GPT2_{row['key'].upper()}" in text


def test_get(run, file, monkeypatch):
    written(file, 'model = "distilgpt2"\n')
    assert run("config", "get", "model").stdout == "distilgpt2\n"
    assert run("config", "get", "top-k").stdout == run("config", "get", "top_k").stdout == "40\n"
    assert run("config", "get", "seed").stdout == "drawn\n"
    value = json.loads(run("config", "get", "model", "--json").stdout)
    assert value == {"key": "model", "value": "distilgpt2", "origin": "file", "place": f"{file}:1"}
    monkeypatch.setenv("GPT2_TOP_K", "many")
    for argv in (["config", "get", "top_k"], ["config", "get", "model"], ["generate", "-m", "tiny", "Once"]):
        assert_error(run(*argv), 2, "'many'", "hint: unset GPT2_TOP_K")
    assert_error(run("generate", "--top-k", "few", "Once"), 2, "'few'", "hint: gpt2 generate --help")


def test_path(run, file, monkeypatch):
    assert run("config", "path").stdout == f"{file}\n"
    written(file, "broken")
    assert run("config", "path").stdout == f"{file}\n"
    monkeypatch.delenv("GPT2_CONFIG")
    assert run("config", "path").stdout.endswith("config.toml\n")


@POSIX
def test_a_path_on_a_terminal_is_not_obeyed(run, file, odd_name, monkeypatch):
    odd_name.write_text("top_k = 5\n")
    monkeypatch.setenv("GPT2_CONFIG", str(odd_name))
    assert run("config", "path").raw == os.fsencode(odd_name) + b"\n"
    assert json.loads(run("config", "get", "top_k", "--json").raw.decode())["place"] == f"{odd_name}:1"
    assert os.fsencode(odd_name) in run("config").raw
    monkeypatch.setattr(display, "stdout_is_terminal", lambda: True)
    assert run("config", "path").stdout.endswith("caf\\udce9\\x1b[31m.txt\n")


# Changing


def test_set_and_unset_touch_one_line_and_no_comment(run, file):
    text = (
        "# what I like\n\nmodel = 'tiny' # built in\n  top_k=5\t# few\n"
        'precision = "int8"   # "quoted" # twice\n# top_p = 0.5\nseed = 1'
    )
    written(file, text)
    assert run("config", "set", "top-k", "50").code == 0
    assert file.read_text() == text.replace("top_k=5", "top_k=50")
    assert run("config", "set", "precision", "fp32").code == 0
    assert run("config", "set", "model", "gpt2").code == 0
    changed = text.replace("top_k=5", "top_k=50").replace('"int8"', '"fp32"').replace("'tiny'", '"gpt2"')
    assert file.read_text() == changed
    assert run("config", "set", "top_p", "0.9").code == 0
    assert file.read_text() == changed + "\ntop_p = 0.9\n"
    assert run("config", "unset", "top_p").code == run("config", "unset", "top_k").code == 0
    assert file.read_text() == changed.replace("  top_k=50\t# few\n", "") + "\n"
    assert run("config", "unset", "top_k").code == 0
    assert [path.name for path in file.parent.iterdir()] == ["config.toml"]


def test_lines_of_windows_stay_so(run, file):
    written(file, b"\xef\xbb\xbf# mine\r\ntop_k = 5\r\n")
    run("config", "set", "seed", 1)
    run("config", "set", "top_k", 6)
    assert file.read_bytes() == b"# mine\r\ntop_k = 6\r\nseed = 1\r\n"


def test_numbers_below_zero_and_folders(run, file, checkpoint, monkeypatch):
    assert run("config", "set", "max_tokens", "-1").code == 0
    monkeypatch.chdir(checkpoint.parent)
    assert run("config", "set", "model", f"./{checkpoint.name}").code == 0
    assert configfile.read() == {"max_tokens": -1, "model": str(checkpoint.resolve())}


def test_set_says_that_the_environment_wins(run, file, monkeypatch):
    monkeypatch.setenv("GPT2_TOP_K", "6")
    result = run("config", "set", "top_k", "5")
    assert (result.stdout, result.stderr) == ("", "note: GPT2_TOP_K=6 in the environment wins over it\n")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["set", "temprature", "1"], ["no setting 'temprature'", "did you mean temperature?"]),
        (["get", "xyzzy"], ["no setting 'xyzzy'", "gpt2 config lists"]),
        (["unset", "topk"], ["did you mean top_k?"]),
        (["set", "precision", "int9"], ["no precision 'int9'", "did you mean int8?"]),
        (["set", "precision", "half"], ["no precision 'half'", "auto, fp32, int8"]),
        (["set", "model", "gtp2"], ["no model named 'gtp2'", "did you mean gpt2?"]),
        (["set", "top_k", "4.5"], ["top_k = 4.5", "not a valid int", "hint: --top-k must be 0 (off) or more"]),
        (["set", "max_tokens", "q"], ["max_tokens = q", "hint: --max-tokens must be 0 or more, or -1"]),
        (["set", "max_tokens", "-2"], ["--max-tokens is -2", "hint: --max-tokens must be 0 or more, or -1"]),
        (["set", "seed", "x"], ["hint: --seed must be from 0 to 2^53 - 1, or -1"]),
        (["set", "no_history", "maybe"], ["not a valid boolean\n", "hint: choose true or false"]),
        (["set", "threads", "-3"], ["threads = -3", "x<=1024"]),
        (["set", "temperature", "warm"], ["temperature = warm"]),
        (["set", "temperature", "-1"], ["--temperature is -1.0", "0 (greedy) or more"]),
        (["set", "top_p", "inf"], ["--top-p is inf"]),
        (["set", "top_k"], ["missing argument"]),
        (["set", "top_k", "1", "2"], ["extra argument"]),
        (["--json", "get", "top_k"], ["gpt2 config get ... --json"]),
        (["--json", "set", "top_k", "3"], ["leave it out"]),
    ],
)
def test_wrong_keys_and_values_are_refused(run, file, argv, words):
    written(file, "seed = 1\n")
    assert_error(run("config", *argv), 2, *words)
    assert file.read_text() == "seed = 1\n"


# Files that are broken, or cannot be


NOT_TOML = [
    ("top_k = 5\ntop_p = \n", 2, "Invalid value"),
    ("top_k = 5\ntop_k = 6\n", 2, "overwrite"),
    ("seed = 1\n\nmodel = tiny\n", 3, "Invalid value"),
    ('model = "tiny', 1, "Unterminated string"),
    (b"seed = 1\n# caf\xe9\n", 2, "not UTF-8"),
]
WRONG = [
    ("# x\ntemprature = 1\n", 2, "no setting 'temprature'"),
    ("[generate]\ntop_k = 1\n", 1, "no setting 'generate'"),
    ("seed = 1\ntop_k = 4.5\n", 2, "top_k = 4.5"),
    ("top_k = true\n", 1, "top_k = true"),
    ("top_k = [1]\n", 1, "top_k"),
    ("\ntemperature = -1\n", 2, "--temperature is -1.0"),
]


@pytest.mark.parametrize(("text", "line", "reason"), NOT_TOML + WRONG)
def test_a_broken_file_is_reported_with_its_line(run, file, text, line, reason):
    written(file, text)
    for argv in (["generate", "-m", "tiny", "Once"], ["config"]):
        assert_error(run(*argv), 5, f"{file}:{line}: ", reason, "gpt2 config edit")


@pytest.mark.parametrize(("text", "line", "reason"), NOT_TOML)
def test_a_broken_file_is_never_overwritten(run, file, text, line, reason):
    before = written(file, text).read_bytes()
    for argv in (["set", "seed", "3"], ["unset", "seed"]):
        assert_error(run("config", *argv), 5, f"{file}:{line}: ", reason)
        assert file.read_bytes() == before


def test_what_is_wrong_can_be_mended_without_an_editor(run, file):
    written(file, "temprature = 1 # mine\ntop_k = 4.5\n")
    assert run("config", "set", "top_k", 4).code == 0
    assert run("config", "unset", "temprature").code == 0
    assert file.read_text() == "top_k = 4\n"
    assert run("config").code == 0


LARGE = {
    "digits": "top_k = " + "9" * 5000,
    "brackets": "top_k = " + "[" * 100_000,
    "hexadecimal": "top_k = 0x" + "f" * 5000,
    "tables": ".".join(["a"] * 3000) + " = 1",
}


@pytest.mark.parametrize("what", LARGE)
@pytest.mark.long
def test_a_file_too_large_to_be_true(run, file, what):
    before = written(file, f"{LARGE[what]}\n").read_bytes()
    for argv in (["generate", "-m", "tiny", "Once"], ["config"]):
        assert_error(run(*argv), 5, str(file), "gpt2 config edit")
    changed = run("config", "set", "seed", "1")
    if what in ("digits", "brackets"):  # the others can be read, tables as deep as this Python compares
        assert_error(changed, 5, str(file), "gpt2 config edit")
    assert changed.code in (0, 5)
    assert file.read_bytes() == before + (b"seed = 1\n" if changed.code == 0 else b"")


def test_an_empty_model_in_the_file_is_reported_with_its_line(run, file):
    written(file, 'seed = 1\nmodel = ""\n')
    assert_error(run("generate", "Once"), 5, f"{file}:2: ", "name is empty")


def test_a_device_is_named_with_the_others(run, file):
    assert_error(run("config", "set", "device", "gpu"), 2, "no device 'gpu'", "choose auto, cpu, cuda")


def test_a_wrong_key_in_the_file_names_the_right_one(run, file):
    written(file, "temprature = 1\n")
    assert_error(run("config"), 5, "did you mean temperature?")


def test_a_spelling_that_cannot_be_edited_is_left_alone(run, file):
    written(file, '"top_k" = 5\n')
    assert rows(run("config", "--json"))["top_k"]["place"] == f"{file}:1"
    assert_error(run("config", "set", "top_k", "6"), 5, f"{file}:1", "gpt2 config edit")
    assert_error(run("config", "unset", "top_k"), 5, f"{file}:1", "gpt2 config edit")
    assert file.read_text() == '"top_k" = 5\n'


def test_a_folder_or_a_device_is_not_written_to(run, file, monkeypatch):
    file.mkdir(parents=True)
    assert_error(run("config", "set", "seed", 1), 7, str(file))
    assert_error(run("config"), 7, str(file))
    monkeypatch.setenv("GPT2_CONFIG", os.devnull)
    assert run("config").code == 0
    assert_error(run("config", "set", "seed", 1), 7, os.devnull)
    monkeypatch.setenv("GPT2_CONFIG", str(written(file.parent / "plain", "") / "config.toml"))
    assert_error(run("config", "set", "seed", 1), 7, "GPT2_CONFIG=FILE")


@POSIX
def test_a_link_stays_a_link_and_rights_stay(run, file, tmp_path):
    real = written(tmp_path / "dotfiles.toml", "seed = 1\n")
    real.chmod(0o600)
    file.parent.mkdir()
    file.symlink_to(real)
    run("config", "set", "seed", 2)
    assert file.is_symlink()
    assert real.read_text() == "seed = 2\n"
    assert stat.S_IMODE(real.stat().st_mode) == 0o600


# Editing


@pytest.fixture
def editor(monkeypatch, tmp_path):
    """editor(code): $EDITOR becomes a program that runs `code` with `path`."""

    def use(code):
        script = tmp_path / "an editor.py"
        script.write_text(f"import pathlib, sys\npath = pathlib.Path(sys.argv[1])\n{code}\n")
        monkeypatch.delenv("VISUAL", raising=False)
        monkeypatch.setenv("EDITOR", f'"{sys.executable}" "{script}"')

    return use


@POSIX
def test_edit_begins_with_a_file_that_changes_nothing(run, file, editor):
    editor("pass")
    before = rows(run("config", "--json"))
    assert run("config", "edit").code == 0
    assert rows(run("config", "--json")) == before
    # every line of it can be used
    text = file.read_text()
    for key in before:
        assert f"\n# {key} = " in text
    written(file, text.replace('\n# model = ""', '\n# model = "tiny"').replace('\n# seed = ""', "\n# seed = 1"))
    lines = [line for line in file.read_text().splitlines() if " = " in line]
    written(file, "\n".join(line.removeprefix("# ") for line in lines))
    assert set(configfile.read()) == set(before)
    assert run("config").code == 0


@POSIX
def test_edit_says_at_once_what_is_wrong(run, file, editor):
    written(file, "seed = 1\n")
    editor("path.write_text(path.read_text() + 'top_k = x')")
    assert_error(run("config", "edit"), 5, f"{file}:2")
    assert file.read_text() == "seed = 1\ntop_k = x"
    editor("path.write_text('top_k = 3')")  # a broken file can be edited
    assert run("config", "edit").code == 0


@pytest.mark.process
def test_an_editor_that_is_not_there(run, file, monkeypatch):
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", "no-such-editor")
    assert_error(run("config", "edit"), 2, "no-such-editor", "EDITOR")


def test_values_that_no_setting_has(run, file):
    assert_error(run("config", "set", "device", "gpuu"), 2, "no device 'gpuu'")
    assert_error(run("config", "set", "model", ""), 2, "the model's name is empty")
    for text in ('device = "x"', "top_k = " + "9" * 5000, "a = " + "[" * 100_000):
        written(file, text)
        assert_error(run("generate", "-m", "tiny", "x"), 5, str(file))


@POSIX
def test_names_that_are_no_utf8(run, file, monkeypatch, tmp_path):
    text = os.fsdecode(bytes(tmp_path) + b"/caf\xe9.txt")
    Path(text).write_text("The cat sat")
    for command in ("score", "tokens"):
        plain = run(command, "-m", "tiny", *(["--count", "-f", text] if command == "tokens" else []), "-f", text)
        assert plain.code == 0, plain.stderr
        found = json.loads(run(command, "-m", "tiny", "--json", "-f", text).stdout)
        assert [row["file"] for row in found["texts"]] == [text]
    monkeypatch.setenv("GPT2_CONFIG", os.fsdecode(b"caf\xe9.toml"))
    assert run("config", "path").code == 0
