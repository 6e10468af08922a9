"""The README that goes with an exported folder: its contract, and an example that runs as it stands."""

README = """# {name}, {precision}, for ONNX Runtime

`model.onnx` is the graph, `weights.safetensors` its external data (and a safetensors file as well). It was written by
gpt2cli, and needs `onnxruntime` 1.23 or newer with its CPU execution provider; nothing else of gpt2cli. What rounding
costs, on a short text beside the checkpoint in float32: {quality}.

For B rows, T new tokens each, M rows of logits, and a cache of S = {n_positions} positions:

| input | type | shape | meaning |
| --- | --- | --- | --- |
| `input_ids` | int64 | [B, T] | the new tokens |
| `position_ids` | int64 | [B, T] | their positions: tokens in the cache, plus 0, 1, ... |
| `logit_rows` | int64 | [M] | which of the B*T tokens get logits |
| `seqlens_k` | int32 | [B] | tokens in the cache after this call, less one |
| `total_sequence_length` | int32 | [] | the largest of them, plus one |
| `past_key_N`, `past_value_N` | {cache_type} | [B, heads, S, head size] | the whole cache of layer N of {n_layer} |

Outputs: `logits` float32 [M, {vocab_size}], and `present_key_N`, `present_value_N`, the cache after the call (bind them
to the memory of the past, and nothing is copied). Several new tokens on a filled cache: one row (B = 1) only.

```python
import numpy as np, onnxruntime, tokenizers
options = onnxruntime.SessionOptions()
options.add_session_config_entry("session.x64quantprecision", "1")  # int8 does not saturate on x86 without VNNI
session = onnxruntime.InferenceSession("model.onnx", options)
tokenizer = tokenizers.Tokenizer.from_file("tokenizer.json")
past = [i for i in session.get_inputs() if i.name.startswith("past")]
cache = {{i.name: np.zeros([1, *i.shape[1:]], "{cache_code}") for i in past}}
ids, new, length = [], tokenizer.encode("Once upon a time").ids, 0
while len(ids) < 40:
    places, end = np.arange(length, length + len(new))[None], length + len(new)
    feeds = dict(input_ids=np.array([new]), position_ids=places, logit_rows=np.array([len(new) - 1]),
                 seqlens_k=np.array([end - 1], "i4"), total_sequence_length=np.array(end, "i4"))
    logits, *present = session.run(None, feeds | cache)
    cache, ids, length = dict(zip(cache, present)), ids + new, end
    new = [int(logits[0].argmax())]
print(tokenizer.decode(ids))
```
"""
