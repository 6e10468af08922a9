"""What a constraint costs, and what forced tokens bring:

    python benchmarks/constraining.py --tokenizer FOLDER [--work FOLDER] [--size 124M] [--rounds 5] [--precision int8]

A random checkpoint in GPT-2's shapes. First the time of a token's mask, and of taking the token, over the texts that
come, beside the time of a decode step without a constraint. Then tokens a second: free text; a JSON object of many
fields with forced tokens, and the same with each of them asked for. Rounds alternate. Writes FOLDER/constraining.json.
"""

import argparse
import json
import statistics
from pathlib import Path
from time import perf_counter
from typing import Any

from rounds import checkpoint

from gpt2cli import Constraint, Limits, Sampling, generate, load
from gpt2cli.generation.choices import OneOf
from gpt2cli.generation.constraints import Matcher
from gpt2cli.model import Model

PROMPT = "The knight rode into the valley, and wrote down what he saw there, as he had been told to do:"
NAMES = ("first_name", "family_name", "occupation", "favourite_colour", "home_town")
FIELDS: dict[str, Any] = {name: {"type": "string", "pattern": "^[A-Z][a-z]{3,8}$"} for name in NAMES}
FIELDS |= {name: {"type": "integer", "minimum": 1, "maximum": 99} for name in ("age_in_years", "number_of_children")}
SCHEMA = {"type": "object", "properties": FIELDS, "required": [*FIELDS], "additionalProperties": False}
FORMS = {
    "JSON": Constraint("json_schema", SCHEMA),
    "regex": Constraint("regex", r"([a-z ]+, ){20}[a-z ]+\."),
    "grammar": Constraint("grammar", 'root ::= (" " word [.,]? )+\nword ::= [A-Z]? [a-z]+'),
    "choice": Constraint("choice", [f" the {a} of {b}" for a in ("king", "man", "sea") for b in NAMES]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tokenizer", type=Path, required=True, help="a folder with GPT-2's tokenizer.json")
    parser.add_argument("--work", type=Path, default=Path("constraining"))
    parser.add_argument("--size", default="124M")
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    model = load(str(checkpoint(asked.work, asked.size, asked.tokenizer)), precision=asked.precision)
    step = statistics.median(free(model)[1] for _ in range(asked.rounds))
    found: dict[str, Any] = {"step_ms": 1000 * step, "forms": {}}
    print(f"a step without a constraint: {1000 * step:.2f} ms")
    for name, form in FORMS.items():
        spent = overhead(model, form)
        found["forms"][name] = {"ms": 1000 * spent, "part": spent / step}
        print(f"{name:<8} {1000 * spent:8.3f} ms a token, {spent / step:.1%} of a step")
    ways = {"free text": free, "JSON, forced": forced, "JSON, each asked for": asked_for}
    speeds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(asked.rounds):
        for way, run in ways.items():
            speeds[way].append(1 / run(model)[1])
    for way, values in speeds.items():
        print(f"{way:<22} {statistics.median(values):8.1f} tokens/s ({min(values):.1f} to {max(values):.1f})")
    asked.work.joinpath("constraining.json").write_text(json.dumps(found | {"speeds": speeds}, indent=2))


def timed(model: Model, sampling: Sampling, form: Constraint | None, tokens: int) -> tuple[int, float]:
    """How many tokens came, and the seconds for each after the first."""
    times = [
        perf_counter()
        for piece in generate(model, PROMPT, sampling, Limits(max_tokens=tokens, ignore_eos=True), constraint=form)
        if piece.token is not None
    ]
    return len(times), (times[-1] - times[0]) / (len(times) - 1)


def free(model: Model) -> tuple[int, float]:
    return timed(model, Sampling(seed=1), None, 100)


def forced(model: Model) -> tuple[int, float]:
    return timed(model, Sampling(seed=1), FORMS["JSON"], 300)


def asked_for(model: Model) -> tuple[int, float]:
    """The same form, where no token is taken unasked: any ban has this effect."""
    unused = model.engine.vocabulary - 1
    return timed(model, Sampling(seed=1, logit_bias={unused: float("-inf")}), FORMS["JSON"], 300)


def overhead(model: Model, form: Constraint) -> float:
    """Seconds in the matcher for a token, on average over some texts."""
    spent, tokens, inside = 0.0, 0, 0

    def watched(method: Any) -> Any:
        def call(*arguments: Any) -> Any:
            nonlocal spent, inside
            inside += 1
            begun = perf_counter()
            try:
                return method(*arguments)
            finally:
                inside -= 1
                spent += 0 if inside else perf_counter() - begun

        return call

    kind: Any = OneOf if form.choices else Matcher
    methods = {name: getattr(kind, name) for name in ("allowed", "accept", "forced")}
    for name, method in methods.items():
        setattr(kind, name, watched(method))
    ended, kind.ended = kind.ended, property(watched(kind.ended.fget))
    try:
        for seed in range(3):
            tokens += sum(
                piece.token is not None
                for piece in generate(model, PROMPT, Sampling(seed=seed), Limits(max_tokens=100), constraint=form)
            )
    finally:
        for name, method in methods.items():
            setattr(kind, name, method)
        kind.ended = ended
    return spent / tokens


if __name__ == "__main__":
    main()
