"""gpt2 bench."""

import csv
import io
import json
import re
import signal
import sys

import pytest
from conftest import assert_error

from gpt2cli.analysis import benchmark


def test_names_and_combinations():
    tests = benchmark.plan([32, 512], [128], [0, 900], [1, 32])
    assert [test.name for test in tests] == [
        *("pp32", "pp512", "pp32@d900", "pp512@d900"),
        *("tg128", "tg128@d900", "tg128@b32", "tg128@d900@b32"),
    ]
    assert benchmark.plan([0], [0], [0], [1]) == []
    assert benchmark.Test(512, 0, 512).positions == 1024


def test_speeds_by_hand():
    speed = benchmark.Speed.of([1.0, 2.0, 6.0])
    assert (speed.median, speed.mean) == (2, 3)
    assert speed.stdev == pytest.approx(7**0.5)
    assert benchmark.Speed.of([4.0]) == benchmark.Speed(4, 4, 0)


@pytest.mark.long
@pytest.mark.process
def test_json_has_the_documented_shape(run, checkpoint):
    argv = ("bench", "-m", checkpoint, "-p", "8", "-n", 4, "--depth", "0,20", "--batch", "1,3", "-r", 2, "--threads", 1)
    result = run(*argv, "--json", "-q")
    assert (result.code, result.stderr) == (0, "")
    rows = json.loads(result.stdout)
    assert [row["test"] for row in rows] == [
        *("first-cold", "first-warm", "pp8", "pp8@d20", "tg4", "tg4@d20", "tg4@b3", "tg4@d20@b3"),
    ]
    for row in rows:
        assert list(row)[:8] == [
            *("test", "n_prompt", "n_gen", "depth", "batch", "precision", "threads", "tokens_per_second"),
        ]
        assert row["threads"] == 1
        assert row["precision"] == "int8"
        assert row["tokens_per_second"]["median"] > 0
    lines = run(*argv, "--jsonl", "-q", "--no-first-token").stdout.splitlines()
    assert [json.loads(line)["test"] for line in lines] == [row["test"] for row in rows[2:]]
    table = list(csv.DictReader(io.StringIO(run(*argv, "--csv", "-q", "--no-first-token").stdout)))
    assert [row["test"] for row in table] == [row["test"] for row in rows[2:]]
    assert float(table[0]["tokens_per_second_median"]) > 0


def test_the_rate_counts_all_rows_and_the_tokens_of_the_loop(monkeypatch, small):
    """A clock that ticks at each look, a second each time: n tokens of each row in one second."""
    ticks = iter(range(1000))
    monkeypatch.setattr(benchmark, "perf_counter", lambda: next(ticks))
    assert list(benchmark.repeat(small, benchmark.Test(0, 5, 3, 4), 2)) == [20, 20]
    assert list(benchmark.repeat(small, benchmark.Test(16, 0, 8), 1)) == [16]


@pytest.mark.process
@pytest.mark.long
def test_the_table_names_the_machine_and_the_units(run, checkpoint):
    lines = run("bench", "-m", checkpoint, "-p", 4, "-n", 4, "-r", 1).stdout.splitlines()
    assert "onnxruntime" in lines[0]
    assert lines[1].split() == ["TEST", "MEDIAN", "MEAN", "STDEV", "UNIT"]
    cells = [line.split() for line in lines[2:6]]
    assert [(row[0], row[-1]) for row in cells] == [
        *(("first-cold", "ms"), ("first-warm", "ms"), ("pp4", "tokens/s"), ("tg4", "tokens/s")),
    ]


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("form", ["--csv", "--jsonl", None])
def test_a_row_is_printed_as_soon_as_it_is_measured(spawn, checkpoint, form):
    argv = [
        "-m",
        checkpoint,
        "-p",
        "4,5",
        "-n",
        50,
        "--batch",
        8,
        "-r",
        1000,
        "--no-first-token",
        *filter(None, [form]),
    ]
    process = spawn("bench", *argv, bufsize=0)
    lines = [process.stdout.readline().decode() for _ in range({"--csv": 3, "--jsonl": 2, None: 4}[form])]
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    lines += process.communicate(timeout=60)[0].decode().splitlines()
    assert process.returncode == 130
    if form is None:
        assert [line.split()[0] for line in lines[1:4]] == ["TEST", "pp4", "pp5"]
        assert {line.rindex("tokens/s") for line in lines[2:4]} == {lines[1].index("UNIT")}
        assert lines[4].startswith("peak memory ")
    elif form == "--jsonl":
        assert [json.loads(line)["test"] for line in lines] == ["pp4", "pp5"]
    else:
        assert [row["test"] for row in csv.DictReader(lines)] == ["pp4", "pp5"]


@pytest.mark.terminal
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.long
def test_the_bar_names_the_test_and_an_interruption_leaves_one_array(checkpoint, tmp_path):
    from terminals import Terminal

    argv = ["-m", checkpoint, "-p", 4, "-n", 50, "--batch", 8, "-r", 200, "--no-first-token", "--json"]
    shown = Terminal("bench", *argv, shell=f"exec \"$@\" > '{tmp_path}/rows'")
    try:
        shown.wait(lambda terminal: any(re.match(r"tg50@b8 [━╸╺]+ \d+/400$", line) for line in terminal.lines), "tg50")
        shown.process.send_signal(signal.SIGTERM)
        assert shown.exit_code() == 143
        assert not any("━" in line for line in shown.lines)
    finally:
        shown.close()
    (row,) = json.loads((tmp_path / "rows").read_text())
    assert row["test"] == "pp4"


@pytest.mark.process
def test_what_does_not_fit_is_left_out_and_said(run, checkpoint):
    result = run("bench", "-m", checkpoint, "-p", "4,200", "-n", 0, "-r", 1, "--no-first-token", "--jsonl")
    assert [json.loads(line)["test"] for line in result.stdout.splitlines()] == ["pp4"]
    assert "pp200 does not fit into the window of 64 tokens" in result.stderr
    assert_error(run("bench", "-q", "-m", checkpoint, "-p", "200", "-n", 0, "--no-first-token"), 6, "no test fits")


def test_wrong_arguments(run, checkpoint):
    for argv in (("-p", "x"), ("-p", "-3"), ("-p", "0", "-n", "0"), ("--batch", "0"), ("--json", "--csv")):
        assert run("bench", "-m", checkpoint, *argv).code == 2
