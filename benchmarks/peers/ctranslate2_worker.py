"""CTranslate2: CHECKPOINT PRECISION THREADS [DEVICE]. Converted to its own format first; greedy generate_batch.

Its API gives no time for the first token, so that is a run of one token, and decoding is what a longer run takes
more."""

import sys
from pathlib import Path
from time import perf_counter

import ctranslate2
import numpy as np
from common import load, serve
from ctranslate2.specs import common_spec, transformer_spec


def convert(checkpoint: Path, precision: str) -> Path:
    folder = checkpoint / f"ctranslate2-{precision}"
    if (folder / "model.bin").exists():
        return folder
    config, tensors = load(checkpoint)
    spec = transformer_spec.TransformerDecoderModelSpec.from_config(
        config["n_layer"],
        config["n_head"],
        pre_norm=True,
        activation=common_spec.Activation.GELUTanh,
    )

    def linear(target: common_spec.LinearSpec, name: str) -> None:
        target.weight = np.ascontiguousarray(tensors[f"{name}.weight"].T)
        target.bias = tensors[f"{name}.bias"]

    def norm(target: common_spec.LayerNormSpec, name: str) -> None:
        target.gamma, target.beta = tensors[f"{name}.weight"], tensors[f"{name}.bias"]

    decoder = spec.decoder
    decoder.scale_embeddings = False
    decoder.embeddings.weight = tensors["wte.weight"]
    decoder.position_encodings.encodings = tensors["wpe.weight"]
    decoder.projection.weight = tensors["wte.weight"]
    norm(decoder.layer_norm, "ln_f")
    for number, layer in enumerate(decoder.layer):
        block = f"h.{number}"
        norm(layer.self_attention.layer_norm, f"{block}.ln_1")
        linear(layer.self_attention.linear[0], f"{block}.attn.c_attn")
        linear(layer.self_attention.linear[1], f"{block}.attn.c_proj")
        norm(layer.ffn.layer_norm, f"{block}.ln_2")
        linear(layer.ffn.linear_0, f"{block}.mlp.c_fc")
        linear(layer.ffn.linear_1, f"{block}.mlp.c_proj")
    spec.register_vocabulary([str(number) for number in range(len(tensors["wte.weight"]))])
    spec.config.bos_token = spec.config.eos_token = spec.config.unk_token = str(len(tensors["wte.weight"]) - 1)
    spec.validate()
    spec.optimize(quantization={"fp32": "float32", "fp16": "float16", "int8": "int8"}[precision])
    folder.mkdir()
    spec.save(str(folder))
    return folder


def main() -> None:
    checkpoint, precision, threads = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    generator = ctranslate2.Generator(
        str(convert(checkpoint, precision)),
        device=sys.argv[4] if len(sys.argv) > 4 else "cpu",
        compute_type={"fp32": "float32", "fp16": "float16"}.get(precision, "int8"),
        intra_threads=threads,
    )

    def timed(prompt: list[str], batch: int, tokens: int) -> float:
        start = perf_counter()
        generator.generate_batch(
            [prompt] * batch,
            max_length=tokens,
            min_length=tokens,
            sampling_topk=1,
            beam_size=1,
            include_prompt_in_result=False,
        )
        return perf_counter() - start

    def run(prompt: list[int], batch: int, new: int) -> tuple[float, float]:
        words = [str(token) for token in prompt]
        first = timed(words, batch, 1)
        return first, timed(words, batch, 1 + new) - first if new else 0.0

    serve(run, f"ctranslate2 {ctranslate2.__version__}, {generator.compute_type}")


if __name__ == "__main__":
    main()
