"""Why a model says what it says: what each token was to it, what its layers would have said, where it looked, and what
a prediction rests on. Nothing here prints.

The logit lens is ln_f and the head on what comes out of each block, with that state's own mean and variance. Rollout
(Abnar and Zuidema 2020): the mean of a layer's heads, half of it and half of the identity, multiplied over the layers.
Value zeroing (Mohebbi et al. 2023): 1 - cosine of what comes out of a block with and without the values of a token.
Occlusion: a token is left out, and those after it move up."""

from collections.abc import Iterator, Sequence

import numpy as np

from gpt2cli.analysis.attending import Looks, value_zeroing
from gpt2cli.analysis.explained import Array, Explanation, Influence, Lens, Told, Weights
from gpt2cli.analysis.questions import Question
from gpt2cli.analysis.scoring import scored
from gpt2cli.engine.chunks import CHUNK
from gpt2cli.engine.facts import Logits
from gpt2cli.engine.inspection import Held, insides
from gpt2cli.engine.tasks import Feed, Task
from gpt2cli.errors import CannotMeet, UsageError
from gpt2cli.generation.parameters import is_whole
from gpt2cli.generation.sampling import log_softmax
from gpt2cli.generation.texts import check_types, checked, ids_of
from gpt2cli.model import Model

_LOOKING = {"attention", "rollout", "value_zeroing"}


class Explainer:
    """An explanation in the making: `inside` and `influence` find what `explanation` then holds."""

    def __init__(self, model: Model, ids: Sequence[int], question: Question) -> None:
        """Raises UsageError, CannotMeet for a text beyond the window and for a ready-made graph, CorruptFile."""
        self._model, self._question = model, question
        if not ids:
            raise UsageError("the text is empty", "give a text of a word at least")
        model.engine.check_ids(ids)
        start = [model.start] if question.start and model.start is not None else []
        self.ids, self.start = [*start, *ids], bool(start)
        self._check_length(len(ids))
        self.target = self._place(question.token)
        self.instead = self._instead(question.instead)
        facts = model.engine.facts
        self._layers = _chosen("layers", question.layers, facts.layers)
        self._heads = _chosen("heads", question.heads, facts.heads)
        self.weights = len(self._layers) * len(self._heads) * len(self.ids) ** 2  # of attention
        # all of them are given, or those of one place
        self.whole = bool(question.layers or question.heads) or self.weights <= question.most
        self._insides = insides(model.engine)
        if "value_zeroing" in question.parts:
            self._insides.open_block_ends()
        self._told: list[Told] = []
        self._lens: Lens | None = None
        self._attention: dict[int, dict[int, Weights]] | None = None
        self._rollout: Weights | None = None
        self._influence: Influence | None = None
        self._value_zeroing: dict[int, Array] | None = None

    def _check_length(self, said: int) -> None:
        window, length = self._model.engine.window, len(self.ids)
        if length > window:
            beside = " beside the start token" if self.start else ""
            raise CannotMeet(
                f"the text has {said} tokens, and the model's window holds {window - self.start}{beside}",
                f"shorten it: gpt2 tokens --limit {window - self.start} gives the beginning",
            )
        if length < 2:
            raise UsageError(
                "the text is one token, and nothing precedes it: there is no prediction to explain",
                "give more text, or let the start token precede it",
            )

    def _place(self, token: int) -> int:
        length = len(self.ids)
        place = token + length if token < 0 else token
        if not 1 <= place < length:
            which = f"tokens 1 to {length - 1}" if length > 2 else "token 1 alone"
            raise UsageError(
                f"`token` is {token}, of which there is no prediction", f"{which} can be explained; -1 is the last"
            )
        return place

    def _instead(self, given: str | int | None) -> int | None:
        if given is None:
            return None
        if isinstance(given, str):
            ids = self._model.tokenizer.encode(str(checked(given, "instead")))
        else:
            ids = [given] if is_whole(given) else []
        if len(ids) != 1:
            first = f": its first is {self._model.tokenizer.decode(ids[:1])!r}" if ids else ""
            raise UsageError(
                f"`instead` is {given!r}, which is {len(ids) or 'no'} tokens",
                f"give one token, mostly a word after a space{first}",
            )
        self._model.engine.check_ids(ids)
        if ids[0] == self.ids[self.target]:
            raise UsageError(f"`instead` is {given!r}, which is the token itself", "give another one")
        return ids[0]

    def inside(self) -> Iterator[None]:
        """Find all but the influence, a step at a time: none is more work than a chunk of a text."""
        looks = Looks(self._layers, self._heads, self.target - 1, len(self.ids), whole=self.whole)
        wanted, states = self._question.parts, list[Array]()
        held: Held | None = None
        for chunk in self._model.engine.chunks(self.ids):
            seen, held = self._insides.chunk(chunk, held, attention=bool(_LOOKING & set(wanted)))
            states.append(seen.states)
            looks.add(seen, mean="rollout" in wanted, heads="attention" in wanted)
            yield
        found = np.concatenate(states, axis=1)
        yield from self._says(found)
        if "attention" in wanted:
            self._attention = looks.attention()
        if "rollout" in wanted:
            self._rollout = looks.rollout()
        if "value_zeroing" in wanted and held is not None:
            for scores in value_zeroing(self._insides, found[:, self.target - 1], looks.last, held):
                if scores is not None:
                    self._value_zeroing = {layer: scores[layer] for layer in self._layers}
                yield

    def _says(self, states: Array) -> Iterator[None]:
        """What is said of each token, and the lens."""
        layers, length = states.shape[:2]
        end = length if length <= self._question.near else self.target
        places = range(max(0, end - self._question.near), end) if "lens" in self._question.parts else range(0)
        told, lens = list[Told](), list[tuple[Array, Array, Array]]()
        for first, last in _cuts(length, places, layers):
            seen = states[:, first:last] if first in places else states[-1:, first:last]
            logits = self._insides.says(seen.reshape(-1, seen.shape[-1])).reshape(*seen.shape[:2], -1)
            # what comes after the last token is nowhere written: any will do
            targets = [*self.ids[first + 1 : last + 1], *[0] * (last == length)]
            told += _told(logits[-1], targets, self._question.top)
            if first in places:
                lens.append(_through(logits))
            yield
        *said, following = told
        self._told = [Told(self.ids[0], None), *said]
        (token, logprob), *_ = following.top
        self._following = Told(token, logprob, 1, following.top, following.entropy)
        if lens:
            self._lens = Lens(places, *(np.concatenate(part, axis=1) for part in zip(*lens, strict=True)))

    @property
    def left_out(self) -> int:
        """How many tokens `influence` leaves out, each in a step."""
        return min(self.target - self.start, self._question.near)

    def influence(self) -> Task[None, None]:
        """Find what the prediction loses where a token before it is left out. Nothing comes of it but steps."""
        ids, place, token = self.ids, self.target, self.ids[self.target]

        def value(logits: Logits) -> float:
            if self.instead is not None:
                row = logits[-1].astype(np.float64)
                return float(row[token] - row[self.instead])
            return float(log_softmax(logits[-1])[token])

        base = value((yield [Feed(ids[:place])]))
        scores: list[float | None] = [None] * len(ids)
        # from the last token to the first: the row that was there begins as the next one does
        for left_out in range(place - 1, place - 1 - self.left_out, -1):
            rest = ids[left_out + 1 : place]
            if left_out and not rest:
                feed = Feed(ids[left_out - 1 : left_out], 0, left_out - 1)
            elif rest:
                feed = Feed(rest, 0, left_out)
            else:  # nothing is left to predict from
                break
            scores[left_out] = base - value((yield [feed]))
            yield None
        self._influence = Influence(token, self.instead, base, tuple(scores))

    @property
    def explanation(self) -> Explanation:
        """What has been found."""
        model = self._model
        return Explanation(
            model.plain(),
            tokenizer=model.tokenizer,
            start=self.start,
            target=self.target,
            tokens=self._told,
            following=self._following,
            lens=self._lens,
            attention=self._attention,
            rollout=self._rollout,
            influence=self._influence,
            value_zeroing=self._value_zeroing,
        )


def _told(logits: Logits, targets: Sequence[int], top: int) -> list[Told]:
    """Tokens and their predictions, each from its row of logits."""
    logs = _logarithms(logits)
    entropies = -(np.exp(logs) * logs).sum(axis=1, dtype=np.float64)
    return [
        Told(one.token, one.logprob, one.rank, one.top, float(entropy))
        for one, entropy in zip(scored(logits, targets, top=top), entropies, strict=True)
    ]


def _through(logits: Logits) -> tuple[Array, Array, Array]:
    """Of the logits [layers, places, vocabulary] the likeliest ids, their log-probabilities, and the divergence of the
    last layer from each."""
    logs = _logarithms(logits)
    best = logs.argmax(axis=-1)
    divergence = (np.exp(logs[-1]) * (logs[-1] - logs)).sum(axis=-1, dtype=np.float64)
    return best, np.take_along_axis(logs, best[..., None], axis=-1)[..., 0], np.maximum(divergence, 0)


def _logarithms(logits: Logits) -> Array:
    """Log-probabilities: in single precision, but for the sum."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    found: Array = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True, dtype=np.float64)).astype(np.float32)
    return found


def _cuts(length: int, places: range, layers: int) -> Iterator[tuple[int, int]]:
    """The places of a text in pieces, each inside `places`, where all layers are asked, or outside."""
    for span, step in (
        (range(places.start), CHUNK),
        (places, max(1, CHUNK // layers)),
        (range(places.stop, length), CHUNK),
    ):
        for first in span[::step]:
            yield first, min(first + step, span.stop)


def _chosen(name: str, given: Sequence[int], count: int) -> list[int]:
    """Those that were given, in order, or all. Raises UsageError for one that does not exist."""
    for number in given:
        if not is_whole(number) or not 0 <= number < count:
            raise UsageError(f"`{name}` has {number!r}, which does not exist", f"this model has 0 to {count - 1}")
    return sorted(set(given)) or list(range(count))


def explain(model: Model, text: str | Sequence[int], question: Question | None = None) -> Explanation:
    """What the model made of a text (or of token ids): of each token its probability, rank, entropy and what was
    likelier; and what the prediction of one of them rests on.

    Any number of threads may explain texts on one model. Raises UsageError, CannotMeet for a text beyond the window and
    for a ready-made graph, CorruptFile."""
    question = Question() if question is None else question
    check_types(model=(model, Model), question=(question, Question))
    explainer = Explainer(model, ids_of(model, text, "text"), question)
    for _ in explainer.inside():
        pass
    if "influence" in question.parts:
        model.scheduler.run(explainer.influence())
    return explainer.explanation
