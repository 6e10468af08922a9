"""How a gradient becomes a step: AdamW for everything, or Muon for the matrices of the blocks; how the rate runs."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gpt2cli.training.network import Network

KINDS = ("adamw", "muon")


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """The nearest (semi-)orthogonal matrix, roughly: the quintic Newton-Schulz iteration of Muon (Jordan et al.
    2024)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrix.size(-2) > matrix.size(-1)
    x = matrix.mT if tall else matrix
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal. `c_attn` [width, 3 * width] is three square matrices, and is treated as such."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, "momentum": 0.95})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(p)
                momentum = state["momentum"].lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(momentum, group["momentum"])  # Nesterov
                inputs, outputs = p.shape
                parts = 3 if outputs == 3 * inputs else 1
                split = update.view(inputs, parts, outputs // parts).transpose(0, 1)
                update = orthogonal(split).transpose(0, 1).reshape(inputs, outputs)
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update, alpha=-group["lr"] * max(1.0, outputs / parts / inputs) ** 0.5)


@dataclass(frozen=True)
class Rates:
    """Learning rates at their highest, and what pulls the weights to zero."""

    adam: float
    muon: float = 0.02
    weight_decay: float = 0.0


class Optimizers:
    """All that moves the parameters of a network which ask for a gradient."""

    def __init__(self, network: Network, kind: str, rates: Rates) -> None:
        found = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
        muon = [p for name, p in found if kind == "muon" and name.startswith("h.") and p.dim() == 2]
        rest = [p for _, p in found if not any(p is one for one in muon)]
        # norms and biases are not pulled to zero
        groups: list[dict[str, Any]] = [
            {"params": [p for p in rest if p.dim() > 1], "weight_decay": rates.weight_decay},
            {"params": [p for p in rest if p.dim() == 1], "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
        self._all: list[torch.optim.Optimizer] = []
        if groups:
            self._all.append(torch.optim.AdamW(groups, lr=rates.adam, betas=(0.9, 0.95), fused=True))
        if muon:
            self._all.append(Muon(muon, rates.muon, rates.weight_decay))
        self._peaks = [group["lr"] for one in self._all for group in one.param_groups]
        self.parameters = [p for _, p in found]

    def step(self, scale: float) -> None:
        """One step at `scale` of the highest rates, and no gradients any more."""
        groups = [group for one in self._all for group in one.param_groups]
        for group, peak in zip(groups, self._peaks, strict=True):
            group["lr"] = peak * scale
        for one in self._all:
            one.step()
            one.zero_grad(set_to_none=True)

    def state(self) -> list[Any]:
        return [one.state_dict() for one in self._all]

    def restore(self, state: list[Any]) -> None:
        for one, saved in zip(self._all, state, strict=True):
            one.load_state_dict(saved)


def scale_at(step: int, progress: float, *, warmup: int, flat: float) -> float:
    """Of the highest rate: it rises for `warmup` steps, stays for a part `flat` of the run, and falls to zero."""
    return min(1.0, (step + 1) / max(1, warmup), max(0.0, 1 - progress) / max(1e-9, 1 - flat))
