"""Ready-made ONNX graphs with optimum's interface, behind the contract of Engine.

    input_ids, attention_mask, [position_ids], [past_key_values.N.key/value]  ->  logits, [present.N.key/value]

Three kinds: with a cache; the older merged decoder, whose `use_cache_branch` says whether there is one (first pass
without, then a token at a time); and without any cache, which computes the whole row each time. A graph without
position_ids counts positions itself, so its rows run one by one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gpt2cli.engine.chunks import CHUNK
from gpt2cli.engine.engine import Engine, checked
from gpt2cli.engine.facts import Facts, Ids, Logits
from gpt2cli.engine.runtime import open_session, out_of_memory
from gpt2cli.errors import CorruptFile, UnknownModel
from gpt2cli.export.checkpoint import read_config
from gpt2cli.export.names import CONTRACT

Array = np.ndarray[Any, np.dtype[Any]]

_TYPES = {
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(bool)": np.bool_,
}
_PLAIN = {"input_ids", "attention_mask", "position_ids", "use_cache_branch"}
# What file names say of their precision, with the names of optimum and transformers.js.
_MARKS = {"quantized": "int8", "int8": "int8", "uint8": "int8", "fp16": "fp16", "q4": "int4", "bnb4": "int4"}


class ReadyEngine(Engine):
    """A row's cache is a list of arrays [1, heads, tokens, head size], one for each input of the cache."""

    def __init__(
        self, path: Path, folder: Path, *, threads: int = 0, alternating: bool = False, beside: bool | None = None
    ) -> None:
        """Load the graph `path`, whose config.json lies in `folder` or beside it. Raises CorruptFile and
        UnknownModel."""
        self._path, self.threads = path, threads
        self._session = open_session(path, threads, alternating=alternating, beside=beside)
        self._inputs = {item.name: item for item in self._session.get_inputs()}
        outputs = {item.name: item for item in self._session.get_outputs()}
        self._caches = [name for name in self._inputs if name.startswith("past_key_values.")]
        self._presents = [name.replace("past_key_values", "present") for name in self._caches]
        strange = set(self._inputs) - _PLAIN - set(self._caches)
        if strange or "input_ids" not in self._inputs or "logits" not in outputs:
            what = f"the inputs {', '.join(sorted(strange))}" if strange else "no input_ids or no logits"
            raise UnknownModel(f"{path} has {what}", "only graphs with optimum's text-generation interface can be run")
        if not set(self._presents) <= set(outputs):
            raise CorruptFile(f"{path} takes a cache and gives none back", "export it again")
        odd = [item.type for item in self._inputs.values() if item.type not in _TYPES]
        if odd:
            raise UnknownModel(f"{path} has inputs of the type {odd[0]}", "float32, float16 and integers are known")
        self._merged = "use_cache_branch" in self._inputs
        # the cached branch of the merged decoder, and some others, take a token at a time
        self._one_by_one = bool(self._caches) and (self._merged or _shape(self._inputs["input_ids"])[1:] == [1])
        config = read_config(folder if (folder / "config.json").exists() else path.parent)
        shape = _shape(self._inputs[self._caches[0]]) if self._caches else []
        heads, size = (shape[1], shape[3]) if len(shape) == 4 else (None, None)
        vocabulary = (_shape(outputs["logits"]) or [None])[-1]
        vocabulary = vocabulary if isinstance(vocabulary, int) else config.vocab_size
        self.facts = Facts(
            version=CONTRACT,
            precision=self._precision(),
            weight_bits=8,
            saturates=True,
            layers=len(self._caches) // 2 or config.n_layer,
            heads=heads if isinstance(heads, int) else config.n_head,
            head_size=size if isinstance(size, int) else config.head_size,
            positions=config.n_positions,
            vocabulary=vocabulary,
            ends=config.eos_token_ids,
            start=config.bos_token_id,
        )
        self.chunk = CHUNK if self._caches else self.window
        self.reset()

    def _precision(self) -> str:
        """By the file's name where that says it; else by the type of the cache."""
        words = self._path.stem.replace("q4f16", "q4").split("_")
        marked = next((_MARKS[word] for word in words if word in _MARKS), None)
        half = bool(self._caches) and self._inputs[self._caches[0]].type == "tensor(float16)"
        return marked or ("fp16" if half else "fp32")

    def reset(self) -> None:
        super().reset()
        self._rows = [self._empty(1, 0)]
        self._batch: list[Array] | None = None  # the arrays that self._rows are views of, while they are

    def _empty(self, rows: int, length: int) -> list[Array]:
        shape = (rows, self.facts.heads, length, self.facts.head_size)
        return [np.zeros(shape, _TYPES[self._inputs[name].type]) for name in self._caches]

    def feed(
        self, ids: Sequence[Ids], *, rows: Sequence[int] | None = None, every: bool = False, silent: bool = False
    ) -> Logits:
        rows = range(len(self.said)) if rows is None else rows
        self._check(ids, rows, every)
        batched = "position_ids" in self._inputs
        # those that are equally long, with equally many new tokens, in one call
        kinds = [(len(self.said[row]), len(new), 0 if batched else row) for row, new in zip(rows, ids, strict=True)]
        found: dict[int, Logits] = {}
        for kind in dict.fromkeys(kinds):
            places = [place for place, other in enumerate(kinds) if other == kind]
            logits = self._append([rows[place] for place in places], [ids[place] for place in places], every)
            if len(places) == len(ids):
                return logits
            found |= zip(places, logits, strict=True)
        return np.stack([found[place] for place in range(len(ids))])

    def each(self, ids: Sequence[Ids], last: Sequence[int] | None = None) -> list[Logits]:
        before, place = range(len(self.said)), len(self.said)
        found = []
        try:
            for row, count in zip(ids, last or map(len, ids), strict=True):
                self.select([*before, None])
                found.append(self.feed([row], rows=[place], every=True)[len(row) - count :])
        finally:
            self.select(before)
        return found

    def _append(self, rows: list[int], ids: Sequence[Ids], every: bool) -> Logits:
        """Equally many new tokens for equally long rows."""
        pieces, start, count = [], 0, len(ids[0])
        while start < count:
            length = self.lengths[rows[0]]
            step = (1 if length or not self._merged else count) if self._one_by_one else self.chunk
            chunk = np.array([new[start : start + step] for new in ids])
            logits = self._run_graph(rows, chunk)
            pieces.append(logits if every else logits[:, -1:])
            start += step
        logits = np.concatenate(pieces, axis=1) if every else pieces[-1]
        return checked(logits.reshape(-1, self.vocabulary))

    def _run_graph(self, rows: list[int], ids: Array) -> Array:
        """One call: ids [B, T] after what `rows` hold; returns logits [B, T, vocabulary] in float32."""
        length, new = self.lengths[rows[0]], ids.shape[1]
        said = [self.said[row] + tokens for row, tokens in zip(rows, ids.tolist(), strict=True)]
        fed = ids if self._caches else np.array(said)
        total = length + new
        feeds: dict[str, Array] = {
            "input_ids": fed,
            "attention_mask": np.ones((len(rows), total)),
            "position_ids": np.tile(np.arange(total - fed.shape[1], total), (len(rows), 1)),
            "use_cache_branch": np.array([length > 0]),
        }
        feeds = {name: feeds[name].astype(_TYPES[item.type]) for name, item in self._inputs.items() if name in feeds}
        if self._merged and not length:
            past = self._empty(len(rows), 1)  # the branch without a cache ignores it, but it may not be empty
        elif self._batch is not None and rows == list(range(len(self.said))):
            past = self._batch
        else:
            past = [np.concatenate([self._rows[row][number] for row in rows]) for number in range(len(self._caches))]
        try:
            logits, *present = self._session.run(
                ["logits", *self._presents], feeds | dict(zip(self._caches, past, strict=True))
            )
        except Exception as error:  # ONNX Runtime has one exception class for each kind of failure
            if problem := out_of_memory(error):
                raise problem from None
            reason = str(error).splitlines()[0]
            raise CorruptFile(f"{self._path} does not run: {reason}", "use another export of the model") from None
        for place, row in enumerate(rows):
            self._rows[row] = [array[place : place + 1] for array in present]
            self._note(row, ids[place].tolist())
        self._batch = present if rows == list(range(len(self.said))) else None
        result: Array = logits[:, logits.shape[1] - new :].astype(np.float32)
        return result

    def rewind(self, length: int, row: int = 0) -> None:
        if length != len(self.said[row]):
            super().rewind(length, row)
            self._rows[row] = [array[:, :, :length] for array in self._rows[row]]
            self._batch = None

    def select(self, rows: Sequence[int | None]) -> None:
        if list(rows) != list(range(len(self.said))):
            self.said, self.calls, self._rows = (
                [[] if row is None else list(self.said[row]) for row in rows],
                [[] if row is None else list(self.calls[row]) for row in rows],
                [self._empty(1, 0) if row is None else self._rows[row] for row in rows],
            )
            self._batch = None


def _shape(item: Any) -> list[int | str | None]:
    """Of an input or output; empty where the graph does not say."""
    return list(item.shape or [])
