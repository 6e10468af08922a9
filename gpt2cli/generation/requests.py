"""What is asked for, a Request, and what comes of it, Pieces. Imports nothing heavy."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import inf
from typing import TYPE_CHECKING, Any, Literal, Protocol

from gpt2cli.generation.forms import Constraint
from gpt2cli.generation.parameters import Limits, Sampling

if TYPE_CHECKING:
    from gpt2cli.generation.speculation import Drafter

Finish = Literal["stop", "length", "end", "incomplete"]


class Words(Protocol):
    """What a tokenizer knows of tokens."""

    def decode(self, ids: Sequence[int]) -> str: ...
    def plain(self, token: int) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Logprob:
    """Natural log-probability of a token under the model's own distribution, before any sampling step, the most
    probable tokens there with theirs, and the token's rank among all (1: the most probable), where it was asked for."""

    logprob: float
    top: tuple[tuple[int, float], ...]
    rank: int | None = None

    def plain(self, token: int, words: "Words") -> dict[str, Any]:
        """That of this token, for JSON."""
        top = [{"id": other, "token": words.decode([other]), "logprob": value} for other, value in self.top]
        return words.plain(token) | {"logprob": self.logprob, "top": top}


@dataclass(frozen=True)
class Piece:
    """One token of one row. `text` is what became printable with it (often the token's text, sometimes nothing or
    more); `held` is what waits: bytes of a character still to be completed, or what may begin a stop string. It comes
    again in a later piece, and whoever stops before adds it. `token` is None where no token was added: with
    max_tokens 0, and for an end token, which is `end`. `finish` is set on the last piece of a row: "stop" a stop
    string, "length" enough tokens, "end" an end token, or that nothing can follow within the constraint, "incomplete"
    enough tokens before the text met its constraint."""

    row: int
    text: str
    held: str = ""
    token: int | None = None
    logprob: Logprob | None = None
    finish: Finish | None = None
    end: int | None = None


@dataclass(frozen=True)
class Request:
    """What is asked for: the ids that are fed, and how they go on.

    `shares`: where a row begins with the same calls of the engine, these are not made again; with `resumes`, whatever
    calls its tokens came from. `first` is the number of the first sample, whose draws are its own. `stop_tokens` end a
    text as the model's end tokens do. `constraint` is the form that each text must have."""

    ids: Sequence[int]
    sampling: Sampling
    limits: Limits
    samples: int = 1
    beams: int = 1
    logprobs: int | None = None
    drafter: "Drafter | None" = None
    resumes: bool = False
    shares: bool = False
    first: int = 0
    stop_tokens: tuple[int, ...] = ()
    constraint: Constraint | None = None

    def settings(self) -> dict[str, Any]:
        """The parameters as JSON has them, but the seed."""
        biases = {str(token): "-inf" if bias == -inf else bias for token, bias in self.sampling.logit_bias.items()}
        found = asdict(self.sampling) | {"logit_bias": biases} | asdict(self.limits) | {"stop": list(self.limits.stop)}
        del found["seed"]
        constraint = None if self.constraint is None else self.constraint.plain()
        return found | {"beams": self.beams, "constraint": constraint}
