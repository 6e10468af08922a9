"""An ONNX Runtime session and its KV cache: ids in, logits out. Knows no text.

The graph's contract is written in export/graph.py. A row's length says how much of the cache (kvcache.py) counts, so
rewinding costs nothing. On CUDA weights and cache stay on the device; ids go there, and logits come back."""

import json
from collections.abc import Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gpt2cli.engine import machine
from gpt2cli.engine.chunks import CHUNK, cut, full, joinable
from gpt2cli.engine.facts import Facts, Ids, Logits
from gpt2cli.engine.kvcache import Cache, DeviceCache, HostCache
from gpt2cli.engine.runtime import OrtValue, open_session, out_of_memory, settled
from gpt2cli.errors import CannotMeet, CorruptFile, UsageError
from gpt2cli.export.names import CONTRACT


class Engine:
    """`feed` prefills and steps, `rewind` forgets, `select` adds, copies, drops and reorders rows.

    A new engine has one empty row. All methods leave the cache as it was when they raise before running."""

    device = "cpu"
    graph: Path | None = None  # of an export of ours
    joined = 1  # full chunks that may be computed in one call, where nobody waits
    inspected: Any = None  # inspection.py, which stands above this file, keeps its own here

    def __init__(
        self,
        folder: Path,
        *,
        threads: int = 0,
        device: str = "cpu",
        alternating: bool = False,
        beside: bool | None = None,
    ) -> None:
        """Load `folder`/model.onnx. `threads` 0 lets ONNX Runtime choose. `device` "cuda" needs an fp16 export;
        `alternating` and `beside` are open_session's. Raises CorruptFile and CannotMeet."""
        path = self.graph = folder / "model.onnx"
        self.threads = threads
        self._session = open_session(
            path, threads, settled=settled(path), device=device, alternating=alternating, beside=beside
        )
        try:
            facts = json.loads(self._session.get_modelmeta().custom_metadata_map["gpt2cli"])
            if facts["version"] != CONTRACT:
                raise CorruptFile(
                    f"{path} was exported by another version of gpt2", "export the checkpoint again, with this one"
                )
            self.facts = Facts(**facts | {"ends": tuple(facts["ends"])})
        except (KeyError, TypeError, ValueError):
            raise CorruptFile(
                f"{path} was not exported by gpt2", "give the checkpoint's own folder; it is exported on first use"
            ) from None
        self.reset()
        self.device = device
        self.chunk = CHUNK if device == "cpu" else self.window  # CUDA's attention skips the hidden part itself
        self.joined = joinable(self.facts)
        self._cache = self._new_cache()
        self._bindings: dict[tuple[int, int], Any] = {}

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
        if self.device == "cpu":
            return HostCache(facts.layers, shape, dtype)
        return DeviceCache(facts.layers, shape, dtype, self.device)

    def feed(
        self, ids: Sequence[Ids], *, rows: Sequence[int] | None = None, every: bool = False, silent: bool = False
    ) -> Logits:
        """Append ids[i] (at least one token) to the row rows[i]; returns the logits after the last token of each,
        [len(rows), vocabulary]. Without `rows` all of them, in order. With `every`, after each token: one row only,
        [tokens, vocabulary]. With `silent` nobody wants any: there may be none.

        Rows may differ in length and in new tokens. Raises UsageError for an id outside the vocabulary, CannotMeet
        where memory runs out and ValueError where a row would outgrow the window."""
        rows = range(len(self.said)) if rows is None else rows
        self._check(ids, rows, every)
        if all(len(new) == 1 for new in ids):
            return self._step(rows, [new[0] for new in ids])
        # ONNX Runtime's attention takes several tokens on a filled cache for a single row only
        logits = np.empty((len(ids), self.vocabulary), np.float32)
        pieces = []
        for number, (row, new) in enumerate(zip(rows, ids, strict=True)):
            chunks = self.chunks(new)
            while chunks:
                count = 1 if every else self.together(chunks)
                first, chunks = chunks[:count], chunks[count:]
                fed = np.array([[token for chunk in first for token in chunk]], np.int64)
                whole = np.arange(fed.size)
                wanted = whole if every else whole[:0] if silent or chunks else None
                last = self._run(slice(row, row + 1), fed, wanted)
                for chunk in first:
                    self._note(row, chunk)
                if every:
                    pieces.append(last)
            if len(last):
                logits[number] = last[-1]
        if every:
            return np.concatenate(pieces)
        return logits[:0] if silent else logits

    def chunks(self, ids: Ids) -> list[Ids]:
        """What is fed at a time where others wait."""
        return cut(ids, self.chunk)

    def together(self, chunks: Iterable[Ids]) -> int:
        """How many of the first of these chunks one call may compute, with the same bits."""
        return full(chunks, self.joined)

    def _step(self, rows: Sequence[int], tokens: Ids) -> Logits:
        """One token for each of `rows`, in one call where no row that is full lies between them."""
        first, count = rows[0], len(rows)
        if list(rows) == list(range(first, first + count)):
            logits = self._run(slice(first, first + count), np.array(tokens, np.int64)[:, None])
        else:
            fed = dict(zip(rows, tokens, strict=True))
            found: dict[int, Logits] = {}
            for span in self._spans(fed):
                # a row between them that gets none computes one that nobody will see: cheaper than another call
                new = np.array([[fed.get(row, 0)] for row in range(span.start, span.stop)], np.int64)
                found |= zip(range(span.start, span.stop), self._run(span, new), strict=True)
            logits = np.stack([found[row] for row in rows])
        for row, token in zip(rows, tokens, strict=True):
            self._note(row, [token])
        return logits

    def _spans(self, fed: Container[int]) -> Iterator[slice]:
        """The rows that are fed and those between them, without those that have no room."""
        start = stop = None
        for row, said in enumerate(self.said):
            if row in fed:
                start, stop = row if start is None else start, row + 1
            elif start is not None and len(said) == self.window:
                yield slice(start, stop)
                start = None
        if start is not None:
            yield slice(start, stop)

    def each(self, ids: Sequence[Ids], last: Sequence[int] | None = None) -> list[Logits]:
        """The logits after each token of several short texts (at least one token each), as one batch: for each text
        [tokens, vocabulary]; with `last`, after the last so many tokens of each. The rows that there are stay as they
        are. Raises as `feed`."""
        before, counts = range(len(self.said)), list(map(len, ids)) if last is None else last
        self.select([*before, *[None] * len(ids)])
        try:
            self._check(ids, range(len(before), len(before) + len(ids)), False)
            longest = max(map(len, ids))
            padded = np.array([[*row, *[0] * (longest - len(row))] for row in ids], np.int64)
            ends = [longest * number + len(row) for number, row in enumerate(ids)]
            wanted = np.concatenate([np.arange(end - count, end) for end, count in zip(ends, counts, strict=True)])
            # padding on the right of an empty cache is seen by no token before it
            logits = self._run(slice(len(before), len(before) + len(ids)), padded, wanted)
        finally:
            self.select(before)
        return np.split(logits, np.cumsum(counts)[:-1])

    def _check(self, ids: Sequence[Ids], rows: Sequence[int], every: bool) -> None:
        if len(ids) != len(rows):
            raise ValueError(f"{len(ids)} rows fed to an engine of {len(rows)}")
        if every and len(ids) != 1:
            raise ValueError("every=True takes one row")
        for number, new in zip(rows, ids, strict=True):
            length = len(self.said[number])
            if not new:
                raise ValueError("a row without new tokens")
            if length + len(new) > self.window:
                raise ValueError(f"{length} + {len(new)} tokens do not fit into the window of {self.window}")
            self.check_ids(new)

    def check_ids(self, ids: Ids) -> None:
        """Raises UsageError for an id outside the vocabulary."""
        for token in ids:
            if not 0 <= token < self.vocabulary:
                raise UsageError(
                    f"the token id {token} lies outside the model's vocabulary",
                    f"ids go from 0 to {self.vocabulary - 1}",
                )

    def any_ids(self, count: int) -> list[int]:
        """Ids spread over the vocabulary by a fixed rule: to be computed, tokens need no meaning."""
        return [(7919 * number + 13) % self.vocabulary for number in range(count)]

    def check_room(self, rows: int, tokens: int) -> None:
        """Raises CannotMeet where the machine has not the memory for so many rows with so many tokens each. A GPU says
        so itself, when the rows are made."""
        if self.device != "cpu":
            return
        facts, tokens = self.facts, min(tokens, self.window)
        floats = 2 * facts.layers * facts.heads * facts.head_size * tokens + 4 * facts.vocabulary  # cache, and logits
        needed, memory = 4 * rows * floats, machine.memory()
        if memory is not None and needed > memory:
            raise CannotMeet(
                f"{rows} rows of {tokens} tokens need {needed / 1e9:,.1f} GB, the machine has {memory / 1e9:,.1f}",
                "lower `samples` or `max_tokens`",
            )

    def rows_at_once(self) -> int:
        """How many rows the machine's memory is good for: their cache gets a quarter of it, and 16 are enough."""
        facts, memory = self.facts, machine.memory()
        width = 2 if facts.precision == "fp16" else 4
        row = 2 * facts.layers * facts.heads * facts.head_size * facts.positions * width
        return 16 if memory is None else max(1, min(16, memory // 4 // row))

    def _run(self, rows: slice, ids: Any, wanted: Any = None) -> Logits:
        """One call of the graph: ids [B, T] after what `rows` hold; the logits at the places `wanted` of B * T, or else
        after the last token of each row. Whose they are is for the caller to note."""
        batch, new = ids.shape
        lengths = np.array(self.lengths[rows], np.int32)
        binding = self._bound(rows)
        logit_rows = np.arange(batch) * new + new - 1 if wanted is None else wanted
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
        return checked(logits)

    def _bound(self, rows: slice) -> Any:
        """A binding whose past and present are the same memory: the cache of `rows`. Kept until rows move."""
        key = rows.start, rows.stop
        if key not in self._bindings:
            self._bindings[key] = binding = self._session.io_binding()
            self._cache.bind(binding, rows)
        return self._bindings[key]

    def reset(self) -> None:
        """Back to one empty row."""
        self.said: list[list[int]] = [[]]  # the tokens that each row's cache holds
        self.calls: list[list[int]] = [[]]  # how many of them its first calls took: a prompt's, not a text's

    def _note(self, row: int, ids: Ids) -> None:
        """What a call has appended to a row."""
        said, calls = self.said[row], self.calls[row]
        if not said or (len(ids) > 1 and sum(calls) == len(said)):
            calls.append(len(ids))
        said += ids

    def rewind(self, length: int, row: int = 0) -> None:
        """Forget all but the first `length` tokens of a row."""
        if not 0 <= length <= len(self.said[row]):
            raise ValueError(f"cannot rewind a row of {len(self.said[row])} tokens to {length}")
        del self.said[row][length:]
        while sum(self.calls[row]) > length:
            self.calls[row].pop()

    def select(self, rows: Sequence[int | None]) -> None:
        """Row i becomes what row rows[i] was, or empty (None): adds, repeats, drops and reorders rows. At least one
        must stay. Raises CannotMeet where memory runs out."""
        if list(rows) == list(range(len(self.said))):
            return
        said = [[] if row is None else list(self.said[row]) for row in rows]
        calls = [[] if row is None else list(self.calls[row]) for row in rows]
        # an interruption amid the copying leaves the rows that move empty, not wrong ones
        stay = {number for number, row in enumerate(rows) if row == number}
        before, self.said = self.said, [row if number in stay else [] for number, row in enumerate(self.said)]
        self._bindings.clear()
        try:
            self._cache.select(rows, [len(row) for row in said])
        except CannotMeet:
            self.said = before
            raise
        self.said, self.calls = said, calls


def checked(found: Logits, what: str = "logits") -> Logits:
    """What the model has found, if it is numbers. Raises CorruptFile."""
    if not np.isfinite(found).all():
        raise CorruptFile(
            f"the model's {what} are not finite numbers (NaN or infinity)",
            "its weights overflow or are broken: try `precision` fp32, or another checkpoint",
        )
    return found
