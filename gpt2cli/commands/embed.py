"""gpt2 embed: texts as vectors."""

import contextlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer

from gpt2cli.analysis.poolings import POOLINGS
from gpt2cli.console import choices, display, inputs, lines, outputs, terminal
from gpt2cli.console import options as o
from gpt2cli.console.bars import Bar, time_left
from gpt2cli.console.groups import Options
from gpt2cli.errors import Terminated, UsageError

if TYPE_CHECKING:
    from gpt2cli.analysis.embedding import Embedder, Vectors
    from gpt2cli.tokenizer.tokenizer import Tokenizer

MORE = """\
Features for classifiers and probes; for likeness of meaning a model trained for that is far better (docs/embed.md)."""
# \b keeps the lines as they are
EXAMPLES = """\b
Examples:
  gpt2 embed "The cat sat on the mat."          a line of JSON: id, embedding
  gpt2 embed -f lines.txt -o lines.npz          vectors and ids, for NumPy
  gpt2 embed --field text -f reviews.jsonl --pooling last --layer 6 -o r.npy
  gpt2 embed --whole -f a.txt -f b.txt --normalize --format csv
"""
_FORMATS = {
    "jsonl": "a line of JSON a text",
    "npy": "an array for NumPy",
    "npz": "the same with the texts' ids",
    "csv": "for spreadsheets",
}
_BINARY = ("npy", "npz")


@dataclass(frozen=True)
class VectorOptions(Options):
    heading = "Vectors"

    pooling: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help=f"{', '.join(POOLINGS)}: how tokens become one vector.",
            autocompletion=lambda incomplete: choices.beginning(incomplete, POOLINGS),
        ),
    ] = "mean"
    layer: Annotated[
        int, typer.Option(metavar="N", help="0: the embeddings; -1: the last, after ln_f; as transformers counts.")
    ] = -1
    normalize: Annotated[bool, typer.Option("--normalize", help="Vectors of length 1.")] = False


@dataclass(frozen=True)
class OutputOptions(Options):
    heading = "Output"

    format: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"{', '.join(_FORMATS)}. Default: what FILE ends in, else jsonl.",
            autocompletion=lambda incomplete: choices.beginning(incomplete, _FORMATS),
            show_default=False,
        ),
    ] = None
    output_file: o.OutputFile = None

    def __post_init__(self) -> None:
        if self.format is not None and self.format not in _FORMATS:
            raise UsageError(f"--format '{self.format}' is unknown", f"choose {', '.join(_FORMATS)}")
        if self.form in _BINARY and outputs.is_stdout(self.output_file) and display.stdout_is_terminal():
            raise UsageError(f"{self.form} is no text, and stdout is a terminal", "add -o FILE, or > FILE")

    @property
    def form(self) -> str:
        ending = "" if self.output_file is None else self.output_file.suffix[1:].lower()
        return self.format or (ending if ending in _FORMATS else "jsonl")


def embed(
    texts: o.FieldOptions, vectors: VectorOptions, shown: OutputOptions, model: o.ModelOptions, talk: o.TalkOptions
) -> int:
    groups = inputs.read_texts(
        texts.text, texts.file, command="embed", whole=texts.whole, escapes=texts.escapes, note=talk.note
    )
    several = len(texts.file) > 1 or (len(texts.text) > 1 and "-" in texts.text)
    if texts.field is None:
        items = lines.numbered(groups, several=several)
    else:
        items = lines.from_json(groups, texts.field, several=several)

    # NumPy: 60 ms that --help and usage errors do not pay
    from gpt2cli.analysis.embedding import Embedder
    from gpt2cli.console.vectors import writer

    opened = model.open(talk)
    embedder = Embedder(opened, pooling=vectors.pooling, layer=vectors.layer, normalize=vectors.normalize)
    count, reason = 0, None
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(outputs.Output(shown.output_file))
        bar = stack.enter_context(Bar(quiet=talk.quiet))
        reading = Reading(embedder, opened.tokenizer, bar, texts, inputs.size_of(texts.text, texts.file))
        write = bar.before(output.write) if outputs.is_stdout(shown.output_file) else output.write
        made = writer(shown.form, write, output.write_bytes, embedder.width)
        written = stack.enter_context(contextlib.closing(made))
        try:
            for item, found in reading.vectors(items):
                written.add(item.id, found)
                count += 1
        except (KeyboardInterrupt, Terminated) as error:
            reason = error
            output.write("")  # the end of a line that was interrupted
        if not count:
            hint = 'give one: gpt2 embed "The cat", or -f FILE'
            raise reason or UsageError("there is no text: what was read is empty", hint)
        written.finish()
    if reason is not None:
        talk.note(f"interrupted: {terminal.counted(count, 'text')} done")
        raise reason
    return 0


@dataclass
class Reading:
    """Texts -> vectors, and how far it has come. `size` is that of all texts in bytes, where it is known."""

    embedder: "Embedder"
    tokenizer: "Tokenizer"
    bar: Bar
    texts: o.FieldOptions
    size: int | None
    _begun: float = field(default_factory=time.monotonic)
    _bytes: int = 0
    _tokens: int = 0

    def vectors(self, groups: Iterable[list[lines.Item]]) -> "Iterator[tuple[lines.Item, Vectors]]":
        for group in groups:
            if self.texts.whole:
                yield from ((one, self.embedder.long(self._streamed(one.text))) for one in group)
                continue
            found = self.embedder.each(self._ids(one.text) for one in group)
            for one, vectors in zip(group, found, strict=True):
                self._count(one.text.shown or "", 0)
                yield one, vectors

    def _ids(self, text: inputs.Text) -> list[int]:
        ids = self.tokenizer.encode("".join(text.blocks), special=self.texts.special)
        if not ids:
            raise _no_token(text)
        self._tokens += len(ids)
        return ids

    def _streamed(self, text: inputs.Text) -> Iterator[int]:
        from gpt2cli.tokenizer.tokenizer import IdStream

        stream, before = IdStream(self.tokenizer, special=self.texts.special), self._tokens
        for block in text.blocks:
            ids = stream.push(block)
            self._count(block, len(ids))
            yield from ids
        ids = stream.finish()
        self._count("", len(ids))
        if self._tokens == before:
            raise _no_token(text)
        yield from ids

    def _count(self, text: str, tokens: int) -> None:
        self._bytes += len(text.encode())
        self._tokens += tokens
        self.bar.update("embedding", self._bytes, self.size, self._told)

    def _told(self) -> str:
        """What stands behind the bar."""
        seconds = max(time.monotonic() - self._begun, 1e-9)
        left = time_left(seconds, self._bytes, self.size)
        return f"{self._tokens:,} tokens · {self._tokens / seconds:,.0f}/s" + (f" · {left}" if left else "")


def _no_token(text: inputs.Text) -> UsageError:
    return UsageError(f"{text.name} is empty: without a token there is no vector", "leave it out")
