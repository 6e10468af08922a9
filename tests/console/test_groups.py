"""Options as values, in a Typer command of two groups."""

from dataclasses import dataclass, field
from typing import Annotated

import pytest
import typer

from gpt2cli.console.groups import Options, spread
from gpt2cli.errors import UsageError
from gpt2cli.generation import sampling
from gpt2cli.generation.parameters import Limits, Sampling, _parameter


@dataclass(frozen=True)
class Wider(Sampling):
    """With one parameter more, declared as CONTRIBUTING.md says."""

    top_a: float = _parameter(0.0, "Drop below X.", metavar="X", least=0, most=1, named={0: "off"}, variable=True)


@dataclass(frozen=True)
class Choice(Options):
    heading = "Choice"

    greedy: Annotated[bool, typer.Option("--greedy", help="The best.")] = False
    values: Wider = field(default_factory=Wider)
    logit_bias: Annotated[list[str], typer.Option(help="TOKEN=X")] = field(default_factory=list)

    @classmethod
    def settle(cls, values, given):
        if values["greedy"] and given("temperature"):
            raise UsageError("`greedy` contradicts `temperature`", "leave one out")


@dataclass(frozen=True)
class Length(Options):
    heading = "Length"

    values: Limits = field(default_factory=Limits)


@pytest.fixture
def called():
    """called(*argv) -> the groups that the verb got."""
    found = []

    def verb(name: Annotated[str, typer.Argument()], choice: Choice, length: Length) -> int:
        found.append((name, choice, length))
        return 0

    app = typer.Typer(add_completion=False)
    app.command()(spread(verb))
    command = typer.main.get_command(app)

    def call(*argv):
        command(["x", *map(str, argv)], standalone_mode=False)
        return found[-1]

    call.command = command
    return call


def test_groups_come_as_values(called):
    name, choice, length = called("--top-k", 5, "--logit-bias", "7=1", "--stop", "a", "--stop", "b", "--top-a", 0.25)
    assert name == "x"
    assert choice == Choice(False, Wider(top_k=5, top_a=0.25), ["7=1"])
    assert length == Length(Limits(stop=["a", "b"]))
    assert called() == ("x", Choice(), Length())


def test_each_parameter_is_an_option_once(called):
    options = [one.name for one in called.command.params]
    assert len(options) == len(set(options))
    assert {"top_a", "min_p", "max_length", "logit_bias", "greedy"} <= set(options)
    assert {one.rich_help_panel for one in called.command.params[1:]} == {"Choice", "Length"}


def test_minus_one_stands_for_none(called):
    _, choice, length = called("-n", -1, "--seed", -1)
    assert (choice.values.seed, length.values.max_tokens) == (None, None)
    with pytest.raises(UsageError) as caught:
        called("-n", -2)
    assert caught.value.hint == "`max_tokens` must be 0 or more, or -1"


def test_one_option_decides_about_another(called, monkeypatch):
    with pytest.raises(UsageError, match="`greedy` contradicts"):
        called("--greedy", "-t", 1)
    monkeypatch.setenv("GPT2_TEMPERATURE", "1")  # which nobody typed
    assert called("--greedy")[1].greedy


def test_a_wrong_value_is_told_with_the_variable_that_gave_it(called, monkeypatch):
    monkeypatch.setenv("GPT2_TOP_A", "2")
    with pytest.raises(UsageError) as caught:
        called()
    assert caught.value.message == "`top_a` is 2.0"
    assert caught.value.hint == "unset GPT2_TOP_A, or give it another value: `top_a` must be from 0 (off) to 1"
    with pytest.raises(UsageError) as caught:
        called("--top-a", 3)
    assert caught.value.hint == "`top_a` must be from 0 (off) to 1"


def test_a_new_filter_is_a_field_a_function_and_a_line(called, monkeypatch):
    monkeypatch.setitem(sampling.FILTERS, "top_a", lambda p, part: p >= part * p.max(axis=1, keepdims=True) ** 2)
    monkeypatch.setitem(sampling._OFF, "top_a", 0)
    logits = sampling.np.log(sampling.np.array([[0.5, 0.3, 0.15, 0.05]]))
    for part, kept in ((0, 4), (0.4, 3), (0.8, 2)):  # of 0.25: 0, 0.1, 0.2
        _, probabilities = sampling.survivors(logits, called("-t", 1, "--top-p", 1, "--top-a", part)[1].values)
        assert (probabilities > 0).sum() == kept
