"""transformers, eager, or with "optimum" its ONNX path on ONNX Runtime: CHECKPOINT optimum|transformers THREADS."""

import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import transformers
from common import serve


def optimum(checkpoint: Path, threads: int) -> Any:
    import onnxruntime
    from optimum.onnxruntime import ORTModelForCausalLM

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    folder = checkpoint / "optimum"
    if not (folder / "model.onnx").exists():
        ORTModelForCausalLM.from_pretrained(checkpoint, export=True).save_pretrained(folder)
    return ORTModelForCausalLM.from_pretrained(folder, session_options=options)


def main() -> None:
    checkpoint, kind, threads = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    torch.set_num_threads(threads)
    versions = f"transformers {transformers.__version__}, torch {torch.__version__}"
    if kind == "optimum":
        import importlib.metadata

        model = optimum(checkpoint, threads)
        versions += f", optimum-onnx {importlib.metadata.version('optimum-onnx')}"
    else:
        model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
        model.eval()
    eager = kind != "optimum"

    def run(prompt: list[int], batch: int, new: int) -> tuple[float, float]:
        with torch.inference_mode():
            start = perf_counter()
            ids = torch.tensor([prompt] * batch)
            mask = torch.ones_like(ids)
            last = {"logits_to_keep": 1} if eager else {}
            result = model(input_ids=ids, attention_mask=mask, use_cache=True, **last)
            tokens = result.logits[:, -1:].argmax(-1)
            first = perf_counter()
            for _ in range(new):
                mask = torch.cat([mask, mask[:, :1]], 1)
                more = {} if eager else {"position_ids": mask.sum(1, keepdim=True) - 1}
                result = model(
                    input_ids=tokens,
                    attention_mask=mask,
                    past_key_values=result.past_key_values,
                    use_cache=True,
                    **more,
                )
                tokens = result.logits[:, -1:].argmax(-1)
        return first - start, perf_counter() - first

    serve(run, versions)


main()
