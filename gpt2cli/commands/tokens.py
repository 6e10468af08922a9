"""gpt2 tokens: what a model sees of a text, and back."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gpt2cli.console import bars, display, inputs, outputs, terminal, written
from gpt2cli.console import options as o
from gpt2cli.console.groups import Options
from gpt2cli.errors import Terminated, UsageError, UserError

if TYPE_CHECKING:
    from gpt2cli.tokenizer.tokenizer import Tokenizer

# Of each text its name (None but for files), and its ids as they come.
Stream = tuple[str | None, Iterator[list[int]]]

MORE = "Text of any size streams."
# \b keeps the lines as they are
EXAMPLES = """\b
Examples:
  gpt2 tokens "Once upon a time"                a token a line: id, piece
  gpt2 tokens --count -f story.txt -f notes.txt
  gpt2 tokens --limit 900 < book.txt | gpt2     the first 900 tokens
  gpt2 tokens --ids "The cat" | gpt2 tokens --decode
  gpt2 tokens --jsonl "naïve 猫" | jq -c '[.id, .bytes]'
"""


@dataclass(frozen=True)
class TextOptions(Options):
    heading = "Text"

    text: o.Joined = field(default_factory=list)
    file: o.Files = field(default_factory=list)
    escapes: o.Escapes = False
    decode: Annotated[bool, typer.Option("--decode", "-d", help="The other way: token ids to text.")] = False
    special: o.Special = False


@dataclass(frozen=True)
class OutputOptions(Options):
    heading = "Output"

    count: Annotated[bool, typer.Option("--count", "-c", help="Print how many tokens there are.")] = False
    ids: Annotated[bool, typer.Option("--ids", help="Print the ids alone, on one line.")] = False
    limit: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="Cut the text to N tokens, and print it.", show_default=False),
    ] = None
    as_json: o.Json = False
    as_jsonl: Annotated[bool, typer.Option("--jsonl", help="Print one JSON object a token, each on a line.")] = False

    def __post_init__(self) -> None:
        if self.as_jsonl and (self.as_json or self.ids or self.count):
            other = "--json" if self.as_json else "--ids" if self.ids else "--count"
            raise UsageError(f"--jsonl contradicts {other}", "choose one of them")
        if self.ids and self.count:
            raise UsageError("--ids contradicts --count", "choose one of them; --json has both")


@dataclass(frozen=True)
class TokenizerOptions(Options):
    heading = "Model"

    model: o.ModelName = None
    offline: o.Offline = False


def tokens(given: TextOptions, shown: OutputOptions, model: TokenizerOptions, talk: o.QuietOptions) -> int:
    texts = _texts(given, talk.note)
    name, revision, tokenizer = _open(model.model, offline=model.offline, talk=talk)
    streams = [(place, _limited(_encoded(tokenizer, blocks, given), shown.limit)) for place, blocks in texts]
    with outputs.Output() as output:
        if shown.as_json:
            _json(output, tokenizer, streams, {"model": name, "revision": revision}, shown)
        elif shown.as_jsonl:
            _jsonl(output, tokenizer, streams)
        elif shown.count:
            _counts(output, streams)
        elif shown.ids:
            _ids(output, streams)
        elif given.decode or shown.limit is not None:
            _text(output, tokenizer, streams, limited=shown.limit is not None)
        else:
            for _, blocks in streams:
                for block in blocks:
                    output.write(
                        "".join(f"{token}\t{terminal.visible(tokenizer.bytes_of(token))}\n" for token in block)
                    )
    return 0


def _texts(given: TextOptions, note: Callable[[str], None]) -> list[tuple[str | None, Iterable[str]]]:
    arguments, files = given.text, given.file
    if arguments and files:
        raise UsageError(f"a text as argument and a file, '{files[0]}'", "give one of them")
    inputs.refuse_two_dashes(files)
    if arguments:
        return [(None, [inputs.read_prompt(arguments, [], escapes=given.escapes, note=note)])]
    if files:
        return [(str(file), inputs.read_blocks(file, command="tokens", note=note)) for file in files]
    return [(None, inputs.read_blocks(None, command="tokens", note=note))]


def _open(name: str | None, *, offline: bool, talk: o.QuietOptions) -> "tuple[str, str | None, Tokenizer]":
    """The model's name and revision, and its tokenizer; the weights are not opened."""
    from gpt2cli.store import store
    from gpt2cli.store.choice import Choice, Listener
    from gpt2cli.tokenizer.files import present
    from gpt2cli.tokenizer.tokenizer import Tokenizer

    with bars.progress(quiet=talk.quiet) as update:
        choice, listener = Choice(offline=offline), Listener(update, talk.note, terminal.note)
        source = store.find(name, choice, listener)
        if source.folder and present(source.folder):
            return source.name, source.revision, Tokenizer(source.folder)
        runnable = store.ensure(source, choice, listener)
    return source.name, runnable.revision, Tokenizer(runnable.tokenizer)


def _encoded(tokenizer: "Tokenizer", blocks: Iterable[str], given: TextOptions) -> Iterator[list[int]]:
    from gpt2cli.tokenizer.tokenizer import IdStream

    if given.decode:
        yield from _parsed(tokenizer, blocks)
        return
    stream = IdStream(tokenizer, special=given.special)
    for block in blocks:
        yield stream.push(block)
    yield stream.finish()


def _parsed(tokenizer: "Tokenizer", blocks: Iterable[str]) -> Iterator[list[int]]:
    for words in written.id_words(blocks):
        found = []
        for word in words:
            token = written.token_id(word)
            if token is None or not tokenizer.knows(token):
                raise UsageError(
                    f"'{word[:40]}' is not a token id of this model",
                    "--decode takes ids: gpt2 tokens --decode 464 3290",
                )
            found.append(token)
        yield found


def _limited(blocks: Iterator[list[int]], limit: int | None) -> Iterator[list[int]]:
    """The first `limit` ids; the text behind them is not read."""
    left = limit
    while left is None or left > 0:
        block = next(blocks, None)
        if block is None:
            return
        yield block if left is None else block[:left]
        left = None if left is None else left - len(block)


def _counts(output: outputs.Output, streams: list[Stream]) -> None:
    """A number; with several files a line each, and the total."""
    total = 0
    for place, blocks in streams:
        number = sum(map(len, blocks))
        total += number
        name = terminal.printable(str(place)) if display.stdout_is_terminal() else place
        output.write(f"{number}\n" if len(streams) == 1 else f"{number}\t{name}\n")
    if len(streams) > 1:
        output.write(f"{total}\ttotal\n")


def _ids(output: outputs.Output, streams: list[Stream]) -> None:
    for _, blocks in streams:
        space = ""
        for block in filter(None, blocks):
            output.write(space + " ".join(map(str, block)))
            space = " "
        output.write("\n")


def _text(output: outputs.Output, tokenizer: "Tokenizer", streams: list[Stream], *, limited: bool) -> None:
    """Whole characters: `limit` leaves out one that it would cut in two."""
    from gpt2cli.tokenizer.tokenizer import TextStream

    writer = outputs.Texts(output, 1, prompt="", null=False)
    for _, blocks in streams:
        stream = TextStream(tokenizer)
        for block in blocks:
            writer.push(0, "".join(map(stream.push, block)), done=False)
        if not limited:
            writer.push(0, stream.finish(), done=False)
    writer.push(0, "", done=True)


def _jsonl(output: outputs.Output, tokenizer: "Tokenizer", streams: list[Stream]) -> None:
    for place, blocks in streams:
        numbers = itertools.count()
        for block in blocks:
            rows = ({"file": place, "index": next(numbers)} | tokenizer.plain(token) for token in block)
            output.write("".join(terminal.json_text(row) + "\n" for row in rows))


def _json(
    output: outputs.Output,
    tokenizer: "Tokenizer",
    streams: list[Stream],
    common: dict[str, Any],
    shown: OutputOptions,
) -> None:
    """One object, written as the text is read: {..., "texts": [{"file", "tokens" or "ids", "count"}]}. It is whole also
    where the text ends early; a text of which nothing is shown yet is then left out."""
    head = terminal.json_text(common)[:-1] + ', "texts": ['
    before, reason = head, None
    for place, blocks in streams:
        unwritten = f'{before}\n{{"file": {terminal.json_text(place)}, '
        unwritten += "" if shown.count else '"ids": [' if shown.ids else '"tokens": ['
        number, comma = 0, ""
        try:
            for block in filter(None, blocks):
                number += len(block)
                if not shown.count:
                    pieces = (terminal.json_text(tokenizer.plain(one)) for one in block)
                    rows = map(str, block) if shown.ids else (f"\n{piece}" for piece in pieces)
                    line, unwritten, comma = unwritten + comma + ", ".join(rows), "", ", "
                    output.write(line)
        except (KeyboardInterrupt, Terminated, UserError) as error:
            reason = error
            if unwritten:
                break
        output.write(f'{unwritten}{"" if shown.count else "], "}"count": {number}}}')
        before = ","
        if reason is not None:
            break
    if before != head:
        output.write("]}\n")
    if reason is not None:
        raise reason
