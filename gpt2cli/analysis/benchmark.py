"""How fast a model runs here: prompt processing (pp) and text generation (tg), as llama-bench names them."""

import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter

from gpt2cli.engine import machine as here
from gpt2cli.engine import runtime
from gpt2cli.engine.tasks import Feed, Task
from gpt2cli.errors import CannotMeet
from gpt2cli.generation.parameters import Limits, Sampling
from gpt2cli.generation.texts import generate
from gpt2cli.model import Model


@dataclass(frozen=True)
class Test:
    """`n_prompt` tokens fed, or `n_gen` tokens drawn, after `depth` tokens that are in the cache already; drawn for
    `batch` rows at once."""

    n_prompt: int
    n_gen: int
    depth: int = 0
    batch: int = 1

    @property
    def positions(self) -> int:
        """Of the window that it takes."""
        return max(self.depth, 1 if self.n_gen else 0) + self.n_prompt + self.n_gen

    @property
    def name(self) -> str:
        what = f"pp{self.n_prompt}" if self.n_prompt else f"tg{self.n_gen}"
        return what + (f"@d{self.depth}" if self.depth else "") + (f"@b{self.batch}" if self.batch > 1 else "")


@dataclass(frozen=True)
class Speed:
    """Tokens per second over all rows, of several repetitions."""

    median: float
    mean: float
    stdev: float

    @classmethod
    def of(cls, values: list[float]) -> "Speed":
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        return cls(statistics.median(values), statistics.fmean(values), spread)


def plan(prompts: list[int], generated: list[int], depths: list[int], batches: list[int]) -> list[Test]:
    """Every combination. A prompt that rows share is computed once, so pp is measured for one row."""
    prefill = [Test(tokens, 0, depth) for depth in depths for tokens in prompts if tokens]
    decode = [Test(0, tokens, depth, batch) for batch in batches for depth in depths for tokens in generated if tokens]
    return prefill + decode


def repeat(model: Model, test: Test, repetitions: int) -> Iterator[float]:
    """Tokens per second of each repetition, after one that is not counted."""
    for number in range(repetitions + 1):
        speed = _prefill(model, test) if test.n_prompt else _decode(model, test)
        if number:
            yield speed


FIRST = ("first-cold", "first-warm")


def runs(
    model: Model, tests: list[Test], repetitions: int, cold: list[str] | None
) -> Iterator[tuple[str, Test, Iterator[float]]]:
    """The name of each test, and the tokens per second of each repetition. Those of `FIRST` are before them, unless
    `cold`, the arguments of `first_token_cold`, is None."""
    if cold is not None:
        yield FIRST[0], Test(8, 1), (1 / first_token_cold(cold) for _ in range(repetitions))
        first_token_warm(model)
        yield FIRST[1], Test(8, 1), (1 / first_token_warm(model) for _ in range(repetitions))
    for test in tests:
        yield test.name, test, repeat(model, test, repetitions)


def short_prompt(model: Model) -> str:
    """Eight tokens, as --ids takes them."""
    return " ".join(map(str, model.engine.any_ids(min(8, model.engine.window))))


def _prefill(model: Model, test: Test) -> float:
    return test.n_prompt / model.scheduler.run(_prompt(model.engine.any_ids(test.depth + test.n_prompt), test.depth))


def _prompt(ids: list[int], depth: int) -> Task[None, float]:
    """The seconds that what follows the first `depth` ids takes."""
    parent = None
    if depth:
        yield [Feed(ids[:depth])]
        parent = 0
    start = perf_counter()
    yield [Feed(ids[depth:], parent)]
    return perf_counter() - start


def _decode(model: Model, test: Test) -> float:
    """The loop that `gpt2 generate` runs, drawing and decoding included; the first token belongs to the prompt."""
    limits = Limits(max_tokens=test.n_gen + 1, ignore_eos=True)
    prompt = model.engine.any_ids(max(test.depth, 1))
    pieces = generate(model, prompt, Sampling(seed=0), limits, samples=test.batch)
    for _ in range(test.batch):
        next(pieces)
    start = perf_counter()
    tokens = sum(piece.token is not None for piece in pieces)
    return tokens / (perf_counter() - start)


def first_token_cold(arguments: list[str]) -> float:
    """Seconds from exec to the first byte of text: `gpt2 generate ARGUMENTS` as a new process. Raises CannotMeet."""
    command = [sys.executable, "-m", "gpt2cli", "generate", *arguments]
    start = perf_counter()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        begun = bool(process.stdout.read(1))
        elapsed = perf_counter() - start
        process.stdout.read()
    if process.returncode or not begun:
        raise CannotMeet("the command that was to be timed failed", "see what it printed above")
    return elapsed


def first_token_warm(model: Model) -> float:
    """Seconds from a prompt of 8 tokens to the first token, the model being loaded."""
    start = perf_counter()
    prompt = model.engine.any_ids(min(8, model.engine.window))
    next(generate(model, prompt, Sampling(seed=0), Limits(max_tokens=1)))
    return perf_counter() - start


def peak_memory() -> int | None:
    """The most memory that this process has had, in bytes; None on Windows."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def cores() -> int:
    """What ONNX Runtime uses where no number of threads is given: physical cores, but it does not say how many."""
    return os.cpu_count() or 1


def machine() -> str:
    """Processor, cores, system, and the version of ONNX Runtime."""
    return f"{here.processor()}, {os.cpu_count()} cores, {platform.system()}, onnxruntime {runtime.VERSION}"
