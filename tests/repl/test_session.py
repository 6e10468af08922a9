"""A model writing in a document: the same text as `gpt2 generate`, and no token computed twice."""

import json
import re

import numpy as np
import oracle
import pytest
from safetensors.numpy import load_file
from texts import generate

from gpt2cli.errors import CannotMeet, UsageError
from gpt2cli.generation.forms import KINDS, Constraint
from gpt2cli.generation.parameters import Limits, Sampling, parameters
from gpt2cli.model import load
from gpt2cli.repl.document import Document
from gpt2cli.repl.knobs import Settings
from gpt2cli.repl.session import Session, whole_characters


def settings(**options):
    sampling = {key: options.pop(key) for key in list(options) if hasattr(Sampling, key) or key == "seed"}
    biases = options.pop("logit_bias", ())
    return Settings(Sampling(**{"seed": 1} | sampling), Limits(**{"max_tokens": 10} | options), biases)


@pytest.fixture(scope="module")
def tiny():
    return load("tiny")


@pytest.fixture
def session(tiny):
    tiny.engine.reset()
    return Session(tiny, settings())


@pytest.fixture
def fed(monkeypatch):
    """A list that gets the number of tokens of every step of the engine that `watch` is given."""
    counts = []

    def watch(engine):
        feed = engine.feed

        def counting(ids, **options):
            counts.append(sum(map(len, ids)))
            return feed(ids, **options)

        monkeypatch.setattr(engine, "feed", counting)
        return counts

    return watch


def go_on(session, text="", samples=1):
    if text:
        session.document.append("you", text)
    return list(session.write(samples))


def generated(model, prompt, **options):
    pieces = generate(model, prompt, **{"max_tokens": 10} | options)
    return "".join(piece.text for piece in pieces)


def test_the_text_is_what_generate_says(session, tiny):
    go_on(session, "Once upon a time")
    expected = generated(tiny, "Once upon a time", sampling=Sampling(seed=1))
    assert session.document.text == "Once upon a time" + expected
    before = session.document.text
    go_on(session, ' and she said, "')
    expected = generated(tiny, before + ' and she said, "', sampling=Sampling(seed=2))
    assert session.document.text == before + ' and she said, "' + expected


def test_an_empty_document_starts_from_the_end_token(session, tiny):
    go_on(session)
    first = session.document.text
    assert first == generated(tiny, "", sampling=Sampling(seed=1))
    go_on(session)
    assert session.ids() == [tiny.start, *session.document.nodes[1].ids, *session.document.nodes[2].ids]


def test_a_node_knows_where_it_came_from(session):
    go_on(session, "Once")
    node = session.document.nodes[2]
    assert (node.author, node.parent, node.model, node.seed) == ("model", 1, "tiny", 1)
    assert node.settings["max_tokens"] == 10
    assert node.settings["top_k"] == 40
    assert "seed" not in node.settings
    assert session.model.tokenizer.decode(node.ids) == node.text
    assert session.settings.seed == 2


def test_going_on_feeds_only_what_is_new(session, fed):
    counts = fed(session.model.engine)
    go_on(session, "Once upon a time there was a little old man")
    assert counts[0] == len(session.model.tokenizer.encode("Once upon a time there was a little old man"))
    assert counts[1:] == [1] * 9
    counts.clear()
    go_on(session)  # the model's last token was chosen and not fed
    assert counts == [1] * 10
    counts.clear()
    typed = " and he"
    go_on(session, typed)
    assert counts[0] <= len(session.model.tokenizer.encode(typed)) + 2  # it may join the model's last word


def test_retry_and_undo_feed_one_token(session, fed):
    go_on(session, "Once upon a time there was a little old man")
    first = session.document.text
    counts = fed(session.model.engine)
    session.document.undo()
    go_on(session)
    assert counts == [1] * 10  # the last of the prompt: its logits are wanted again
    assert session.document.text != first
    counts.clear()
    session.document.undo()
    session.document.undo()
    go_on(session, "Once upon a time there was a little old woman")
    assert counts[0] == 1
    assert session.stats.reused + session.stats.fed == len(
        session.model.tokenizer.encode("Once upon a time there was a little old woman")
    )


def test_an_edit_feeds_from_the_change_on(session, fed):
    go_on(session, "Once upon a time there was a little old man")
    counts = fed(session.model.engine)
    session.document.rewrite(session.document.text.replace("little old man", "young king"))
    ids = session.ids()
    same = len(session.model.tokenizer.encode("Once upon a time there was a"))
    go_on(session)
    assert counts[0] == len(ids) - same


def test_reused_and_fresh_are_the_same_text(tiny, session):
    texts = []
    for fresh in (False, True):
        tiny.engine.reset()
        writing = Session(tiny, settings())
        for text in ("The king", " had a daughter", "", " who"):
            if fresh:
                tiny.engine.reset()
            go_on(writing, text)
        texts.append(writing.document.text)
    assert texts[0] == texts[1]


def test_branches_share_what_they_have_in_common(session, fed):
    go_on(session, "The king had a daughter", samples=3)
    assert [node.settings["row"] for node in session.document.nodes[2:]] == [0, 1, 2]
    assert session.document.current == 2
    session.document.goto(4)
    counts = fed(session.model.engine)
    go_on(session)
    assert counts[0] == 1  # the third row's cache is still there


def test_closing_keeps_what_came(session):
    session.document.append("you", "Once upon")
    pieces = session.write()
    for _ in range(3):
        next(pieces)
    pieces.close()
    assert len(session.document.nodes[2].ids) == 3
    untouched = session.write()
    untouched.close()
    assert len(session.document.nodes) == 3


def test_stop_strings_are_not_part_of_the_text(tiny):
    tiny.engine.reset()
    whole = generated(tiny, "The king said", sampling=Sampling(seed=1), max_tokens=30)
    stop = whole[8:11]
    session = Session(tiny, settings(max_tokens=30, stop=(stop,)))
    go_on(session, "The king said")
    node = session.document.nodes[2]
    assert node.text == whole[: whole.index(stop)]
    assert tiny.tokenizer.decode(node.ids) == node.text
    go_on(session)


def test_a_cut_character_is_not_kept(tiny):
    ids = tiny.tokenizer.encode("a 語")
    assert whole_characters(ids, tiny.tokenizer) == ("a 語", ids)
    text, kept = whole_characters(ids[:-1], tiny.tokenizer)
    assert (text, tiny.tokenizer.decode(kept)) == ("a", "a") or text == "a "
    assert whole_characters([], tiny.tokenizer) == ("", [])


def test_tokens_of_another_model_are_only_text(session, small):
    go_on(session, "Once")
    text = session.document.text
    session.use(small)
    assert session.ids() == small.tokenizer.encode(text)
    go_on(session)
    assert session.document.nodes[3].model == small.name


def test_a_file_cannot_lie_about_tokens(tiny):
    document = Document()
    document.append("you", "Once")
    document.append("model", " upon", ids=[1, 2, 3], model="tiny")
    assert Session(tiny, settings(), document).ids() == tiny.tokenizer.encode("Once upon")
    document.append("model", "", ids=[10**9], model="tiny")
    assert Session(tiny, settings(), document).ids() == tiny.tokenizer.encode("Once upon")


def test_why_is_the_oracles_distribution(checkpoint, small):
    session = Session(small, settings())
    go_on(session, "The old man")
    node = session.document.nodes[2]
    prompt = small.tokenizer.encode("The old man")
    weights = load_file(checkpoint / "model.safetensors"), json.loads((checkpoint / "config.json").read_text())
    product = oracle.exact if small.precision == "fp32" else oracle.int8
    logits = oracle.forward(*weights, [*prompt, *node.ids], product)
    considered = session.why(3)
    assert len(considered) == len(node.ids)
    for place, (token, logprob) in enumerate(zip(node.ids, considered, strict=True)):
        row = logits[len(prompt) + place - 1].astype(np.float64)
        expected = row - np.log(np.exp(row - row.max()).sum()) - row.max()
        assert logprob.logprob == pytest.approx(expected[token], abs=0.02)
        assert [value for _, value in logprob.top] == pytest.approx(sorted(expected)[:-4:-1], abs=0.02)


def test_why_needs_the_models_text(session):
    with pytest.raises(UsageError):
        session.why(3)
    go_on(session)
    assert len(session.why(3)) == 10  # begun from nothing
    session.document.append("you", "x")
    with pytest.raises(UsageError, match="not this model's"):
        session.why(3)


def test_another_choice_is_a_branch(session):
    go_on(session, "The king")
    node = session.document.nodes[2]
    token = next(token for token, _ in session.why(5)[4].top if token != node.ids[4])
    session.choose_instead(4, token)
    other = session.document.nodes[3]
    assert other.parent == 1
    assert other.ids == [*node.ids[:4], token]
    go_on(session)
    assert session.document.nodes[4].parent == 3


def test_a_long_text_keeps_most_of_its_window_and_its_cache(small, fed):
    window = small.engine.window
    counts, session = fed(small.engine), Session(small, settings(max_tokens=4))
    prefills = []
    go_on(session, "The old man and the sea " * 10)
    for _ in range(30):
        counts.clear()
        context = session.context()
        assert window // 2 <= len(context) <= window - 4
        assert context == session.ids()[-len(context) :]
        go_on(session)
        prefills.append(counts[0])
    assert prefills.count(1) > 2 * sum(count > 1 for count in prefills)


def test_keep_stays_at_the_beginning(small):
    session = Session(small, settings(max_tokens=4, keep=5))
    go_on(session, "The old man and the sea " * 10)
    assert session.context()[:5] == session.ids()[:5]
    with pytest.raises(CannotMeet, match="keep 1000"):
        session.change(session.settings.changed("keep", "1000"))
    assert session.settings.limits.keep == 5


def test_keep_minus_one_is_the_first_text(small):
    session = Session(small, settings(max_tokens=4, keep=-1))
    first = len(small.tokenizer.encode("The old man"))
    go_on(session, "The old man")
    go_on(session, " and the sea" * 20)
    assert len(session.context()) < len(session.ids())
    assert session.context()[:first] == session.ids()[:first]


def test_why_of_a_text_that_was_cut_behind_what_was_kept(small):
    """Each token is shown with its own probability: the sum over the window's end says so."""
    session = Session(small, settings(max_tokens=60, keep=8, temperature=0))
    go_on(session, "The old man and the sea " * 4)
    node = session.document.nodes[session.document.current]
    considered, context = session.why(1), session.context()
    assert len(context) < len(session.ids())
    assert len(considered) <= len(context) - 8
    small.engine.reset()
    logits = small.engine.feed([context], every=True)
    for place, (token, found) in enumerate(zip(node.ids[-len(considered) :], considered, strict=True)):
        row = logits[len(context) - len(considered) + place - 1]
        assert found.logprob == pytest.approx(row[token] - np.logaddexp.reduce(row.astype(float)), abs=1e-3)


def test_biases_are_the_model_s_own_ids(small, tiny):
    session = Session(small, settings(logit_bias=("299=-5",)))
    with pytest.raises(UsageError, match=" the"):
        session.change(session.settings.changed("logit-bias", " the quick=-5"))
    assert session.settings.logit_bias == ("299=-5",)
    tiny_session = Session(tiny, settings(logit_bias=(" the=-inf", " a=-inf"), max_tokens=60))
    go_on(tiny_session, "Once upon a time there was")
    banned = {tiny.tokenizer.encode(word)[0] for word in (" the", " a")}
    assert not banned & set(tiny_session.document.nodes[2].ids)
    beyond = Session(tiny, settings(logit_bias=("4000=-5",)))
    with pytest.raises(UsageError, match="4000"):
        beyond.use(small)
    assert beyond.model is tiny


def test_max_length_counts_what_was_there(session):
    session.change(session.settings.changed("max-length", "12").changed("max-tokens", "-1"))
    go_on(session, "Once upon a time")
    assert len(session.ids()) <= 12
    assert session.document.nodes[session.document.current].settings["max_length"] == 12
    session.change(session.settings.changed("max-length", "3"))
    with pytest.raises(CannotMeet, match="`max_length` is 3"):
        go_on(session)


def test_settings_are_checked_and_named():
    base, known = settings(), [*parameters(Sampling), *parameters(Limits), *KINDS]
    assert base.changed("max-length", "50").limits.max_length == 50
    assert base.changed("max-length", "50").changed("max-length", "off").limits.max_length is None
    assert set(base.shown()) == {name.replace("_", "-") for name in known}
    assert base.changed("temperature", "0.5").sampling.temperature == 0.5
    assert base.changed("n", "-1").limits.max_tokens is None
    assert base.changed("--top-k", " 7").sampling.top_k == 7
    assert base.changed("stop", "\\n").limits.stop == ("\n",)
    assert base.changed("stop", "off").limits.stop == ()
    assert base.changed("ignore-eos", "on").limits.ignore_eos is True
    assert base.changed("seed", "random").seed != base.changed("seed", "random").seed
    for key, value, word in [
        ("temprature", "1", "temprature"),
        ("temperature", "hot", "'hot'"),
        ("temperature", "-1", "-1"),
        ("top-p", "2", "2"),
        ("max-tokens", "-5", "-5"),
        ("max-length", "0", "0"),
        ("keep", "-2", "-2"),
        ("ignore-eos", "maybe", "'maybe'"),
        ("min-tokens", "11", "11"),
        ("sampling", "1", "sampling"),
    ]:
        with pytest.raises(UsageError) as caught:
            base.changed(key, value)
        assert word in caught.value.message
    for key, value in base.changed("regex", " [a-z]+").shown().items():  # what is shown can be typed
        assert base.changed("regex", " [a-z]+").changed(key, value).shown()["regex"] == " [a-z]+"
    for key, value in base.shown().items():
        assert base.changed(key, value).shown() == base.shown()


def test_each_continuation_has_the_form_that_is_set(session, tmp_path):
    def set_to(key, value):
        session.change(session.settings.changed(key, value))

    set_to("regex", " [a-f]{3}!")
    go_on(session, "Once")
    go_on(session)
    assert re.fullmatch("Once( [a-f]{3}!){2}", session.document.text)
    assert session.document.nodes[session.document.current].settings["constraint"] == {
        "kind": "regex",
        "text": " [a-f]{3}!",
    }
    set_to("choice", " yes| no")
    assert (session.settings.shown()["choice"], session.settings.shown()["regex"]) == (" yes| no", "off")
    go_on(session)
    assert re.search("!( yes| no)$", session.document.text)
    set_to("max-tokens", "20")
    set_to("json-schema", "ok bool")
    go_on(session)
    assert re.search(r'\{"ok": (true|false)\}$', session.document.text)
    (tmp_path / "a.lark").write_text('start: "." | "?"')
    set_to("grammar", str(tmp_path / "a.lark"))
    go_on(session)
    assert session.document.text[-1] in ".?"
    set_to("regex", "off")  # which is not the one that is on
    assert session.settings.constraint == Constraint("grammar", 'start: "." | "?"')
    with pytest.raises(UsageError, match="line 1, column 1: unclosed group"):
        set_to("regex", "(a")
    assert session.settings.constraint.kind == "grammar"
    set_to("grammar", "off")
    assert session.settings.constraint is None
