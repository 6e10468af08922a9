"""gpt2: the command line for GPT-2, and a small library.

from gpt2cli import Limits, Sampling, generate, load

model = load("tiny")
for piece in generate(model, "Once upon a time", Sampling(seed=1), Limits(max_tokens=50)):
    print(piece.text, end="", flush=True)
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpt2cli.decoding import Piece
    from gpt2cli.errors import UserError
    from gpt2cli.generation import complete, generate
    from gpt2cli.model import load
    from gpt2cli.parameters import Limits, Sampling

__all__ = ["Limits", "Piece", "Sampling", "UserError", "__version__", "complete", "generate", "load"]

__version__ = "0.1.0"

_HOMES = {
    "Limits": "gpt2cli.limits",
    "Piece": "gpt2cli.decoding",
    "Sampling": "gpt2cli.parameters",
    "UserError": "gpt2cli.errors",
    "complete": "gpt2cli.generation",
    "generate": "gpt2cli.generation",
    "load": "gpt2cli.model",
}


def __getattr__(name: str) -> Any:
    # importing the package costs nothing: `gpt2 --help` needs neither NumPy nor ONNX Runtime
    if name not in _HOMES:
        raise AttributeError(f"module 'gpt2cli' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
