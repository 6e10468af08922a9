"""What else GPT-2 is kept in, known by the names of files: called by its name where no checkpoint is found."""

import re
from collections.abc import Iterable
from pathlib import Path

from gpt2cli.errors import UnknownModel

ADAPTER = "adapter_config.json"
MERGE = "merge it into its base model in Python: model.merge_and_unload().save_pretrained(FOLDER)"
_CONVERT = 'convert it with transformers 4: AutoModelForCausalLM.from_pretrained(FOLDER, {}).save_pretrained("NEW")'
# patterns of whole names, what they are, and what helps; adapters first
_FORMATS = (
    (r"adapter_config\.json|adapter_model\.(?:safetensors|bin)", "an adapter, without the model it adapts", MERGE),
    (r".*\.gguf", "a GGUF file of llama.cpp", "give the checkpoint that it was made from"),
    (
        r"(?:.*/)?(?!.*optim|scheduler|scaler|rng_state|training_args|vocab)[^/]*\.(?:pt|pth|ckpt|distcp)",
        "a checkpoint of a training script, as nanoGPT's ckpt.pt",
        "convert it to transformers' GPT2LMHeadModel, and save_pretrained(FOLDER)",
    ),
    (r"tf_model.*\.h5", "a TensorFlow checkpoint", _CONVERT.format("from_tf=True")),
    (
        r"checkpoint|.*\.ckpt.*\.index",
        "a TensorFlow checkpoint",
        "convert it with transformers 4: transformers/models/gpt2/convert_gpt2_original_tf_checkpoint_to_pytorch.py",
    ),
    (r"flax_model.*\.msgpack.*", "a Flax checkpoint", _CONVERT.format("from_flax=True")),
)


def refuse_named(where: str, names: Iterable[str]) -> None:
    """Raises UnknownModel where the names of files, those of `where`, tell of another format."""
    names = sorted(names)
    for pattern, what, hint in _FORMATS:
        for name in names:
            if re.fullmatch(pattern, name):
                raise UnknownModel(f"'{where}' holds {what} ({name}), which cannot be read", hint)


def refuse_file(path: Path) -> None:
    """Raises UnknownModel where the name of a file that was given in a folder's place tells of another format. An
    adapter's folder can be read."""
    for pattern, what, hint in _FORMATS[1:]:
        if re.fullmatch(pattern, path.name):
            raise UnknownModel(f"'{path}' is {what}, which cannot be read", hint)


def names_in(folder: Path) -> list[str]:
    """Of its files; none where it cannot be listed."""
    try:
        return [path.name for path in folder.iterdir() if path.is_file()]
    except OSError:
        return []
