"""A vocabulary of its own for a text: byte-level BPE, as GPT-2's was made."""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from gpt2cli.tokenizer.files import END

LEAST = 257  # every byte, and the end of a text


def learn(texts: Iterable[str], size: int, folder: Path) -> int:
    """Write tokenizer.json of at most `size` tokens, which is at least LEAST, and tokenizer_config.json; returns how
    many there are. Every text can be written in it. Raises OSError."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size - 1, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([END])  # the last, as in GPT-2
    (folder / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(
        f'{{"tokenizer_class": "GPT2Tokenizer", "bos_token": "{END}", "eos_token": "{END}"}}\n', encoding="utf-8"
    )
    return int(tokenizer.get_vocab_size())
