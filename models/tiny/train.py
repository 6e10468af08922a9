"""Train `tiny`, the built-in model, from a folder of plain-text books and short stories.

    python models/tiny/train.py --corpus DIR --out RUN --minutes 110
    python models/tiny/train.py --corpus DIR --out RUN --minutes 110 --init models/tiny --stories 0.7

writes RUN/tokenizer.json and RUN/checkpoint/ (config.json, model.safetensors, tokenizer.json: the Hugging
Face format, so `gpt2 generate -m RUN/checkpoint` runs it). A killed run goes on from RUN/state.pt when the same
command is given again. DIR holds books.tar.xz or books/*.txt, and stories.tar.xz or stories/*.txt. Needs the extra
`train` (PyTorch).

`--init` begins with the weights, the shape and the tokenizer of a checkpoint, or of an export of ours, whose integers
are dequantised. `--stories` is the part of the steps that read stories: windows of half the length, each of which
begins with a story, because that is where a prompt begins.

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
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from corpus import HELD_OUT, books, stories
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional

from gpt2cli.export.checkpoint import Checkpoint, read_config
from gpt2cli.training.optimizers import orthogonal

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


def prepare(corpus: Path, out: Path, shape: Shape, init: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """The training books and the training stories, each text after an end-of-text token, as two arrays of ids. Made
    once; the tokenizer is trained on the books, or is that of `init`."""
    path = out / "tokenizer.json"
    if not (out / "stories.npy").exists():
        texts = {
            "books": [text for name, text in books(corpus) if name not in HELD_OUT],
            "stories": stories(corpus)[0],
        }
        if init is None:
            train_tokenizer(texts["books"], shape.vocab_size).save(str(path))
        else:
            path.write_bytes((init / "tokenizer.json").read_bytes())
        tokenizer = Tokenizer.from_file(str(path))
        end = tokenizer.token_to_id(END)
        for name, found in texts.items():
            rows = [np.array([end, *tokenizer.encode(text).ids], dtype=np.uint16) for text in found]
            np.save(out / f"{name}.npy", np.concatenate(rows) if rows else np.empty(0, np.uint16))
            print(f"{len(found):,} {name}, {sum(map(len, found)):,} bytes, {sum(map(len, rows)):,} tokens", flush=True)
    return np.load(out / "books.npy"), np.load(out / "stories.npy")


def windows_of_books(ids: np.ndarray, rows: int, length: int, seed: int) -> Iterator[np.ndarray]:
    """Endless batches [rows, length + 1]. Each pass over the corpus cuts it at another offset and shuffles
    the windows."""
    generator = np.random.default_rng(seed)
    while True:
        starts = np.arange(generator.integers(length), len(ids) - length - 1, length)
        starts = generator.permutation(starts)[: len(starts) // rows * rows]
        for chosen in starts.reshape(-1, rows):
            yield np.stack([ids[start : start + length + 1] for start in chosen])


def windows_of_stories(ids: np.ndarray, rows: int, length: int, seed: int) -> Iterator[np.ndarray]:
    """Endless batches [rows, length + 1]. Each window begins with a story, every other one without its end-of-text
    token; a story that does not end in a window begins the next. Each pass shuffles the stories."""
    generator = np.random.default_rng(seed)
    texts = np.split(ids, np.flatnonzero(ids == ids[0])[1:])
    found: list[np.ndarray] = []
    while True:
        window: list[np.ndarray] = []
        held = 0
        for number in generator.permutation(len(texts)):
            if not window:
                held = -int(generator.integers(2))  # the end-of-text token that is left out
            window.append(texts[number])
            held += len(texts[number])
            if held > length:
                whole = np.concatenate(window)
                first = len(whole) - held
                found.append(whole[first : first + length + 1])
                window = [texts[number]] if held > length + 1 and len(window) > 1 else []
                held = sum(map(len, window)) - int(bool(window) and generator.integers(2))
            if len(found) == rows:
                yield np.stack(found)
                found = []


def batches(
    corpus: tuple[np.ndarray, np.ndarray], tokens: int, length: int, share: float, seed: int
) -> Iterator[Tensor]:
    """Endless batches of about `tokens` tokens, of stories for a `share` of the steps, else of books."""
    generator = np.random.default_rng(seed)
    of_books = windows_of_books(corpus[0], tokens // length, length, seed)
    of_stories = windows_of_stories(corpus[1], 2 * tokens // length, length // 2, seed)
    while True:
        source = of_stories if generator.random() < share else of_books
        yield torch.from_numpy(next(source).astype(np.int64))


def name_in_checkpoint(name: str) -> str:
    """Hugging Face's name for a parameter of ours."""
    if not name.startswith("h."):
        return name
    block, number, layer, kind = name.split(".")
    room = {"c_attn": "attn.c_attn", "c_proj": "attn.c_proj", "c_fc": "mlp.c_fc", "mlp_c_proj": "mlp.c_proj"}
    return f"{block}.{number}.{room.get(layer, layer)}.{kind}"


def is_matrix(name: str, value: Tensor) -> bool:
    """Whether Hugging Face stores it transposed, as Conv1D: [in, out]."""
    return name.startswith("h.") and value.dim() == 2


def load_weights(model: GPT2, folder: Path) -> None:
    """The weights of a checkpoint or of an export of ours."""
    checkpoint = Checkpoint(folder)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            shape = tuple(parameter.shape)
            matrix = is_matrix(name, parameter)
            value = torch.from_numpy(checkpoint.tensor(name_in_checkpoint(name), shape[::-1] if matrix else shape))
            parameter.copy_(value.T if matrix else value)


def save_checkpoint(model: GPT2, shape: Shape, out: Path) -> None:
    """The model in Hugging Face format, tied head stored once."""
    folder = out / "checkpoint"
    folder.mkdir(exist_ok=True)
    tensors = {}
    for name, value in model.state_dict().items():
        stored = value.T if is_matrix(name, value) else value
        tensors[name_in_checkpoint(name)] = stored.detach().float().cpu().contiguous()
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
    if arguments.init is None:
        shape = Shape(arguments.vocab, 1024, arguments.width, arguments.layers, arguments.heads)
    else:
        known = read_config(arguments.init)
        shape = Shape(**{field.name: getattr(known, field.name) for field in fields(Shape)})
    corpus = prepare(arguments.corpus, out, shape, arguments.init)
    torch.manual_seed(arguments.seed)
    device = torch.device(arguments.device)
    model = GPT2(shape)
    if arguments.init is not None:
        load_weights(model, arguments.init)
    model.to(device)
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
        f"{sum(p.numel() for p in model.parameters()):,} parameters, {sum(map(len, corpus)):,} training tokens,"
        f" starting at step {step}",
        flush=True,
    )
    length = arguments.length or shape.n_positions
    source = batches(corpus, arguments.batch, length, arguments.stories, arguments.seed + step)
    forward = torch.compile(model, dynamic=False) if arguments.compile else model
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
        loss = forward(window[:, :-1], window[:, 1:])
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        step, tokens = step + 1, tokens + window[:, 1:].numel()
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
    parser.add_argument("--corpus", type=Path, required=True, help="folder with the books and the stories")
    parser.add_argument("--out", type=Path, required=True, help="folder for the run")
    parser.add_argument("--minutes", type=float, default=110, help="training time")
    parser.add_argument(
        "--init", type=Path, help="checkpoint or export whose weights, shape and tokenizer to begin with"
    )
    parser.add_argument("--stories", type=float, default=0.0, help="part of the steps that read stories")
    parser.add_argument("--compile", action="store_true", help="torch.compile (needs a C++ compiler)")
    parser.add_argument("--width", type=int, default=Shape.n_embd)
    parser.add_argument("--layers", type=int, default=Shape.n_layer)
    parser.add_argument("--heads", type=int, default=Shape.n_head)
    parser.add_argument("--vocab", type=int, default=Shape.vocab_size)
    parser.add_argument("--batch", type=int, default=4096, help="tokens a step")
    parser.add_argument(
        "--length", type=int, help="tokens of a window of books (half of them for stories); default: all positions"
    )
    parser.add_argument("--lr", type=float, default=0.03, help="peak rate of Muon")
    parser.add_argument("--adam-lr", type=float, default=0.008, help="peak rate of Adam")
    parser.add_argument("--flat", type=float, default=0.2, help="part of the time at the peak rate")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
