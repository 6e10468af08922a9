"""The window of rows: how busy it keeps the engine, how far it reads ahead, and what it keeps of a file."""

import contextlib
import io
import tracemalloc

import pytest
from batch_rows import mixed, write

from gpt2cli.batch import order, rows
from gpt2cli.batch.rows import Row, Shard
from gpt2cli.batch.running import Runner
from gpt2cli.batch.wishes import Settings
from gpt2cli.errors import UsageError


@pytest.fixture
def surveyed():
    """surveyed(path or bytes, shard) -> the file, read once."""
    with contextlib.ExitStack() as stack:

        def call(data, shard=Shard()):  # noqa: B008
            file = io.BufferedReader(io.BytesIO(data)) if isinstance(data, bytes) else data.open("rb")
            return rows.survey(stack.enter_context(file), "rows", "auto", shard)

        yield call


def settings(**body):
    return Settings(body={"temperature": 0.8, "max_tokens": 8} | body)


def test_a_row_that_ends_makes_room_for_the_next_at_once(small, monkeypatch):
    """Of 32 texts of mixed length, four at a time, the steps have nearly four rows each."""
    counts = []
    step = small.engine._step

    def counted(places, tokens):
        counts.append(len(places))
        return step(places, tokens)

    monkeypatch.setattr(small.engine, "_step", counted)
    asked = [Row(n, n, {"prompt": "the cat sat", "max_tokens": 1 + n * 7 % 19, "ignore_eos": True}) for n in range(32)]
    found = list(Runner(small, settings(), 4).answers(asked))
    assert len(found) == 32
    assert max(counts) == 4
    assert sum(counts) / len(counts) > 3.4


def test_rows_are_read_as_they_are_needed(small):
    read = []

    def source():
        for number in range(1, 100):
            read.append(number)
            yield Row(number, number, {"prompt": "a", "max_tokens": 3})

    found = order.answers(source(), Runner(small, settings(), 4).answers, ordered=True)
    next(found)
    assert len(read) < 12


def test_what_is_done_before_a_long_row_is_bounded(small, monkeypatch):
    monkeypatch.setattr("gpt2cli.batch.running._AHEAD", 6)
    asked = [Row(n, n, {"prompt": "a", "max_tokens": 1 if n else 60, "ignore_eos": True}) for n in range(40)]
    seen = []
    for one in Runner(small, settings(), 3).answers(asked):
        seen.append(one.number)
        if one.number == 0:
            break
    assert len(seen) <= 7


def test_order_is_that_of_the_rows(small):
    asked = [Row(n, n, {"prompt": "a", "max_tokens": 1 + (11 - n)}) for n in range(12)]
    answering = Runner(small, settings(), 4).answers
    assert [one.number for one in answering(asked)] != [row.number for row in asked]
    found = [one.number for some in order.answers(asked, answering, ordered=True) for one in some]
    assert found == [row.number for row in asked]


@pytest.mark.long
def test_a_file_of_any_length_needs_no_more_memory_than_its_lines(surveyed, tmp_path):
    path = tmp_path / "rows.txt"
    path.write_text("".join(f"{number} {'word ' * 100}\n" for number in range(20_000)))
    tracemalloc.start()
    source = surveyed(path)
    count = sum(1 for _ in source.rows())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (source.count, count) == (20_000, 20_000)
    assert path.stat().st_size > 10e6
    assert peak < 3e6


def test_shards_have_every_row_once(surveyed, tmp_path):
    path = write(tmp_path / "rows.jsonl", mixed(200))
    parts = [surveyed(path, Shard(place, 7)) for place in range(1, 8)]
    ids = [[row.id for row in part.rows()] for part in parts]
    assert [part.count for part in parts] == list(map(len, ids))
    assert sorted(id for part in ids for id in part) == sorted(f"row-{number}" for number in range(200))
    assert min(map(len, ids)) > 15


def test_seeds_come_from_the_runs_and_the_id():
    first, other = Settings(seed=1), Settings(seed=2)
    assert first.seed_of("a") == Settings(seed=1).seed_of("a")
    assert len({first.seed_of("a"), first.seed_of("b"), other.seed_of("a"), first.seed_of(7), first.seed_of("7")}) == 5


@pytest.mark.parametrize("line", ["{", "[" * 1000, '{"a": 1e999}', "null", '"' + "\\ud800" + '"', "\0", "7" * 5000])
def test_no_line_ends_the_reading(line, surveyed):
    source = surveyed(f'{{"prompt": "a"}}\n{line}\n{{"prompt": "b"}}\n'.encode())
    assert [row.id for row in source.rows()] == [1, 2, 3]


def test_ids_that_stand_twice_are_named(surveyed):
    with pytest.raises(UsageError, match="lines 1 and 3 of rows"):
        surveyed(b'{"prompt": "a", "custom_id": "x"}\n\n{"prompt": "b", "custom_id": "x"}\n')
