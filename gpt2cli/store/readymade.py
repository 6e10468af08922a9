"""Ready-made ONNX exports, in a folder or a repository: which file is run, and what belongs to it.

The names are those of optimum (model.onnx; decoder_model_merged.onnx before 2023) and of transformers.js
(model_quantized.onnx and so on), in the folder itself or in its subfolder onnx/."""

from collections.abc import Iterable
from pathlib import Path

from gpt2cli.engine import harmless
from gpt2cli.export.names import GENERATION
from gpt2cli.tokenizer import FILES

_FP32 = ("model.onnx", "decoder_model_merged.onnx")
_INT8 = (
    *("model_quantized.onnx", "model_int8.onnx"),
    *("decoder_model_merged_quantized.onnx", "decoder_model_merged_int8.onnx"),
)
_FP16 = ("model_fp16.onnx", "decoder_model_merged_fp16.onnx")
_BY_PRECISION = {"auto": (*_FP32, *_INT8, *_FP16), "fp32": _FP32, "int8": _INT8}


def choose(names: Iterable[str], precision: str) -> str | None:
    """The graph for a precision (auto: fp32 before int8 before fp16) among file names with forward slashes."""
    present = set(names)
    for name in _BY_PRECISION.get(precision, ()):
        for folder in ("", "onnx/"):
            own = f"{folder}weights.safetensors" in present  # an export of ours, which is no ready-made one
            if f"{folder}{name}" in present and not own:
                return f"{folder}{name}"
    return None


def files(names: Iterable[str], precision: str) -> list[str]:
    """What is needed of a repository to run its graph: configuration, tokenizer, data, and the graph, which comes
    last: where it is, everything is. Empty where there is no graph."""
    names = list(names)
    graph = choose(names, precision)
    if graph is None:
        return []
    data = [name for name in names if name.startswith((f"{graph}_data", f"{graph}.data"))]
    tokenizer = [name for name in FILES if name in names]
    if not {"tokenizer.json", "vocab.json"} & set(tokenizer):
        tokenizer = [f"onnx/{name}" for name in FILES if f"onnx/{name}" in names]
    configs = [name for file in ("config.json", GENERATION) for name in (file, f"onnx/{file}") if name in names]
    return [*configs, *tokenizer, *data, graph]


def find(folder: Path, precision: str) -> Path | None:
    """The graph in a folder, checked (engine/harmless.py)."""
    names = [path.relative_to(folder).as_posix() for path in (*folder.glob("*"), *folder.glob("onnx/*"))]
    chosen = choose(names, precision)
    if chosen is None:
        return None
    harmless.check(folder / chosen, folder)
    return folder / chosen
