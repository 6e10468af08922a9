"""A tokenizer's files -> the library's tokenizer, with the ids that transformers gives: tokenizer.json, or vocab.json
and merges.txt; the added tokens and settings in the files beside them.

They come from strangers: what could take any amount of memory or time is refused."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from gpt2cli.errors import CorruptFile
from gpt2cli.paths import check_small, json_object
from gpt2cli.tokenizer import FILES

END = "<|endoftext|>"
# What names special tokens in tokenizer_config.json and special_tokens_map.json, in the order in which those that the
# vocabulary lacks get their ids.
_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_LISTS = ("additional_special_tokens", "extra_special_tokens")
# Steps before the model that take every text.
_STEADY = {"Sequence", "ByteLevel", "NFC", "NFD", "NFKC", "NFKD", "Lowercase"}
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
# Of what stands before the model: how many times longer it may make a text, and its steps.
_GROWTH = 64
_STEPS = 32
# Of a regular expression: characters; the ways in which its repetitions may share a text; and what a repetition
# without an end counts for: one is taken, two in a row are not.
_PATTERN = 10_000
_WAYS = 1000
_MANY = 100


def present(folder: Path) -> bool:
    """Whether the folder has the files of a tokenizer."""
    pair = (folder / "vocab.json").exists() and (folder / "merges.txt").exists()
    return pair or (folder / "tokenizer.json").exists()


def load(folder: Path) -> Tokenizer:
    """Raises CorruptFile, and whatever the library raises for a file that it cannot read."""
    if not present(folder):
        raise CorruptFile(
            f"'{folder}' has no tokenizer: neither tokenizer.json nor vocab.json and merges.txt",
            "copy them from the model it was trained from, or give token ids, at the command line with --ids",
        )
    for name in FILES:
        if (folder / name).exists():
            check_small(folder / name)
    config = json_object(folder / "tokenizer_config.json") or {}
    if (folder / "tokenizer.json").exists():
        raw = (folder / "tokenizer.json").read_bytes()
        if re.search(rb'"continuing_subword_prefix"\s*:\s*"[^"]', raw) and b'"WordPiece"' not in raw:
            # the library panics over a BPE's, and says so on stderr by itself
            raise CorruptFile(
                f"the tokenizer in '{folder}' marks what goes on within a word, which GPT-2's does not",
                "copy tokenizer.json from the model it was trained from",
            )
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        _refuse_excess(tokenizer, folder / "tokenizer.json")
    else:
        tokenizer = Tokenizer(models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
    if getattr(tokenizer.model, "dropout", None):  # for training: ids would be drawn
        tokenizer.model.dropout = None
    # as transformers has it, for its GPT2Tokenizer classes this setting wins over tokenizer.json
    if config.get("tokenizer_class") in (None, "GPT2Tokenizer", "GPT2TokenizerFast"):
        splitter = tokenizer.pre_tokenizer
        if isinstance(splitter, pre_tokenizers.ByteLevel):
            splitter.add_prefix_space = bool(config.get("add_prefix_space"))
    _add_tokens(tokenizer, folder, config)
    return tokenizer


def _add_tokens(tokenizer: Tokenizer, folder: Path, config: dict[str, Any]) -> None:
    """The tokens that the files beside the vocabulary add to it, and which of them are special: those that a file says
    are, and those that are named as the start, the end, padding and so on; <|endoftext|> always is."""
    source = folder / "tokenizer_config.json"
    declared = config.get("added_tokens_decoder")
    if declared is None:  # as older versions of transformers have written it
        source = folder / "added_tokens.json"
        config = config | (json_object(folder / "special_tokens_map.json") or {})
    ends = [END] if tokenizer.token_to_id(END) is not None else []
    try:
        if declared is None:
            declared = {token: {"content": text} for text, token in (json_object(source) or {}).items()}
        named = {_content(token): token for token in [*ends, *_special(config)]}
        added = {token["content"]: (int(number), token) for number, token in declared.items()}
        there = {token.content: token for token in tokenizer.get_added_tokens_decoder().values()}
        new = []
        for text in sorted(added, key=lambda text: added[text][0]) + [text for text in named if text not in added]:
            flags = {flag: getattr(there[text], flag) for flag in _FLAGS} if text in there else {}
            stated = added[text][1] if text in added else named[text]
            stated = {flag: stated[flag] for flag in _FLAGS if flag in stated} if isinstance(stated, dict) else {}
            special = text in named or bool((flags | stated).get("special"))
            wanted = {"normalized": not special} | flags | stated | {"special": special}
            if wanted != flags:
                new.append(AddedToken(text, **wanted))
        unknown = [token.content for token in new if tokenizer.token_to_id(token.content) is None]
        tokenizer.add_tokens(new)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        files = " or ".join(name for name in FILES[3:] if (folder / name).exists())
        raise CorruptFile(
            f"cannot read the added tokens in '{folder}': {type(error).__name__} {error}",
            f"{files} is corrupt: download it again",
        ) from None
    for text in unknown:
        if text in added and tokenizer.token_to_id(text) != added[text][0]:
            raise CorruptFile(
                f"{source}: '{text}' has the id {added[text][0]}, after the vocabulary comes"
                f" {tokenizer.token_to_id(text)}",
                f"{source.name} and the vocabulary do not belong together: copy both from one checkpoint",
            )


def _special(config: dict[str, Any]) -> Iterator[Any]:
    """The tokens that are named as special: texts, or objects with their flags."""
    yield from (config[name] for name in _NAMES if config.get(name))
    for name in _LISTS:
        tokens = config.get(name) or []
        yield from tokens.values() if isinstance(tokens, dict) else tokens


def _content(token: Any) -> str:
    text = token["content"] if isinstance(token, dict) else token
    if not isinstance(text, str):
        raise TypeError(f"{text!r} is no token")
    return text


def may_panic(tokenizer: Tokenizer) -> bool:
    """Whether it has steps before the model on which the library can fail, as regular expressions of its own."""
    parts = [part for part in (tokenizer.normalizer, tokenizer.pre_tokenizer) if part]
    return any(step["type"] not in _STEADY for part in parts for step in _steps(part))


def _refuse_excess(tokenizer: Tokenizer, path: Path) -> None:
    """Raises CorruptFile where its steps before the model may make any length of a text, or need any time."""
    steps = [step for part in (tokenizer.normalizer, tokenizer.pre_tokenizer) if part for step in _steps(part)]
    growth = 1
    for step in steps:
        added = step.get("content") or step.get("prepend") or ""
        growth *= max(1, len(added), 2 * (step["type"] in ("ByteLevel", "Metaspace")))
        pattern = step.get("pattern")
        if isinstance(pattern, dict) and _backtracks(pattern.get("Regex", "")):
            raise CorruptFile(
                f"{path}: the pattern {pattern['Regex']!r} may take any time",
                "patterns that repeat what repeats are refused: use another tokenizer",
            )
    kinds = {step["type"] for step in steps}
    if growth > _GROWTH or len(steps) > _STEPS or "Precompiled" in kinds:
        raise CorruptFile(
            f"{path}: its normalizer or pre-tokenizer may make a text of any length",
            "this is no tokenizer of a GPT-2 model: use another one",
        )


def _steps(part: Any) -> Iterator[dict[str, Any]]:
    """What a normalizer or pre-tokenizer is made of, as tokenizer.json writes it."""
    waiting = [json.loads(part.__getstate__())]
    while waiting:
        step = waiting.pop()
        waiting += step.get("normalizers", []) + step.get("pretokenizers", [])
        yield step


def _backtracks(pattern: str) -> bool:
    """Whether a regular expression can try too many ways to match: it repeats a group of varying length, as (a+)+ and
    (a|aa)* do, or has several repetitions before something that may fail, as a*a*b, or is more than can be seen here:
    it refers to another group, or repeats a repetition."""
    if len(pattern) > _PATTERN or re.search(r"\\[1-9gk]|\(\?[R&P(]", pattern):
        return True
    plain = re.sub(r"\\(?:[pPx]\{[^}]*\}|.)", "x", re.sub(r"\(\?[ims-]+\)", "", pattern), flags=re.DOTALL)
    while (shorter := re.sub(r"\[[^\[\]]*\]", "x", plain)) != plain:
        plain = shorter
    group = re.compile(r"\((?:\?[^()x]*?[:=!>])?([^()]*)\)([*+]|\{\d*,?\d*\})?(\??)")
    while found := group.search(plain):
        inside = [_ways(part) for part in found[1].split("|")]
        ways = sum(total for total, _ in inside)
        if (ways > 1 and found[2]) or any(risky > _WAYS for _, risky in inside):
            return True
        after = "x*" * (ways > 1) * math.ceil(math.log(max(ways, 2), _MANY))
        # itself it is there, or may be missing
        same = f"x?{after}" if found[3] and not found[2] else f"x{found[2] or ''}{found[3]}{after}"
        plain = f"{plain[: found.start()]}{same}{plain[found.end() :]}"
    return any(_ways(part)[1] > _WAYS for part in plain.split("|"))


def _ways(pattern: str) -> tuple[int, int]:
    """In how many ways, roughly, the repetitions in a pattern without groups and alternatives can share a text: all of
    them, and those before something that may fail."""
    total = risky = 1
    for atom, repeat, more in re.findall(r"(.)([*+?]|\{\d*,?\d*\})?([+?])?", pattern, flags=re.DOTALL):
        if atom in "*+?":  # a repetition of a repetition
            return _MANY * _WAYS, _MANY * _WAYS
        least, comma, most = repeat[1:-1].partition(",") if repeat.startswith("{") else (repeat, "", "")
        if not (repeat in ("*", "?") or (comma and int(least or 0) == 0)):
            risky = total
        if repeat.startswith("{") and more == "+":  # here too
            total *= _MANY * _WAYS
        elif repeat in ("*", "+") or (comma and not most):
            total *= _MANY
        elif repeat:
            total *= 2 if repeat == "?" else min(_MANY, 1 + max(0, int(most or 0) - int(least or 0)))
    return total, risky
