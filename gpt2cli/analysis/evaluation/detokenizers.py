"""Texts of the usual corpora as people write them: what their makers split off by spaces is joined again.

Rules are applied in order. GPT-2's authors have not published theirs. These are what others made of the paper's words
(Radford et al. 2019, 3.1), rule by rule, with their quirks, because the published figures have them too: `wikitext` as
in lm-evaluation-harness (tasks/wikitext) and Megatron-LM (tasks/zeroshot_gpt), `ptb` and `lm1b` as in
Score-Entropy-Discrete-Diffusion (data.py), `lambada` as in OpenAI's answer to issue 131 of openai/gpt-2."""

import re

Rules = tuple[tuple[str | re.Pattern[str], str], ...]


def _trimmed(opening: str, inside: str, closing: str) -> re.Pattern[str]:
    """What stands between two marks, without the spaces at its ends."""
    return re.compile(rf"{opening}\s*({inside}*?)\s*{closing}")


_WIKITEXT: Rules = (
    ("s '", "s'"),
    (" @-@ ", "-"),
    (" @,@ ", ","),
    (" @.@ ", "."),
    *((f" {mark} ", f"{mark} ") for mark in ":;.!?,"),
    (_trimmed(r"\(", r"[^)]", r"\)"), r"(\1)"),
    (_trimmed(r"\[", r"[^\]]", r"\]"), r"[\1]"),
    (_trimmed(r"\{", r"[^}]", r"\}"), r"{\1}"),
    (_trimmed('"', '[^"]', '"'), r'"\1"'),
    (_trimmed("'", "[^']", "'"), r"'\1'"),
    ("= = = =", "===="),
    ("= = =", "==="),
    ("= =", "=="),
    (" ° ", "°"),
    (" \n", "\n"),
    ("\n ", "\n"),
    (" N ", " 1 "),
    (" 's", "'s"),
)

_PTB: Rules = (
    (" 's", "'s"),
    ("s ' ", "s' "),
    (" n't", "n't"),
    (" \n ", "\n"),
    ("\\/", "/"),
    *((" N ", " 1 ") for _ in range(10)),  # neighbours share a space, of which one pass takes every other
    ("$ 1", "$1"),
    ("# 1", "#1"),
    ("<unk>", "?"),
)

_LM1B: Rules = (
    ("http : / / ", "http://"),
    ("https : / / ", "https://"),
    (re.compile(r" '(\w+)"), r"'\1"),
    (re.compile(r" (\w+) \. "), r" \1. "),
    (re.compile(r" (\w+) \.$"), r" \1."),
    (" ? ", "? "),
    (re.compile(r" \?$"), "?"),
    (" ! ", "! "),
    (re.compile(r" !$"), "!"),
    *((f" {mark} ", f"{mark} ") for mark in ",:;"),
    (" / ", "/"),
    (re.compile(r'" ([^"]+) "'), r'"\1"'),
    (re.compile(r"' ([^']+) '"), r"'\1'"),
    (re.compile(r"\( ([^()]+) \)"), r"(\1)"),
    (re.compile(r"\[ ([^\[\]]+) \]"), r"[\1]"),
    ("$ ", "$"),
    ("£ ", "£"),
)


def wikitext(text: str) -> str:
    """A page of WikiText."""
    return _applied(_WIKITEXT, text)


def ptb(text: str) -> str:
    """A sentence of the Penn Treebank, in Mikolov's form."""
    return _applied(_PTB, text)


def lm1b(text: str) -> str:
    """A sentence of the One Billion Word Benchmark."""
    return _applied(_LM1B, text)


def lambada(text: str) -> str:
    """A passage of LAMBADA, with straight quotation marks and on a line of its own."""
    return "\n" + text.replace("“", '"').replace("”", '"').strip()


def _applied(rules: Rules, text: str) -> str:
    for old, new in rules:
        text = text.replace(old, new) if isinstance(old, str) else old.sub(new, text)
    return text
