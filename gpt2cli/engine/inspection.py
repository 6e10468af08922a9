"""What lies inside a model: the hidden states after one of its layers, or all of them with the attention of each block.
Knows no text.

The graphs are parts of the export's own (export/inspection.py), made when somebody asks: they read the same weights,
and compute nothing that was not asked for."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpt2cli.engine.engine import Engine, checked
from gpt2cli.engine.facts import Ids, Logits
from gpt2cli.engine.runtime import open_session, out_of_memory
from gpt2cli.errors import CannotMeet, UsageError

Array = np.ndarray[Any, np.dtype[np.float32]]
Hidden = Array

_opening = threading.Lock()


@dataclass(frozen=True)
class Held:
    """What the first chunks of a text have left for the next one: keys and values, a pair a layer."""

    length: int
    caches: list[Any]

    def values(self, layer: int) -> Array:
        """The value vectors [heads, tokens, head size] of the first row."""
        found: Array = self.caches[2 * layer + 1][0].astype(np.float32)
        return found


class _Part:
    """A part of the model that takes a text, or more of one. Remembers nothing from one call to the next: safe to share
    between threads."""

    def __init__(self, engine: Engine, graph: bytes, layers: int, device: str) -> None:
        facts = engine.facts
        self._session = _opened(engine, graph, device)
        names = [f"_{kind}_{number}" for number in range(layers) for kind in ("key", "value")]
        self._pasts, self._presents = [f"past{name}" for name in names], [f"present{name}" for name in names]
        self._shape = (facts.heads, 0, facts.head_size)
        self._dtype = np.float16 if facts.precision == "fp16" else np.float32

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
        return _called(self._session, names, inputs | dict(zip(self._pasts, held.caches, strict=True)))


class Inspection(_Part):
    """Hidden states of a layer."""

    def __init__(self, engine: Engine, layer: int) -> None:
        """Raises as `inspection`."""
        from gpt2cli.export.inspection import hidden_states  # imports onnx: 150 ms that only this pays

        graph, layers = hidden_states(_path(engine), layer)
        super().__init__(engine, graph, layers, engine.device)
        self.layer = layer

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


@dataclass(frozen=True)
class Seen:
    """What was inside while some tokens were read."""

    states: Array  # [layers + 1, tokens, width]: the embeddings, and what came out of each block, before ln_f
    attention: list[Array]  # of each block [heads, tokens, tokens so far], where it was wanted


class Insides(_Part):
    """All layers. Always on the CPU: on CUDA attention does not show its weights."""

    def __init__(self, engine: Engine) -> None:
        """Raises as `insides`."""
        from gpt2cli.export import inspection as graphs  # imports onnx: 150 ms that only this pays

        self._graphs, self._engine, self._layers = graphs, engine, engine.facts.layers
        super().__init__(engine, graphs.insides(_path(engine)), self._layers, "cpu")
        self._ending = _opened(engine, graphs.ending(_path(engine)), "cpu")
        self._block_ends: Any = None  # few want it

    def chunk(self, ids: Ids, held: Held | None, *, attention: bool = True) -> tuple[Seen, Held]:
        """What is inside while the next tokens of a text are read, and what the tokens after them need. The ids must
        lie in the vocabulary; `attention` takes the most memory. Raises CorruptFile and CannotMeet."""
        held = held or Held(0, self._nothing(1))
        layers = self._layers
        states = [f"state_{number}" for number in range(layers + 1)]
        weights = [f"attention_{number}" for number in range(layers if attention else 0)]
        found = self._run([*states, *weights, *self._presents], np.array([ids], np.int64), held)
        seen, looks, caches = found[: layers + 1], found[layers + 1 : -2 * layers], found[-2 * layers :]
        whole = checked(np.concatenate(seen), "hidden states")
        return Seen(whole, [one[0] for one in looks]), Held(held.length + len(ids), caches)

    def says(self, states: Hidden) -> Logits:
        """The logits [rows, vocabulary] of states [rows, width] of whichever layer, as if the model ended there: ln_f
        and the head. Raises as `chunk`."""
        rows = np.arange(len(states), dtype=np.int64)
        (logits,) = _called(self._ending, ["logits"], {"states": states, "logit_rows": rows})
        return checked(logits)

    def after_attention(self, attended: Array, residual: Array) -> Array:
        """What comes out of each block [layers, rows, width] where its heads have attended to [layers, rows, heads *
        head size] and its input was [layers, rows, width]: each block by itself. Raises as `chunk`."""
        self.open_block_ends()
        inputs = {f"heads_{number}": attended[number, None] for number in range(self._layers)}
        inputs |= {f"residual_{number}": residual[number, None] for number in range(self._layers)}
        found = _called(self._block_ends, [f"state_{number}" for number in range(self._layers)], inputs)
        return checked(np.concatenate(found), "hidden states")

    def open_block_ends(self) -> None:
        """What `after_attention` needs, for those who cannot wait then."""
        with _opening:
            if self._block_ends is None:
                self._block_ends = _opened(self._engine, self._graphs.block_ends(_path(self._engine)), "cpu")


def inspection(engine: Engine, layer: int) -> Inspection:
    """Of a layer, numbered as transformers does: 0 are the embeddings, the last comes after ln_f, and negative numbers
    count from it. The engine keeps what was asked for last. Raises UsageError for a layer that does not exist,
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
        if not isinstance(engine.inspected, Inspection) or engine.inspected.layer != layer:
            engine.inspected = None  # one is in memory at a time
            engine.inspected = Inspection(engine, layer)
        found: Inspection = engine.inspected
    return found


def insides(engine: Engine) -> Insides:
    """Of all layers. The engine keeps what was asked for last. Raises CannotMeet for a ready-made graph, and
    CorruptFile."""
    if engine.graph is None:
        raise CannotMeet(
            "a ready-made ONNX graph does not show what lies inside it",
            "use the model's checkpoint: leave out `source` onnx",
        )
    with _opening:
        if not isinstance(engine.inspected, Insides):
            engine.inspected = None  # one is in memory at a time
            engine.inspected = Insides(engine)
        found: Insides = engine.inspected
    return found


def _path(engine: Engine) -> Path:
    assert engine.graph is not None
    return engine.graph


def _opened(engine: Engine, graph: bytes, device: str) -> Any:
    settled = engine.facts.settled
    return open_session(graph, engine.threads, settled=settled, device=device, weights=_path(engine).parent)


def _called(session: Any, names: list[str], inputs: dict[str, Any]) -> list[Any]:
    try:
        found: list[Any] = session.run(names, inputs)
    except Exception as error:  # ONNX Runtime has one exception class for each kind of failure
        if problem := out_of_memory(error):
            raise problem from None
        raise
    return found
