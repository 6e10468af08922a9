"""Whether a run fits into memory, before its first step: an estimate of all that it keeps there."""

from dataclasses import replace
from pathlib import Path

import torch

from gpt2cli.errors import CannotMeet
from gpt2cli.export.checkpoint import Config
from gpt2cli.training.lora import LoRA
from gpt2cli.training.training import Plan

_LIBRARY = 400 << 20  # PyTorch itself, and what it computes in
_CHUNK = 3 * 4 << 24  # the logits of some rows, see network.loss_sum
# Numbers of a block that wait for the way back, in widths of a token: both norms and what they read, query, key, value,
# what attention says, and twice the perceptron's four.
_KEPT = 17
_AT_ONCE = {"cpu": 2048, "cuda": 16384}  # tokens: with more it is not faster


def fitted(plan: Plan, config: Config, *, tied: bool, name: str, free: int | None) -> Plan:
    """The plan with as many windows at once as fit, their blocks computed twice where they would not fit otherwise.
    `free` bytes, None where nobody knows. Raises CannotMeet, with what would fit."""
    most = max(1, min(_AT_ONCE[plan.device], plan.tokens) // plan.length)
    tries = [(rows, False) for rows in _halves(most)] + [(rows, True) for rows in _halves(most)]
    for rows, twice in tries:
        found = replace(plan, rows=rows, checkpointed=twice)
        if free is None or needed(found, config, tied=tied) <= free:
            return found
    least = needed(replace(plan, rows=1, checkpointed=True), config, tied=tied)
    raise CannotMeet(
        f"to train {name} takes {least / 1e9:.1f} GB of memory, and {(free or 0) / 1e9:.1f} GB are free",
        _helps(plan, config, tied=tied, free=free or 0),
    )


def _halves(most: int) -> list[int]:
    return [most >> n for n in range(most.bit_length())]


def _helps(plan: Plan, config: Config, *, tied: bool, free: int) -> str:
    small = replace(plan, rows=1, checkpointed=True)
    lora = replace(small, lora=LoRA(8, 16.0))
    if plan.lora is None and (size := needed(lora, config, tied=tied)) <= free:
        return f"--lora 8 takes {size / 1e9:.1f} GB, which fits"
    short = replace(lora, length=128)
    if needed(short, config, tied=tied) <= free:
        return "--lora 8 --length 128 fits"
    return "choose a smaller model: -m distilgpt2, -m tiny, or from scratch fewer --layers"


def needed(plan: Plan, config: Config, *, tied: bool) -> int:
    """Bytes: weights, gradients, the optimizer's two numbers each, what waits for the way back."""
    width, layers = config.n_embd, config.n_layer
    everything = config.parameters + (0 if tied == config.tie_word_embeddings else config.vocab_size * width)
    learnt = everything
    if plan.lora is not None:
        learnt = 12 * layers * width * plan.lora.rank  # at most
    elif plan.freeze:
        learnt -= plan.freeze * 12 * width * width + (config.vocab_size + config.n_positions) * width
    tokens = plan.rows * plan.length
    widths = _KEPT + layers if plan.checkpointed else _KEPT * layers
    half = 2 if plan.device == "cpu" else 1
    head = 4 * config.vocab_size * width if plan.lora is None else 0
    return 4 * everything + 12 * learnt + head + tokens * widths * width * 2 * half + _CHUNK + _LIBRARY


def available(device: str) -> int | None:
    """Bytes that are free; None where the system does not say."""
    if device != "cpu":
        return int(torch.cuda.mem_get_info()[0])
    found = []
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found += [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
        group = Path("/sys/fs/cgroup")
        limit, used = ((group / name).read_text().strip() for name in ("memory.max", "memory.current"))
        if limit != "max":
            found.append(int(limit) - int(used))
    except (OSError, ValueError):  # another system, or a container that does not show it
        pass
    return min(found, default=None)
