"""Many texts on one engine: each is what it is alone, bit for bit, whoever comes and goes beside it."""

import gc
import itertools
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import urlopen

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from texts import collect, generate

from gpt2cli.analysis import scoring
from gpt2cli.engine.tasks import Feed
from gpt2cli.errors import CannotMeet, CorruptFile, UsageError
from gpt2cli.generation import decoding
from gpt2cli.generation import texts as generation
from gpt2cli.generation.parameters import Limits, Sampling
from gpt2cli.generation.speculation import DraftModel, Lookup
from gpt2cli.model import load

PROMPT = [5, 7, 250, 7, 99, 120, 3, 44]
GREEDY = Sampling(temperature=0)
CHUNK = 17  # of the window's 64, so that prompts have several


@pytest.fixture(scope="module", params=["fp32", "int8"])
def pair(request, checkpoint):
    """The same model twice: for many texts at a time, and for one."""
    models = [load(str(checkpoint), precision=request.param) for _ in range(2)]
    for model in models:
        model.engine.chunk = CHUNK
    return models


@pytest.fixture
def many(small):
    small.engine.chunk = CHUNK
    return small


requests = st.fixed_dictionaries(
    {
        "prompt": st.lists(st.integers(0, 298), min_size=1, max_size=64),
        "samples": st.sampled_from([1, 1, 1, 2, 5]),
        "max_tokens": st.integers(1, 90),
        "ignore_eos": st.booleans(),
        "stop": st.sampled_from([(), ("a",), ("th", "e ")]),
        "keep": st.integers(0, 20),
        "sampling": st.builds(
            Sampling,
            temperature=st.sampled_from([0.0, 0.8, 1.5]),
            top_k=st.sampled_from([0, 40]),
            repeat_penalty=st.sampled_from([1.0, 1.3]),
            seed=st.integers(0, 1000),
        ),
    }
)
# when a request comes, how many pieces are read at a time, and after how many its reader has enough
arrivals = st.tuples(requests, st.integers(0, 40), st.integers(1, 5), st.integers(1, 300))


def started(model, request):
    options = dict(request)
    return generate(model, options.pop("prompt"), logprobs=2, **options)


@settings(max_examples=25)
@given(st.lists(arrivals, min_size=2, max_size=7))
@pytest.mark.long
def test_scheduled_among_others_is_alone(pair, found):
    many, one = pair
    waiting = sorted(enumerate(found), key=lambda pair: pair[1][1])
    streams, pieces, tick = {}, {number: [] for number in range(len(found))}, 0
    while waiting or streams:
        while waiting and waiting[0][1][1] <= tick:
            number, (request, *_) = waiting.pop(0)
            streams[number] = started(many, request)
        for number, stream in list(streams.items()):
            _, _, share, enough = found[number]
            for _ in range(share):
                piece = next(stream, None)
                if piece is not None:
                    pieces[number].append(piece)
                if piece is None or len(pieces[number]) == enough:
                    stream.close()
                    del streams[number]
                    break
        tick += 1
    for number, (request, _, _, enough) in enumerate(found):
        assert pieces[number] == [piece for piece, _ in zip(started(one, request), range(enough), strict=False)]


def test_drafts_beams_and_scores_among_others_are_alone(pair, checkpoint):
    many, one = pair
    small = load(str(checkpoint), precision="fp32")

    def begun(model):
        text = {"sampling": GREEDY, "max_tokens": 70, "ignore_eos": True}
        return [
            generate(model, PROMPT, drafter=Lookup(), **text),
            generate(model, PROMPT * 4, drafter=DraftModel(small, model), **text),
            generate(model, PROMPT, beams=4, samples=2, max_tokens=40),
            scoring.Scorer(model, context=PROMPT, top=2).tokens(PROMPT * 12),
            generate(model, PROMPT * 3, sampling=Sampling(seed=1), samples=3, max_tokens=50),
            scoring.Scorer(model).texts([PROMPT, PROMPT[:3], PROMPT * 2]),
        ]

    streams = begun(many)
    results = [[] for _ in streams]
    while any(stream is not None for stream in streams):
        for number, stream in enumerate(streams):
            item = None if stream is None else next(stream, None)
            if item is None:
                streams[number] = None
            else:
                results[number].append(item)
    assert results == [list(stream) for stream in begun(one)]


def calls(model, monkeypatch):
    """The tokens that each call of the engine gives to each row."""
    found, feed = [], model.engine.feed

    def watched(ids, **options):
        found.append([len(row) for row in ids])
        return feed(ids, **options)

    monkeypatch.setattr(model.engine, "feed", watched)
    return found


def test_a_running_row_waits_for_one_chunk_at_most(many, monkeypatch):
    running = generate(many, PROMPT, sampling=GREEDY, samples=3, max_tokens=None, ignore_eos=True)
    for _ in range(6):
        next(running)
    found = calls(many, monkeypatch)
    long = [generate(many, list(range(60)), sampling=GREEDY, max_tokens=4) for _ in range(2)]
    next(long[0])
    assert found == [[17], [1, 1, 1], [17], [1, 1, 1], [17], [1, 1, 1], [9], [1, 1, 1]]
    found.clear()
    next(long[1])
    # the first prompt's text decodes beside the three rows, until these have run far enough ahead of their reader
    assert found == [[17], [1, 1, 1, 1], [17], [1, 1, 1, 1], [17], [1], [9]]


def test_rows_are_one_batch_and_are_given_up(many, monkeypatch):
    streams = [generate(many, PROMPT, sampling=Sampling(seed=seed), max_tokens=200) for seed in range(4)]
    for stream in streams:
        next(stream)
    for stream in streams:
        next(stream)
    assert len(many.engine.said) == 4
    found = calls(many, monkeypatch)
    streams.pop(0).close()
    for _ in range(40):  # what was computed ahead is read first
        next(streams[0])
    del streams[1]  # nobody reads it any more
    gc.collect()
    for _ in range(40):
        next(streams[0])
    assert found[0] == [1, 1, 1]
    assert found[-1] in ([1, 1], [1])
    assert len(many.engine.said) == 2


def test_a_slow_reader_holds_nobody_up_and_is_not_run_away_from(many, monkeypatch):
    slow = generate(many, PROMPT, sampling=GREEDY, max_tokens=None, ignore_eos=True)
    next(slow)
    found = calls(many, monkeypatch)
    assert len(list(generate(many, PROMPT, sampling=GREEDY, max_tokens=60, ignore_eos=True))) == 60
    together = sum(call == [1, 1] for call in found)
    assert 10 < together < 20
    assert found[-1] == [1]
    assert [next(slow).token for _ in range(59)][-1] == collect(
        generate(many, PROMPT, sampling=GREEDY, max_tokens=60, ignore_eos=True)
    )[0][1][-1]


def test_an_error_of_one_text_is_not_anothers(many):
    fine = generate(many, PROMPT, sampling=GREEDY, max_tokens=20)
    expected = list(generate(many, PROMPT, sampling=GREEDY, max_tokens=20))
    next(fine)
    banned = Sampling(logit_bias=dict.fromkeys(range(300), -np.inf))
    with pytest.raises(CannotMeet, match="every token is banned"):
        next(generate(many, PROMPT, sampling=banned))
    assert list(fine) == expected[1:]


def test_a_row_that_cannot_be_computed_ends_alone(many, monkeypatch):
    """Logits that are no numbers, in a batch: found out row by row."""
    streams = [generate(many, prompt, sampling=GREEDY, max_tokens=9) for prompt in (PROMPT, [9, 8, 7], [1, 2, 3])]
    expected = [list(generate(many, prompt, sampling=GREEDY, max_tokens=9)) for prompt in (PROMPT, [9, 8, 7])]
    for stream in streams:
        next(stream)
    feed = many.engine.feed

    def overflowing(ids, *, rows=None, **how):
        if any(many.engine.said[row][:3] == [1, 2, 3] for row in rows):
            raise CorruptFile("the model's logits are not finite numbers", "")
        return feed(ids, rows=rows, **how)

    monkeypatch.setattr(many.engine, "feed", overflowing)
    assert [list(stream) for stream in streams[:2]] == [pieces[1:] for pieces in expected]
    with pytest.raises(CorruptFile, match="not finite"):
        list(streams[2])


@pytest.mark.parametrize("late", [False, True])
def test_an_interruption_ends_the_text_that_is_waited_for_and_no_other(many, monkeypatch, late):
    """Ctrl-C before the engine has computed, or after it."""
    prompts = (PROMPT, [9, 8, 7])
    expected = [list(generate(many, prompt, sampling=GREEDY, max_tokens=30)) for prompt in prompts]
    streams = [generate(many, prompt, sampling=GREEDY, max_tokens=30) for prompt in prompts]
    pieces = [[next(stream)] for stream in streams]
    feed = many.engine.feed

    def interrupted(ids, **options):
        monkeypatch.setattr(many.engine, "feed", feed)
        if late:
            feed(ids, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(many.engine, "feed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pieces[0] += streams[0]
    assert pieces[0] == expected[0][: len(pieces[0])]
    assert pieces[1] + list(streams[1]) == expected[1]
    assert list(generate(many, PROMPT, sampling=GREEDY, max_tokens=30)) == expected[0]


def test_an_interruption_while_rows_move_is_told(many, monkeypatch):
    other = generate(many, [9, 8, 7], sampling=GREEDY, max_tokens=30)
    next(other)
    select = many.engine.select

    def interrupted(rows):
        monkeypatch.setattr(many.engine, "select", select)
        raise KeyboardInterrupt

    monkeypatch.setattr(many.engine, "select", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(generate(many, PROMPT, sampling=GREEDY, max_tokens=30))
    with pytest.raises(UsageError, match="interrupted by another"):
        list(other)
    assert len(list(generate(many, PROMPT, sampling=GREEDY, max_tokens=5))) == 5


def test_a_text_begun_after_an_interruption_is_not_touched_by_it(many, monkeypatch):
    expected = list(generate(many, PROMPT, sampling=GREEDY, max_tokens=5))
    select = many.engine.select

    def interrupted(rows):
        monkeypatch.setattr(many.engine, "select", select)
        raise KeyboardInterrupt

    monkeypatch.setattr(many.engine, "select", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(generate(many, [9, 8, 7], sampling=GREEDY, max_tokens=5))
    assert list(generate(many, PROMPT, sampling=GREEDY, max_tokens=5)) == expected


def test_an_interruption_amid_another_text_is_told_there_and_raised_here(many):
    """A signal strikes the thread that steps; whose task it works on just then is chance."""

    def task():
        yield [Feed([5])]
        yield "read"
        yield [Feed([7], parent=0)]
        raise KeyboardInterrupt

    other = many.scheduler.stream(task())
    assert next(other) == "read"
    with pytest.raises(KeyboardInterrupt):
        list(generate(many, PROMPT, sampling=GREEDY, max_tokens=30))
    with pytest.raises(UsageError, match="interrupted by another"):
        next(other)


def test_a_model_does_not_draft_for_itself(many):
    with pytest.raises(UsageError, match="draft for itself"):
        DraftModel(many, many)

    def waits():
        many.scheduler.run(waits())
        yield []

    with pytest.raises(UsageError, match="waits for another"):
        many.scheduler.run(waits())


# What the cache still holds


def logits_of(model, ids, **options):
    def task():
        found = yield [Feed(ids, **options)]
        return found

    return model.scheduler.run(task())


def decoded(model, ids, tokens):
    """`ids` and what follows, in the cache a token at a time."""
    for _ in generate(model, ids, sampling=GREEDY, max_tokens=tokens, ignore_eos=True):
        pass
    return list(model.engine.said[0])


def test_a_beginning_that_is_there_is_not_computed_again(many, monkeypatch):
    fresh = logits_of(many, [*PROMPT * 5, 1, 2, 3])
    logits_of(many, PROMPT * 5)
    found = calls(many, monkeypatch)
    assert np.array_equal(logits_of(many, [*PROMPT * 5, 1, 2, 3], reuse=99), fresh)
    assert found == [[9]]  # after two chunks of 17; the third was another
    assert logits_of(many, [*PROMPT * 5, 1, 2, 3], reuse=99).shape == (0, 0)  # all is there


def test_what_was_computed_in_other_calls_is_computed_again(many, monkeypatch):
    """A token that was fed alone, or in a chunk of another size, may differ in a last bit."""
    said = decoded(many, PROMPT, 20)
    found = calls(many, monkeypatch)
    reused = logits_of(many, [*said, 5], reuse=len(said))
    assert found == [[17], [11]]
    many.engine.reset()
    assert np.array_equal(logits_of(many, [*said, 5]), reused)
    found.clear()
    logits_of(many, [*said[:17], *said], reuse=99)
    assert sum(map(sum, found)) == len(said)  # the first chunk is the same


@given(st.lists(st.integers(0, 3), min_size=2, max_size=50), st.lists(st.integers(0, 3), min_size=2, max_size=60))
def test_whatever_is_reused_the_logits_are_those_of_a_fresh_row(pair, first, second):
    many, one = pair
    logits_of(many, first)
    again = logits_of(many, second, reuse=len(second) - 1, every=True)
    one.engine.reset()
    assert np.array_equal(logits_of(one, second, every=True)[-len(again) :], again)


def test_resuming_takes_all_that_is_there(many, monkeypatch):
    said = decoded(many, PROMPT, 20)
    found = calls(many, monkeypatch)
    resumed = logits_of(many, [*said, 5], reuse=len(said), resumes=True)
    assert found == [[1]]
    many.engine.reset()
    assert np.abs(logits_of(many, [*said, 5]) - resumed).max() < 1e-4
    assert many.scheduler.shared([*said, 5]) == len(said)
    assert many.scheduler.shared([*said[:4], 299]) == 4


def test_the_row_that_shares_most_is_resumed(many):
    for _ in generate(
        many, PROMPT, sampling=Sampling(temperature=2, seed=1), samples=4, max_tokens=12, ignore_eos=True
    ):
        pass
    rows = [list(row) for row in many.engine.said]
    assert len({tuple(row) for row in rows}) == 4
    for row in rows[2], rows[2][:10]:
        assert many.scheduler.shared([*row, 7]) == len(row)
        logits_of(many, [*row, 7], reuse=len(row), resumes=True)
        assert many.engine.said == [[*row, 7]]


# Rows that nobody holds stay for whoever begins in the same way


@pytest.fixture
def keeping(many):
    many.scheduler.kept = 4
    return many


def shared(model, ids, samples=1, tokens=5, **options):
    """A text that may begin as others did."""
    limits = Limits(max_tokens=tokens, ignore_eos=True)
    sampling = options.pop("sampling", GREEDY)
    return generation.stream(
        model, decoding.Request(ids, sampling, limits, samples, logprobs=2, shares=True, **options)
    )


def held(model):
    return [list(row) for row in model.engine.said if row]


BASES = [[(7 * place + base) % 299 for place in range(64)] for base in (1, 2)]
beginnings = st.builds(
    lambda base, length, tail: (BASES[base][:length] + tail)[:64],
    st.integers(0, 1),
    st.sampled_from([0, 5, 16, 17, 18, 33, 34, 35, 51, 52, 60]),
    st.lists(st.integers(0, 2), min_size=1, max_size=4),
)
visits = st.fixed_dictionaries(
    {
        "ids": beginnings,
        "samples": st.sampled_from([1, 1, 2, 5]),
        "tokens": st.integers(1, 12),
        "comes": st.integers(0, 20),  # at which step
        "enough": st.integers(1, 30),  # pieces, after which it leaves
        "sampling": st.builds(Sampling, temperature=st.sampled_from([0.0, 1.0]), seed=st.integers(0, 9)),
    }
)


def visited(model, visit, **options):
    limits = Limits(max_tokens=visit["tokens"], ignore_eos=True)
    return generation.stream(
        model, decoding.Request(visit["ids"], visit["sampling"], limits, visit["samples"], logprobs=2, **options)
    )


def stepped(model, visits, kept):
    """What each gets, all served in one thread as the server does it; no more rows than are held or kept."""
    pieces, waiting, going = [[] for _ in visits], dict(enumerate(visits)), {}
    most = 0
    step = 0
    while going or waiting:
        for number in [number for number, visit in waiting.items() if visit["comes"] <= step]:
            going[number] = visited(model, waiting.pop(number), shares=True)
            going[number].advance()
        for stream in list(going.values())[:1]:
            stream.advance()
        most = max(most, sum(visits[number]["samples"] for number in going))
        assert len(model.engine.said) <= max(kept, most, 1)
        for number, stream in list(going.items()):
            pieces[number] += stream.ready()
            if stream.ended or len(pieces[number]) >= visits[number]["enough"]:
                stream.close()
                del going[number]
        step += 1
    return pieces


@settings(max_examples=12)
@given(st.lists(visits, min_size=2, max_size=6), st.integers(0, 6))
@pytest.mark.long
def test_whoever_shares_a_beginning_gets_what_it_gets_alone(pair, found, kept):
    many, one = pair
    many.engine.reset()
    many.scheduler.kept = kept
    try:
        pieces = stepped(many, found, kept)
    finally:
        many.scheduler.kept = 0
    for visit, got in zip(found, pieces, strict=True):
        one.engine.reset()
        alone = list(visited(one, visit))
        assert len(got) >= min(visit["enough"], len(alone))
        assert got == alone[: len(got)]


def test_a_long_prompt_is_read_in_fewer_calls_while_it_is_alone(monkeypatch):
    """Which calls it was makes no difference, not to a later one that begins with the same tokens either."""
    model, one = load("tiny"), load("tiny")
    one.engine.joined = 1
    prompts = [[(7 * place + number) % 4000 for place in range(600)] for number in range(2)]
    prompts.append([*prompts[1][:300], *range(200)])
    model.scheduler.kept = 4
    found = calls(model, monkeypatch)
    alone = list(shared(model, prompts[0]))
    assert [call for call in found if call != [1]] == [[512], [88]]
    running = generate(model, PROMPT, sampling=GREEDY, max_tokens=None, ignore_eos=True)
    next(running)
    found.clear()
    beside = list(shared(model, prompts[1]))
    assert [call for call in found if call[0] > 1] == [[128]] * 4 + [[88]]
    running.close()
    found.clear()
    reused = list(shared(model, prompts[2]))
    assert [call for call in found if call != [1]] == [[128], [116]]
    for prompt, got in zip(prompts, (alone, beside, reused), strict=True):
        assert got == list(shared(one, prompt))


def test_what_was_reused_is_counted(keeping, monkeypatch):
    found = calls(keeping, monkeypatch)
    ids = BASES[0][:40]
    first = shared(keeping, ids)
    assert (len(list(first)), first.reused) == (5, 0)
    again = shared(keeping, [*ids, 5, 6])
    assert (len(list(again)), again.reused) == (5, 34)  # two chunks; the third was another
    other = shared(keeping, [9, *ids])
    assert (len(list(other)), other.reused) == (5, 0)
    assert [call for call in found if call != [1]] == [[17], [17], [6], [8], [17], [17], [7]]


def test_a_chat_of_ten_turns_computes_what_is_new(keeping, monkeypatch):
    before, one = [], PROMPT[:4]
    found = calls(keeping, monkeypatch)
    for turn in range(10):
        text = shared(keeping, one, tokens=2)
        said = [piece.token for piece in text]
        pairs = zip(before, keeping.engine.chunks(one), strict=False)
        same = itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)
        assert text.reused == sum(len(chunk) for chunk, _ in same)
        before, one = keeping.engine.chunks(one), [*one, *said, 9, 8, 7, turn]
    assert text.reused == 34
    assert sum(len(call) * call[0] for call in found if call != [1]) < sum(range(4, 64, 6)) / 2


def test_a_common_context_is_computed_once(keeping, monkeypatch):
    """An evaluation's: many come at the same time."""
    found = calls(keeping, monkeypatch)
    streams = [shared(keeping, [*BASES[0][:51], 3, number], tokens=1) for number in range(4)]
    for stream in streams:
        stream.advance()
    while any(not stream.ended for stream in streams):
        streams[0].advance()
        next((stream for stream in streams if not stream._job.ended), streams[0]).advance()
        for stream in streams:
            stream.ready()
    assert sorted(found) == [[2]] * 4 + [[17]] * 3
    assert [stream.reused for stream in streams] == [0, 51, 51, 51]


def test_no_more_are_kept_than_are_to_be(keeping):
    for number in range(9):
        list(shared(keeping, [number, *BASES[0][:20]]))
        assert len(keeping.engine.said) <= 4
    # the last come first to mind: those that were held longest ago have gone
    assert sorted(row[0] for row in held(keeping)) == [5, 6, 7, 8]
    list(shared(keeping, [5, *BASES[0][:20]]))  # is young again
    list(shared(keeping, [99, *BASES[0][:20]]))
    assert sorted(row[0] for row in held(keeping)) == [5, 7, 8, 99]


def test_rows_that_are_held_come_before_those_that_are_kept(keeping):
    for number in range(4):
        list(shared(keeping, [number, *BASES[0][:20]]))
    stream = shared(keeping, [50, 51, 52], samples=3)
    for _ in range(4):
        next(stream)
    assert len(keeping.engine.said) == 4
    assert len([row for row in held(keeping) if row[0] < 50]) == 1
    more = shared(keeping, [60, 61], samples=6)
    for _ in range(7):
        next(more)
    assert len(keeping.engine.said) == 9
    assert not [row for row in held(keeping) if row[0] < 50]


def test_without_rows_to_keep_none_stay(many):
    list(shared(many, BASES[0][:40]))
    list(shared(many, BASES[1][:40]))
    assert len(many.engine.said) == 1


# Threads


def in_threads(count, work):
    results, barrier = [None] * count, threading.Barrier(count)

    def run(number):
        barrier.wait()
        try:
            results[number] = work(number)
        except BaseException as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return results


@pytest.mark.long
def test_eight_threads_on_one_model(pair):
    many, one = pair

    def work(model, number):
        kind, text = number % 4, {"sampling": Sampling(seed=number), "max_tokens": 40}
        if kind == 0:
            return [collect(generate(model, PROMPT[:seed], samples=2, **text)) for seed in range(1, 8)]
        if kind == 1:
            return [collect(generate(model, PROMPT * seed, **text)) for seed in range(1, 8)]
        if kind == 2:
            return [list(scoring.Scorer(model, top=1).tokens(PROMPT * seed)) for seed in range(1, 12)]
        return [list(scoring.Scorer(model).texts([PROMPT * 2, PROMPT, [number]])) for _ in range(5)]

    assert in_threads(8, lambda number: work(many, number)) == [work(one, number) for number in range(8)]


@pytest.mark.long
def test_a_server_of_threads(tiny_pair):
    """ThreadingHTTPServer around the public API: 8 clients, 200 texts, each equal to the same text alone."""
    from gpt2cli import complete

    served, one = tiny_pair

    def text(model, number):
        return complete(model, f"The {number}. king said", Sampling(seed=number), Limits(max_tokens=1 + number % 12))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = text(served, int(self.path[1:])).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_address[1]}"

        def client(number):
            found = []
            for text in range(number, 200, 8):
                with urlopen(f"{address}/{text}", timeout=60) as answer:
                    found.append(answer.read().decode())
            return found

        results = in_threads(8, client)
    finally:
        server.shutdown()
        server.server_close()
    expected = [text(one, number) for number in range(200)]
    assert results == [expected[number::8] for number in range(8)]


@pytest.fixture(scope="module")
def tiny_pair():
    return load("tiny"), load("tiny")
