"""Parts of an export's graph that show what lies inside the model, made from the graph itself: they read the same file
of weights, at every precision.

`hidden_states` and `insides` take

    input_ids, position_ids, seqlens_k, total_sequence_length    as in graph.py
    past_key_N, past_value_N   [B, heads, P, head]               P may be 0
    -> present_key_N, present_value_N                            [B, heads, P + T, head]

and end in what their docstrings name."""

from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from gpt2cli.errors import CorruptFile

_INPUTS = ("input_ids", "position_ids", "seqlens_k", "total_sequence_length")
_Dims = list[str | int | None]


def hidden_states(path: Path, layer: int) -> tuple[bytes, int]:
    """The graph at `path` as far as `hidden` [B, T, width], the hidden state `layer`, and the layers that it has. They
    are numbered as transformers does: 0 are the embeddings, the last comes after ln_f. Raises CorruptFile."""
    found = _Export(path)
    states = [*found.states[:-1], found.normalised]
    if layer >= len(states):
        raise _damaged(path)
    layers = max(layer, 1)  # what comes out of no layer has a cache all the same: callers know but one interface
    found.show("hidden", states[layer], ["batch", "tokens", None])
    found.with_caches(layers)
    return found.serialised(), layers


def insides(path: Path) -> bytes:
    """The graph at `path` as far as `state_N` [B, T, width], the embeddings and what comes out of each block, and
    `attention_N` [B, heads, T, P + T], the weights of each block after softmax. Raises CorruptFile."""
    found = _Export(path)
    for number, node in enumerate(found.attentions):
        node.attribute.append(helper.make_attribute("qk_output", 2))  # after softmax
        node.output.append(f"weights_{number}")
        found.show(f"attention_{number}", f"weights_{number}", ["batch", None, "tokens", "held"])
    for number, state in enumerate(found.states):
        found.show(f"state_{number}", state, ["batch", "tokens", None])
    found.with_caches(len(found.attentions))
    return found.serialised()


def ending(path: Path) -> bytes:
    """What the graph at `path` does after its last block: `states` [N, width], of whichever layer, and int64
    `logit_rows` [M] -> `logits` [M, vocabulary]. Raises CorruptFile."""
    found = _Export(path)
    last = found.sums[-1]
    found.take("states", ["rows", None])
    norm = helper.make_node("LayerNormalization", ["states_", *last.input[2:4]], [last.output[0]], axis=-1)
    norm.attribute.extend(one for one in last.attribute if one.name == "epsilon")
    found.replace(last, norm)
    found.keep_input("logit_rows")
    found.outputs.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", None]))
    return found.serialised()


def block_ends(path: Path) -> bytes:
    """What the blocks of the graph at `path` do after attention, each by itself: `heads_N` [1, M, heads * head] and
    `residual_N` [1, M, width], the block's input -> `state_N` [1, M, width], its output. Raises CorruptFile."""
    found = _Export(path)
    for number, node in enumerate(found.attentions):
        for name in (f"heads_{number}", f"residual_{number}"):
            found.take(name, [1, "rows", None])
        merged = helper.make_node("Identity", [f"heads_{number}_"], [node.output[0]])
        found.replace(node, merged)
        found.sums[2 * number].input[1] = f"residual_{number}_"
        found.show(f"state_{number}", found.states[number + 1], [1, "rows", None])
    return found.serialised()


class _Export:
    """The graph of an export, of which a part is kept: that which leads to the outputs."""

    def __init__(self, path: Path) -> None:
        """Raises CorruptFile where its nodes are not those that graph.py writes."""
        self._model = onnx.load(str(path), load_external_data=False)
        self._graph = graph = self._model.graph
        self._nodes = list(graph.node)
        self.attentions = [node for node in self._nodes if node.op_type == "GroupQueryAttention"]
        self.sums = [node for node in self._nodes if node.op_type == "SkipLayerNormalization"]
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        embeddings = [node.input[0] for node in self._nodes if node.op_type == "LayerNormalization"]
        try:
            kept = next(value.type.tensor_type.elem_type for value in graph.input if value.name == "past_key_0")
            # each block has two sums, which the next norm reads with its input; it ends in the second
            self.states = [*embeddings, *(node.output[3] for node in self.sums[1::2])]
            self.normalised: str = self.sums[-1].output[0]
        except (IndexError, StopIteration):
            raise _damaged(path) from None
        if not len(self.states) - 1 == len(self.attentions) == len(self.sums) / 2:
            raise _damaged(path)
        self._kept: int = kept  # the type of caches, and of what lies between the nodes

    def take(self, name: str, dims: _Dims) -> None:
        """An input in float32, which nodes read as `name`_."""
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, dims))
        self._nodes.insert(0, helper.make_node("Cast", [name], [f"{name}_"], to=self._kept))

    def show(self, name: str, value: str, dims: _Dims) -> None:
        """An output in float32."""
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, dims))
        self._nodes.append(helper.make_node("Cast", [value], [name], to=TensorProto.FLOAT))

    def replace(self, old: onnx.NodeProto, new: onnx.NodeProto) -> None:
        self._nodes[next(place for place, node in enumerate(self._nodes) if node is old)] = new

    def keep_input(self, *names: str) -> None:
        self.inputs += [value for value in self._graph.input if value.name in names]

    def with_caches(self, layers: int) -> None:
        """The inputs of a text, and the caches of so many layers as inputs and outputs."""
        self.keep_input(*_INPUTS)
        for name in [f"{kind}_{number}" for number in range(layers) for kind in ("key", "value")]:
            past = helper.make_tensor_value_info(f"past_{name}", self._kept, ["batch", None, "room", None])
            present = helper.make_tensor_value_info(f"present_{name}", self._kept, ["batch", None, "held", None])
            self.inputs.append(past)
            self.outputs.append(present)

    def serialised(self) -> bytes:
        nodes = _needed(self._nodes, [value.name for value in self.outputs])
        read = {name for node in nodes for name in node.input}
        weights = [tensor for tensor in self._graph.initializer if tensor.name in read]
        made = helper.make_graph(nodes, "inside", self.inputs, self.outputs, weights)
        self._model.graph.CopyFrom(made)
        result: bytes = self._model.SerializeToString()
        return result


def _damaged(path: Path) -> CorruptFile:
    return CorruptFile(f"{path} is not the graph that it says it is", "export the checkpoint again")


def _needed(nodes: Sequence[onnx.NodeProto], outputs: Sequence[str]) -> list[onnx.NodeProto]:
    """The nodes that lead to the outputs, in order."""
    wanted, found = set(outputs), []
    for node in reversed(nodes):
        if wanted.intersection(filter(None, node.output)):
            wanted.update(node.input)
            found.append(node)
    return found[::-1]
