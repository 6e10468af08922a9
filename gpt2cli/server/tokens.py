"""Text and ids for programs that count: as vLLM and llama.cpp answer."""

from collections.abc import Callable
from typing import Any

from gpt2cli.errors import UsageError
from gpt2cli.model import Model
from gpt2cli.server import protocol
from gpt2cli.server.answers import Json
from gpt2cli.tokenizer.tokenizer import encode_in_pieces


def info(model: Model) -> Json:
    """What begins and ends a text, and how much there is room for."""

    def name(token: int | None) -> str | None:
        return None if token is None else model.tokenizer.decode([token])

    return {
        "eos_token": name(next(iter(model.ends), None)),
        "bos_token": name(model.start),
        "eos_token_ids": model.ends,
        "vocab_size": model.engine.vocabulary,
        "model_max_length": model.engine.window,
    }


def tokenized(model: Model, body: Any) -> Callable[[], Json]:
    """The ids of `prompt` (as vLLM has it) or `content` (as llama.cpp), special tokens read as such: what is to be
    done, for it may take its time. Raises BadRequest."""
    is_text = (lambda value: isinstance(value, str)), "a text"
    fields = protocol.Fields(body)
    text = fields.first(("prompt", *is_text), ("content", *is_text))
    special = body.get("parse_special") is None or fields.switch("parse_special")
    pieces, strings = fields.switch("with_pieces"), fields.switch("return_token_strs")

    def work() -> Json:
        ids = encode_in_pieces(model.tokenizer, text, special=special)
        found: Json = {"tokens": ids, "count": len(ids), "max_model_len": model.engine.window}
        names = [model.tokenizer.decode([token]) for token in ids] if pieces or strings else []
        if pieces:
            found["tokens"] = [{"id": token, "piece": name} for token, name in zip(ids, names, strict=True)]
        if strings:
            found["token_strs"] = names
        return found

    return work


def detokenized(model: Model, body: Any) -> Callable[[], Json]:
    """The text of `tokens`, as `tokenized`. Raises BadRequest, then or when the work is done."""
    ids = protocol.Fields(body).first(("tokens", protocol.are_ids, "a list of token ids"))

    def work() -> Json:
        try:
            model.engine.check_ids(ids)
        except UsageError as problem:
            raise protocol.refused(problem, param="tokens") from None
        text = model.tokenizer.decode(ids)
        return {"prompt": text, "content": text}

    return work
