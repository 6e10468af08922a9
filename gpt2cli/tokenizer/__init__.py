"""Text <-> ids. The only room that knows the tokenizers library.

Knows no model: vocabularies may be larger or smaller than the one that the logits have."""

# What a tokenizer may consist of; the first three are one by themselves.
FILES = (
    *("tokenizer.json", "vocab.json", "merges.txt"),
    *("added_tokens.json", "special_tokens_map.json", "tokenizer_config.json"),
)
