"""Receipts as a library has them."""

import json
from dataclasses import fields

import pytest

from gpt2cli import Constraint, Limits, Sampling, UserError, generate, load, receipt, replay
from gpt2cli.errors import CorruptFile, UsageError
from gpt2cli.generation import texts
from gpt2cli.generation.receipts import Receipts, Told, read, seal
from gpt2cli.generation.requests import Request
from gpt2cli.generation.speculation import DraftModel, Lookup


def test_a_receipt_names_everything_that_is_asked_for():
    """A new field of Request belongs into `Receipts.of` and `Receipt.request`, unless no text depends on it."""
    named = {"ids", "sampling", "limits", "samples", "beams", "drafter", "first", "stop_tokens", "constraint"}
    assert {one.name for one in fields(Request)} - {"logprobs", "shares", "resumes"} == named


def test_texts_come_with_a_receipt_and_are_made_again(small):
    said, made = receipt(small, "the old man", Sampling(seed=3), Limits(max_tokens=20), samples=2)
    pieces = list(generate(small, "the old man", Sampling(seed=3), Limits(max_tokens=20), samples=2))
    assert said == ["".join(piece.text for piece in pieces if piece.row == row) for row in range(2)]
    made = json.loads(json.dumps(made))
    found = replay(made, small)
    assert (found.same, found.differences) == (True, {})
    assert [text.tokens for text in found.texts] == [20, 20]
    assert replay(made).same  # with a model that it opens itself


@pytest.mark.parametrize("lookup", [True, False])
def test_guessing_ahead_is_part_of_it(small, checkpoint, lookup):
    draft = load(str(checkpoint), precision="int8")
    drafter = Lookup() if lookup else DraftModel(draft, small)
    sampling = Sampling(temperature=0) if lookup else Sampling(seed=2)
    _, made = receipt(small, "the old man", sampling, Limits(max_tokens=30), drafter=drafter)
    assert (made["draft_model"] is None) == lookup
    assert replay(made, small, draft_model=None if lookup else draft).same
    assert replay(made).same
    if not lookup:
        without = replay(made, small)
        assert without.differences["draft model's precision"] == ("int8", None)


def test_a_row_of_many_has_a_receipt_of_its_own(small):
    """As a batch and a server number their texts."""
    _, whole = receipt(small, "the old man", Sampling(seed=3), Limits(max_tokens=20), samples=4)
    ids = whole["texts"][2]["ids"]
    request = Request(whole["prompt"]["ids"], Sampling(seed=3), Limits(max_tokens=20), first=2, stop_tokens=(7,))
    pieces = list(texts.stream(small, request))
    told = Told([one.token for one in pieces if one.token is not None], "".join(one.text for one in pieces), "length")
    assert told.ids == ids[: len(told.ids)]
    made = Receipts(small).of(request, [told if len(told.ids) == 20 else Told(told.ids, told.text, "end")])
    assert made["texts"][0]["index"] == 2
    assert replay(made, small).same


@pytest.mark.parametrize("constraint", [Constraint("regex", "[a-z ]{4,12}[.]"), Constraint("choice", ["the", "old"])])
def test_the_form_of_a_text_is_part_of_it(small, constraint):
    request = Request([5, 7], Sampling(seed=3), Limits(max_tokens=30), constraint=constraint)
    pieces = list(texts.stream(small, request))
    ids = [one.token for one in pieces if one.token is not None]
    made = Receipts(small).of(request, [Told(ids, "".join(one.text for one in pieces), pieces[-1].finish)])
    assert ("llguidance" in made["versions"]) == (constraint.kind == "regex")
    found = replay(json.loads(json.dumps(made)), small)
    assert (found.same, found.differences) == (True, {})
    form = constraint
    assert receipt(small, [5, 7], Sampling(seed=3), Limits(max_tokens=30), constraint=form)[1]["texts"] == made["texts"]
    made["versions"]["llguidance"] = "0.1"
    made["seal"] = seal({name: value for name, value in made.items() if name != "seal"})
    assert (replay(made, small).differences["llguidance"][0]) == "0.1"


def test_a_private_receipt_in_the_library(small):
    _, made = receipt(small, "the sea", Sampling(seed=1), Limits(max_tokens=5), private=True)
    assert "ids" not in made["prompt"]
    with pytest.raises(UsageError, match="private"):
        replay(made, small)
    with pytest.raises(UsageError, match="not the receipt's prompt"):
        replay(made, small, prompt="the cat")
    assert replay(made, small, prompt="the sea").same
    assert replay(made, small, prompt=small.tokenizer.encode("the sea")).same


@pytest.mark.parametrize("data", [None, [], "text", {}, {"receipt": None}, {"receipt": True}, {"receipt": 1}])
def test_what_is_no_receipt(small, data):
    with pytest.raises(CorruptFile):
        read(data)
    with pytest.raises(UserError):
        replay(data, small)


def test_a_text_without_end_has_no_receipt(small):
    with pytest.raises(UsageError, match="no end"):
        receipt(small, "the sea", limits=Limits(max_tokens=None))


@pytest.mark.parametrize("ends", [(), (7, 9)])
def test_the_gap_of_an_end_is_that_of_the_likeliest_end_token(small, ends):
    _, made = receipt(small, "the old man", Sampling(seed=3), Limits(max_tokens=6, ignore_eos=True))
    request = Request(made["prompt"]["ids"], Sampling(seed=3), Limits(max_tokens=6), stop_tokens=ends)
    cut = made["texts"][0]["ids"][:3]
    other = Receipts(small).of(request, [Told(cut, "", "end")])
    first = replay(other, small).texts[0].first
    assert (first.place, first.there) == (3, None)
    one = list(generate(small, request.ids, Sampling(seed=3), logprobs=300))[3]
    known = dict(one.logprob.top)
    expected = max(known[token] for token in (299, *ends)) - known[first.here]
    assert first.logits[0] - first.logits[1] == pytest.approx(expected, abs=1e-5)
