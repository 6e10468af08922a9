"""Train `tiny`, the built-in model, from a folder of plain-text books.

    python models/tiny/train.py --corpus DIR --out RUN --minutes 110

writes RUN/tokenizer.json and RUN/checkpoint/ (config.json, model.safetensors, tokenizer.json: the Hugging
Face format, so `gpt2 generate -m RUN/checkpoint` runs it). A killed run goes on from RUN/state.pt when the same
command is given again. DIR holds books.tar.xz or books/*.txt. Needs the extra `train` (PyTorch).

The network is GPT-2's (Radford et al. 2019): learned positions, pre-norm blocks, tanh GELU, tied head. Only
the training differs, because it has to fit into hours of two CPU cores:

- matrices inside the blocks are updated by Muon (Jordan et al. 2024: momentum made orthogonal by a
  Newton-Schulz iteration), everything else by Adam;
- the run is given a time, not a number of steps: the learning rate is constant for a part of it and then falls
  linearly to zero at its end, however busy the machine was.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from books import HELD_OUT, books
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional

END = "<|endoftext|>"


@dataclass(frozen=True)
class Shape:
    vocab_size: int = 4096
    n_positions: int = 1024
    n_embd: int = 192
    n_layer: int = 6
    n_head: int = 6


class Block(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.n_embd
        self.heads = shape.n_head
        self.ln_1 = nn.LayerNorm(width)
        self.c_attn = nn.Linear(width, 3 * width)
        self.c_proj = nn.Linear(width, width)
        self.ln_2 = nn.LayerNorm(width)
        self.c_fc = nn.Linear(width, 4 * width)
        self.mlp_c_proj = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:  # [batch, time, width] -> the same
        batch, length, width = x.shape
        qkv = self.c_attn(self.ln_1(x)).view(batch, length, 3, self.heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.c_proj(y.transpose(1, 2).reshape(batch, length, width))
        hidden = functional.gelu(self.c_fc(self.ln_2(x)), approximate="tanh")
        return x + self.mlp_c_proj(hidden)


class GPT2(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.wte = nn.Embedding(shape.vocab_size, shape.n_embd)
        self.wpe = nn.Embedding(shape.n_positions, shape.n_embd)
        self.h = nn.ModuleList(Block(shape) for _ in range(shape.n_layer))
        self.ln_f = nn.LayerNorm(shape.n_embd)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif "ln_" not in name:
                nn.init.normal_(parameter, std=0.02)
            if name.endswith("c_proj.weight"):  # blocks begin as the identity
                nn.init.zeros_(parameter)

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:  # [batch, time] twice -> mean loss in nats
        x = self.wte(ids) + self.wpe.weight[: ids.size(1)]
        for block in self.h:
            x = block(x)
        logits = functional.linear(self.ln_f(x), self.wte.weight)
        return functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """The nearest (semi-)orthogonal matrix, roughly: the quintic Newton-Schulz iteration of Muon."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrix.size(-2) > matrix.size(-1)
    x = matrix.mT if tall else matrix
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal. `c_attn` is three square matrices, and is treated as such."""

    def __init__(self, parameters: list[nn.Parameter], lr: float, decay: float) -> None:
        super().__init__(parameters, {"lr": lr, "decay": decay, "momentum": 0.95})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(p)
                momentum = state["momentum"].lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(momentum, group["momentum"])  # Nesterov
                rows, columns = p.shape
                parts = 3 if rows == 3 * columns else 1
                update = orthogonal(update.view(parts, rows // parts, columns)).reshape(rows, columns)
                p.mul_(1 - group["lr"] * group["decay"])
                p.add_(update, alpha=-group["lr"] * max(1, rows / parts / columns) ** 0.5)


def train_tokenizer(texts: list[str], vocab_size: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([END])  # the last id, as in GPT-2
    return tokenizer


def load_ids(corpus: Path, out: Path, vocab_size: int) -> np.ndarray:
    """Every training book, each after an end-of-text token, as one array; made once."""
    path, stored = out / "tokenizer.json", out / "ids.npy"
    if not stored.exists():
        texts = [text for name, text in books(corpus) if name not in HELD_OUT]
        tokenizer = train_tokenizer(texts, vocab_size)
        tokenizer.save(str(path))
        end = tokenizer.token_to_id(END)
        rows = [np.array([end, *tokenizer.encode(text).ids], dtype=np.uint16) for text in texts]
        np.save(stored, np.concatenate(rows))
        print(f"{len(texts)} books, {sum(map(len, texts)):,} bytes", flush=True)
    return np.load(stored)


def batches(ids: np.ndarray, rows: int, length: int, seed: int) -> Iterator[Tensor]:
    """Endless batches [rows, length + 1]. Each pass over the corpus cuts it at another offset and shuffles
    the windows."""
    generator = np.random.default_rng(seed)
    while True:
        starts = np.arange(generator.integers(length), len(ids) - length - 1, length)
        starts = generator.permutation(starts)[: len(starts) // rows * rows]
        for chosen in starts.reshape(-1, rows):
            window = np.stack([ids[start : start + length + 1] for start in chosen])
            yield torch.from_numpy(window.astype(np.int64))


def save_checkpoint(model: GPT2, shape: Shape, out: Path) -> None:
    """The model in Hugging Face format: Conv1D layout ([in, out]), tied head stored once."""
    folder = out / "checkpoint"
    folder.mkdir(exist_ok=True)
    tensors = {}
    for name, value in model.state_dict().items():
        if name.startswith("h."):
            block, number, *rest = name.split(".")
            layer, kind = rest
            room = {"c_attn": "attn.c_attn", "c_proj": "attn.c_proj", "c_fc": "mlp.c_fc"}
            layer = "mlp.c_proj" if layer == "mlp_c_proj" else room.get(layer, layer)
            name = f"{block}.{number}.{layer}.{kind}"
            if value.dim() == 2:
                value = value.T
        tensors[name] = value.detach().float().cpu().contiguous()
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
    end = shape.vocab_size - 1
    config = {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "bos_token_id": end,
        "eos_token_id": end,
        **asdict(shape),
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    tokenizer = (out / "tokenizer.json").read_text(encoding="utf-8")
    (folder / "tokenizer.json").write_text(tokenizer, encoding="utf-8")


def train(arguments: argparse.Namespace) -> None:
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    shape = Shape(arguments.vocab, 1024, arguments.width, arguments.layers, arguments.heads)
    ids = load_ids(arguments.corpus, out, shape.vocab_size)
    torch.manual_seed(arguments.seed)
    device = torch.device(arguments.device)
    model = GPT2(shape).to(device)
    matrices = [p for name, p in model.named_parameters() if name.startswith("h.") and p.dim() == 2]
    others = [p for name, p in model.named_parameters() if not (name.startswith("h.") and p.dim() == 2)]
    optimizers: list[torch.optim.Optimizer] = [
        Muon(matrices, lr=arguments.lr, decay=0.01),
        torch.optim.Adam(others, lr=arguments.adam_lr, betas=(0.9, 0.95), eps=1e-10),
    ]
    peaks = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    step, spent, tokens = 0, 0.0, 0
    state_file = out / "state.pt"
    if state_file.exists():
        state = torch.load(state_file, map_location=device)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        step, spent, tokens = state["step"], state["spent"], state["tokens"]
    print(
        f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(ids):,} training tokens,"
        f" starting at step {step}",
        flush=True,
    )
    source = batches(ids, arguments.batch // shape.n_positions, shape.n_positions, arguments.seed + step)
    budget, mean_loss, saved_at = arguments.minutes * 60, math.nan, time.monotonic()
    while spent < budget:
        started = time.monotonic()
        progress = spent / budget
        scale = min(1.0, (step + 1) / 30, (1 - progress) / (1 - arguments.flat))
        rates = [peak * scale for peak in peaks]
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rates.pop(0)
        window = next(source).to(device)
        loss = model(window[:, :-1], window[:, 1:])
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        step, tokens = step + 1, tokens + arguments.batch
        value = loss.item()
        mean_loss = value if math.isnan(mean_loss) else 0.98 * mean_loss + 0.02 * value
        spent += time.monotonic() - started
        if step % 100 == 0:
            print(
                f"step {step} loss {mean_loss:.4f} rate {scale:.3f} tokens {tokens:,}"
                f" {tokens / spent:,.0f} tok/s {spent / 60:.1f} min",
                flush=True,
            )
        if spent >= budget or time.monotonic() - saved_at > 300:
            saved_at = time.monotonic()
            save_checkpoint(model, shape, out)
            state = {
                "model": model.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                "step": step,
                "spent": spent,
                "tokens": tokens,
            }
            torch.save(state, state_file.with_suffix(".part"))
            state_file.with_suffix(".part").replace(state_file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--corpus", type=Path, required=True, help="folder with books.tar.xz or books/*.txt")
    parser.add_argument("--out", type=Path, required=True, help="folder for the run")
    parser.add_argument("--minutes", type=float, default=110, help="training time")
    parser.add_argument("--width", type=int, default=Shape.n_embd)
    parser.add_argument("--layers", type=int, default=Shape.n_layer)
    parser.add_argument("--heads", type=int, default=Shape.n_head)
    parser.add_argument("--vocab", type=int, default=Shape.vocab_size)
    parser.add_argument("--batch", type=int, default=4096, help="tokens a step")
    parser.add_argument("--lr", type=float, default=0.03, help="peak rate of Muon")
    parser.add_argument("--adam-lr", type=float, default=0.008, help="peak rate of Adam")
    parser.add_argument("--flat", type=float, default=0.2, help="part of the time at the peak rate")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
