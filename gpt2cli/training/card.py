"""README.md of a model that was trained here: where it is from, on what, how, and how good it became."""

import shlex
from pathlib import Path
from typing import Any

_CARD = """---
library_name: transformers
pipeline_tag: text-generation
{base_line}tags:
- gpt2
---

# {name}

{origin} with `gpt2 finetune`. It continues texts: `gpt2 generate -m FOLDER "..."`, or with transformers,
`GPT2LMHeadModel.from_pretrained(FOLDER)`.

| | |
| --- | --- |
| text | {documents:,} document{plural}, {nbytes:,} bytes, {tokens:,} tokens{held} |
| sha256 | `{sha256}` |
| files | {sources} |
| parameters | {parameters:,}, of which {trainable:,} were trained |
| command | `{command}` |

{figures}
## Settings

| | |
| --- | --- |
{settings}
"""


def card(facts: dict[str, Any], figures: dict[str, Any], before: dict[str, Any] | None) -> str:
    """The model card. `figures` are those of an evaluation, or only a step; `before` those of the model as it was."""
    data, plan, held = facts["data"], facts["plan"], f"{facts['held']:,}"
    base = Path(facts["base"]).name if Path(facts["base"]).is_absolute() else facts["base"]
    origin = f"Trained from [{base}]" if base and "/" in base else ""
    if origin:
        origin += f"(https://huggingface.co/{base})"
    else:
        origin = f"Trained from `{base}`" if base else "Trained from random weights"
    rows = {name: _plain(value) for name, value in plan.items() if value not in (None, False)}
    return _CARD.format(
        name=_shown(facts["name"]),
        base_line=f"base_model: {base}\n" if base and "/" in base else "",
        origin=origin,
        documents=data["documents"],
        nbytes=data["nbytes"],
        tokens=data["tokens"],
        plural="" if data["documents"] == 1 else "s",
        held=f"; measured on {held} of another" if facts["held_apart"] else f", of which {held} were not learnt from",
        sha256=data["sha256"],
        sources=_files([Path(name).name for name in data["sources"]]),
        parameters=facts["parameters"],
        trainable=facts["trainable"],
        command=_shown(shlex.join(["gpt2", *facts["command"]])) if facts["command"] else "from Python",
        figures=_figures(figures, before),
        settings="\n".join(f"| {name} | {value} |" for name, value in rows.items()),
    )


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(one)}" for name, one in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _shown(text: str) -> str:
    """On one line of a table, whatever is in it; what is no character, as a name of a file may be, stands as ?."""
    plain = "".join(one if one.isprintable() else "?" for one in text)
    return plain.replace("`", "'").replace("|", "\\|")


def _files(names: list[str]) -> str:
    shown = ", ".join(f"`{_shown(name)}`" for name in names[:10])
    return f"{shown} and {len(names) - 10} more" if len(names) > 10 else shown


def _figures(figures: dict[str, Any], before: dict[str, Any] | None) -> str:
    if "validation" not in figures:
        return f"These are the weights after step {figures['step']}; they have not been measured.\n"
    lines = ["| on what was not learnt from | loss | perplexity | bits per byte |", "| --- | --- | --- | --- |"]
    for name, row in (("before", before), (f"after step {figures['step']:,}", figures)):
        if row:
            lines.append(f"| {name} | {row['validation']:.4f} | {row['perplexity']:.2f} | {row['bits_per_byte']:.4f} |")
    return "\n".join(lines) + "\n"
