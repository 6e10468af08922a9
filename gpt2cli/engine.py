"""An ONNX Runtime session and its KV cache: ids in, logits out. Knows no text.

The graph's contract is written in export/graph.py. A row's length says how much of the cache (cache.py) counts, so
rewinding costs nothing. On CUDA weights and cache stay on the device; ids go there, and logits come back."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpt2cli.cache import Cache, DeviceCache, HostCache
from gpt2cli.errors import CannotMeet, CorruptFile, UsageError
from gpt2cli.export import CONTRACT
from gpt2cli.sessions import OrtValue, open_session, out_of_memory, weight_bits

Ids = Sequence[int]
Logits = np.ndarray[Any, np.dtype[np.float32]]

# Attention computes the whole square of new tokens by all tokens; chunks skip most of what the causal mask hides.
CHUNK = 128


@dataclass(frozen=True)
class Facts:
    """What an export says of itself (model.onnx, metadata `gpt2cli`)."""

    version: int
    precision: str
    weight_bits: int  # of int8: 8, or 7
    layers: int
    heads: int
    head_size: int
    positions: int
    vocabulary: int
    ends: tuple[int, ...]  # tokens that end a text; none where the checkpoint names none in its vocabulary
    start: int | None  # the token before a text's first


class Engine:
    """`feed` prefills and steps, `rewind` forgets, `select` copies, drops and reorders rows.

    A new engine has one empty row. All methods leave the cache as it was when they raise before running."""

    _device = "cpu"

    def __init__(self, folder: Path, *, threads: int = 0, device: str = "cpu", alternating: bool = False) -> None:
        """Load `folder`/model.onnx. `threads` 0 lets ONNX Runtime choose. `device` "cuda" needs an fp16 export;
        `alternating` is open_session's. Raises CorruptFile and CannotMeet."""
        path = folder / "model.onnx"
        saturates = weight_bits(path) == 8
        self._session = open_session(path, threads, saturates=saturates, device=device, alternating=alternating)
        try:
            facts = json.loads(self._session.get_modelmeta().custom_metadata_map["gpt2cli"])
            if facts["version"] != CONTRACT:
                raise CorruptFile(
                    f"{path} was exported by another version of gpt2", "export the checkpoint again, with this one"
                )
            self.facts = Facts(**facts | {"ends": tuple(facts["ends"])})
        except (KeyError, TypeError, ValueError):
            raise CorruptFile(
                f"{path} was not exported by gpt2",
                "give the checkpoint's own folder; it is exported on first use",
            ) from None
        self.said: list[list[int]] = [[]]  # the tokens that each row's cache holds
        self.text = 0  # counts the resets: whoever remembers it knows whether the cache is still theirs
        self._device = device
        self.chunk = CHUNK if device == "cpu" else self.window  # CUDA's attention skips the hidden part itself
        self._cache = self._new_cache()
        self._binding: tuple[slice, Any] | None = None

    @property
    def window(self) -> int:
        """Positions of the model: the most tokens that a row can hold."""
        return self.facts.positions

    @property
    def vocabulary(self) -> int:
        return self.facts.vocabulary

    @property
    def lengths(self) -> list[int]:
        """Tokens in each row."""
        return [len(row) for row in self.said]

    def _new_cache(self) -> Cache:
        facts = self.facts
        shape = (facts.heads, facts.positions, facts.head_size)
        dtype = np.float16 if facts.precision == "fp16" else np.float32
        if self._device == "cpu":
            return HostCache(facts.layers, shape, dtype)
        return DeviceCache(facts.layers, shape, dtype, self._device)

    def feed(self, ids: Sequence[Ids], *, every: bool = False) -> Logits:
        """Append ids[r] (at least one) to each row r; returns the logits after the last token of each row,
        [rows, vocabulary]. With `every`, after each token: one row only, [tokens, vocabulary].

        Rows may differ in length and in new tokens. Raises UsageError for an id outside the vocabulary, CannotMeet
        where memory runs out and ValueError where a row would outgrow the window."""
        self._check(ids, every)
        if all(len(row) == 1 for row in ids):
            return self._run(slice(0, len(ids)), np.array(ids, np.int64), last_only=True)
        # ONNX Runtime's attention takes several tokens on a filled cache for a single row only
        logits = np.empty((len(ids), self.vocabulary), np.float32)
        pieces = []
        for row, new in enumerate(ids):
            for start in range(0, len(new), self.chunk):
                chunk = np.array([new[start : start + self.chunk]], np.int64)
                last = self._run(slice(row, row + 1), chunk, last_only=not every)
                pieces.append(last) if every else None
            logits[row] = last[-1]
        return np.concatenate(pieces) if every else logits

    def each(self, ids: Sequence[Ids]) -> list[Logits]:
        """The logits after each token of several short texts (at least one token each), as one batch: for each text
        [tokens, vocabulary]. Forgets what was there, and leaves one empty row. Raises as `feed`."""
        self.reset()
        self.select([0] * len(ids))
        self._check(ids, False)
        longest = max(map(len, ids))
        padded = np.array([[*row, *[0] * (longest - len(row))] for row in ids], np.int64)
        # padding on the right of an empty cache is seen by no token before it
        logits = self._run(slice(0, len(ids)), padded, last_only=False)
        self.reset()
        return [logits[number * longest :][: len(row)] for number, row in enumerate(ids)]

    def _check(self, ids: Sequence[Ids], every: bool) -> None:
        if len(ids) != len(self.lengths):
            raise ValueError(f"{len(ids)} rows fed to an engine of {len(self.lengths)}")
        if every and len(ids) != 1:
            raise ValueError("every=True takes one row")
        for row, length in zip(ids, self.lengths, strict=True):
            if not row:
                raise ValueError("a row without new tokens")
            if length + len(row) > self.window:
                raise ValueError(f"{length} + {len(row)} tokens do not fit into the window of {self.window}")
            self.check_ids(row)

    def check_ids(self, ids: Ids) -> None:
        """Raises UsageError for an id outside the vocabulary."""
        for token in ids:
            if not 0 <= token < self.vocabulary:
                raise UsageError(
                    f"the token id {token} lies outside the model's vocabulary",
                    f"ids go from 0 to {self.vocabulary - 1}",
                )

    def check_room(self, rows: int, tokens: int) -> None:
        """Raises CannotMeet where the machine has not the memory for so many rows with so many tokens each. A GPU says
        so itself, when the rows are made."""
        if self._device != "cpu":
            return
        facts, tokens = self.facts, min(tokens, self.window)
        floats = 2 * facts.layers * facts.heads * facts.head_size * tokens + 4 * facts.vocabulary  # cache, and logits
        needed, memory = 4 * rows * floats, _physical_memory()
        if memory is not None and needed > memory:
            raise CannotMeet(
                f"{rows} rows of {tokens} tokens need {needed / 1e9:,.1f} GB, the machine has {memory / 1e9:,.1f}",
                "ask for fewer samples, -N, or fewer tokens, -n",
            )

    def _run(self, rows: slice, ids: Any, *, last_only: bool) -> Logits:
        """One call of the graph: ids [B, T] appended to the rows of `rows`."""
        batch, new = ids.shape
        lengths = np.array(self.lengths[rows], np.int32)
        binding = self._bound(rows)
        logit_rows = np.arange(batch) * new + new - 1 if last_only else np.arange(batch * new)
        logits = np.empty((len(logit_rows), self.vocabulary), np.float32)
        inputs = {
            "input_ids": ids,
            "position_ids": lengths[:, None].astype(np.int64) + np.arange(new),
            "logit_rows": logit_rows.astype(np.int64),
            "seqlens_k": (lengths + new - 1).astype(np.int32),
            "total_sequence_length": np.array(lengths.max() + new, np.int32),
        }
        for name, value in inputs.items():
            binding.bind_cpu_input(name, value)
        binding.bind_ortvalue_output("logits", OrtValue.ortvalue_from_numpy(logits))
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:  # ONNX Runtime has one exception class for each kind of failure
            if problem := out_of_memory(error):
                raise problem from None
            raise
        checked(logits)
        for row, tokens in zip(range(rows.start, rows.stop), ids.tolist(), strict=True):
            self.said[row] += tokens
        return logits

    def _bound(self, rows: slice) -> Any:
        """A binding whose past and present are the same memory: the cache of `rows`. The last one is kept."""
        if self._binding is None or self._binding[0] != rows:
            binding = self._session.io_binding()
            self._cache.bind(binding, rows)
            self._binding = rows, binding
        return self._binding[1]

    def reset(self) -> None:
        """Back to one empty row, for another text."""
        self.said = [[]]
        self.text += 1

    def resume(self, ids: Ids) -> int:
        """Back to one row, for a text that begins with `ids`: the row that shares most of them stays, as far as
        it does, but never the last of `ids`, whose logits are wanted. Returns how many tokens stay."""
        shared, row = self._longest_shared(ids)
        self.select([row])
        self.rewind(shared)
        self.text += 1
        return shared

    def shared(self, ids: Ids) -> int:
        """How many tokens `resume` would keep."""
        return self._longest_shared(ids)[0]

    def _longest_shared(self, ids: Ids) -> tuple[int, int]:
        shared = [_shared(said, ids[:-1]) for said in self.said]
        return max(shared), shared.index(max(shared))

    def rewind(self, length: int, row: int = 0) -> None:
        """Forget all but the first `length` tokens of a row."""
        if not 0 <= length <= len(self.said[row]):
            raise ValueError(f"cannot rewind a row of {len(self.said[row])} tokens to {length}")
        del self.said[row][length:]

    def select(self, rows: Sequence[int]) -> None:
        """Row i becomes what row rows[i] was: repeats, drops and reorders rows. At least one must stay."""
        if list(rows) == list(range(len(self.lengths))):
            return
        said = [list(self.said[row]) for row in rows]
        used = max(map(len, said))
        self.said = [[] for _ in self.said]  # an interruption amid the copying leaves empty rows, not wrong ones
        self._binding = None
        self._cache.select(rows, used)
        self.said = said


def _shared(first: Ids, second: Ids) -> int:
    """The length of their common beginning."""
    return next(
        (place for place, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )


def checked(logits: Logits) -> Logits:
    """The logits, if they are numbers. Raises CorruptFile."""
    if not np.isfinite(logits).all():
        raise CorruptFile(
            "the model's logits are not finite numbers (NaN or infinity)",
            "its weights overflow or are broken: try --precision fp32, or another checkpoint",
        )
    return logits


def _physical_memory() -> int | None:
    """In bytes; None where the system does not say (Windows, where an allocation that is too large fails at once)."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
