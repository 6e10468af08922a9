"""Arguments, stdin and files -> the prompt. Decides when stdin is read, which is rarely: a shell loop's stdin is never
eaten, and an inherited pipe that stays open never hangs a command that has its prompt."""

import contextlib
import itertools
import os
import select
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2cli.console import written
from gpt2cli.console.charsets import BLOCK, MAX_BYTES, Decoder, decoded
from gpt2cli.errors import UsageError

_HOW = 'give a prompt: gpt2 generate "Once upon a time"  (or "" to start from nothing)'


@dataclass(frozen=True)
class Text:
    """One of many texts: an argument, a line, or all that a file has, and where it stands."""

    file: str | None
    line: int | None
    blocks: Iterable[str]
    shown: str | None  # the text itself, where it is a line
    id: str | int | None = None  # that it has itself, in a line of JSON

    @property
    def place(self) -> str:
        """Where it stands."""
        return ":".join(str(part) for part in (self.file, self.line) if part is not None) or "-"

    @property
    def label(self) -> str:
        """What a table calls it: its own id, or its place."""
        return self.place if self.id is None else str(self.id)

    @property
    def name(self) -> str:
        """Its place in a sentence."""
        if self.file is None and self.line is not None:
            return f"text {self.line}"
        return "stdin" if self.place == "-" else self.place


def read_prompt(arguments: Sequence[str], files: Sequence[Path], *, escapes: bool, note: Callable[[str], None]) -> str:
    """The prompt text, by these rules:

    - arguments are joined by one space (by nothing after white space); a `-` among them is stdin's text;
    - without arguments it is the files' text, one after the other, or stdin's where stdin is no terminal;
    - one newline at the end of stdin or of the files is dropped; where nothing is left, there is no prompt.

    `escapes` reads \\n, \\t, \\xHH and the like in arguments. `note` gets a line when text waits on stdin unused.
    Raises UsageError and CannotMeet."""
    if files and arguments:
        raise UsageError(
            f"a prompt as argument and a file, '{files[0]}'",
            f"give one of them, or: gpt2 generate - ... < '{files[0]}'",
        )
    refuse_two_dashes([*arguments, *files])
    if files:
        if not any(str(file) == "-" for file in files):
            note_unused(note)
        text = "".join(_stdin_text(note) if str(file) == "-" else file_text(file) for file in files)
        names = ["stdin" if str(file) == "-" else f"'{file}'" for file in files]
        return _something(_without_newline(text), f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} empty")
    if not arguments:
        return _read_stdin(note)
    note_file(arguments, note)
    text = ""
    for argument in arguments:
        part = _read_stdin(note) if argument == "-" else written.text(argument, escapes=escapes)
        space = "" if not text or text[-1].isspace() else " "
        text += space + part
    if "-" not in arguments:
        note_unused(note)
    return text


def read_context(file: Path) -> str:
    """What precedes texts; it may be nothing. Raises UsageError and CannotMeet."""
    return _read_stdin(lambda text: None) if str(file) == "-" else read_file(file)


def read_blocks(file: Path | None, *, command: str, note: Callable[[str], None], trimmed: bool = True) -> Iterator[str]:
    """The text of a file, or of stdin where `file` is None or `-`, a block at a time and of any size. `trimmed` drops
    one newline at its end, as `read_prompt` does. Raises UsageError, also at once where there is nothing to read, and
    CannotMeet."""
    if file is not None and str(file) != "-":
        try:
            file.stat()
        except OSError as reason:
            raise _unreadable(file, reason) from None
        blocks = _blocks(file)
    elif sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        raise UsageError("no text", f'give a text: gpt2 {command} "Once upon a time", or a file: -f FILE')
    else:
        note_silence(note)
        blocks = _blocks(None)
    return _trimmed(blocks) if trimmed else blocks


def _blocks(file: Path | None) -> Iterator[str]:
    source = "stdin" if file is None else f"'{file}'"
    decoder = Decoder(source)
    more = True
    with contextlib.ExitStack() as stack:
        try:
            stream: Any = sys.stdin.buffer if file is None else stack.enter_context(file.open("rb"))
            while more:
                data = stream.read1(BLOCK)  # what is there: the rest may be a long time coming
                more = bool(data)
                yield decoder.push(data, final=not more)
        except OSError as reason:
            raise _unreadable(file, reason) from None


def _trimmed(blocks: Iterator[str]) -> Iterator[str]:
    held = ""
    for block in blocks:
        text = held + block
        end = 2 if text.endswith("\r\n") else 1 if text.endswith(("\r", "\n")) else 0
        text, held = text[: len(text) - end], text[len(text) - end :]
        yield text
    yield held if held == "\r" else ""


def lines(blocks: Iterable[str]) -> Iterator[list[str]]:
    """The lines of a text that comes in blocks, without their newlines: those that end in each block, together."""
    held: list[str] = []
    for block in blocks:
        *ended, rest = block.split("\n")
        if ended:
            ended[0] = "".join([*held, ended[0]])
            held = []
            yield [line.removesuffix("\r") for line in ended]
        held.append(rest)
    yield ["".join(held).removesuffix("\r")]


def read_texts(
    arguments: list[str],
    files: list[Path],
    *,
    command: str,
    whole: bool,
    escapes: bool,
    note: Callable[[str], None],
) -> Iterator[list[Text]]:
    """Each argument, each line that is not empty of the files, of stdin where a `-` stands, or where nothing else is
    given; with `whole` each file. In order, in groups of what is there together. Raises UsageError, also at once where
    that can be known, and CannotMeet."""
    if arguments and files:
        raise UsageError(f"a text as argument and a file, '{files[0]}'", "give one of them")
    refuse_two_dashes([*arguments, *files])
    note_file(arguments, note)
    if arguments and "-" not in arguments:
        note_unused(note)

    def source(file: Path | None) -> tuple[str | None, Iterable[str]]:
        # the numbers of arguments are no line numbers
        name = str(file) if file else "-" if len(arguments) > 1 else None
        return name, read_blocks(file, command=command, note=note, trimmed=whole)

    sources = [source(file) for file in files]
    if "-" in arguments or not (arguments or files):
        sources.append(source(None))
    # None is stdin; an escape may give a text that is a dash
    spoken = [None if argument == "-" else written.text(argument, escapes=escapes) for argument in arguments]

    def from_sources() -> Iterator[list[Text]]:
        for file, blocks in sources:
            if whole:
                yield [Text(file, None, blocks, None)]
                continue
            number = 0
            for group in lines(blocks):
                yield [Text(file, number + place, [line], line) for place, line in enumerate(group, 1) if line]
                number += len(group)

    def from_arguments() -> Iterator[list[Text]]:
        for dash, group in itertools.groupby(enumerate(spoken, 1), key=lambda item: item[1] is None):
            if dash:
                yield from from_sources()
            else:
                yield [Text(None, number, [said], said) for number, said in group if said is not None]

    return from_arguments() if spoken else from_sources()


def size_of(arguments: Sequence[str], files: Sequence[Path]) -> int | None:
    """The bytes that `read_texts` reads; None where that is not known before they end."""
    spoken = [one for one in arguments if one != "-"]
    read = [*files, *([] if spoken == [*arguments] and (arguments or files) else [Path("-")])]
    try:
        states = [os.fstat(sys.stdin.fileno()) if str(file) == "-" else file.stat() for file in read]
    except (OSError, ValueError, AttributeError):
        return None
    if not all(stat.S_ISREG(state.st_mode) for state in states):
        return None
    return sum(state.st_size for state in states) + sum(len(os.fsencode(one)) for one in spoken)


def refuse_two_dashes(names: Sequence[str | Path]) -> None:
    """Raises UsageError where stdin is named twice."""
    if [str(name) for name in names].count("-") > 1:
        raise UsageError("stdin can be read only once, and - stands twice", "leave one of them out")


def note_unused(note: Callable[[str], None]) -> None:
    """Tell of text that waits on stdin where stdin is not read."""
    if _text_waits():
        note("text waits on stdin and was not used; a - among the arguments takes its place")


def note_file(arguments: Sequence[str], note: Callable[[str], None]) -> None:
    """Tell of a file whose name was given as the only text."""
    with contextlib.suppress(OSError, ValueError):  # a text may be longer than any name
        if len(arguments) == 1 and Path(arguments[0]).is_file():
            note(f"'{arguments[0]}' is taken as the text; the file of this name is read with -f")


def read_file(path: Path) -> str:
    """The text of a file, one newline at its end dropped. Raises UsageError and CannotMeet."""
    return _without_newline(file_text(path))


def read_files(paths: Sequence[Path]) -> str:
    """The text of files, one after the other, one newline at the end dropped. Raises UsageError and CannotMeet."""
    return _without_newline("".join(map(file_text, paths)))


def file_text(path: Path) -> str:
    """All of it. Raises UsageError and CannotMeet."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as reason:
        raise _unreadable(path, reason) from None
    return decoded(data, f"'{path}'")


def _read_stdin(note: Callable[[str], None]) -> str:
    return _something(_without_newline(_stdin_text(note)), "stdin is empty")


def _stdin_text(note: Callable[[str], None]) -> str:
    if sys.stdin is None or sys.stdin.closed:
        raise UsageError("no prompt: stdin is closed", _HOW)
    if sys.stdin.isatty():
        raise UsageError("no prompt", _HOW)
    note_silence(note)
    try:
        data = sys.stdin.buffer.read(MAX_BYTES + 1)
    except OSError as reason:
        raise UsageError(f"cannot read stdin: {reason.strerror}", _HOW) from None
    return decoded(data, "stdin")


def _something(text: str, otherwise: str) -> str:
    """What was read, if it is a prompt: nothing is more often a file that was not written than what somebody wants."""
    if not text:
        raise UsageError(f"no prompt: {otherwise}", _HOW)
    return text


def _unreadable(file: Path | None, reason: OSError) -> UsageError:
    if file is None:
        return UsageError(f"cannot read stdin: {reason.strerror}", "give a file: -f FILE")
    return UsageError(f"cannot read '{file}': {reason.strerror}", "check the path of the file")


def _without_newline(text: str) -> str:
    return text.removesuffix("\r\n") if text.endswith("\r\n") else text.removesuffix("\n")


def note_silence(note: Callable[[str], None]) -> None:
    """Tell who waits for whom where stdin says nothing for two seconds. Silent where that cannot be asked (Windows)."""
    with contextlib.suppress(OSError, ValueError):
        if not select.select([sys.stdin], [], [], 2.0)[0]:
            note("waiting for text on stdin")


def _text_waits() -> bool:
    """Whether stdin is a pipe that holds text. Reads nothing; False where that cannot be asked (Windows)."""
    try:
        import fcntl
        import termios

        number = sys.stdin.fileno()
        if not stat.S_ISFIFO(os.fstat(number).st_mode):
            return False

        waiting = fcntl.ioctl(number, termios.FIONREAD, b"\0\0\0\0")
        return int.from_bytes(waiting, sys.byteorder) > 0
    except (ImportError, OSError, ValueError, AttributeError):
        return False
