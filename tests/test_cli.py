"""The program as a whole: help, start-up, signals, pipes, locales, and the built-in model."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import assert_error

import gpt2cli
from gpt2cli import paths

POSIX = pytest.mark.skipif(os.name != "posix", reason="POSIX signals and shells")
GPT2 = f"{sys.executable} -m gpt2cli"
HEAVY = {
    "onnxruntime",
    "numpy",
    "tokenizers",
    "huggingface_hub",
    "onnx",
    "safetensors",
    "pydantic",
    "rich",
    "tomllib",
    "platformdirs",
}


@pytest.mark.process
@pytest.mark.parametrize(
    "argv",
    [
        ["--help"],
        ["--version"],
        ["generate", "--help"],
        ["tokens", "-h"],
        ["score", "-h"],
        ["embed", "-h"],
        ["explain", "-h"],
        ["compare", "-h"],
        ["generate", "--topk", "1"],
        [],
    ],
)
def test_help_imports_nothing_heavy(argv):
    code = f"import sys; from gpt2cli.cli import main; main({argv!r}); print(*sys.modules, file=sys.stderr)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert not HEAVY & set(result.stderr.split())


def test_help_and_version(run):
    assert run("--version").stdout == f"gpt2cli {gpt2cli.__version__}\n"
    assert "generate" in run("--help").stdout
    assert run("-h").stdout == run().stdout == run(stdin="").stdout == run("--help").stdout
    assert len(run("--help").stdout.splitlines()) <= 24
    text = run("generate", "--help").stdout
    assert "Examples:" in text
    assert "GPT2_TEMPERATURE" in text


def every_command():
    """("generate", its Typer command), ("config set", ...) and so on."""
    from gpt2cli import cli

    def below(name, command):
        if name:
            yield name, command
        for child, one in getattr(command, "commands", {}).items():
            yield from below(f"{name} {child}".strip(), one)

    return list(below("", cli.command()))


def test_every_option_has_help():
    for name, command in every_command():
        for parameter in command.params:
            assert parameter.help, f"{name} {parameter.name}"


def test_the_help_of_every_command_has_examples(run):
    for name, _ in every_command():
        assert re.search(rf"Examples?:\n.*\bgpt2 {name}", run(*name.split(), "--help").stdout, re.DOTALL), name


@pytest.fixture
def page(run, monkeypatch):
    """page(command, columns=80) -> its help."""

    def call(name, columns=80):
        monkeypatch.setenv("COLUMNS", str(columns))
        result = run(*name.split(), "--help")
        assert result.stderr == ""
        return result.stdout

    return call


def test_a_page_begins_with_usage_a_sentence_and_examples(page):
    for name in ("generate", "repl", "score", "bench", "config", "config set"):
        blocks = page(name).split("\n\n")
        assert blocks[0].startswith(f"Usage: gpt2 {name}")
        begins = [block.splitlines()[0] for block in blocks]
        examples = next(place for place, line in enumerate(begins) if line.strip().startswith("Example"))
        headed = [place for place, line in enumerate(begins) if line[0] != " " and line.endswith(":")]
        assert headed[0] == examples + 1


def test_a_page_has_headings_and_fits(page):
    text = page("generate")
    headings = [line for line in text.splitlines() if line.endswith(":") and line[0] != " "]
    assert headings == [
        *(
            "Prompt:",
            "Length and number:",
            "Form of the text:",
            "Sampling:",
            "Model:",
            "Guessing ahead:",
            "Output:",
            "Messages:",
        )
    ]
    assert text.rstrip().endswith("Show this message and exit.")
    assert text.index("--temperature") < text.index("--seed") < text.index("--top-k") < text.index("--logit-bias")
    for columns, most in ((60, 60), (80, 80), (100, 100), (200, 100)):
        assert most - 15 < max(map(len, page("generate", columns).partition("Prompt:")[2].splitlines())) <= most


def test_a_page_shows_the_short_and_the_main_name(run):
    text = run("generate", "--help").stdout
    assert "-n, --max-tokens N " in text
    assert "--n-predict" not in text
    assert run("rm", "--help").stdout.startswith("Usage: gpt2 rm [OPTIONS] NAME...\n")
    assert "--echo / --no-echo " in text
    assert "[default: 0.8, GPT2_TEMPERATURE]" in text
    assert run("generate", "-q", "Once", "--n-predict", "1").code == 0


def test_metavars_are_words_in_capitals_and_pages_name_only_their_own_options(run, page):
    for name, command in every_command():
        text = page(name)
        own = {name for one in command.params for name in (*one.opts, *one.secondary_opts)} | {"--help"}
        options = text.partition("\n\n")[2].rpartition("Examples:")[2].partition("\n\n")[2]
        for one in command.params:
            if not getattr(one, "is_flag", False):
                words = r"(\[[A-Z]+\]|[A-Z]+|[A-Z]+\|[A-Z]+)(\.\.\.)?|TOKEN=X|I/N"
                assert re.fullmatch(words, one.metavar or ""), (name, one.name)
        for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]+", options):
            assert flag in own, (name, flag)
    assert "a sample" not in run("bench", "--help").stdout


def test_help_is_understood(run):
    assert run("help").stdout == run("--help").stdout
    assert run("help", "score").stdout == run("score", "--help").stdout
    assert run("help", "config", "set").stdout == run("config", "set", "--help").stdout
    assert_error(run("help", "scor"), 2, "'scor'", "did you mean gpt2 score?")


@pytest.mark.long
@pytest.mark.process
def test_help_without_docstrings():
    """python -OO drops them."""
    for argv in ([], ["generate"], ["config"], ["config", "set"]):
        command = [sys.executable, "-m", "gpt2cli", *argv, "--help"]
        plain, bare = (
            subprocess.run(command, env=os.environ | {"PYTHONOPTIMIZE": level}, capture_output=True, text=True)
            for level in ("", "2")
        )
        assert plain.stdout
        assert (bare.stdout, bare.stderr) == (plain.stdout, plain.stderr)


def test_unknown_commands_and_options(run):
    assert_error(run("generat", "x"), 2, "generat", "did you mean gpt2 generate?")
    assert_error(run("Once upon a time"), 2, 'gpt2 generate "Once upon a time"')
    assert_error(run("--nope"), 2, "--nope", "gpt2 --help")
    assert_error(run("-m", "tiny", "-n", "60", stdin="x"), 2, "-m", "options follow a command: gpt2 generate -m ...")
    assert_error(run("--verbose"), 2, "gpt2 generate --verbose ...")
    assert_error(run("--sort", "tokens"), 2, "gpt2 score --sort ...")
    # a value that is missing, or one too many: of which command, Typer does not say
    assert_error(run("repl", "--load"), 2, "--load", "gpt2 repl --help")
    assert_error(run("generate", "--greedy=1", "x"), 2, "--greedy", "gpt2 generate --help")
    assert_error(run("config", "list", "--json=1"), 2, "--json", "gpt2 config list --help")
    assert_error(run("config", "ste"), 2, "'ste'", "did you mean gpt2 config set?")
    for word, meant in (("gen", "generate"), ("lsit", "list"), ("tokenss", "tokens"), ("benhc", "bench")):
        assert_error(run(word), 2, f"'{word}'", f"did you mean gpt2 {meant}?")
    for word in ("run", "chat", "prun", "rn", "remove", "help-me"):
        result = run(word)
        assert_error(result, 2, f"'{word}'", f'gpt2 generate "{word}"')
        assert "did you mean" not in result.stderr
    assert_error(run("config", "xyzzy"), 2, "'xyzzy'", "gpt2 config --help")


@pytest.mark.parametrize(
    "argv",
    [["generate", "-f"], ["tokens", "-f"], ["score", "-f"], ["score", "--whole", "-f"], ["score", "x", "--context"]],
)
def test_files_that_cannot_be_read(run, argv, tmp_path):
    for name in ("none", "x" * 300, "none/x"):
        assert_error(run(*argv, tmp_path / name), 2, f"cannot read '{tmp_path / name}': ", "check the path")


def test_text_on_a_pipe_and_no_arguments_generate(run):
    assert run(stdin="Once upon a time").stdout
    assert run(stdin="Once upon a time").stderr == ""


def test_the_version_stands_in_one_place_more():
    import importlib.metadata

    assert importlib.metadata.version("gpt2cli") == gpt2cli.__version__


# The built-in model


def test_the_built_in_model_is_small_and_complete():
    folder = paths.data("models") / "tiny"
    sizes = {name: (folder / name).stat().st_size for name in ("tokenizer.json", "config.json", "model.onnx")}
    sizes["weights.safetensors"] = (folder / "weights.safetensors").stat().st_size
    assert sum(sizes.values()) <= 12_000_000


def test_the_built_in_model_is_the_default_and_writes_no_cache(run, monkeypatch, tmp_path):
    monkeypatch.setenv("GPT2_CACHE", str(tmp_path / "cache"))
    value = json.loads(run("generate", "Once upon a time", "--seed", 1, "--json").stdout)
    assert (value["model"], value["precision"]) == ("tiny", "int8")
    assert value["revision"]
    assert not (tmp_path / "cache").exists()


@pytest.mark.process
@POSIX
@pytest.mark.long
def test_nothing_is_left_in_the_home_and_nobody_is_told(tmp_path):
    """ONNX Runtime's wheels collect what to report in a database there, unless they are told not to (and on CI)."""
    command = [sys.executable, "-m", "gpt2cli", "generate", "-m", "tiny", "-n", "1", "Once"]
    clean = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    subprocess.run(command, env=clean, check=True, capture_output=True, timeout=60)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_the_built_in_model_writes_english(run):
    """Words of a children's book, and no loops at the default settings."""
    common = {"the", "and", "a", "to", "of", "he", "she", "was", "in", "it", "that", "his", "her", "said", "had", "you"}
    for seed in range(4):
        text = run("generate", "Once upon a time there was a", "--seed", seed, "-n", 200).stdout
        words = re.findall(r"[a-z']+", text.lower())
        assert sum(word in common for word in words) / len(words) > 0.25
        triples = list(zip(words, words[1:], words[2:], strict=False))
        assert len(set(triples)) / len(triples) > 0.8


def test_the_built_in_model_in_fp32_says_nearly_the_same(run):
    def top(precision):
        result = run("generate", "-q", "The", "--precision", precision, "-n", 1, "--json", "--logprobs", 5, "--greedy")
        return {e["id"]: e["logprob"] for e in json.loads(result.stdout)["samples"][0]["logprobs"][0]["top"]}

    fp32, int8 = top("fp32"), top("int8")
    assert len(fp32.keys() & int8.keys()) >= 4
    assert all(abs(fp32[token] - int8[token]) < 0.3 for token in fp32.keys() & int8.keys())


def test_the_manifest_is_true():
    from gpt2cli.export.checkpoint import Checkpoint
    from gpt2cli.store import catalog

    entry = catalog.find("tiny")
    config = Checkpoint(entry.folder).config
    width = config.n_embd
    block = 12 * width**2 + 13 * width
    assert entry.parameters == (config.vocab_size + config.n_positions + 2) * width + config.n_layer * block
    assert config.n_positions == 1024


# Processes

SIGNALS = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129, "SIGXCPU": 128 + getattr(signal, "SIGXCPU", 0)}


@pytest.mark.terminal
@pytest.mark.skipif(not shutil.which("bash") or os.name != "posix", reason="bash")
def test_ctrl_c_ends_a_loop_of_the_shell():
    """It goes on where a command ends by itself, whatever its exit code."""
    from terminals import Terminal

    loop = 'for n in 1 2 3; do echo "round $n"; "$@"; echo "after $?"; done'
    shown = Terminal("generate", "-n", "-1", "--ignore-eos", "Once", shell=f"exec bash -c '{loop}' bash \"$@\"")
    try:
        shown.wait(lambda terminal: len(" ".join(terminal.lines).split()) > 12, "a text")
        shown.type("\x03")
        assert shown.exit_code() == 130
        assert "round 2" not in " ".join(shown.lines)
    finally:
        shown.close()


def first_bytes(process, count=20):
    data = b""
    while len(data) < count:
        chunk = os.read(process.stdout.fileno(), 64)
        assert chunk, process.stderr.read()
        data += chunk
    return data


def wait_until_loaded(process):
    assert b"on cpu" in process.stderr.readline()
    time.sleep(1)  # and some tokens are there


@POSIX
@pytest.mark.parametrize(("name", "code"), SIGNALS.items())
def test_a_signal_stops_at_once_and_keeps_the_text(spawn, name, code):
    process = spawn("generate", "-n", "-1", "--ignore-eos", "Once")
    begun = first_bytes(process)
    process.send_signal(getattr(signal, name))
    rest, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert (begun + rest).endswith(b"\n")
    assert errors == b""


@POSIX
@pytest.mark.parametrize(("name", "code"), SIGNALS.items())
@pytest.mark.parametrize("answer", ["raise ImportError('initialization failed')", "pass"])
@pytest.mark.long
def test_a_signal_waits_for_the_end_of_an_import(spawn, tmp_path, name, code, answer):
    """Extension modules turn what a signal raises into ImportError, or drop it."""
    real = f"import sys\nsys.path.remove({str(tmp_path)!r})\ndel sys.modules['tokenizers']\nimport tokenizers\n"
    (tmp_path / "tokenizers.py").write_text(
        f"import os, signal\ntry:\n    os.kill(os.getpid(), signal.{name})\nexcept BaseException:\n    {answer}\n{real}"
    )
    process = spawn("generate", "-n", "-1", "--ignore-eos", "Once", env=os.environ | {"PYTHONPATH": str(tmp_path)})
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, out, errors) == (code, b"", b"")


@pytest.mark.process
@POSIX
@pytest.mark.parametrize(("name", "raised"), [("SIGINT", "KeyboardInterrupt"), ("SIGTERM", "Terminated")])
@pytest.mark.parametrize("around", ["once", "contextlib.nullcontext"])
def test_a_signal_in_a_destructor_is_not_lost(name, raised, around):
    """The garbage collector runs them anywhere, and Python drops what they raise."""
    code = (
        "import contextlib, signal, time\nfrom gpt2cli.console.signals import listen, once\nlisten()\n"
        f"class Dies:\n    def __del__(self):\n        signal.raise_signal(signal.{name})\n"
        f"try:\n    with {around}():\n        Dies()\n        time.sleep(20)\n"
        "except BaseException as reason:\n    print(type(reason).__name__)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (result.stdout, result.stderr) == (f"{raised}\n", "")


@POSIX
@pytest.mark.process
def test_ctrl_c_is_heard_again_after_the_work_that_it_stopped():
    """Whenever it was pressed: here, while the handler is put in place, or taken away."""
    code = (
        "import signal\nfrom gpt2cli.console import signals\n"
        "signals.listen()\nbefore, put = signal.getsignal(signal.SIGINT), signal.signal\n"
        "def struck(number, handler):\n    previous = put(number, handler)\n"
        "    signal.raise_signal(number)\n    return previous\n"
        "for first in (True, False):\n    try:\n"
        "        if first:\n            signal.signal = struck\n"
        "        with signals.once():\n            signal.signal = struck\n"
        "    except KeyboardInterrupt:\n        pass\n"
        "    signal.signal = put\n    print(signal.getsignal(signal.SIGINT) is before)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (result.stdout, result.stderr) == ("True\nTrue\n", "")


@POSIX
@pytest.mark.process
def test_only_the_first_sigterm_is_heard():
    code = (
        "import os, signal\nfrom gpt2cli.console import signals\nsignals.listen()\n"
        "try:\n    os.kill(os.getpid(), signal.SIGTERM)\n"
        "except BaseException as reason:\n"
        "    for number in (signal.SIGTERM, signal.SIGHUP):\n        os.kill(os.getpid(), number)\n"
        "    print('saved after', type(reason).__name__)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (result.stdout, result.stderr) == ("saved after Terminated\n", "")


@pytest.mark.long
@POSIX
@pytest.mark.parametrize(("name", "code"), SIGNALS.items())
def test_a_signal_still_prints_the_json_object(spawn, name, code):
    process = spawn("generate", "-v", "-n", "100000", "--ignore-eos", "Once", "--json", "-N", "2")
    wait_until_loaded(process)
    process.send_signal(getattr(signal, name))
    out, _ = process.communicate(timeout=60)
    assert process.returncode == code
    samples = json.loads(out)["samples"]
    assert [sample["finish_reason"] for sample in samples] == ["interrupted"] * 2
    assert samples[0]["text"]


@POSIX
@pytest.mark.parametrize(("name", "code"), SIGNALS.items())
@pytest.mark.long
def test_a_signal_keeps_the_output_file(spawn, tmp_path, name, code):
    target = tmp_path / "out.txt"
    process = spawn("generate", "-n", "-1", "--ignore-eos", "Once", "-o", target)
    while process.poll() is None and not any(path.stat().st_size > 10 for path in tmp_path.iterdir()):
        time.sleep(0.01)
    process.send_signal(getattr(signal, name))
    assert process.wait(timeout=60) == code
    assert len(target.read_text()) > 10
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.long
@POSIX
def test_a_signal_that_is_ignored_stays_so(spawn):
    """nohup, and `trap '' TERM` in a script."""
    ignored = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)
    process = spawn(
        *("generate", "-v", "-n", "300", "--ignore-eos", "Once", "--json"),
        preexec_fn=lambda: [signal.signal(number, signal.SIG_IGN) for number in ignored],
    )
    wait_until_loaded(process)
    for number in ignored:
        process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, len(json.loads(out)["samples"][0]["ids"])) == (0, 300)


@pytest.mark.long
@pytest.mark.terminal
@POSIX
def test_a_terminal_that_is_closed(tmp_path):
    """What goes to a file is kept; what went to the terminal is nobody's, and no error."""
    from terminals import Terminal

    for redirection, size in ((">out", 10), ("-o out", 10), ("2>errors", 0)):
        command = f'exec "$@" {redirection}'
        terminal = Terminal("generate", "-m", "tiny", "-n", -1, "--ignore-eos", "Once", cwd=tmp_path, shell=command)
        terminal.wait(
            lambda one: len(one.raw) > 10 or any(path.stat().st_size > 10 for path in tmp_path.iterdir()), "text"
        )
        os.close(terminal.main)
        terminal.main = os.open(os.devnull, os.O_RDWR)
        assert terminal.process.wait(timeout=60) == 129
        terminal.close()
        written = (tmp_path / ("out" if size else "errors")).stat().st_size
        assert written > size if size else written == 0
        for path in tmp_path.iterdir():
            path.unlink()


@pytest.mark.process
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_the_exit_code_is_the_same_where_nobody_can_be_told(monkeypatch):
    """Not Python's 120, of a stream that cannot be flushed: a terminal that is closed is one."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    code = (
        "import sys\nfrom gpt2cli import __main__, cli\n"
        "cli.main = lambda _: sys.stderr.write('half a bar') and 129\nsys.exit(__main__.main())"
    )
    with Path("/dev/full").open("wb") as full:
        assert subprocess.run([sys.executable, "-c", code], stderr=full, timeout=60).returncode == 129


def closed_beside(bar, *argv, shell):
    """The exit code of a command whose terminal is closed while it shows this bar."""
    from terminals import Terminal

    terminal = Terminal(*argv, shell=shell)
    try:
        terminal.wait(bar)
        os.close(terminal.main)
        terminal.main = os.open(os.devnull, os.O_RDWR)
        return terminal.process.wait(timeout=60)
    finally:
        terminal.close()


@pytest.mark.long
@pytest.mark.terminal
@POSIX
def test_a_terminal_that_is_closed_with_a_bar_on_it(tmp_path):
    """The signal ends the work; where it is ignored, or nobody sends it, the work goes on without the bar."""
    rows, out = tmp_path / "rows", tmp_path / "out"
    rows.write_text("The cat\n" * 4000)  # of which there is no end while somebody waits
    batch = ("batch", rows, "-o", out, "-n", 20, "--ignore-eos")
    assert closed_beside("of 4,000 rows", *batch, shell='exec "$@"') == 129
    assert len(out.read_text().splitlines()) < 4000
    out.unlink()
    rows.write_text("The cat\n" * 300)
    assert closed_beside("of 300 rows", *batch, shell="trap '' HUP; exec \"$@\"") == 0
    assert len(out.read_text().splitlines()) == 300
    items, told = tmp_path / "items.jsonl", tmp_path / "told"
    items.write_text("".join(f'{{"context": "Cat {n}", "target": " sat on the mat"}}\n' for n in range(2000)))
    script = f"trap '' HUP; exec \"$@\" > {told}"
    assert closed_beside("items.jsonl targets", "eval", items, shell=script) == 0
    assert "2,000 items" in told.read_text()


@pytest.mark.process
@POSIX
@pytest.mark.long
def test_head_ends_an_endless_text_silently():
    script = f"{GPT2} generate -n -1 --ignore-eos Once | head -c 100 | wc -c; echo ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)
    assert result.stdout.split() == ["100", "141"]
    assert result.stderr == ""


@pytest.mark.long
@pytest.mark.process
@POSIX
def test_a_while_read_loop_keeps_its_stdin(tmp_path):
    script = f'printf "a\\nb\\nc\\n" | while read -r line; do {GPT2} generate -q -n 2 "$line" >>out; echo "$line"; done'
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert result.stdout.split() == ["a", "b", "c"]
    assert result.stderr == ""


@pytest.mark.long
@POSIX
def test_text_that_waits_unused_gets_a_note(spawn):
    process = spawn("generate", "-n", "2", "Once", stdin=subprocess.PIPE)
    process.stdin.write(b"unused")
    process.stdin.flush()
    out, errors = process.communicate(timeout=60)
    assert out
    assert errors.startswith(b"note: text waits on stdin")
    assert errors.count(b"\n") == 1


@pytest.mark.long
@POSIX
def test_an_open_pipe_that_never_ends_does_not_hang_a_prompt(spawn):
    reader, writer = os.pipe()
    process = spawn("generate", "-n", "2", "Once", stdin=reader)
    assert process.wait(timeout=60) == 0
    os.close(reader)
    os.close(writer)


@pytest.mark.process
@POSIX
def test_a_pipe_without_end_is_cut_off():
    result = subprocess.run(["bash", "-c", f"yes | {GPT2} generate"], capture_output=True, text=True, timeout=60)
    assert result.returncode == 6
    assert "holds more than 64 MB" in result.stderr


@pytest.mark.long
@pytest.mark.process
@POSIX
def test_closed_streams():
    for redirect, code, word in (("<&-", 2, "stdin is closed"), (">&-", 7, "stdout is closed")):
        argument = "Once" if code == 7 else ""
        command = f"{GPT2} generate -n 2 {argument} {redirect}"
        result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
        assert result.returncode == code, result
        assert word in result.stderr
        assert "Traceback" not in result.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.long
def test_a_full_disk(spawn):
    with Path("/dev/full").open("wb") as full:
        process = spawn("generate", "-n", "2", "Once", stdout=full)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 7
    assert errors.startswith(b"error: cannot write to stdout: No space left on device\nhint:")
    assert errors.count(b"\n") == 2


@pytest.mark.long
@pytest.mark.process
@POSIX
@pytest.mark.parametrize("target", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link", "/dev/stderr", "/dev/fd/7"])
def test_an_open_file_as_output_file_is_written_in_place(tmp_path, target):
    if target.startswith("/proc") and not Path(target).exists():
        pytest.skip("no /proc")
    (tmp_path / "link").symlink_to("/dev/stdout")
    command = f"{{ echo before; {GPT2} generate -n 2 --seed 1 Once -o {target}; echo after; }} >f 2>&1 7>&1"
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True, timeout=60)
    lines = (tmp_path / "f").read_text().splitlines()
    assert (lines[0], lines[-1], len(lines)) == ("before", "after", 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f", "link"]


@pytest.mark.long
def test_utf8_both_ways_whatever_the_locale_says(spawn):
    environment = os.environ | {
        "LC_ALL": "C",
        "PYTHONIOENCODING": "ascii",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
    }
    process = spawn("generate", "-n", "1", "--echo", stdin=subprocess.PIPE, env=environment)
    out, errors = process.communicate("Žluťoučký 🦜".encode(), timeout=60)
    assert out.startswith("Žluťoučký 🦜".encode())
    assert errors == b""
    process = spawn("generate", "-n", "1", "--echo", "naïve 🦜", env=environment)
    out, _ = process.communicate(timeout=60)
    assert out.startswith("naïve 🦜".encode())


@pytest.mark.long
def test_tracebacks_only_with_debug(spawn):
    process = spawn("generate", "-m", "nope", "x", env=os.environ | {"GPT2_DEBUG": "1"})
    assert b"Traceback" in process.communicate(timeout=60)[1]


@pytest.mark.long
@pytest.mark.terminal
@POSIX
def test_on_a_terminal_the_prompt_is_dim_and_the_bytes_are_the_same(checkpoint):
    import pty

    def screen(**environment):
        main, side = pty.openpty()
        command = [sys.executable, "-m", "gpt2cli", "generate", "-n", "5", "--seed", "1", "Once upon"]
        variables = {key: value for key, value in os.environ.items() if key != "NO_COLOR"} | {"TERM": "xterm"}
        process = subprocess.Popen(command, stdin=side, stdout=side, stderr=side, env=variables | environment)
        os.close(side)
        data = b""
        while True:
            try:
                chunk = os.read(main, 1000)
            except OSError:
                break
            if not chunk:
                break
            data += chunk
        process.wait(timeout=60)
        os.close(main)
        return data.decode()

    styled = screen()
    assert styled.startswith("\x1b[2mOnce upon\x1b[0m")
    plain = screen(NO_COLOR="1")
    assert plain == screen(TERM="dumb") == re.sub(r"\x1b\[\d*m", "", styled)


@pytest.mark.process
@POSIX
@pytest.mark.parametrize("argv", ["--help", "generate --help", "--version"])
def test_help_that_nobody_reads_ends_silently(argv):
    script = f"{{ sleep 0.5; {GPT2} {argv}; echo $? >&2; }} | true"
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)
    assert result.stderr == "141\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_help_on_a_full_disk(spawn):
    with Path("/dev/full").open("wb") as full:
        process = spawn("--help", stdout=full)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 7
    assert errors.startswith(b"error: stdout: No space left on device\nhint:")
    assert errors.count(b"\n") == 2


@pytest.mark.long
@POSIX
def test_a_pipe_as_output_file_whose_reader_goes(spawn, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    process = spawn("generate", "-n", "-1", "--ignore-eos", "Once", "-o", str(tmp_path / "pipe"))
    with (tmp_path / "pipe").open("rb") as reader:
        assert reader.read(20)
    assert process.wait(timeout=60) == 141
    assert process.stderr.read() == b""


@pytest.mark.long
@POSIX
@pytest.mark.parametrize("argv", [["--ids", "5 6"], ["-f", "prompt.txt"]])
def test_text_that_waits_unused_beside_ids_or_a_file(spawn, tmp_path, argv):
    (tmp_path / "prompt.txt").write_text("Once")
    process = spawn("generate", "-n", "2", *argv, stdin=subprocess.PIPE, cwd=tmp_path)
    process.stdin.write(b"unused")
    process.stdin.flush()
    _, errors = process.communicate(timeout=60)
    assert errors.startswith(b"note: text waits on stdin")


@POSIX
@pytest.mark.long
def test_ctrl_c_with_several_samples_keeps_them_all(spawn):
    process = spawn("generate", "-n", "100000", "Once", "-N", "4", "--ignore-eos")
    begun = first_bytes(process, 100)  # of the first; the others grow beside it
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    texts = (begun + out).decode().split("---\n")
    assert len(texts) == 4
    assert all(len(text) > 10 and text.endswith("\n") for text in texts)
