"""What a run produced, gathered from its pieces, as plain data: for --json, --jsonl and --stats."""

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from gpt2cli.generation.requests import Logprob, Piece, Request, Words

if TYPE_CHECKING:
    from gpt2cli.analysis.choosing import Choice


_MOMENT = 1e-3  # seconds, in which no model computes several tokens


class Speaker(Protocol):
    """A model, here or on a server."""

    @property
    def name(self) -> str: ...
    @property
    def revision(self) -> str | None: ...
    @property
    def precision(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def tokenizer(self) -> Words: ...


@dataclass
class Sample:
    """One row as far as it has come."""

    text: list[str] = field(default_factory=list)
    held: str = ""
    ids: list[int] = field(default_factory=list)
    logprobs: list[Logprob] = field(default_factory=list)
    finish_reason: str = "interrupted"

    @property
    def whole(self) -> str:
        """The text, with what it ends with where no more of it comes."""
        return "".join(self.text) + self.held


class Record:
    """Watches the pieces of one run go by."""

    def __init__(
        self,
        model: Speaker,
        prompt: str,
        request: Request,
        *,
        draft_model: str | None,
        keep: bool,
        started: float,
        choices: "Sequence[Choice] | None" = None,
    ) -> None:
        """`prompt` is the text of the request's ids, `draft_model` the name of what guesses. With `keep` false nothing
        but counts is remembered, so that endless text needs no memory. `started` is when loading began
        (time.monotonic)."""
        self._model, self._prompt, self._request = model, prompt, request
        self._draft_model = draft_model
        self._samples = [Sample() for _ in range(request.samples)]
        self._keep = keep
        self._begun = time.monotonic()
        self._load_s = self._begun - started
        self._first_token_s: float | None = None
        self._choices = choices
        self.tokens = 0
        self.incomplete = 0  # texts that do not have the form that was asked for

    @property
    def held(self) -> list[str]:
        """What each sample's text ends with where no more of it comes."""
        return [sample.held for sample in self._samples]

    @property
    def told(self) -> list[tuple[list[int], str, str]]:
        """Ids, text and why it ended, of each sample."""
        return [(sample.ids, sample.whole, sample.finish_reason) for sample in self._samples]

    def watch(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        """The same pieces."""
        for piece in pieces:
            sample = self._samples[piece.row]
            if self._first_token_s is None:
                self._first_token_s = time.monotonic() - self._begun
            self.tokens += piece.token is not None
            sample.held = piece.held
            if self._keep:
                sample.text.append(piece.text)
                if piece.token is not None:
                    sample.ids.append(piece.token)
                    if piece.logprob is not None:
                        sample.logprobs.append(piece.logprob)
            if piece.finish is not None:
                sample.finish_reason = piece.finish
                self.incomplete += piece.finish == "incomplete"
            yield piece

    def json_object(self, **more: Any) -> str:
        """One object with all samples, and a newline."""
        rest = {"samples": self._rows(), "timings": self._timings()}
        return _line(self._common() | self._chosen() | rest | more, indent=2)

    def json_lines(self) -> str:
        """One line a sample: its fields beside the common ones."""
        common, timings = self._common() | self._chosen(), {"timings": self._timings()}
        return "".join(_line(common | row | timings) for row in self._rows())

    def summary(self) -> str:
        """One line for people."""
        timings, model, drafter = self._timings(), self._model, self._request.drafter
        return (
            f"seed {self._request.sampling.seed} · {model.name} {model.precision} {model.device} ·"
            f" {len(self._request.ids)} prompt + {self.tokens} tokens · {timings['tokens_per_second']:.1f} tokens/s ·"
            f" load {timings['load_s']:.2f} s, first token {timings['first_token_s']:.2f} s,"
            f" total {timings['total_s']:.2f} s"
            + (f" · {drafter.accepted} of {drafter.drafted} drafts taken" if drafter else "")
        )

    def _common(self) -> dict[str, Any]:
        model, request = self._model, self._request
        lookup = request.drafter is not None and self._draft_model is None
        return {
            "model": model.name,
            "revision": model.revision,
            "precision": model.precision,
            "device": model.device,
            "prompt": self._prompt,
            "prompt_ids": request.ids,
            "seed": request.sampling.seed,
            "settings": request.settings() | {"draft_model": self._draft_model, "lookup": lookup},
        }

    def _chosen(self) -> dict[str, Any]:
        """How probable each choice is, where there are some."""
        return {} if self._choices is None else {"choices": [asdict(choice) for choice in self._choices]}

    def _rows(self) -> list[dict[str, Any]]:
        tokenizer = self._model.tokenizer
        return [
            {
                "index": index,
                "text": sample.whole,
                "ids": sample.ids,
                "finish_reason": sample.finish_reason,
                "logprobs": [
                    logprob.plain(token, tokenizer) for token, logprob in zip(sample.ids, sample.logprobs, strict=True)
                ]
                if self._request.logprobs is not None
                else None,
            }
            for index, sample in enumerate(self._samples)
        ]

    def _timings(self) -> dict[str, float]:
        """Seconds. first_token_s and total_s begin when the model is loaded; tokens_per_second counts the tokens of
        all rows after the first step, over the time after it (a single step, beams, and text that a form forces at
        once: all, over the whole time)."""
        total = time.monotonic() - self._begun
        first = total if self._first_token_s is None else self._first_token_s
        later = self.tokens - len(self._samples)
        streams = self._request.beams == 1 and later > 0 and total - first > _MOMENT
        drafter = self._request.drafter
        drafts = {"drafted": drafter.drafted, "accepted": drafter.accepted} if drafter else {}
        speed = later / (total - first) if streams else self.tokens / max(total, 1e-9)
        return {
            "load_s": round(self._load_s, 4),
            "first_token_s": round(first, 4),
            "total_s": round(total, 4),
            "tokens_per_second": round(speed, 2),
        } | drafts


def _line(value: dict[str, Any], indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent) + "\n"
