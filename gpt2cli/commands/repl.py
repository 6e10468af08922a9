"""gpt2 repl: write a text together with a model."""

import contextlib
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gpt2cli import paths
from gpt2cli.console import display, inputs, outputs, terminal, written
from gpt2cli.console import options as o
from gpt2cli.console.groups import Options
from gpt2cli.errors import Homeless, UsageError

if TYPE_CHECKING:
    from gpt2cli.repl.document import Document
    from gpt2cli.repl.session import Session

# \b keeps the lines as they are
EXAMPLES = """\b
Examples:
  gpt2 repl
  gpt2 repl -m tiny -n 40 --stop "\\n" -e
  gpt2 repl -f story.txt
  gpt2 repl --load story.json
  echo "Once upon a time" | gpt2 repl
"""


@dataclass(frozen=True)
class DocumentOptions(Options):
    heading = "Text"

    file: o.Files = field(default_factory=list)
    escapes: Annotated[
        bool, typer.Option("-e", "--escapes", help="Read \\n, \\t, \\xHH ... in --stop and --logit-bias.")
    ] = False
    load: Annotated[
        Path | None,
        typer.Option("--load", metavar="FILE", help="Go on with a document that /save wrote.", show_default=False),
    ] = None
    no_history: Annotated[
        bool, typer.Option("--no-history", envvar="GPT2_NO_HISTORY", help="Remember nothing of what is typed.")
    ] = False
    no_wrap: o.NoWrap = False


def repl(
    text: DocumentOptions,
    length: o.LengthOptions,
    sampling: o.SamplingOptions,
    model: o.ModelOptions,
    talk: o.QuietOptions,
) -> int:
    at_keyboard = sys.stdin is not None and sys.stdin.isatty()
    if at_keyboard and not display.stdout_is_terminal():
        raise UsageError("stdout is not a terminal", "to write to a file: gpt2 generate -o FILE PROMPT")
    # NumPy: 60 ms that --help and usage errors do not pay
    from gpt2cli.repl.knobs import Settings
    from gpt2cli.repl.session import Session

    limits = length.limits(talk.note, escapes=text.escapes)
    biases = [written.text(one, escapes=text.escapes) for one in sampling.logit_bias]
    settings = Settings(sampling.values.seeded(), limits, tuple(biases))
    document = _document(text, talk, at_keyboard=at_keyboard)
    session = Session(model.open(talk), settings, document)
    if not at_keyboard:
        return _answer(session, wrap=not text.no_wrap)

    from gpt2cli.repl import commands, files, loop  # prompt_toolkit: 100 ms
    from gpt2cli.repl.desk import Desk

    state = None if text.no_history else _state()
    desk = Desk(
        session,
        lambda name: model.open(talk, name=name),
        commands.complete,
        history=state / "history" if state else None,
        drafts=None if text.no_history else files.Drafts(state / "unsaved" if state else None),
        wrap=not text.no_wrap,
    )
    if text.load and not text.file:
        desk.at(text.load)
    loop.run(desk)
    return 0


def _document(text: DocumentOptions, talk: o.QuietOptions, *, at_keyboard: bool) -> "Document":
    """What there is to begin with. Raises UserError."""
    from gpt2cli.repl import files
    from gpt2cli.repl.document import Document

    document = files.load(text.load) if text.load else Document()
    if read := inputs.read_files(text.file):
        document.append("you", read)
    if not at_keyboard:
        with contextlib.suppress(UsageError) if document.text else contextlib.nullcontext():  # that is text enough
            document.append("you", inputs.read_prompt([], [], escapes=False, note=talk.note))
    return document


def _state() -> Path | None:
    try:
        return paths.state()
    except Homeless as error:
        terminal.note(f"no history: {error.message} ({error.hint})")
        return None


def _answer(session: "Session", *, wrap: bool) -> int:
    """Continue the text once, on stdout; on a terminal after the text."""
    echo = session.document.text if display.stdout_is_terminal() else ""
    with outputs.Output() as output:
        texts = outputs.Texts(output, 1, prompt=echo, null=False, wrap=wrap)
        printed = 0
        known = len(session.document.nodes)
        try:
            with contextlib.closing(session.write()) as pieces:
                for piece in pieces:
                    if piece.finish is None:
                        texts.push(0, piece.text, done=False)
                        printed += len(piece.text)
        finally:
            rest = session.document.nodes[known].text[printed:] if len(session.document.nodes) > known else ""
            texts.push(0, rest, done=True)
    return 0
