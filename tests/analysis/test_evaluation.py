"""Evaluation against the oracle: likelihoods, windows, measures; what files say, and what is wrong with them."""

import itertools
import json
import math

import numpy as np
import oracle
import pytest
from checkpoints import SMALL, make_checkpoint, random_tensors

from gpt2cli import evaluate, load, score
from gpt2cli.analysis.evaluation import reading
from gpt2cli.analysis.evaluation.items import Choice, Continuation, Pair, Passage, from_file
from gpt2cli.analysis.evaluation.likelihoods import Case, Likelihood, answers, windows
from gpt2cli.analysis.evaluation.metrics import MEASURES, Measure, Tally, per_target, right, whole_target
from gpt2cli.analysis.evaluation.running import Moves, Run, run
from gpt2cli.analysis.evaluation.tasks import TASKS
from gpt2cli.errors import CannotMeet, UsageError
from gpt2cli.tokenizer.tokenizer import Tokenizer

WINDOW = SMALL["n_positions"]
START = SMALL["bos_token_id"]


@pytest.fixture(scope="module")
def tensors():
    return random_tensors(SMALL)  # those of the fixture `checkpoint`


def some_ids(count, seed=0):
    return np.random.default_rng(seed).integers(0, 299, count).tolist()


def expected(tensors, context, ending):
    """(sum of log-probabilities, whether all are arg-max, whether the last is)"""
    logits = oracle.forward(tensors, SMALL, [*context, *ending[:-1]])[-len(ending) :]
    logprobs = (
        logits - np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1, keepdims=True)) - logits.max(1)[:, None]
    )
    hits = logits.argmax(1) == ending
    return logprobs[np.arange(len(ending)), ending].sum(), hits.all(), hits[-1]


def all_answers(model, cases):
    found = dict(itertools.chain.from_iterable(answers(model, cases)))
    assert sorted(found) == list(range(len(cases)))
    return [found[number] for number in range(len(cases))]


# Of every kind: alone and together, of one token and of many, that begin alike, that fill the window
CASES = [
    Case(some_ids(5), [some_ids(3, 1)]),
    Case(some_ids(5), [some_ids(1, 2)]),
    Case([START], [some_ids(20, 3)]),
    Case(some_ids(60, 4), [some_ids(5, 5)]),
    Case(some_ids(7, 6), [some_ids(1, 7), some_ids(1, 8), some_ids(1, 9)]),
    Case(some_ids(7, 6), [some_ids(2, 7), some_ids(4, 8), some_ids(1, 9)]),
    Case(some_ids(50, 10), [some_ids(length, length) for length in (1, 3, 9, 15, 2)]),
    Case([*some_ids(50, 10), 3], [some_ids(3, 11), some_ids(14, 12)]),
    Case(some_ids(1, 13), [some_ids(WINDOW, 14)]),
    *(Case(some_ids(length, length), [some_ids(2, length)]) for length in range(1, 40)),
]


@pytest.mark.parametrize("rounds", ["all together", "each alone"])
def test_likelihoods_are_the_oracles(small, tensors, rounds):
    groups = [CASES] if rounds == "all together" else [[case] for case in CASES]
    found = [answer for group in groups for answer in all_answers(small, group)]
    for case, answer in zip(CASES, found, strict=True):
        assert len(answer) == len(case.endings)
        for ending, one in zip(case.endings, answer, strict=True):
            logprob, greedy, last = expected(tensors, case.context, ending)
            assert one.logprob == pytest.approx(logprob, abs=1e-4)
            assert (one.tokens, one.greedy, one.last) == (len(ending), greedy, last)


def test_what_the_model_itself_says_is_greedy(small, tensors):
    context = some_ids(9)
    said = oracle.greedy(tensors, SMALL, context, 6)
    (answer,) = all_answers(small, [Case(context, [said, [*said[:-1], (said[-1] + 1) % 299], [5, *said[1:]]])])
    assert [(one.greedy, one.last) for one in answer] == [(True, True), (False, False), (False, answer[2].last)]


def test_a_long_context_is_computed_once(small, monkeypatch):
    """Count the tokens that are fed."""
    fed = []
    feed, each = small.engine.feed, small.engine.each
    monkeypatch.setattr(small.engine, "feed", lambda ids, **other: fed.append(sum(map(len, ids))) or feed(ids, **other))
    monkeypatch.setattr(small.engine, "each", lambda ids, last=None: fed.append(sum(map(len, ids))) or each(ids, last))
    context = some_ids(50)
    all_answers(small, [Case(context, [some_ids(5, seed) for seed in range(10)])])
    assert sum(fed) == 50 + 10 * 4
    fed.clear()
    all_answers(small, [Case(context, [[token] for token in range(10)])])
    assert sum(fed) == 50
    fed.clear()
    all_answers(small, [Case(context[:4], [[token] for token in range(10)])])
    assert sum(fed) == 4  # beside others, and once


def test_logits_only_where_a_target_stands(small, monkeypatch):
    computed = []
    each = small.engine.each

    def counting(ids, last=None):
        found = each(ids, last)
        computed.append(sum(map(len, found)))
        return found

    monkeypatch.setattr(small.engine, "each", counting)
    all_answers(small, [Case(some_ids(30, seed), [some_ids(2, seed)]) for seed in range(8)])
    assert sum(computed) == 16


def test_where_memory_is_short_fewer_are_computed_together(small, monkeypatch):
    expected = all_answers(small, CASES)
    each = small.engine.each

    def narrow(ids, last=None):
        if len(ids) > 3:
            raise CannotMeet("no memory", "less")
        return each(ids, last)

    monkeypatch.setattr(small.engine, "each", narrow)
    for found, answer in zip(all_answers(small, CASES), expected, strict=True):
        assert [one.logprob for one in found] == pytest.approx([one.logprob for one in answer], abs=1e-5)
    monkeypatch.setattr(small.engine, "each", lambda ids, last: narrow([*ids] * 4))
    with pytest.raises(CannotMeet, match="no memory"):
        all_answers(small, CASES)


# Windows


@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 66, 127, 128, 129, 300])
@pytest.mark.parametrize("stride", [None, 1, 20, 32, 63, 64])
@pytest.mark.parametrize("start", [None, START])
def test_each_token_is_scored_once_with_what_the_protocol_says_before_it(length, stride, start):
    ids = list(range(1000, 1000 + length))
    found = list(windows(ids, WINDOW, stride, start))
    scored = [token for _, targets in found for token in targets]
    unscored = 0 if start is not None else 1
    if stride == WINDOW:  # nothing precedes a window's first token
        unscored = len(ids) - len(scored)
        assert unscored <= math.ceil(length / WINDOW)
        assert sorted(scored) == scored
    else:
        assert scored == ids[unscored:]
    for context, targets in found:
        whole = [*context, *targets]
        assert len(whole) - 1 <= WINDOW if stride is None else len(whole) <= WINDOW
        text = whole[1:] if whole[0] == START else whole
        assert text == list(range(text[0], text[0] + len(text)))  # what lies side by side in the text
    for context, targets in found[1:]:
        fits = WINDOW + 1 - len(targets)
        assert len(context) == (fits if stride is None else 1 if stride == WINDOW else WINDOW - stride)


def test_windows_are_those_of_hugging_faces_guide():
    """The guide's loop, in its own words: begin, end, and how many of the window's tokens are new."""
    length, size, stride = 301, 64, 20
    expected, end_before = [], 0
    for begin in range(0, length, stride):
        end = min(begin + size, length)
        new = end - end_before
        labels = list(range(begin, end))[-new:]
        expected += [label for label in labels if label != begin]  # a window's first token has no prediction
        end_before = end
        if end == length:
            break
    assert [token for _, targets in windows(range(length), size, stride, None) for token in targets] == expected


def test_a_passage_is_scored_as_gpt2_score_does(small):
    text = "the cat and the old man went to the sea, " * 12
    found = evaluate(small, [{"text": text}], stride=WINDOW // 2)[0]
    reference = score(small, text)
    assert found.tokens == reference.tokens
    assert found.logprob == pytest.approx(reference.logprob, abs=1e-3)
    assert (found.words, found.nbytes) == (len(text.split()), len(text))
    by_name = {one.name: one.value for one in found.metrics}
    assert by_name["perplexity (token, stride 32)"] == pytest.approx(reference.perplexity, rel=1e-5)
    assert by_name["bits per byte (stride 32)"] == pytest.approx(reference.bits_per_byte, rel=1e-5)


def test_rolling_is_the_oracles(small, tensors):
    text = "the cat and the old man went to the sea, " * 12
    (found,) = evaluate(small, [{"text": text}])
    ids = small.tokenizer.encode(text)
    total = 0
    for begin in range(0, len(ids), WINDOW):
        targets = ids[begin : begin + WINDOW]
        before = ids[begin + len(targets) - WINDOW - 1 : begin] if begin else [START]
        total += expected(tensors, before, targets)[0]
    assert len(targets) < WINDOW  # before the last ones stands as much as there is room for
    assert found.tokens == len(ids)
    assert found.logprob == pytest.approx(total, abs=1e-3)


# Measures


def told(*logprobs):
    return [Likelihood(logprob, 2, logprob > -1, True) for logprob in logprobs]


def test_accuracies_and_their_denominators():
    item = Choice("a", ("éé", "bbb", "c"), 1)
    found = [Likelihood(-4.0, 4, False, False), Likelihood(-4.2, 3, False, False), Likelihood(-3.0, 1, False, False)]
    by_name = {measure.name: measure.of(item, found)[0] for measure in MEASURES[Choice]}
    # by itself c; by characters -2, -1.4, -3; by bytes -1, -1.4, -3; by tokens -1, -1.4, -3
    assert by_name == {"acc": 0, "acc_norm (characters)": 1, "acc_norm (bytes)": 0, "acc_norm (tokens)": 0}
    assert right(Choice("", ("x", "y"), 0), told(-2, -2)) == (1, 1)  # of equal ones the first


def test_standard_errors():
    tally = Tally([Measure("acc", whole_target), Measure("ppl", per_target, "perplexity")])
    item = Continuation("a", " b")
    values = [-0.5, -2.0, -3.0, -0.1]
    for value in values:
        tally.add(item, told(value))
    acc, ppl = tally.metrics(0, "tiny")
    assert (acc.value, acc.n) == (0.5, 4)
    assert acc.stderr == pytest.approx(np.std([1, 0, 0, 1], ddof=1) / 2)
    assert ppl.value == pytest.approx(math.exp(-sum(values) / 4))
    # of small deviations: that of the mean, times the value
    assert ppl.stderr == pytest.approx(ppl.value * np.std(values) / 2, rel=0.5)
    assert tally.metrics(0, "tiny")[1] == ppl
    assert tally.metrics(1, "tiny")[1] != ppl
    alone = Tally([Measure("acc", whole_target)])
    alone.add(item, told(-1))
    assert alone.metrics(0, "tiny")[0].stderr is None


def test_a_difference_on_the_same_items_has_a_small_error():
    random = np.random.default_rng(0)
    hard = random.normal(-4, 2, 300)

    def metric(values):
        tally = Tally([Measure("ppl", per_target, "perplexity")])
        for value in values:
            tally.add(Continuation("a", " b"), told(value))
        return tally.metrics(0, "tiny")[0]

    first, second = metric(hard), metric(hard - 0.1 + random.normal(0, 0.01, 300))
    gap, stderr = second.gap(first)
    assert gap == second.value - first.value
    assert 0 < stderr < first.stderr / 5
    assert second.gap(metric(hard[:200])) == (second.value - metric(hard[:200]).value, None)


def test_an_infinite_perplexity_is_null_in_json():
    tally = Tally([Measure("ppl", per_target, "perplexity")])
    tally.add(Continuation("a", " b"), told(-1e5))
    assert tally.metrics(0, "tiny")[0].plain()["value"] is None


def test_values_are_the_oracles_and_no_item_knows_of_its_neighbours(small, tensors):
    items = [
        {"context": "the cat and the", "target": "dog"},
        {"context": "the old man was", "target": " wet, and"},
        {"context": "We shall have to ask the ", "target": "sea"},
        {"context": "", "target": "when the rain"},
    ]
    whole = ["the cat and the dog", "the old man was wet, and", "We shall have to ask the sea", "when the rain"]
    before = ["the cat and the", "the old man was", "We shall have to ask the", ""]
    total = 0
    for text, context in zip(whole, before, strict=True):
        ids, first = small.tokenizer.encode(text), len(small.tokenizer.encode(context))
        total += expected(tensors, ids[:first] or [START], ids[first:])[0]
    (found,) = evaluate(small, items)
    assert found.logprob == pytest.approx(total, abs=1e-3)
    alone = [evaluate(small, [item])[0].logprob for item in items]
    assert found.logprob == pytest.approx(sum(alone), abs=1e-4)
    by_name = {one.name: one.value for one in found.metrics}
    assert by_name["perplexity (target)"] == pytest.approx(math.exp(-total / 4), rel=1e-4)
    assert by_name["perplexity (token)"] == pytest.approx(math.exp(-total / found.tokens), rel=1e-4)


def test_the_delimiter_stands_where_there_is_no_white_space(small):
    def logprob(context, target, **options):
        return evaluate(small, [{"context": context, "target": target}], **options)[0].logprob

    same = logprob("the cat", " sat")
    assert logprob("the cat", "sat") == logprob("the cat ", "sat") == same
    assert logprob("the cat", "sat", delimiter="") != same
    assert logprob("the cat", "sat", delimiter="\n") == logprob("the cat", "\nsat")


def test_a_context_that_the_window_does_not_hold_is_cut_and_counted(small, tensors):
    text = "the cat and the old man went to the sea, " * 12
    (found,) = evaluate(small, [{"context": text, "target": "cat"}, {"context": "a", "target": "cat"}])
    assert found.cut == 1
    ids = small.tokenizer.encode(text + "cat")
    rest = len(ids) - len(small.tokenizer.encode(text.rstrip()))
    (one,) = evaluate(small, [{"context": text, "target": "cat"}])
    assert one.logprob == pytest.approx(expected(tensors, ids[-WINDOW - 1 : -rest], ids[-rest:])[0], abs=1e-4)
    with pytest.raises(CannotMeet, match="item 1 asks for"):
        evaluate(small, [{"context": "a", "target": text}])


def test_a_limit_reads_no_further(small):
    def items():
        for number in range(3):
            yield Continuation("the", f" cat {number}")
        raise AssertionError("read on")

    asked = Run("x", "own", items, MEASURES[Continuation])
    assert run(small, asked, limit=3).items == 3


def test_a_model_without_a_start_token(tmp_path):
    make_checkpoint(tmp_path, eos_token_id=None, bos_token_id=None, vocab_size=299)
    folder = tmp_path / "tokenizer.json"
    written = json.loads(folder.read_text())
    written["added_tokens"] = []
    folder.write_text(json.dumps(written))
    model = load(str(tmp_path), precision="fp32")
    assert model.start is None
    with pytest.raises(CannotMeet, match="item 1 has no context"):
        evaluate(model, [{"good": "the cat", "bad": "the dog"}])
    ids = model.tokenizer.encode("the cat sat down")
    assert evaluate(model, [{"text": "the cat sat down"}])[0].tokens == len(ids) - 1
    with pytest.raises(UsageError, match="nothing to measure"):
        evaluate(model, [{"text": "a"}])


# Files


def write(path, *rows):
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


def test_lines_are_items(tmp_path):
    rows = [
        {"context": "a", "choices": ["b", " c"], "answer": 1},
        {"context": "a ", "choices": ["b", "c"], "answer": "c"},
        {"choices": ["b", "c"], "answer": 0},
    ]
    found = list(from_file(write(tmp_path / "c.jsonl", *rows[:1], "", *rows[1:])))
    assert found == [
        Choice("a", ("b", " c"), 1, (" b", " c")),
        Choice("a ", ("b", "c"), 1, ("b", "c")),
        Choice("", ("b", "c"), 0, ("b", "c")),
    ]
    assert [one.name.split()[1] for one in found] == ["1", "3", "4"]
    assert list(from_file(write(tmp_path / "p.jsonl", {"good": "a", "bad": "b"}))) == [Pair("", ("a", "b"), 0)]
    (tmp_path / "l.json").write_text(json.dumps(rows, indent=2))
    assert list(from_file(tmp_path / "l.json")) == found
    assert list(from_file(write(tmp_path / "one.json", rows[0]))) == found[:1]
    assert list(from_file(write(tmp_path / "t.jsonl", {"text": "naïve b"}))) == [Passage("naïve b", 2, 8)]
    assert list(from_file(write(tmp_path / "t.txt", "one two", "three"))) == [Passage("one two\nthree", 3, 13)]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "line 2 of '{}' is no JSON"),
        ("[1]", "line 2 of '{}' is no JSON object"),
        ("{}", "none of the fields"),
        ('{"context": "a"}', "none of the fields"),
        ('{"context": "a", "target": ""}', "an empty 'target'"),
        ('{"context": 1, "target": "b"}', "no text in 'context'"),
        ('{"context": "a", "target": null}', "no text in 'target'"),
        ('{"context": "a", "target": "\\ud83d"}', "half a character in 'target'"),
        ('{"choices": ["a"], "answer": 0}', "a single text in 'choices'"),
        ('{"choices": ["a"], "answer": 5}', "a single text in 'choices'"),
        ('{"choices": [], "answer": 0}', "nothing in 'choices'"),
        ('{"choices": ["a", ""], "answer": 0}', "'choices'"),
        ('{"choices": "ab", "answer": 0}', "'choices'"),
        ('{"choices": ["a", "b"], "answer": 2}', "'answer' 2, and 2 choices"),
        ('{"choices": ["a", "b"], "answer": true}', "'answer' true"),
        ('{"choices": ["a", "b"], "answer": "c"}', "'answer' \"c\""),
        ('{"choices": ["a", "b"]}', "'answer' null"),
        ('{"good": "a"}', "no text in 'bad'"),
        ('{"text": ""}', "an empty 'text'"),
        ('{"text": "a"}', "is a passage"),
        ("[" * 100_000, "is no JSON"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, line, words):
    path = write(tmp_path / "x.jsonl", {"context": "a", "target": "b"}, line)
    with pytest.raises(UsageError) as caught:
        list(from_file(path))
    assert words.format(path) in caught.value.message
    assert f"line 2 of '{path}'" in caught.value.message
    assert caught.value.hint


def test_empty_files_and_others(tmp_path):
    for name in ("x.jsonl", "x.txt"):
        with pytest.raises(UsageError, match="is empty"):
            list(from_file(write(tmp_path / name)))
    (tmp_path / "l.txt").write_bytes("naïve".encode("latin-1"))
    with pytest.raises(UsageError, match=r"is no UTF-8 text$"):
        list(from_file(tmp_path / "l.txt"))
    with pytest.raises(UsageError, match="cannot read"):
        list(from_file(tmp_path / "none.txt"))


# Tasks


def test_lambada_parts_its_texts_at_the_last_space(tmp_path):
    path = write(tmp_path / "l.jsonl", {"text": "“Yes,” she said to\nthe old man"})
    assert list(reading.last_words(path)) == [Continuation("“Yes,” she said to\nthe old", " man")]
    made = TASKS["lambada"].protocols[1].read(path)
    assert list(made) == [Continuation('\n"Yes," she said to\nthe old', " man")]
    with pytest.raises(UsageError, match=r"line 1 .* has no last word"):
        list(reading.last_words(write(tmp_path / "l.jsonl", {"text": "one"})))


WIKI = " \n = A title = \n \n One , two . \n = = Section = = \n \n It 's 3 @-@ 4 . \n \n = Other = \n \n Three \n"


def test_wikitext_by_the_guide_and_by_the_page(tmp_path):
    (tmp_path / "w.raw").write_text(WIKI)
    rows = [line if line.strip() else "" for line in WIKI.splitlines(keepends=True)]
    (whole,) = reading.joined(tmp_path / "w.raw")
    assert whole.text == "\n\n".join(rows)
    first, second = reading.pages(tmp_path / "w.raw")
    assert first.text == "\n= A title =\n\nOne, two.\n== Section ==\n\nIt's 3-4.\n"
    original = WIKI[: WIKI.index(" = Other")]
    assert (first.words, first.nbytes) == (len(original.split()) + 2, len(original) - 1)
    assert second.text.startswith(" = Other =\n")
    write(tmp_path / "w.jsonl", *({"text": row} for row in rows))
    assert list(reading.joined(tmp_path / "w.jsonl")) == [whole]
    assert list(reading.pages(tmp_path / "w.jsonl")) == [first, second]


def test_the_other_tasks_read_their_files(tmp_path):
    (tmp_path / "p.txt").write_text(" no it was n't \n N <unk> \n")
    (found,) = reading.sentences(tmp_path / "p.txt")
    assert (found.text, found.words) == ("no it wasn't\nN ?", 8)
    found = list(reading.news(write(tmp_path / "n.jsonl", {"text": "He said , yes ."}, {"text": " "})))
    assert found == [Passage("He said, yes.", 5, 15)]
    story = {"sentences": ["One .", "Two ."], "question": "The XXXXX ran .", "answer": "cat", "options": ["dog", "cat"]}
    assert list(reading.clozes(write(tmp_path / "c.jsonl", story))) == [
        Choice("One . Two . The ", ("dog", "cat"), 1, ("dog ran .", "cat ran ."))
    ]
    pair = write(tmp_path / "b.jsonl", {"sentence_good": "A.", "sentence_bad": "B."})
    assert list(reading.minimal_pairs(pair)) == [Pair("", ("A.", "B."), 0)]


def test_the_test_of_enwik8_is_its_end_from_a_whole_character_on(tmp_path, monkeypatch):
    import zipfile

    monkeypatch.setattr(reading, "_TEST_BYTES", 5)
    (tmp_path / "enwik8").write_bytes("xxxéabcd".encode())
    (found,) = reading.last_bytes(tmp_path / "enwik8")
    assert (found.text, found.nbytes) == ("abcd", 4)
    with zipfile.ZipFile(tmp_path / "enwik8.zip", "w") as archive:
        archive.write(tmp_path / "enwik8", "enwik8")
    (same,) = reading.last_bytes(tmp_path / "enwik8.zip")
    assert same == found


def test_a_parquet_file_is_read_as_lines_are(tmp_path):
    import pyarrow
    from pyarrow import parquet

    pairs = {"sentence_good": ["A.", "C."], "sentence_bad": ["B.", "D."], "UID": ["x", "y"]}
    parquet.write_table(pyarrow.table(pairs), tmp_path / "b.parquet")
    found = list(reading.minimal_pairs(tmp_path / "b.parquet"))
    assert found == [Pair("", ("A.", "B."), 0), Pair("", ("C.", "D."), 0)]


@pytest.mark.parametrize("name", TASKS)
def test_another_file_is_refused(tmp_path, name):
    if name in ("enwik8", "text8"):
        pytest.skip("any bytes will do")
    path = write(tmp_path / "x.jsonl", {"other": 1})
    for protocol in TASKS[name].protocols:
        with pytest.raises(UsageError, match=r"line 1 of .* has no '"):
            list(protocol.read(path))


def test_the_names_of_blimp():
    names = [file.path.partition("/")[0] for file in TASKS["blimp"].files]
    assert len(set(names)) == 67
    assert {"adjunct_island", "wh_vs_that_with_gap_long_distance", "principle_A_case_2", "drop_argument"} <= set(names)


def test_strides_of_a_task_are_parts_of_the_window():
    runs = TASKS["wikitext2"].runs([], 1024)
    assert [run.moves for run in runs] == [Moves(512, False), Moves(1024, False), Moves()]
    assert [run.moves.stride for run in TASKS["wikitext2"].runs([], 64)] == [32, 64, None]
    assert [run.moves.stride for run in TASKS["wikitext2"].runs([], 1024, stride=100)] == [100, None]
    assert [run.protocol for run in TASKS["wikitext2"].runs([], 1024, only=["lm-eval"])] == ["lm-eval"]


@pytest.mark.parametrize(("stride", "known"), [(512, {"gpt2-large": 16.44}), (1024, {"gpt2": 29.94}), (100, {})])
def test_what_is_published_of_a_stride_stands_beside_no_other(stride, known):
    moving, rolling = TASKS["wikitext2"].runs([], 1024, stride=stride)
    assert (moving.protocol, rolling.protocol) == (f"hf-{stride}", "lm-eval")
    published = {name: one.value for name, one in moving.measures[0].published.items()}
    assert known.items() <= published.items()
    assert bool(known) == bool(published)
    assert rolling.measures[0].published


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda model: evaluate("tiny", []), "`model` is 'tiny'"),
        (lambda model: evaluate(model, "nonesuch"), "cannot read 'nonesuch'"),
        (lambda model: evaluate(model, []), "'the items' is empty"),
        (lambda model: evaluate(model, ["a"]), "item 1 is no JSON object"),
        (lambda model: evaluate(model, [{"text": "a"}], data="x"), "`data` is for a task"),
        (lambda model: evaluate(model, [{"text": "a"}], stride=0), "`stride` is 0"),
        (lambda model: evaluate(model, [{"text": "a"}], stride=65), "`stride` 65 does not fit"),
        (lambda model: evaluate(model, [{"text": "a"}], stride=64), "`stride` 64 does not fit"),
        (lambda model: evaluate(model, [{"good": "a", "bad": "b"}], stride=5), "`stride` 5: no window moves"),
        (lambda model: evaluate(model, [{"text": "a"}], limit=0), "`limit` is 0"),
        (lambda model: evaluate(model, [{"text": "a"}], seed=-1), "`seed` is -1"),
        (lambda model: evaluate(model, [{"text": "a"}], delimiter=None), "`delimiter` is None"),
        (lambda model: evaluate(model, "enwik8"), "the data of enwik8 is not here"),
    ],
)
def test_a_mistake_is_refused_in_words_that_name_the_parameter(small, call, named):
    with pytest.raises(UsageError) as caught:
        call(small)
    assert named in caught.value.message
    assert caught.value.hint


# Counts that others have published


@pytest.mark.long
def test_the_counts_of_lambada(data):
    tokenizer = Tokenizer(data / "reference/tokenizer")
    items = list(reading.last_words(data / "reference/lambada/lambada_test.jsonl"))
    targets = [len(tokenizer.encode(item.target)) for item in items]
    whole = [len(tokenizer.encode(item.context + item.target)) for item in items]
    assert (len(items), sum(whole), sum(targets)) == (5153, 430_230, 6573)
    assert max(whole) == 224


@pytest.mark.long
def test_the_counts_of_wikitext(data):
    path = data / "reference/wikitext2/wiki.test.raw"
    tokenizer = Tokenizer(data / "reference/tokenizer")
    (whole,) = reading.joined(path)
    assert len(tokenizer.encode(whole.text)) == 287_644
    pages = list(reading.pages(path))
    assert len(pages) == 62
    assert sum(page.nbytes for page in pages) == path.stat().st_size - 61  # the newlines between them
