"""A request under way: its rows, and the rules that all ways of decoding share."""

from collections.abc import Sequence

from gpt2cli.engine.facts import Logits
from gpt2cli.engine.tasks import Feed
from gpt2cli.generation import constraints
from gpt2cli.generation.choices import OneOf
from gpt2cli.generation.constraints import Matcher
from gpt2cli.generation.parameters import Limits
from gpt2cli.generation.requests import Finish, Logprob, Piece, Request
from gpt2cli.generation.sampling import highest, log_softmax
from gpt2cli.generation.stops import StopStrings
from gpt2cli.model import Model
from gpt2cli.tokenizer.tokenizer import TextStream, Tokenizer


class State:
    """What all rows of a request have in common. Raises UsageError and CannotMeet for its constraint."""

    def __init__(self, model: Model, request: Request) -> None:
        limits = request.limits
        self.request, self.window = request, model.engine.window
        self.ends, self._all_ends = model.ends, (*model.ends, *request.stop_tokens)
        self.ids = list(request.ids)
        self.tokens = limits.tokens(len(self.ids))
        # tokens that stay where the window slides; where it does not, any number may have been given
        slides = self.tokens is None or len(self.ids) + self.tokens > self.window + 1
        self.keep = limits.kept(len(self.ids), self.window) if slides else 0
        self.recent = max(1, (self.window - self.keep) // 2)
        numbers = range(request.first, request.first + request.samples)
        constraint = request.constraint
        self.matcher = constraints.matcher(model, constraint, request.stop_tokens) if constraint else None
        self.rows = [Row(number, model.tokenizer, self._all_ends, limits, self.tokens) for number in numbers]
        for row in self.rows:
            row.matcher = self.matcher.copy() if self.matcher else None

    def prompt(self) -> list[Feed]:
        request = self.request
        reuse = len(self.ids) - 1 if request.resumes or request.shares else 0
        return [Feed(self.ids, reuse=reuse, resumes=request.resumes)]

    def banned(self, count: int) -> Sequence[int]:
        """Tokens that may not follow `count` generated ones."""
        limits = self.request.limits
        if count < limits.min_tokens:
            return self._all_ends
        return self.ends if limits.ignore_eos else ()

    def piece(self, row: "Row", token: int, logits: Logits | None) -> Piece:
        """The row's next token, chosen from `logits` [vocabulary], which only log-probabilities need."""
        count = self.request.logprobs
        return row.push(token, None if count is None or logits is None else _logprob(logits, token, count))


def _logprob(logits: Logits, token: int, count: int) -> Logprob:
    values = log_softmax(logits)
    leaders = highest(values, count)
    rank = 1 + (values > values[token]).sum() + (values[:token] == values[token]).sum()
    top = tuple(zip(leaders.tolist(), values[leaders].tolist(), strict=True))
    return Logprob(float(values[token]), top, int(rank))


class Row:
    """One continuation: its characters, its stop strings, its length."""

    def __init__(
        self, number: int, tokenizer: Tokenizer, ends: Sequence[int], limits: Limits, tokens: int | None
    ) -> None:
        self.number = number
        self.finished = False
        self.matcher: Matcher | OneOf | None = None
        self._text = TextStream(tokenizer)
        self._stop = StopStrings(limits.stop)
        self._left = tokens
        self._ends = ends

    def push(self, token: int, logprob: Logprob | None) -> Piece:
        if token in self._ends:
            return self._finish("", None, logprob, "end", token)
        if self.matcher:
            self.matcher.accept(token)
        text = self._stop.push(self._text.push(token))
        if self._left is not None:
            self._left -= 1
        if self.matcher and self.matcher.ended:
            return self._finish(text, token, logprob, "end")
        if self._stop.found or self._left == 0:
            whole = self.matcher is None or self.matcher.complete
            return self._finish(text, token, logprob, "length" if whole else "incomplete")
        return Piece(self.number, text, self._stop.held + self._text.held, token, logprob)

    def end(self) -> Piece:
        """Its end, where nothing can follow."""
        return self._finish("", None, None, "end")

    def _finish(
        self, text: str, token: int | None, logprob: Logprob | None, reason: Finish, end: int | None = None
    ) -> Piece:
        self.finished = True
        if not self._stop.found:
            text += self._stop.push(self._text.finish())
        text += self._stop.finish()
        return Piece(self.number, text, "", token, logprob, "stop" if self._stop.found else reason, end)
