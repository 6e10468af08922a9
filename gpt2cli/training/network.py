"""GPT-2 in PyTorch, as it is trained: the checkpoint's own names and layouts, so that weights go in and out.

Every kind of checkpoint that can be exported can be trained: the network follows its `Config`."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint as recomputed

from gpt2cli.export.checkpoint import Checkpoint, Config
from gpt2cli.export.graph import size_scale

IGNORED = -100  # a target that no loss is computed for

# those of export/graph.py
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    **dict.fromkeys(
        ("gelu_new", "gelu_fast", "gelu_accurate", "gelu_pytorch_tanh", "gelu_python_tanh"),
        partial(functional.gelu, approximate="tanh"),
    ),
    **dict.fromkeys(("gelu", "gelu_python"), functional.gelu),
    **dict.fromkeys(("silu", "swish"), functional.silu),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "mish": functional.mish,
    "linear": lambda x: x,
    "relu": functional.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


class Matrix(nn.Module):
    """x @ weight + bias, the weight [in, out] as GPT-2 stores it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:  # [..., in] -> [..., out]
        flat = torch.addmm(self.bias, x.reshape(-1, x.size(-1)), self.weight)
        return flat.view(*x.shape[:-1], -1)

    def merged(self) -> Tensor:
        """The weight that a checkpoint stores."""
        return self.weight


class Attention(nn.Module):
    def __init__(self, config: Config, layer: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = config.n_head, dropout
        self.scale = size_scale(config) / (layer + 1 if config.scale_attn_by_inverse_layer_idx else 1)
        self.c_attn = Matrix(config.n_embd, 3 * config.n_embd)
        self.c_proj = Matrix(config.n_embd, config.n_embd)

    def forward(self, x: Tensor) -> Tensor:  # [batch, time, width] -> the same
        batch, length, _ = x.shape
        qkv = self.c_attn(x).view(batch, length, 3, self.heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        y = functional.scaled_dot_product_attention(
            query, key, value, dropout_p=dropout, is_causal=True, scale=self.scale
        )
        out: Tensor = self.c_proj(y.transpose(1, 2).reshape(batch, length, -1))
        return functional.dropout(out, dropout)


class Perceptron(nn.Module):
    def __init__(self, config: Config, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.activation = _ACTIVATIONS[config.activation_function]
        self.c_fc = Matrix(config.n_embd, config.n_inner)
        self.c_proj = Matrix(config.n_inner, config.n_embd)

    def forward(self, x: Tensor) -> Tensor:  # [batch, time, width] -> the same
        out: Tensor = self.c_proj(self.activation(self.c_fc(x)))
        return functional.dropout(out, self.dropout if self.training else 0.0)


class Block(nn.Module):
    def __init__(self, config: Config, layer: int, dropout: float) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.attn = Attention(config, layer, dropout)
        self.ln_2 = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.mlp = Perceptron(config, dropout)

    def forward(self, x: Tensor) -> Tensor:  # [batch, time, width] -> the same
        x = x + self.attn(self.ln_1(x))
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


class Network(nn.Module):
    """GPT-2 with its head. `checkpointed`: blocks forget what they computed and do it again on the way back, a third
    more work for a fraction of the memory."""

    def __init__(self, config: Config, *, tied: bool, dropout: float = 0.0) -> None:
        """The activation is one that can be exported. Weights are not set."""
        super().__init__()
        self.config, self.dropout, self.checkpointed = config, dropout, False
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.n_positions, config.n_embd)
        self.h = nn.ModuleList(Block(config, layer, dropout) for layer in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)
        self.lm_head = None if tied else nn.Linear(config.n_embd, config.vocab_size, bias=False)

    @property
    def head(self) -> Tensor:
        """[vocabulary, width]"""
        return self.wte.weight if self.lm_head is None else self.lm_head.weight

    def hidden(self, ids: Tensor) -> Tensor:
        """[batch, time] -> [batch, time, width], after ln_f."""
        x = self.wte(ids) + self.wpe.weight[: ids.size(1)]
        x = functional.dropout(x, self.dropout if self.training else 0.0)
        for block in self.h:
            again = self.checkpointed and self.training
            x = recomputed(block, x, use_reentrant=False) if again else block(x)
        out: Tensor = self.ln_f(x)
        return out

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        """[batch, time] twice -> the sum of the losses, in nats, of the targets that are not IGNORED."""
        return loss_sum(self.hidden(ids).flatten(0, 1), self.head, targets.flatten())


def loss_sum(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    """Summed cross-entropy of `targets` [rows] under hidden [rows, width] @ head.T [width, vocabulary], in nats.

    The logits are computed some rows at a time, with their gradients at once: whole, they would be most of the memory
    of a step, and they are needed once. Rows whose target is IGNORED cost nothing."""
    kept = targets != IGNORED
    if not kept.all():
        hidden, targets = hidden[kept], targets[kept]
    found: Tensor = _LossSum.apply(hidden, head, targets)
    return found


class _LossSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, head, targets):  # type: ignore[no-untyped-def]
        wanted = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        total = torch.zeros((), dtype=torch.float64 if hidden.device.type == "cpu" else torch.float32)
        total = total.to(hidden.device)
        to_hidden = torch.empty_like(hidden) if wanted else None
        to_head = torch.zeros_like(head) if ctx.needs_input_grad[1] else None
        rows = max(64, (1 << 24) // head.size(0))
        for start in range(0, hidden.size(0), rows):
            part, labels = hidden[start : start + rows], targets[start : start + rows, None]
            logits = (part @ head.T.to(part.dtype)).float()
            norm = logits.logsumexp(1, keepdim=True)
            total += (norm - logits.gather(1, labels)).sum()
            if to_hidden is None:
                continue
            slope = logits.sub_(norm).exp_()  # the probabilities, less one where the target stands
            slope.scatter_add_(1, labels, slope.new_full(labels.shape, -1.0))
            slope = slope.to(part.dtype)
            to_hidden[start : start + rows] = slope @ head.to(part.dtype)
            if to_head is not None:
                to_head.addmm_(slope.T.to(head.dtype), part.to(head.dtype))
        ctx.slopes = to_hidden, to_head
        return total.float()

    @staticmethod
    def backward(ctx, slope):  # type: ignore[no-untyped-def]
        slopes, ctx.slopes = ctx.slopes, None  # asked for once: they are scaled where they are
        return *(None if one is None else one.mul_(slope.to(one.dtype)) for one in slopes), None


def weights_from(network: Network, checkpoint: Checkpoint) -> None:
    """Copy a checkpoint's weights into the network, those of an int8 or int4 export dequantised. Raises CorruptFile."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            value = checkpoint.tensor(name, tuple(parameter.shape))
            parameter.copy_(torch.from_numpy(np.require(value, requirements="W")))  # PyTorch warns of what is mapped


def fresh_weights(network: Network, seed: int) -> None:
    """GPT-2's initial weights (Radford et al. 2019): normal, 0.02 wide; what ends in the residual narrower by the root
    of the number of its summands."""
    generator = torch.Generator().manual_seed(seed)
    narrow = (2 * network.config.n_layer) ** -0.5
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.dim() == 1:
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)
            else:
                width = 0.02 * (narrow if name.endswith("c_proj.weight") else 1.0)
                parameter.normal_(std=width, generator=generator)


def tensors_of(network: Network) -> Iterator[tuple[str, np.ndarray[Any, np.dtype[np.float32]]]]:
    """The weights as a checkpoint stores them: names and float32; what LoRA adds is added to them."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            module, _, last = name.rpartition(".")
            if last.startswith("lora_"):
                continue
            matrix = network.get_submodule(module)
            value = matrix.merged() if isinstance(matrix, Matrix) and last == "weight" else parameter
            yield name, value.detach().float().cpu().numpy()
