"""What `gpt2 embed` finds, as JSON lines, CSV, npy or npz. Lines are written as they come. The binary formats say at
their beginning how many vectors there are: these wait in a file of their own until that is known, so that memory does
not grow with them."""

import csv
import io
import itertools
import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from typing import IO, Any

import numpy as np

from gpt2cli.analysis.embedding import Vectors, numbers
from gpt2cli.console import terminal

Id = str | int
Write = Callable[[str], object]
WriteBytes = Callable[[bytes], object]

_LINES = 4096  # ids that are written at a time


class Writer:
    """Writes as vectors are added, unless it says otherwise."""

    def add(self, id: Id, vectors: Vectors) -> None:
        """The vector of a text, or those of its tokens."""
        raise NotImplementedError

    def finish(self) -> None:
        """There are no more; of what was interrupted while it was added there is nothing."""

    def close(self) -> None:
        """Whether finished or not."""


class JsonLines(Writer):
    """{"id", "embedding"} a text; of vectors for each token a list of lists."""

    def __init__(self, write: Write) -> None:
        self._write = write

    def add(self, id: Id, vectors: Vectors) -> None:
        rows = [f"[{numbers(row, ', ')}]" for row in np.atleast_2d(vectors)]
        found = rows[0] if vectors.ndim == 1 else f"[{', '.join(rows)}]"
        self._write(f'{{"id": {terminal.json_text(id)}, "embedding": {found}}}\n')


class Csv(Writer):
    """A row a vector: the text's id, and the numbers in columns that are called by their places."""

    def __init__(self, write: Write) -> None:
        self._write, self._begun = write, False

    def add(self, id: Id, vectors: Vectors) -> None:
        if not self._begun:
            self._begun = True
            self._write(",".join(["id", *map(str, range(vectors.shape[-1]))]) + "\n")
        cell = io.StringIO()
        csv.writer(cell, lineterminator="").writerow([id])
        self._write("".join(f"{cell.getvalue()},{numbers(row, ',')}\n" for row in np.atleast_2d(vectors)))


class Arrays(Writer):
    """float32 [vectors, width] as npy; as npz `vectors` and the text's `ids`, numbers where all are, else texts. Of
    vectors for each token every one has its row."""

    def __init__(self, write: WriteBytes, width: int, *, ids: bool) -> None:
        self._write, self._width, self._with_ids = write, width, ids
        self._files = ExitStack()
        # the stack closes them
        self._vectors: IO[bytes] = self._files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        self._ids: IO[bytes] = self._files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        self._count = self._longest = 0
        self._numbers = True

    def add(self, id: Id, vectors: Vectors) -> None:
        rows = np.atleast_2d(vectors)
        self._vectors.write(rows.astype("<f4").tobytes())
        if self._with_ids:
            self._numbers = self._numbers and isinstance(id, int) and abs(id) < 1 << 63
            self._longest = max(self._longest, len(str(id)))
            self._ids.write((json.dumps(id) + "\n").encode() * len(rows))
        self._count += len(rows)

    def finish(self) -> None:
        if not self._with_ids:
            self._write_vectors(self._write)
            return
        with zipfile.ZipFile(_Sink(self._write), "w") as archive:
            for name, write in (("vectors", self._write_vectors), ("ids", self._write_ids)):
                with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                    write(member.write)

    def close(self) -> None:
        self._files.close()

    def _write_vectors(self, write: WriteBytes) -> None:
        write(_header("<f4", (self._count, self._width)))
        self._vectors.truncate(4 * self._count * self._width)
        self._vectors.seek(0)
        shutil.copyfileobj(self._vectors, _Sink(write))

    def _write_ids(self, write: WriteBytes) -> None:
        kind = "<i8" if self._numbers else f"<U{max(1, self._longest)}"
        write(_header(kind, (self._count,)))
        self._ids.seek(0)
        rest = itertools.islice(self._ids, self._count)
        while lines := list(itertools.islice(rest, _LINES)):
            found = map(json.loads, lines)
            write(np.array([*found] if self._numbers else [*map(str, found)], kind).tobytes())


class _Sink(io.RawIOBase):
    """A file that can only be written, and not gone back in."""

    def __init__(self, write: WriteBytes) -> None:
        self._write = write

    def writable(self) -> bool:
        return True

    def write(self, octets: Any) -> int:
        self._write(bytes(octets))
        return len(octets)


def _header(kind: str, shape: tuple[int, ...]) -> bytes:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": kind, "fortran_order": False, "shape": shape})
    return head.getvalue()


def writer(form: str, write: Write, write_bytes: WriteBytes, width: int) -> Writer:
    """For jsonl, csv, npy or npz."""
    if form == "jsonl":
        return JsonLines(write)
    return Csv(write) if form == "csv" else Arrays(write_bytes, width, ids=form == "npz")
