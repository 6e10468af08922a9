"""Names and numbers of checkpoints and exports that other rooms need. Imports nothing heavy."""

from gpt2cli.tokenizer import FILES

# Raised whenever the same checkpoint would give another export: older ones in the cache are then made anew.
VERSION = 6
# Raised whenever the engine asks something else of a graph: older ones are then refused, in folders too.
CONTRACT = 4
PRECISIONS = ("fp32", "int8", "int4", "fp16")
EXPORTED = "weights.safetensors"  # the weights of our own exports, beside model.onnx
DEVICES = ("auto", "cpu", "cuda")  # that graphs run on
GENERATION = "generation_config.json"
SETTINGS = ("config.json", GENERATION, *FILES)  # all of a model but its weights
LATER = (GENERATION, *FILES[3:])  # a model runs without them, but perhaps not as it should
