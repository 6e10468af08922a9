"""gpt2 explain: why the model says what it says."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer

from gpt2cli.console import choices, inputs, outputs, terminal
from gpt2cli.console import options as o
from gpt2cli.console.bars import Bar
from gpt2cli.console.groups import Options, given
from gpt2cli.console.pictures import PictureOptions
from gpt2cli.errors import UsageError

if TYPE_CHECKING:
    from gpt2cli.analysis.explanation import Explainer
    from gpt2cli.model import Model

MORE = """\
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
  gpt2 explain --html why.html "Once upon a time"
"""
_NEAR = 64  # tokens before a prediction that are left out while somebody waits
_WAYS = {"occlusion": "influence", "rollout": "rollout", "zeroing": "value_zeroing"}
_SAID = {"occlusion": "a token is left out", "rollout": "attention alone", "zeroing": "a token's values are zero"}


@dataclass(frozen=True)
class TextOptions(Options):
    heading = "Text"

    text: o.Joined = field(default_factory=list)
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
            autocompletion=lambda incomplete: choices.beginning(incomplete, _SAID),
        ),
    ] = "occlusion"
    layer: Annotated[
        list[int],
        typer.Option(
            metavar="N", help="Only layer N, from 0, of attention or zeroing; may be repeated.", show_default=False
        ),
    ] = field(default_factory=list)
    head: Annotated[
        list[int],
        typer.Option(metavar="N", help="Only head N, from 0, of attention; may be repeated.", show_default=False),
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
    context: typer.Context,
    prompt: TextOptions,
    asked: QuestionOptions,
    shown: ViewOptions,
    drawing: PictureOptions,
    model: o.ModelOptions,
    talk: o.TalkOptions,
) -> int:
    if shown.output_file is not None and shown.output_file in (drawing.html, drawing.svg):
        raise UsageError(f"two outputs are '{shown.output_file}'", "give each a file of its own")
    stated = [name for name in ("token", "by", "layer", "head", "top") if given(context, name)]
    views = _views(asked, shown, by="by" in stated)
    whole = shown.as_json or drawing.wanted
    _refuse_idle(stated, views if shown.chosen or not whole else None, as_json=shown.as_json, drawn=drawing.wanted)
    text = _text(prompt, talk.note)

    # NumPy: 60 ms that --help and usage errors do not pay
    from gpt2cli.analysis.explanation import Explainer
    from gpt2cli.analysis.questions import NEAR, PARTS, Question
    from gpt2cli.console import explanations
    from gpt2cli.drawing import explanation

    parts = [name for name in PARTS if name in views or (whole and not shown.chosen)]
    question = Question(
        token=asked.token,
        instead=asked.instead,
        start=prompt.start,
        top=shown.top,
        layers=asked.layer,
        heads=asked.head,
        parts=parts,
        near=NEAR if whole else _NEAR,
    )
    opened = model.open(talk)
    explainer = Explainer(opened, opened.tokenizer.encode(text, special=prompt.special), question)
    with drawing.opened() as pictures, outputs.Output(shown.output_file) as output:
        with Bar(quiet=talk.quiet) as bar:
            _find(explainer, opened, bar, parts)
        found = explainer.explanation
        if shown.as_json:
            output.write(terminal.json_text(found.plain(), allow_nan=False) + "\n")
        else:
            columns = shutil.get_terminal_size().columns
            lists: explanations.Lists = "whole" if not output.on_terminal else "wrapped" if "top" in stated else "cut"
            coloured = outputs.is_stdout(shown.output_file)
            output.write(explanations.page(found, views, columns, coloured=coloured, lists=lists))
        if drawing.wanted:
            pictures.draw(explanation, found.plain(), talk.note)
    if "attention" in parts and whole and not explainer.whole:
        talk.note(f"attention is given for token {explainer.target - 1} alone; --layer or --head give it for all")
    return 0


def _text(prompt: TextOptions, note: Callable[[str], None]) -> str:
    if prompt.text:
        return inputs.read_prompt(prompt.text, prompt.file, escapes=prompt.escapes, note=note)
    inputs.refuse_two_dashes(prompt.file)
    blocks = list[str]()
    for number, file in enumerate(prompt.file or [None], 1):
        last = number >= len(prompt.file)  # of which a newline at the end is no part of the text
        blocks += inputs.read_blocks(file, command="explain", note=note, trimmed=last)
    return "".join(blocks)


def _views(asked: QuestionOptions, shown: ViewOptions, *, by: bool) -> list[str]:
    """Their names, in order: those of the library's parts where they are one. `by`: whether --by was given."""
    way = ["prediction", _WAYS[asked.by]]
    if not shown.chosen:
        return ["text", *way]
    found = (["text"] if shown.every else []) + [name for name in shown.chosen if name == "tokens"]
    if shown.every or by or asked.instead is not None:
        found += way
    return found + [name for name in shown.chosen if name != "tokens"]


def _refuse_idle(stated: Sequence[str], views: Sequence[str] | None, *, as_json: bool, drawn: bool) -> None:
    """Raises UsageError for what was given and would change nothing; `views` is None where all are shown."""
    if views is None:
        if "by" in stated and as_json:
            raise UsageError(
                "--by changes nothing: --json has all", "leave it out, or name views: --tokens --by rollout"
            )
        return
    needed = {
        "layer": (["attention", "value_zeroing"], "--attention, or --by zeroing"),
        "head": (["attention"], "--attention"),
        "top": (["tokens", "prediction"], "--tokens"),
        "token": ([name for name in views if name not in ("text", "tokens")], "--lens or --attention"),
    }
    told = {"top", "token"} if as_json or drawn else set()  # which have them in any case
    for name, (where, add) in needed.items():
        if name in stated and name not in told and not set(where) & set(views):
            shown = ", ".join(f"--{view}" for view in views if view in ("tokens", "lens", "attention"))
            raise UsageError(f"--{name} changes nothing in {shown or 'what is shown'}", f"add {add}, or leave it out")


def _find(explainer: "Explainer", model: "Model", bar: Bar, parts: Sequence[str]) -> None:
    """Do the work."""
    for step, _ in enumerate(explainer.inside(), 1):
        bar.update("looking inside", step, None, lambda: "")
    if "influence" in parts:
        for step, _ in enumerate(model.scheduler.stream(explainer.influence()), 1):
            bar.update("leaving out each token", step, explainer.left_out)
