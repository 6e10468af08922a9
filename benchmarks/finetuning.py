"""What a step of training costs: `gpt2 finetune`, transformers' Trainer with run_clm.py's settings, and a loop written
after nanoGPT's description, on the same weights of GPT-2 124M's shapes, the same batches in the same order, float32.

    pip install -e '.[dev,train]' transformers accelerate
    python benchmarks/finetuning.py --steps 12 --rounds 3

Each trains in a process of its own, one after another in every round, so that a machine that is busy for a while hits
all of them. The first two steps are not counted. Beside tokens a second and the peak of resident memory stands the loss
of the last step: the same for all but for rounding."""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

KINDS = ("gpt2", "trainer", "loop")
WARM = 2
SHAPE = {"n_layer": 12, "n_head": 12, "n_embd": 768, "n_positions": 1024, "vocab_size": 50257}
RATE = 3e-4


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--steps", type=int, default=12)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--rows", type=int, default=4, help="windows of a step")
    options.add_argument("--length", type=int, default=256)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--layers", type=int, default=12)
    options.add_argument("--kinds", nargs="*", default=KINDS)
    options.add_argument("--worker", choices=KINDS)
    asked = options.parse_args()
    if asked.worker:
        print(json.dumps(work(asked)))
        return
    found = {kind: [] for kind in asked.kinds}
    for number in range(asked.rounds):
        for kind in found:
            command = [sys.executable, __file__, *sys.argv[1:], "--worker", kind]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found[kind].append(json.loads(done.stdout.splitlines()[-1]))
            print(number + 1, kind, found[kind][-1], file=sys.stderr)
    print(f"{'':10}  tokens/s  peak memory  last loss")
    for kind, rows in found.items():
        speed = statistics.median(row["speed"] for row in rows)
        memory = max(row["memory"] for row in rows) / 1e9
        print(f"{kind:10}  {speed:8.1f}  {memory:8.2f} GB  {rows[0]['loss']:9.4f}")


def work(asked):
    import torch

    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    times, losses = [], []
    {"gpt2": ours, "trainer": trainer, "loop": loop}[asked.worker](asked, times, losses)
    spent = times[-1] - times[WARM - 1]
    tokens = asked.rows * asked.length * (len(times) - WARM)
    unit = 1 if sys.platform == "darwin" else 1024
    peak = unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"speed": tokens / spent, "memory": peak, "loss": losses[-1]}


def data(asked):
    """A corpus of ids as frequent as words are, and Windows on it."""
    import numpy as np

    from gpt2cli.training.documents import Corpus, Facts
    from gpt2cli.training.windows import Windows

    count = asked.rows * asked.length * (asked.steps + 2)
    ids = np.minimum(np.random.default_rng(0).zipf(1.3, count), SHAPE["vocab_size"] - 1).astype(np.uint16)
    corpus = Corpus(ids, np.array([0]), np.zeros((0, 2), np.int64), Facts(count, 1, count, "", (), "<u2"))
    return corpus, Windows(corpus, asked.length, seed=0)


def network(asked):
    """Ours, with the weights that all of them begin with."""
    from gpt2cli.export.checkpoint import read_config
    from gpt2cli.training.network import Network, fresh_weights

    with tempfile.TemporaryDirectory() as folder:
        shape = SHAPE | {"n_layer": asked.layers}
        (Path(folder) / "config.json").write_text(json.dumps({"model_type": "gpt2"} | shape))
        found = Network(read_config(Path(folder)), tied=True)
    fresh_weights(found, 0)
    return found


def ours(asked, times, losses):
    from gpt2cli.training.optimizers import Rates
    from gpt2cli.training.training import Plan, Training

    corpus, _ = data(asked)
    plan = Plan(steps=asked.steps, tokens=asked.rows * asked.length, length=asked.length, warmup=1, rates=Rates(RATE))
    training = Training(network(asked), plan, corpus)
    for _ in range(asked.steps):
        losses.append(training.advance().loss)
        times.append(time.monotonic())


def batches(asked):
    """The batches that ours learns from."""
    from gpt2cli.training.windows import Place

    _, windows = data(asked)
    place = Place()
    for _ in range(asked.steps):
        batch, place = windows.take(place, asked.rows)
        yield batch


def trainer(asked, times, losses):
    """As run_clm.py has it: Trainer, labels that the model shifts, every logit at once."""
    import torch
    import transformers

    config = transformers.GPT2Config(
        **SHAPE | {"n_layer": asked.layers}, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, use_cache=False
    )
    model = transformers.GPT2LMHeadModel(config)
    weights = {f"transformer.{name}": value for name, value in network(asked).state_dict().items()}
    model.load_state_dict(weights, strict=False)
    # the model shifts labels itself: one token more than a window
    rows = [
        {"input_ids": torch.tensor([*one, max(0, two[-1])]), "labels": torch.tensor([-100, *two])}
        for ids, targets in batches(asked)
        for one, two in zip(ids, targets, strict=True)
    ]

    class Watch(transformers.TrainerCallback):
        def on_step_end(self, *_, **__):
            times.append(time.monotonic())

        def on_log(self, args, state, control, logs=None, **_):
            if logs and "loss" in logs:
                losses.append(logs["loss"])

    with tempfile.TemporaryDirectory() as folder:
        settings = transformers.TrainingArguments(
            folder,
            per_device_train_batch_size=asked.rows,
            max_steps=asked.steps,
            learning_rate=RATE,
            adam_beta2=0.95,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            train_sampling_strategy="sequential",
            use_cpu=True,
            disable_tqdm=True,
        )
        collate = transformers.default_data_collator
        made = transformers.Trainer(model, settings, train_dataset=rows, data_collator=collate, callbacks=[Watch()])
        made.train()


def loop(asked, times, losses):
    """A plain loop: linear layers, fused attention, every logit at once, fused AdamW, gradients clipped at 1."""
    import torch
    from torch import nn
    from torch.nn import functional

    class Block(nn.Module):
        def __init__(self, width, heads):
            super().__init__()
            self.heads = heads
            self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.attn, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.fc, self.out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x):
            rows, length, width = x.shape
            parts = self.attn(self.ln_1(x)).split(width, dim=2)
            q, k, v = (part.view(rows, length, self.heads, -1).transpose(1, 2) for part in parts)
            y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.proj(y.transpose(1, 2).contiguous().view(rows, length, width))
            return x + self.out(functional.gelu(self.fc(self.ln_2(x)), approximate="tanh"))

    weights = network(asked).state_dict()
    width, heads = SHAPE["n_embd"], SHAPE["n_head"]
    wte, wpe = nn.Embedding(SHAPE["vocab_size"], width), nn.Embedding(SHAPE["n_positions"], width)
    blocks, ln_f = nn.ModuleList(Block(width, heads) for _ in range(asked.layers)), nn.LayerNorm(width)
    wte.weight.data, wpe.weight.data = weights["wte.weight"], weights["wpe.weight"]
    names = {"attn": "attn.c_attn", "proj": "attn.c_proj", "fc": "mlp.c_fc", "out": "mlp.c_proj"}
    for number, block in enumerate(blocks):
        for mine, name in names.items():
            getattr(block, mine).weight.data = weights[f"h.{number}.{name}.weight"].T.contiguous()
            getattr(block, mine).bias.data.zero_()
    model = nn.ModuleList([wte, wpe, blocks, ln_f])
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    for number, (ids, targets) in enumerate(batches(asked)):
        for group in optimizer.param_groups:
            group["lr"] = RATE * (1 - number / asked.steps)
        ids, targets = torch.from_numpy(ids), torch.from_numpy(targets)
        x = wte(ids) + wpe(torch.arange(ids.size(1)))
        for block in blocks:
            x = block(x)
        logits = functional.linear(ln_f(x), wte.weight)
        loss = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        times.append(time.monotonic())


if __name__ == "__main__":
    main()
