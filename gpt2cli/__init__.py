"""gpt2: the command line for GPT-2, and a small library.

from gpt2cli import Limits, Sampling, generate, load

model = load("tiny")
for piece in generate(model, "Once upon a time", Sampling(seed=1), Limits(max_tokens=50)):
    print(piece.text, end="", flush=True)
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpt2cli.errors import UserError
    from gpt2cli.generation.decoding import Piece
    from gpt2cli.generation.parameters import Limits, Sampling
    from gpt2cli.generation.texts import complete, generate
    from gpt2cli.model import load

__all__ = ["Limits", "Piece", "Sampling", "UserError", "__version__", "complete", "generate", "load"]

__version__ = "0.1.0"

_HOMES = {
    "Limits": "gpt2cli.generation.parameters",
    "Piece": "gpt2cli.generation.decoding",
    "Sampling": "gpt2cli.generation.parameters",
    "UserError": "gpt2cli.errors",
    "complete": "gpt2cli.generation.texts",
    "generate": "gpt2cli.generation.texts",
    "load": "gpt2cli.model",
}


def __getattr__(name: str) -> Any:
    # importing the package costs nothing: `gpt2 --help` needs neither NumPy nor ONNX Runtime
    if name not in _HOMES:
        raise AttributeError(f"module 'gpt2cli' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
