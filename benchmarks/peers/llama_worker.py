"""llama.cpp through llama-cpp-python: CHECKPOINT PRECISION THREADS. Written as GGUF first, every matrix in Q8_0 or
Q4_0; llama_decode of its C interface, arg-max in NumPy."""

import sys
from pathlib import Path
from time import perf_counter

import gguf
import llama_cpp
import numpy as np
from common import load, serve

TYPES = {"fp32": "F32", "int8": "Q8_0", "int4": "Q4_0"}
_NAMES = {
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}


def convert(checkpoint: Path, precision: str) -> Path:
    path = checkpoint / f"llama-{precision}.gguf"
    if path.exists():
        return path
    config, tensors = load(checkpoint)
    writer = gguf.GGUFWriter(str(path) + ".part", "gpt2")
    writer.add_context_length(1024)
    writer.add_embedding_length(config["n_embd"])
    writer.add_block_count(config["n_layer"])
    writer.add_feed_forward_length(4 * config["n_embd"])
    writer.add_head_count(config["n_head"])
    writer.add_layer_norm_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    count = len(tensors["wte.weight"])
    writer.add_token_list([f"t{number}" for number in range(count)])
    writer.add_token_types([gguf.TokenType.NORMAL] * count)
    writer.add_token_merges(["t 0"])
    kind = getattr(gguf.GGMLQuantizationType, TYPES[precision])

    def add(name: str, value: np.ndarray) -> None:
        value = np.ascontiguousarray(value)
        if value.ndim == 1 or name == "position_embd.weight" or precision == "fp32":
            writer.add_tensor(name, value)
        else:
            writer.add_tensor(name, gguf.quants.quantize(value, kind), raw_dtype=kind)

    add("token_embd.weight", tensors["wte.weight"])
    add("position_embd.weight", tensors["wpe.weight"])
    add("output_norm.weight", tensors["ln_f.weight"])
    add("output_norm.bias", tensors["ln_f.bias"])
    for layer in range(config["n_layer"]):
        for ours, theirs in _NAMES.items():
            weight = tensors[f"h.{layer}.{ours}.weight"]
            add(f"blk.{layer}.{theirs}.weight", weight.T if weight.ndim == 2 else weight)
            add(f"blk.{layer}.{theirs}.bias", tensors[f"h.{layer}.{ours}.bias"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    Path(str(path) + ".part").rename(path)
    return path


def main() -> None:
    checkpoint, precision, threads = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    llama = llama_cpp.Llama(
        str(convert(checkpoint, precision)),
        n_ctx=1024,
        n_batch=512,
        n_threads=threads,
        n_threads_batch=threads,
        verbose=False,
    )
    context = llama.ctx
    vocabulary = llama.n_vocab()

    def decode(tokens: list[int]) -> int:
        for start in range(0, len(tokens), 512):
            chunk = tokens[start : start + 512]
            array = (llama_cpp.llama_token * len(chunk))(*chunk)
            assert llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(array, len(chunk))) == 0
        logits = llama_cpp.llama_get_logits_ith(context, -1)
        return int(np.ctypeslib.as_array(logits, shape=(vocabulary,)).argmax())

    def run(prompt: list[int], batch: int, new: int) -> tuple[float, float]:
        assert batch == 1
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
        start = perf_counter()
        token = decode(prompt)
        first = perf_counter()
        for _ in range(new):
            token = decode([token])
        return first - start, perf_counter() - first

    serve(run, f"llama-cpp-python {llama_cpp.__version__}, {TYPES[precision]}")


if __name__ == "__main__":
    main()
