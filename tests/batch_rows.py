"""Files of rows, and what `gpt2 batch` makes of them."""

import json

PROMPTS = ["the cat sat", "zzz qqq", "the old man and the sea and the dog and the cat", "a", "the dog", "sea"] * 4


def write(path, rows):
    """Records as lines of JSON; a text is a line as it stands."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def mixed(count=24):
    """Records of mixed length, with ids of their own."""
    return [
        {"prompt": PROMPTS[number % len(PROMPTS)], "max_tokens": 1 + number * 5 % 17, "custom_id": f"row-{number}"}
        for number in range(count)
    ]


def objects(text):
    return [json.loads(line) for line in text.splitlines()]
