"""What can be asked of an explanation."""

from collections.abc import Sequence
from dataclasses import dataclass

from gpt2cli.errors import UsageError
from gpt2cli.generation.parameters import is_whole
from gpt2cli.generation.texts import check_types

PARTS = ("lens", "attention", "rollout", "influence", "value_zeroing")
NEAR = 256  # places before a prediction


@dataclass(frozen=True)
class Question:
    """What is to be explained. Places of tokens count from 0, which is the start token where `start` lets one precede
    the text.

    `token` is the place whose prediction is explained, -1 the last; `instead` the text or id of a token that might have
    come: the prediction's lead over it is explained then. `top` of the likeliest tokens are told at each place. `parts`
    are "lens" (what each layer would say), "attention" (of the chosen `layers` and `heads`, or of all), "rollout",
    "influence" (what the prediction loses where a token is left out) and "value_zeroing". At `near` places before the
    prediction layers are asked, and tokens left out; `most` weights of attention are given for all places, unless
    layers or heads are named. Raises UsageError."""

    token: int = -1
    instead: str | int | None = None
    start: bool = True
    top: int = 5
    layers: Sequence[int] = ()
    heads: Sequence[int] = ()
    parts: Sequence[str] = PARTS
    near: int = NEAR
    most: int = 10_000_000

    def __post_init__(self) -> None:
        check_types(start=(self.start, bool))
        for name, least in ("token", None), ("top", 1), ("near", 1), ("most", 0):
            value = getattr(self, name)
            if not is_whole(value) or (least is not None and value < least):
                words = "a whole number" if least is None else f"a whole number, {least} or more"
                raise UsageError(f"`{name}` is {value!r}", f"`{name}` must be {words}")
        for name in ("layers", "heads", "parts"):
            value = getattr(self, name)
            if isinstance(value, str) or not isinstance(value, Sequence):
                raise UsageError(f"`{name}` is {value!r}", f"`{name}` must be a list")
        for part in self.parts:
            if part not in PARTS:
                raise UsageError(f"`parts` has {part!r}", f"`parts` must be of {', '.join(PARTS)}")
