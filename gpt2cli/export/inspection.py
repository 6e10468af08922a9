"""A part of an export's graph that ends in what lies inside the model, made from the graph itself: it reads the same
file of weights, at every precision.

    input_ids, position_ids, seqlens_k, total_sequence_length    as in graph.py
    past_key_N, past_value_N   [B, heads, P, head]               of layers 0 to `layers` - 1; P may be 0
    -> hidden                  float32 [B, T, width]
       present_key_N, present_value_N                            [B, heads, P + T, head]"""

from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from gpt2cli.errors import CorruptFile

_INPUTS = ("input_ids", "position_ids", "seqlens_k", "total_sequence_length")


def hidden_states(path: Path, layer: int) -> tuple[bytes, int]:
    """The graph at `path` as far as the hidden state `layer`, and the layers that it has. They are numbered as
    transformers does: 0 are the embeddings, the last comes after ln_f. Raises CorruptFile."""
    model = onnx.load(str(path), load_external_data=False)
    graph = model.graph
    try:
        state = _states(graph.node)[layer]
        kept = next(value.type.tensor_type.elem_type for value in graph.input if value.name == "past_key_0")
    except (IndexError, StopIteration):
        raise CorruptFile(f"{path} is not the graph that it says it is", "export the checkpoint again") from None
    layers = max(layer, 1)  # what comes out of no layer has a cache all the same: callers know but one interface
    caches = [f"_{kind}_{number}" for number in range(layers) for kind in ("key", "value")]
    outputs = ["hidden", *(f"present{name}" for name in caches)]
    cast = helper.make_node("Cast", [state], ["hidden"], to=TensorProto.FLOAT)
    nodes = _needed([*graph.node, cast], outputs)
    read = {name for node in nodes for name in node.input}
    inputs = [value for value in graph.input if value.name in _INPUTS]
    room: list[str | int | None] = ["batch", None, "room", None]
    inputs += [helper.make_tensor_value_info(f"past{name}", kept, room) for name in caches]
    found = [helper.make_tensor_value_info("hidden", TensorProto.FLOAT, ["batch", "tokens", None])]
    found += [helper.make_tensor_value_info(name, kept, ["batch", None, "held", None]) for name in outputs[1:]]
    weights = [tensor for tensor in graph.initializer if tensor.name in read]
    model.graph.CopyFrom(helper.make_graph(nodes, "hidden", inputs, found, weights))
    return model.SerializeToString(), layers


def _states(nodes: Sequence[onnx.NodeProto]) -> list[str]:
    """The names of the hidden states. Each block ends in the second of two sums, which the next norm reads with it."""
    embeddings = [node.input[0] for node in nodes if node.op_type == "LayerNormalization"]
    ends = [node for node in nodes if node.op_type == "SkipLayerNormalization"][1::2]
    return [*embeddings, *(node.output[3] for node in ends[:-1]), *(node.output[0] for node in ends[-1:])]


def _needed(nodes: Sequence[onnx.NodeProto], outputs: Sequence[str]) -> list[onnx.NodeProto]:
    """The nodes that lead to the outputs, in order."""
    wanted, found = set(outputs), []
    for node in reversed(nodes):
        if wanted.intersection(filter(None, node.output)):
            wanted.update(node.input)
            found.append(node)
    return found[::-1]
