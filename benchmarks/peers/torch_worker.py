"""transformers in float16 on a GPU: CHECKPOINT eager|compiled [DEVICE]. Greedy, its forward called directly.

compiled: decoding in its static cache, by torch.compile with "reduce-overhead", which records CUDA graphs; the first
call of each batch compiles. As in a program that streams, each token is brought to the host before the next."""

import sys
from time import perf_counter
from typing import Any

import torch
import transformers
from common import serve


def main() -> None:
    checkpoint, compiled = sys.argv[1], sys.argv[2] == "compiled"
    device = sys.argv[3] if len(sys.argv) > 3 else "cuda"
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float16).to(device).eval()
    step = torch.compile(model.forward, mode="reduce-overhead", fullgraph=True) if compiled else model.forward
    caches: dict[int, Any] = {}  # for each batch size one, so that a recorded graph stays valid

    def cache(batch: int) -> Any:
        if not compiled:
            return transformers.DynamicCache(config=model.config)
        if batch not in caches:
            caches[batch] = transformers.StaticCache(config=model.config, max_cache_len=1024)
        caches[batch].reset()
        return caches[batch]

    @torch.inference_mode()
    def run(prompt: list[int], batch: int, new: int) -> tuple[float, float]:
        past = cache(batch)
        start = perf_counter()
        ids = torch.tensor([prompt] * batch, device=device)
        common = {"past_key_values": past, "use_cache": True, "logits_to_keep": 1}
        tokens = model.forward(input_ids=ids, **common).logits.argmax(-1)
        tokens.tolist()
        first = perf_counter()
        for number in range(new):
            position = torch.full((batch, 1), len(prompt) + number, device=device)
            if compiled:
                torch.compiler.cudagraph_mark_step_begin()
            tokens = step(input_ids=tokens, position_ids=position, **common).logits.argmax(-1).clone()
            tokens.tolist()
        return first - start, perf_counter() - first

    kind = "compiled, static cache" if compiled else "eager"
    serve(run, f"transformers {transformers.__version__}, torch {torch.__version__}, float16, {kind}")


main()
