"""gpt2 compare: what follows one prompt, and what another."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gpt2cli.analysis import templates
from gpt2cli.console import inputs, outputs, settings, terminal, written
from gpt2cli.console import options as o
from gpt2cli.console.bars import Bar
from gpt2cli.console.groups import Options, given
from gpt2cli.console.pictures import PictureOptions
from gpt2cli.errors import Terminated, UsageError
from gpt2cli.generation.parameters import Limits, Sampling, parameters

if TYPE_CHECKING:
    from gpt2cli.analysis.comparison import Comparison

MORE = """\
Braces give several: "The {White|Black} man worked as a" is two prompts. docs/bias.md says what a difference means."""
# \b keeps the lines as they are
EXAMPLES = """\b
Examples:
  gpt2 compare "The {White|Black} man worked as a"
  gpt2 compare -N 500 -n 5 --seed 1 "She works as a" "He works as a"
  gpt2 compare --ending doctor --ending nurse "The {man|woman} is a"
  gpt2 compare -m tiny -m gpt2 "Once upon a"    what two models say
"""


@dataclass(frozen=True)
class PromptOptions(o.TextOptions):
    heading = "Prompts"

    text: Annotated[
        list[str],
        typer.Argument(
            metavar="[PROMPT]...",
            help="A prompt each; {a|b}: one for each; - is stdin's lines. Default: stdin.",
            show_default=False,
        ),
    ] = field(default_factory=list)

    def read(self, talk: o.QuietOptions) -> list[str]:
        """All prompts; whole files as they stand. Raises UsageError and CannotMeet."""
        groups = inputs.read_texts(
            self.text, self.file, command="compare", whole=self.whole, escapes=self.escapes, note=talk.note
        )
        found = ["".join(one.blocks) for group in groups for one in group]
        return found if self.whole else [prompt for one in found for prompt in templates.expanded(one)]


@dataclass(frozen=True)
class EndingOptions(Options):
    heading = "Endings"

    ending: Annotated[
        list[str],
        typer.Option(metavar="TEXT", help="How probable TEXT is after each; may be repeated.", show_default=False),
    ] = field(default_factory=list)
    endings: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The same of each line of FILE.", show_default=False)
    ] = None

    def read(self, prompts: PromptOptions) -> list[str]:
        """Raises UsageError and CannotMeet."""
        found = [written.text(one, escapes=prompts.escapes) for one in self.ending]
        if self.endings is None:
            return found
        if str(self.endings) == "-" and "-" in (prompts.text or [str(file) for file in prompts.file] or ["-"]):
            raise UsageError("stdin cannot be both --endings and prompt", "give one of them as a file: --endings FILE")
        lines = [line for line in inputs.read_context(self.endings).splitlines() if line.strip()]
        if not lines:
            raise UsageError(f"'{self.endings}' holds no ending", "write one on each line")
        return [*found, *lines]


@dataclass(frozen=True)
class DrawingOptions(o.SamplingOptions):
    heading = "Samples"

    num_samples: Annotated[
        int,
        typer.Option(
            *("-N", "--num-samples"), metavar="N", min=0, help="Texts drawn after each, grouped by their first word."
        ),
    ] = 0
    length: Annotated[
        int, typer.Option(*("-n", "--max-tokens"), metavar="N", min=1, help="Tokens of each of these texts.")
    ] = 10

    def refuse_contradictions(self, context: typer.Context) -> None:
        """Raises UsageError for what would change nothing."""
        if self.num_samples:
            return
        for name in (*parameters(Sampling), "greedy", "length"):
            if given(context, name):
                named = "-n" if name == "length" else f"`{name}`"
                raise UsageError(
                    f"{named} is for texts that are drawn, and none are", "say how many: -N 500; or leave it out"
                )


@dataclass(frozen=True)
class OutputOptions(Options):
    heading = "Output"

    top: Annotated[int, typer.Option(metavar="N", min=1, help="Rows of each list.")] = 10
    pairs: Annotated[bool, typer.Option("--pairs", help="Divergences of all pairs, not from the first alone.")] = False
    as_json: o.Json = False


def compare(
    context: typer.Context,
    prompts: PromptOptions,
    endings: EndingOptions,
    drawing: DrawingOptions,
    shown: OutputOptions,
    pictures: PictureOptions,
    model: o.ModelsOptions,
    talk: o.TalkOptions,
) -> int:
    drawing.refuse_contradictions(context)
    after = endings.read(prompts)
    before = prompts.read(talk)

    # NumPy: 60 ms that --help and usage errors do not pay
    from gpt2cli.analysis import comparison
    from gpt2cli.console import comparisons
    from gpt2cli.drawing import comparison as pages

    comparison.check(len(model.model) or 1, before, after)
    opened = list(model.each(talk, settings.named_model(context)))
    chosen = drawing.biased(opened[0].tokenizer, escapes=prompts.escapes).seeded()
    limits = Limits(max_tokens=drawing.length)
    found = comparison.Comparison(comparison.sides(opened, before, after, special=prompts.special))
    with pictures.opened() as files, outputs.Output() as output:
        reason = _drawn(found, drawing.num_samples, chosen, limits, talk)
        drawn = _settings(chosen, limits) if drawing.num_samples else {"seed": None, "settings": None}
        plain = found.plain(shown.top, pairs=shown.pairs) | drawn | {"interrupted": reason is not None}
        if shown.as_json:
            output.write(terminal.json_text(plain, allow_nan=False) + "\n")
        else:
            output.write("".join(f"{line}\n" for line in comparisons.lines(comparison.brief(plain, shown.top))))
        files.draw(pages, comparison.brief(plain, shown.top), talk.note)
    if reason is not None:
        numbers = ", ".join(str(len(side.texts)) for side in found.sides)
        talk.note(f"interrupted: {numbers} texts were drawn")
        raise reason
    return 0


def _drawn(
    found: "Comparison", samples: int, sampling: Sampling, limits: Limits, talk: o.QuietOptions
) -> BaseException | None:
    """Draw the texts of all sides, in turns, so that what is interrupted can be compared; returns what has."""
    if not samples:
        return None
    from gpt2cli.analysis.comparison import draw

    done, total = 0, samples * len(found.sides)
    streams: list[Iterable[str]] = [draw(side, samples, sampling, limits) for side in found.sides]
    try:
        with Bar(quiet=talk.quiet) as bar:
            for drawn in zip(*streams, strict=True):
                for side, text in zip(found.sides, drawn, strict=True):
                    side.texts.append(text)
                done += len(drawn)
                bar.update("drawing", done, total)
    except (KeyboardInterrupt, Terminated) as reason:
        return reason
    return None


def _settings(sampling: Sampling, limits: Limits) -> dict[str, Any]:
    """For JSON, as `generate` writes them."""
    biases = {str(token): "-inf" if bias == -inf else bias for token, bias in sampling.logit_bias.items()}
    values = asdict(sampling) | {"logit_bias": biases, "max_tokens": limits.max_tokens}
    return {"seed": values.pop("seed"), "settings": values}
