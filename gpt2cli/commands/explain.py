"""gpt2 explain: why the model says what it says."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer

from gpt2cli.console import choices, inputs, outputs, terminal
from gpt2cli.console import options as o
from gpt2cli.console.bars import Bar
from gpt2cli.console.groups import Options
from gpt2cli.errors import UsageError

if TYPE_CHECKING:
    from gpt2cli.analysis.explanation import Explainer
    from gpt2cli.model import Model

HELP = """Show what the model made of a text, and why it says so.

Without a view: the text, marked by how likely each token was, and what the last token's prediction loses where one
before it is left out. Tokens are numbered as --tokens shows them."""
# \b keeps the lines as they are
EXAMPLES = """\b
Examples:
  gpt2 explain "The cat sat on the mat."
  gpt2 explain --instead " dog" "The king and the queen. The king"
  gpt2 explain --tokens -f story.txt            probability, rank, entropy, the likeliest
  gpt2 explain --lens "Once upon a time"        what each layer would say
  gpt2 explain --attention --layer 5 --token 3 "Once upon a time"
  gpt2 explain --json "Once upon a time" > why.json
"""
_WAYS = {"occlusion": "influence", "rollout": "rollout", "zeroing": "value_zeroing"}


@dataclass(frozen=True)
class TextOptions(Options):
    heading = "Text"

    text: Annotated[
        list[str],
        typer.Argument(
            metavar="[TEXT]...", help="Joined by spaces; - is stdin's text. Default: stdin.", show_default=False
        ),
    ] = field(default_factory=list)
    file: o.Files = field(default_factory=list)
    escapes: o.Escapes = False
    special: o.Special = False
    start: Annotated[
        bool, typer.Option("--start/--no-start", help="Let the start token precede the text, where the model has one.")
    ] = True


@dataclass(frozen=True)
class QuestionOptions(Options):
    heading = "Question"

    token: Annotated[int, typer.Option(metavar="N", help="Explain the prediction of token N; -1 is the last.")] = -1
    instead: Annotated[
        str | None,
        typer.Option(metavar="TOKEN", help='Why the token, and not this one: " dog".', show_default=False),
    ] = None
    by: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help=f"What it rests on by {', '.join(_WAYS)}.",
            autocompletion=lambda incomplete: choices.beginning(incomplete, _WAYS),
        ),
    ] = "occlusion"
    layer: Annotated[
        list[int],
        typer.Option(
            metavar="N", help="Attention of layer N, from 0; may be repeated. All unless given.", show_default=False
        ),
    ] = field(default_factory=list)
    head: Annotated[
        list[int],
        typer.Option(metavar="N", help="Of head N, from 0; may be repeated. All unless given.", show_default=False),
    ] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.by not in _WAYS:
            raise UsageError(f"--by '{self.by}' is unknown", f"choose {', '.join(_WAYS)}")
        if self.instead is not None and self.by != "occlusion":
            raise UsageError(f"--instead with --by {self.by}", "only occlusion can tell two tokens apart")


@dataclass(frozen=True)
class ViewOptions(Options):
    heading = "Views"

    tokens: Annotated[bool, typer.Option("--tokens", help="A table of all tokens.")] = False
    lens: Annotated[bool, typer.Option("--lens", help="What each layer would say after the last tokens.")] = False
    attention: Annotated[bool, typer.Option("--attention", help="At which tokens each head looks.")] = False
    every: Annotated[bool, typer.Option("--all", help="All of these, and what is shown without any.")] = False
    top: Annotated[int, typer.Option(metavar="N", min=1, help="So many of the likeliest tokens.")] = 5
    as_json: o.Json = False
    output_file: o.OutputFile = None

    @property
    def chosen(self) -> list[str]:
        names = ("tokens", "lens", "attention")
        return [name for name in names if self.every or getattr(self, name)]


def explain(
    given: TextOptions,
    asked: QuestionOptions,
    shown: ViewOptions,
    model: o.ModelOptions,
    talk: o.TalkOptions,
) -> int:
    text = _text(given, talk.note)

    # NumPy: 60 ms that --help and usage errors do not pay
    from gpt2cli.analysis.explanation import PARTS, Asked, Explainer
    from gpt2cli.console import explanations

    views = _views(asked, shown)
    parts = [name for name in PARTS if name in views or (shown.as_json and not shown.chosen)]
    wanted = Asked(
        asked.token, asked.instead, given.start, shown.top, tuple(asked.layer), tuple(asked.head), tuple(parts)
    )
    opened = model.open(talk)
    explainer = Explainer(opened, opened.tokenizer.encode(text, special=given.special), wanted)
    with outputs.Output(shown.output_file) as output:
        with Bar(quiet=talk.quiet) as bar:
            _find(explainer, opened, bar, parts)
        found = explainer.explanation
        if shown.as_json:
            output.write(terminal.json_text(found.plain(), allow_nan=False) + "\n")
        else:
            columns = shutil.get_terminal_size().columns
            output.write(explanations.page(found, views, columns, coloured=outputs.is_stdout(shown.output_file)))
    if "attention" in parts and shown.as_json and not explainer.whole:
        count = len(explainer.ids)
        talk.note(
            f"of {count} tokens' attention only token {explainer.target - 1}'s is given; --layer or --head give all"
        )
    return 0


def _text(given: TextOptions, note: Callable[[str], None]) -> str:
    if given.text:
        return inputs.read_prompt(given.text, given.file, escapes=given.escapes, note=note)
    inputs.refuse_two_dashes(given.file)
    blocks = list[str]()
    for number, file in enumerate(given.file or [None], 1):
        last = number >= len(given.file)  # of which a newline at the end is no part of the text
        blocks += inputs.read_blocks(file, command="explain", note=note, trimmed=last)
    return "".join(blocks)


def _views(asked: QuestionOptions, shown: ViewOptions) -> list[str]:
    """Their names, in order: those of the library's parts where they are one."""
    way = ["prediction", _WAYS[asked.by]]
    if not shown.chosen:
        return ["text", *way]
    found = (["text"] if shown.every else []) + [name for name in shown.chosen if name == "tokens"]
    if shown.every or asked.by != "occlusion" or asked.instead is not None:
        found += way
    return found + [name for name in shown.chosen if name != "tokens"]


def _find(explainer: "Explainer", model: "Model", bar: Bar, parts: Sequence[str]) -> None:
    """Do the work."""
    for step, _ in enumerate(explainer.inside(), 1):
        bar.update("looking inside", step, None, lambda: "")
    if "influence" in parts:
        for step, _ in enumerate(model.scheduler.stream(explainer.influence()), 1):
            bar.update("leaving out each token", step, explainer.left_out)
