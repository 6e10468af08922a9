"""LoRA (Hu et al. 2021): beside some matrices two narrow ones are learnt, and nothing else; PEFT's format."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.numpy import save_file
from torch import Tensor, nn

from gpt2cli.training.network import Matrix, Network

TARGETS = ("c_attn", "c_proj", "c_fc")  # c_proj is that of attention and that of the perceptron, as in PEFT


@dataclass(frozen=True)
class LoRA:
    """What to add: `rank` is the narrow width, `alpha` / `rank` the scale of what is added."""

    rank: int
    alpha: float
    targets: tuple[str, ...] = ("c_attn",)


class Adapted(Matrix):
    """x @ (weight + (lora_B @ lora_A).T * scale) + bias, of which the lora_* are learnt."""

    def __init__(self, matrix: Matrix, lora: LoRA, generator: torch.Generator) -> None:
        nn.Module.__init__(self)
        self.weight, self.bias, self.scale = matrix.weight, matrix.bias, lora.alpha / lora.rank
        inputs, outputs = matrix.weight.shape
        wide = inputs**-0.5  # PEFT's: kaiming_uniform_ with a = sqrt(5)
        self.lora_A = nn.Parameter(torch.empty(lora.rank, inputs).uniform_(-wide, wide, generator=generator))
        self.lora_B = nn.Parameter(torch.zeros(outputs, lora.rank))

    def forward(self, x: Tensor) -> Tensor:  # [..., in] -> [..., out]
        added: Tensor = super().forward(x) + (x @ self.lora_A.T) @ self.lora_B.T * self.scale
        return added

    def merged(self) -> Tensor:
        merged: Tensor = self.weight + (self.lora_B @ self.lora_A).T * self.scale
        return merged


def adapt(network: Network, lora: LoRA, seed: int) -> None:
    """From now on only what LoRA adds is learnt."""
    generator = torch.Generator().manual_seed(seed)
    network.requires_grad_(False)
    for block in network.h:
        for part in (block.attn, block.mlp):
            for name in lora.targets:
                if isinstance(matrix := getattr(part, name, None), Matrix):
                    setattr(part, name, Adapted(matrix, lora, generator))


def save_adapter(network: Network, lora: LoRA, base: str, folder: Path) -> None:
    """PEFT's two files, into a folder that exists. Raises OSError, SafetensorError."""
    tensors = {
        f"base_model.model.transformer.{name}.weight": parameter.detach().float().cpu().numpy().copy()
        for name, parameter in network.named_parameters()
        if ".lora_" in name
    }
    config: dict[str, Any] = {
        "base_model_name_or_path": base,
        "bias": "none",
        "fan_in_fan_out": True,
        "inference_mode": True,
        "lora_alpha": lora.alpha,
        "lora_dropout": 0.0,
        "peft_type": "LORA",
        "r": lora.rank,
        "target_modules": list(lora.targets),
        "task_type": "CAUSAL_LM",
    }
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
