"""A checkpoint becomes a folder that the engine runs, without PyTorch:

model.onnx, weights.safetensors    the graph, and its weights as external data
config.json, generation_config.json, tokenizer files    copied from the checkpoint
"""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from gpt2cli.errors import CorruptFile, StorageError
from gpt2cli.export.names import CONTRACT, EXPORTED, SETTINGS
from gpt2cli.paths import check_small

if TYPE_CHECKING:
    from gpt2cli.export.rounding import Rounding


def export(source: Path, folder: Path, precision: str, rounding: "Rounding | None" = None) -> Iterator[tuple[int, int]]:
    """Write the checkpoint in `source` to `folder` (which must exist and be empty), yielding (bytes done, in all).
    `rounding` is for int8: without it, 8 bits everywhere. Raises UnknownModel, CorruptFile, StorageError, OSError."""
    # onnx and safetensors: 300 ms, and a cached model needs neither
    from gpt2cli.export import graph, weights
    from gpt2cli.export.checkpoint import Checkpoint
    from gpt2cli.export.rounding import Rounding

    rounding = rounding or Rounding()
    checkpoint = Checkpoint(source)
    config = checkpoint.config
    graph.check_activation(config, checkpoint.folder)
    copied = [source / name for name in SETTINGS if (source / name).exists()]
    for path in copied:
        check_small(path)
    arrays = weights.stored_weights(checkpoint, precision, rounding)
    head, offsets = weights.header(arrays)
    total = sum(stored.nbytes for stored in arrays)
    free = shutil.disk_usage(folder).free
    if free < total:
        raise StorageError(
            f"{total / 1e6:,.0f} MB are needed in {folder.parent}, {free / 1e6:,.0f} MB are free",
            "make room, or name a folder on another disk: GPT2_CACHE, or that of gpt2 export",
        )
    yield 0, total
    done = 0
    for added in weights.write(arrays, head, offsets, folder / EXPORTED):
        done += added
        yield done, total
    facts = {
        "version": CONTRACT,
        "precision": precision,
        "weight_bits": rounding.form.weight_bits,
        "saturates": precision == "int8" and rounding.saturates,
        "layers": config.n_layer,
        "heads": config.n_head,
        "head_size": config.padded_head_size,
        "positions": config.n_positions,
        "vocabulary": config.vocab_size,
        "ends": config.eos_token_ids,
        "start": config.bos_token_id,
    }
    model = graph.build(
        config,
        arrays,
        offsets,
        EXPORTED,
        precision=precision,
        rounding=rounding,
        tied=checkpoint.tied,
        metadata={"gpt2cli": json.dumps(facts)},
    )
    with (folder / "model.onnx").open("wb") as file:
        file.write(model)
        os.fsync(file.fileno())
    graph.check(folder / "model.onnx")
    for path in copied:
        (folder / path.name).write_bytes(_read(path))


def notes(source: Path) -> list[str]:
    """What is not in the checkpoint as its config.json says, and how it is read. Raises UnknownModel, CorruptFile."""
    from gpt2cli.export.checkpoint import Checkpoint

    return Checkpoint(source).notes


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CorruptFile(f"cannot read {path}: {error.strerror}", "check the file and its permissions") from None
