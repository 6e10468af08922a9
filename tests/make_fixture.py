"""How tests/fixtures/ was made: random GPT-2s and what transformers computes with them.

    pip install -e .[parity] && python tests/make_fixture.py

They pin the oracle to the reference implementation where that is not installed."""

from pathlib import Path

import numpy as np
import torch
import transformers

CONFIGS = {
    "plain": {},
    "variants": {
        "activation_function": "gelu",
        "scale_attn_by_inverse_layer_idx": True,
        "n_inner": 40,
        "layer_norm_epsilon": 1e-3,
        "tie_word_embeddings": False,
    },
}

for name, changes in CONFIGS.items():
    torch.manual_seed(1)
    config = transformers.GPT2Config(
        n_layer=3,
        n_head=2,
        n_embd=16,
        n_positions=32,
        vocab_size=64,
        bos_token_id=63,
        eos_token_id=None,
        initializer_range=0.4,
        **changes,
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    folder = Path(__file__).parent / "fixtures" / name
    model.save_pretrained(folder)
    ids = torch.randint(0, 63, (1, 20))
    with torch.no_grad():
        logits = model(ids).logits[0].numpy()
        tokens = model.generate(
            ids[:, :8], attention_mask=torch.ones_like(ids[:, :8]), max_new_tokens=20, do_sample=False
        )
    np.savez(folder / "outputs.npz", ids=ids[0].numpy(), logits=logits, greedy=tokens[0, 8:].numpy())
    (folder / "generation_config.json").unlink(missing_ok=True)
    print(name, transformers.__version__, torch.__version__, logits.std())
