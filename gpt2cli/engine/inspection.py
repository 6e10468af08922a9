"""What lies inside a model: the hidden states after one of its layers. Knows no text.

The graph is a part of the export's own (export/inspection.py), made when somebody asks: it reads the same weights, and
computes nothing that comes after the layer."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpt2cli.engine.engine import Engine, Ids, checked
from gpt2cli.engine.runtime import open_session, out_of_memory
from gpt2cli.errors import CannotMeet, UsageError

Hidden = np.ndarray[Any, np.dtype[np.float32]]

_opening = threading.Lock()


@dataclass(frozen=True)
class Held:
    """What the first chunks of a text have left for the next one."""

    length: int
    caches: list[Any]


class Inspection:
    """Hidden states of a layer. Remembers nothing from one call to the next: safe to share between threads."""

    def __init__(self, engine: Engine, layer: int) -> None:
        """Raises as `inspection`."""
        from gpt2cli.export.inspection import hidden_states  # imports onnx: 150 ms that only this pays

        assert engine.graph is not None
        graph, layers = hidden_states(engine.graph, layer)
        facts = engine.facts
        self.layer = layer
        self._session = open_session(
            graph,
            engine.threads,
            saturates=facts.weight_bits == 8,
            device=engine.device,
            weights=engine.graph.parent,
        )
        names = [f"_{kind}_{number}" for number in range(layers) for kind in ("key", "value")]
        self._pasts, self._presents = [f"past{name}" for name in names], [f"present{name}" for name in names]
        self._shape = (facts.heads, 0, facts.head_size)
        self._dtype = np.float16 if facts.precision == "fp16" else np.float32

    @property
    def width(self) -> int:
        """Numbers of a hidden state."""
        return int(self._session.get_outputs()[0].shape[-1])

    def together(self, texts: Sequence[Ids]) -> list[Hidden]:
        """The hidden states [tokens, width] of each of several short texts, computed as one batch. The ids must lie in
        the vocabulary. Raises CorruptFile and CannotMeet."""
        longest = max(map(len, texts))
        # padding on the right is seen by no token before it
        padded = np.array([[*ids, *[0] * (longest - len(ids))] for ids in texts], np.int64)
        (hidden,) = self._run(["hidden"], padded, Held(0, self._nothing(len(texts))))
        return [checked(states[: len(ids)], "hidden states") for states, ids in zip(hidden, texts, strict=True)]

    def chunk(self, ids: Ids, held: Held | None) -> tuple[Hidden, Held]:
        """The hidden states of the next tokens of a text, and what the tokens after them need. Raises as `together`."""
        held = held or Held(0, self._nothing(1))
        hidden, *caches = self._run(["hidden", *self._presents], np.array([ids], np.int64), held)
        return checked(hidden[0], "hidden states"), Held(held.length + len(ids), caches)

    def _nothing(self, rows: int) -> list[Any]:
        return [np.empty((rows, *self._shape), self._dtype)] * len(self._pasts)

    def _run(self, names: list[str], ids: Any, held: Held) -> list[Any]:
        rows, new = ids.shape
        total = held.length + new
        inputs = {
            "input_ids": ids,
            "position_ids": np.tile(np.arange(held.length, total), (rows, 1)),
            "seqlens_k": np.full(rows, total - 1, np.int32),
            "total_sequence_length": np.array(total, np.int32),
        }
        try:
            found: list[Any] = self._session.run(names, inputs | dict(zip(self._pasts, held.caches, strict=True)))
        except Exception as error:  # ONNX Runtime has one exception class for each kind of failure
            if problem := out_of_memory(error):
                raise problem from None
            raise
        return found


def inspection(engine: Engine, layer: int) -> Inspection:
    """Of a layer, numbered as transformers does: 0 are the embeddings, the last comes after ln_f, and negative numbers
    count from it. The engine keeps the one that was asked for last. Raises UsageError for a layer that does not exist,
    CannotMeet for a ready-made graph, CorruptFile."""
    layers = engine.facts.layers
    if not -layers - 1 <= layer <= layers:
        raise UsageError(
            f"`layer` is {layer}, which does not exist",
            f"this model has 0, the embeddings, to {layers}, the last; or -1, the last, to {-layers - 1}",
        )
    if engine.graph is None:
        raise CannotMeet(
            "a ready-made ONNX graph gives no hidden states", "use the model's checkpoint: leave out `source` onnx"
        )
    layer %= layers + 1
    with _opening:
        if engine.inspected is None or engine.inspected.layer != layer:
            engine.inspected = None  # one is in memory at a time
            engine.inspected = Inspection(engine, layer)
        found: Inspection = engine.inspected
    return found
