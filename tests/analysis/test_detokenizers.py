"""De-tokenisers: each rule by an example, and on whole pages what lm-evaluation-harness makes of them."""

import hashlib

import pytest

from gpt2cli.analysis.evaluation import detokenizers

# of what lm_eval 0.4.13's wikitext_detokenizer makes of the test split of WikiText-2
WIKITEXT2 = "9971cc81cf2e5429c48844a0e64b1b32f333486d28d9407a17f76aad3e1b761a"


@pytest.mark.parametrize(
    ("split", "joined"),
    [
        ("the boys ' guest @-@ starring role", "the boys' guest-starring role"),
        ("1 @,@ 024 m ( 3 @.@ 5 ft ) ; then : no ! why ?", "1,024 m (3.5 ft); then: no! why ?"),
        ("why ? so , yes . End", "why? so, yes. End"),
        ('He said " go on " to [ them ] and { us } .', 'He said "go on" to [them] and {us} .'),
        ("a ' quoted ' word", "a 'quoted' word"),
        (" \n = Title = \n \n = = Part = = \n = = = Piece = = = \n", "\n= Title =\n\n== Part ==\n=== Piece ===\n"),
        ("= = = = Deep = = = =", "==== Deep ===="),
        ("at 20 ° north N times", "at 20°north 1 times"),
        ("Teddy 's Story", "Teddy's Story"),
        ("no end here .", "no end here ."),
    ],
)
def test_wikitext(split, joined):
    assert detokenizers.wikitext(split) == joined


@pytest.mark.parametrize(
    ("split", "joined"),
    [
        ("the company 's plan does n't pay", "the company's plan doesn't pay"),
        ("the traders ' view", "the traders' view"),
        ("rose N N N to $ N million , # N or N", "rose 1 1 1 to $1 million , #1 or N"),
        ("a 50\\/50 share of <unk>", "a 50/50 share of ?"),
        ("one \n two", "one\ntwo"),
    ],
)
def test_ptb(split, joined):
    assert detokenizers.ptb(split) == joined


@pytest.mark.parametrize(
    ("split", "joined"),
    [
        ("See http : / / a.b and https : / / c", "See http://a.b and https://c"),
        ("It 's here . There is more .", "It's here. There is more."),
        ("Why ? Because ! So ?", "Why? Because! So?"),
        ("Go !", "Go!"),
        ("one , two : three ; and / or", "one, two: three; and/or"),
        ('" quoted " and ( bracketed ) and [ squared ]', '"quoted" and (bracketed) and [squared]'),
        ("for $ 5 or £ 4", "for $5 or £4"),
    ],
)
def test_lm1b(split, joined):
    assert detokenizers.lm1b(split) == joined


def test_lambada():
    assert detokenizers.lambada(" he said, “go” ‘now’ ") == '\nhe said, "go" ‘now’'


def test_a_whole_corpus_is_joined_as_others_do_it(data):
    text = (data / "reference/wikitext2/wiki.test.raw").read_text(encoding="utf-8")
    assert hashlib.sha256(detokenizers.wikitext(text).encode()).hexdigest() == WIKITEXT2
