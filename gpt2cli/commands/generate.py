"""gpt2 generate: continue a text."""

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import typer

from gpt2cli.console import options as o
from gpt2cli.console import outputs, terminal
from gpt2cli.console.generateoptions import (
    GuessOptions,
    OutputOptions,
    PlaceOptions,
    PromptOptions,
    TextOptions,
    refuse_contradictions,
)
from gpt2cli.console.groups import given
from gpt2cli.console.receipts import Paper
from gpt2cli.errors import CannotMeet, CorruptFile, NetworkError, Terminated, UserError

if TYPE_CHECKING:
    from gpt2cli.analysis.choosing import Choice
    from gpt2cli.console.record import Record, Speaker
    from gpt2cli.generation.forms import Constraint
    from gpt2cli.generation.parameters import Limits, Sampling
    from gpt2cli.generation.receipts import Receipts
    from gpt2cli.generation.requests import Piece, Request
    from gpt2cli.generation.speculation import Drafter
    from gpt2cli.model import Model

# \b keeps the lines as they are
EXAMPLES = """\b
Examples:
  gpt2 generate "Once upon a time"
  gpt2 generate -n 60 --stop "." -N 3 "The old man said"
  cat story.txt | gpt2 generate - "And then" > more.txt
  gpt2 generate --greedy --json "The cat" | jq -r '.samples[0].text'
  gpt2 generate --json-schema "name, age int" "A person:" | jq .name
"""


def generate(
    context: typer.Context,
    prompt: PromptOptions,
    length: TextOptions,
    sampling: o.SamplingOptions,
    model: PlaceOptions,
    guess: GuessOptions,
    output: OutputOptions,
    talk: o.TalkOptions,
) -> int:
    drawn = [name for name in ("temperature", "top_k", "top_p", "min_p", "typical", "seed") if given(context, name)]
    refuse_contradictions(length, sampling.values, guess, output, drawn)
    model.refuse_contradictions(context, length, guess, output.receipt)
    whole = prompt.read(talk)
    limits = length.limits(talk.note, escapes=prompt.escapes)
    wish = _Wish(whole, limits, length.constraint(escapes=prompt.escapes), prompt, length, sampling, output, talk)
    started = time.monotonic()
    from gpt2cli.console.record import Record

    with outputs.Output(output.path) as file, output.file() as paper:
        begun = wish.there(model.server, model.model) if model.server else wish.here(model, guess)
        record = Record(
            *(begun.model, begun.text, begun.request),
            draft_model=guess.draft_model,
            keep=bool(output.structured or output.receipt),
            started=started,
            choices=begun.choices,
        )
        making = partial(output.made, begun.receipts, begun.request, record, special=prompt.special)
        _write(record, begun, file, output, Paper(output.inside, paper, making))
    if record.incomplete:
        _tell_incomplete(record.incomplete, limits, talk, strict=prompt.strict)
    return 0


def _tell_incomplete(count: int, limits: "Limits", talk: o.TalkOptions, *, strict: bool) -> None:
    """Raises CannotMeet where that is a failure."""
    what = f"{'the text does' if count == 1 else f'{count} texts do'} not have the form that was asked for"
    why = (
        f"{limits.max_tokens} tokens were not enough" if limits.max_tokens is not None else "there was no room for more"
    )
    if strict:
        from gpt2cli.generation.forms import LONGER

        raise CannotMeet(f"{what}: {why}", LONGER)
    talk.note(f"{what}: {why}")


@dataclass(frozen=True)
class _Begun:
    """Texts under way."""

    model: "Speaker"
    text: str  # the prompt
    request: "Request"
    pieces: "Iterable[Piece]"
    receipts: "Callable[[], Receipts] | None" = None  # of a model of this process
    choices: "list[Choice] | None" = None


@dataclass(frozen=True)
class _Wish:
    """What is wanted, whoever does it."""

    whole: str | list[int]
    limits: "Limits"
    constraint: "Constraint | None"
    prompt: PromptOptions
    length: TextOptions
    sampling: o.SamplingOptions
    output: OutputOptions
    talk: o.TalkOptions

    def request(self, ids: list[int], sampling: "Sampling", drafter: "Drafter | None" = None) -> "Request":
        from gpt2cli.generation.requests import Request

        length = self.length
        return Request(
            *(ids, sampling, self.limits, length.num_samples, length.beams, self.output.logprobs, drafter),
            constraint=self.constraint,
        )

    def here(self, model: o.ModelOptions, guess: GuessOptions) -> _Begun:
        """On a model of this process."""
        prompt, whole, keep = self.prompt, self.whole, self.limits.keep
        opening = partial(model.open, self.talk, alternating=guess.draft_model is not None, text=isinstance(whole, str))
        opened = opening(meanwhile=_import_texts)
        if o.kept is not None:
            o.kept.append(opened)
        from gpt2cli.generation import texts

        small = None if guess.draft_model is None else opening(name=guess.draft_model)
        chosen = self.sampling.biased(opened.tokenizer, escapes=prompt.escapes).seeded()
        drafter = guess.drafter(small, opened, pays=_lookup_pays(opened, chosen, self.length))
        fed = texts.fit(opened, whole, special=prompt.special, keep=keep, strict=prompt.strict)
        if fed.cut:
            self.note_cut(len(fed.ids))
        request = self.request(fed.ids, chosen, drafter)
        text = whole if isinstance(whole, str) else opened.tokenizer.decode(fed.ids)
        pieces = texts.stream(opened, request)
        receipts = partial(_receipts, opened, small)
        return _Begun(opened, text, request, pieces, receipts, self.choices(opened, request))

    def choices(self, model: "Model", request: "Request") -> "list[Choice] | None":
        """How probable each is, where that is asked for."""
        if not self.output.structured or not self.constraint or not self.constraint.choices:
            return None
        from gpt2cli.analysis import choosing

        return choosing.choices(model, request.ids, self.constraint.choices)

    def there(self, url: str, model: str | None) -> _Begun:
        """On a server."""
        from gpt2cli.server import client

        served = client.Served(url, os.environ.get("GPT2_API_KEY"))
        chosen = self.sampling.biased(served.tokenizer, escapes=self.prompt.escapes).seeded()
        request = self.request(served.prompt_ids, chosen)
        text = self.whole if isinstance(self.whole, str) else served.text(self.whole)
        asked = client.body_of(self.whole, request, model=model, special=self.prompt.special, strict=self.prompt.strict)
        pieces = served.pieces(asked)
        if served.window:
            self.note_cut(served.window)
        return _Begun(served, text, request, pieces)

    def note_cut(self, window: int) -> None:
        keep = self.limits.keep
        lost = "its beginning" if keep <= 0 else f"what follows its first {keep} tokens"
        self.talk.note(f"the prompt is longer than the model's window of {window} tokens: {lost} was cut off")


def _import_texts() -> None:
    """What comes after the model: 40 ms, while the session is being opened."""
    from gpt2cli.generation import texts  # noqa: F401


def _receipts(model: "Model", draft: "Model | None") -> "Receipts":
    from gpt2cli.generation.receipts import Receipts  # 10 ms, when the text is there

    return Receipts(model, draft)


def _write(record: "Record", begun: _Begun, file: outputs.Output, output: OutputOptions, paper: Paper) -> None:
    """What there is belongs to the user, however it comes to an end."""
    printed = output.texts(file, len(record.held), begun.text)
    cut_short: BaseException | None = None
    try:
        for piece in record.watch(begun.pieces):
            if printed:
                printed.push(piece.row, piece.text, done=piece.finish is not None)
    except (KeyboardInterrupt, Terminated, CannotMeet, CorruptFile, NetworkError) as reason:
        cut_short = reason
    if printed:
        for row, held in enumerate(record.held):
            if held:
                printed.push(row, held, done=True)
        printed.finish()
    elif record.tokens or not isinstance(cut_short, UserError):
        file.write(record.json_object(**paper.field()) if output.as_json else record.json_lines())
    if record.tokens or cut_short is None:
        file.keep()
        paper.write()
        if output.stats:
            terminal.tell(record.summary())
    if cut_short is not None:
        raise cut_short


def _lookup_pays(model: "Model", sampling: "Sampling", length: TextOptions) -> bool:
    """Where lookup is on by itself: where the text is the same token for token. With int8 activations a last bit of
    attention, which differs between one token and several at a time, is now and then rounded to another text."""
    return sampling.greedy and length.num_samples == length.beams == 1 and model.precision == "fp32"
