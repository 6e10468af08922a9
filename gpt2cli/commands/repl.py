"""gpt2 repl: write a text together with a model."""

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from gpt2cli import paths
from gpt2cli.console import inputs, terminal
from gpt2cli.console import options as o
from gpt2cli.errors import Homeless, UsageError

if TYPE_CHECKING:
    from gpt2cli.repl.session import Session

HELP = "Write a text together with a model."
# \b keeps the lines as they are
EXAMPLES = """\b
Examples:
  gpt2 repl
  gpt2 repl -m tiny -n 40 --stop "\\n" -e
  gpt2 repl -f story.txt
  gpt2 repl --load story.json
  echo "Once upon a time" | gpt2 repl
"""


def repl(
    context: typer.Context,
    load_file: o.Load = None,
    file: o.File = None,
    no_history: o.NoHistory = False,
    no_wrap: o.NoWrap = False,
    escapes: o.Escapes = False,
    model: o.ModelName = None,
    precision: o.Precision = "auto",
    source: o.ModelSource = "auto",
    offline: o.Offline = False,
    device: o.Device = "auto",
    threads: o.Threads = 0,
    max_tokens: o.MaxTokens = 128,
    min_tokens: o.MinTokens = 0,
    stop: o.Stop = None,
    ignore_eos: o.IgnoreEos = False,
    keep: o.Keep = 0,
    temperature: o.Temperature = 0.8,
    greedy: o.Greedy = False,
    top_k: o.TopK = 40,
    top_p: o.TopP = 0.95,
    min_p: o.MinP = 0.0,
    typical: o.Typical = 1.0,
    repeat_penalty: o.RepeatPenalty = 1.0,
    repeat_last_n: o.RepeatLastN = 64,
    presence_penalty: o.PresencePenalty = 0.0,
    frequency_penalty: o.FrequencyPenalty = 0.0,
    no_repeat_ngram: o.NoRepeatNgram = 0,
    logit_bias: o.LogitBias = None,
    seed: o.Seed = None,
    quiet: o.Quiet = False,
) -> int:
    if greedy and o.given(context, "temperature") and temperature != 0:
        raise UsageError(f"--greedy contradicts --temperature {temperature}", "greedy is temperature 0: leave one out")
    at_keyboard = sys.stdin is not None and sys.stdin.isatty()
    if at_keyboard and not terminal.stdout_is_terminal():
        raise UsageError("stdout is not a terminal", "to write to a file: gpt2 generate -o FILE PROMPT")
    note = terminal.silent if quiet else terminal.note
    # NumPy, ONNX Runtime, tokenizers: 200 ms that --help and usage errors do not pay
    from gpt2cli.generation.parameters import Sampling
    from gpt2cli.model import Model, load
    from gpt2cli.repl import files
    from gpt2cli.repl.document import Document
    from gpt2cli.repl.knobs import Settings
    from gpt2cli.repl.session import Session
    from gpt2cli.store.store import Listener

    settings = Settings(
        Sampling(
            temperature=0.0 if greedy else temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            typical=typical,
            repeat_penalty=repeat_penalty,
            repeat_last_n=repeat_last_n,
            presence_penalty=presence_penalty,
            frequency_penalty=frequency_penalty,
            no_repeat_ngram=no_repeat_ngram,
            seed=None if seed == -1 else seed,
        ).seeded(),
        max_tokens=None if max_tokens == -1 else max_tokens,
        min_tokens=min_tokens,
        stop=tuple(inputs.argument_text(one, escapes=escapes) for one in stop or []),
        ignore_eos=ignore_eos,
        keep=keep,
        logit_bias=tuple(inputs.argument_text(one, escapes=escapes) for one in logit_bias or []),
    )
    document = files.load(load_file) if load_file else Document()
    if file and (text := inputs.read_file(file)):
        document.append("you", text)
    if not at_keyboard:
        with contextlib.suppress(UsageError) if document.text else contextlib.nullcontext():  # that is text enough
            document.append("you", inputs.read_prompt([], None, escapes=False, note=note))

    def open_model(name: str | None) -> Model:
        with terminal.progress(quiet=quiet) as update:
            return load(
                name,
                precision=precision,
                source=source,
                device=device,
                threads=threads,
                offline=offline,
                listener=Listener(update, note, terminal.note),
            )

    session = Session(open_model(model), settings, document)
    if not at_keyboard:
        return _answer(session, wrap=not no_wrap)

    from gpt2cli.repl import commands, loop  # prompt_toolkit: 100 ms
    from gpt2cli.repl.desk import Desk

    state = None if no_history else _state()
    desk = Desk(
        session,
        open_model,
        commands.complete,
        history=state / "history" if state else None,
        drafts=None if no_history else files.Drafts(state / "unsaved" if state else None),
        wrap=not no_wrap,
    )
    if load_file and not file:
        desk.at(load_file)
    loop.run(desk)
    return 0


def _state() -> Path | None:
    try:
        return paths.state()
    except Homeless as error:
        terminal.note(f"no history: {error.message} ({error.hint})")
        return None


def _answer(session: "Session", *, wrap: bool) -> int:
    """Continue the text once, on stdout; on a terminal after the text."""
    echo = session.document.text if terminal.stdout_is_terminal() else ""
    with terminal.Output() as output:
        texts = terminal.Texts(output, 1, prompt=echo, null=False, wrap=wrap)
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
