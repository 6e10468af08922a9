"""Which model answers: what must be the same where a run goes on, and on every machine that takes part."""

import hashlib
from pathlib import Path

from gpt2cli.batch.answers import Json
from gpt2cli.model import Model
from gpt2cli.store import hashes


def of(model: Model) -> Json:
    """By its revision; a folder has none, and is known by its weights. Raises CorruptFile."""
    found: Json = dict(model.plain())
    found["model"] = name_of(model)
    if model.revision is None:
        digest = hashlib.sha256()
        for known in hashes.of(_weights(model)).values():
            digest.update(bytes.fromhex(known))
        found["weights"] = digest.hexdigest()
        del found["model"]  # a folder may be called in many ways
    return found


def name_of(model: Model) -> str:
    """Without the revision that may have been asked for."""
    return model.name.partition("@")[0] if model.revision else model.name


def _weights(model: Model) -> list[Path]:
    endings = (".onnx", ".onnx_data", ".safetensors")
    return sorted(path for path in model.folder.iterdir() if path.name.endswith(endings))
