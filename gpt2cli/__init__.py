"""gpt2: the command line for GPT-2, and a small library.

from gpt2cli import Limits, Sampling, embed, generate, load, score

model = load("tiny")
for piece in generate(model, "Once upon a time", Sampling(seed=1), Limits(max_tokens=50)):
    print(piece.text, end="", flush=True)
print(score(model, "The cat sat on the mat.").perplexity)
print(embed(model, "The cat sat on the mat.").shape)
"""

from typing import TYPE_CHECKING

from gpt2cli.errors import UserError

if TYPE_CHECKING:
    from gpt2cli.analysis.choosing import Choice, choices
    from gpt2cli.analysis.comparison import Comparison, compare
    from gpt2cli.analysis.embedding import embed
    from gpt2cli.analysis.evaluation.evaluate import evaluate
    from gpt2cli.analysis.evaluation.running import Evaluation
    from gpt2cli.analysis.explained import Explanation
    from gpt2cli.analysis.explanation import explain
    from gpt2cli.analysis.questions import Question
    from gpt2cli.analysis.scoring import Score, score
    from gpt2cli.finetuning import finetune
    from gpt2cli.generation.forms import Constraint
    from gpt2cli.generation.parameters import Limits, Sampling
    from gpt2cli.generation.receipts import receipt
    from gpt2cli.generation.replaying import Replay, replay
    from gpt2cli.generation.requests import Piece
    from gpt2cli.generation.texts import complete, generate
    from gpt2cli.model import Model, load

__all__ = [
    "Choice",
    "Comparison",
    "Constraint",
    "Evaluation",
    "Explanation",
    "Limits",
    "Model",
    "Piece",
    "Question",
    "Replay",
    "Sampling",
    "Score",
    "UserError",
    "__version__",
    "choices",
    "compare",
    "complete",
    "embed",
    "evaluate",
    "explain",
    "finetune",
    "generate",
    "load",
    "receipt",
    "replay",
    "score",
]

__version__ = "0.1.0"

_HOMES = {
    "Choice": "analysis.choosing",
    "Comparison": "analysis.comparison",
    "Constraint": "generation.forms",
    "Evaluation": "analysis.evaluation.running",
    "Explanation": "analysis.explained",
    "Limits": "generation.parameters",
    "Model": "model",
    "Piece": "generation.requests",
    "Question": "analysis.questions",
    "Replay": "generation.replaying",
    "Sampling": "generation.parameters",
    "Score": "analysis.scoring",
    "choices": "analysis.choosing",
    "compare": "analysis.comparison",
    "complete": "generation.texts",
    "embed": "analysis.embedding",
    "evaluate": "analysis.evaluation.evaluate",
    "explain": "analysis.explanation",
    "finetune": "finetuning",
    "generate": "generation.texts",
    "load": "model",
    "receipt": "generation.receipts",
    "replay": "generation.replaying",
    "score": "analysis.scoring",
}


def __getattr__(name: str) -> object:
    # importing the package costs nothing: `gpt2 --help` needs neither NumPy nor ONNX Runtime
    if name not in _HOMES:
        raise AttributeError(f"module 'gpt2cli' has no attribute '{name}'")
    from importlib import import_module

    found = globals()[name] = getattr(import_module(f"gpt2cli.{_HOMES[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
