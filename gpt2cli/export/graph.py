"""The GPT-2 graph in ONNX operators: the only room that knows onnx.

Contract of every graph we write (B rows, T new tokens, M rows of logits, S = n_positions):

    input_ids                int64   [B, T]
    position_ids             int64   [B, T]
    logit_rows               int64   [M]      which of the B*T hidden states get logits
    seqlens_k                int32   [B]      tokens in the cache after this call, less one
    total_sequence_length    int32   []       the largest of them, plus one
    past_key_N, past_value_N float32 [B, heads, S, head]   a whole cache, written in place (float16 in fp16)
    -> logits                float32 [M, vocabulary]
       present_key_N, present_value_N         bound to the same memory as the past

The blocks follow Radford et al. 2019. Operators of the domain com.microsoft are documented in ONNX Runtime's
ContribOperators.md: GroupQueryAttention keeps the cache, SkipLayerNormalization adds residual and bias and
normalises, FastGelu and BiasGelu add the bias before the activation.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from gpt2cli.errors import UnknownModel
from gpt2cli.export.checkpoint import Config
from gpt2cli.export.quantize import BLOCK, ZERO
from gpt2cli.export.rounding import Rounding
from gpt2cli.export.weights import Stored

MICROSOFT = "com.microsoft"
_ONNX_TYPES = {"F32": TensorProto.FLOAT, "F16": TensorProto.FLOAT16, "I8": TensorProto.INT8, "U8": TensorProto.UINT8}

# Activations of transformers' table ACT2FN that published GPT-2 configs name -> the nodes that compute them.
_TANH_GELU = ("gelu_new", "gelu_fast", "gelu_accurate", "gelu_pytorch_tanh", "gelu_python_tanh")
_ERF_GELU = ("gelu", "gelu_python")
_SIMPLE = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid"}
ACTIVATIONS = (*_TANH_GELU, *_ERF_GELU, "quick_gelu", "silu", "swish", "mish", "linear", *_SIMPLE)


class _Graph:
    """Nodes in order, and names for what lies between them."""

    def __init__(self, precision: str, rounding: Rounding, shapes: dict[str, tuple[int, ...]]) -> None:
        self.precision = precision
        self.rounding = rounding
        self.shapes = shapes  # of the stored arrays
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def add(self, operator: str, *inputs: str, domain: str = "", outputs: Sequence[str] = (), **attributes: Any) -> str:
        """Append a node; returns the name of its first output."""
        names = list(outputs) or [f"{operator}_{len(self.nodes)}"]
        self.nodes.append(helper.make_node(operator, list(inputs), names, domain=domain, name=names[0], **attributes))
        return names[0]

    def constant(self, name: str, value: Any) -> str:
        self.constants[name] = numpy_helper.from_array(np.asarray(value), name)
        return name

    def matmul(self, x: str, weight: str, inputs: int, outputs: Sequence[str] = ()) -> str:
        """x [..., inputs] times the matrix `weight` [inputs, out], without bias; `outputs` names the result.

        int8: each row of x is mapped from its own minimum and maximum to [0, 1] and rounded to a *fixed* grid of
        1/255, so that no row depends on another; sums of integers are exact, so the same row gives the same result
        in any batch. What the minimum contributed, minimum * (sum of each column of the weight), is added back.
        With 16 activation bits what the rounding left over, within half a step of zero, is rounded in turn to 256
        levels and multiplied by the same integers. uint8 weights have 128 for their zero.

        int4: MatMulNBits rounds each row of x in blocks to 8 bits itself (accuracy_level 4)."""
        if self.precision in ("fp32", "fp16"):
            return self.add("MatMul", x, weight, outputs=outputs)
        if self.precision == "int4":
            return self.add(
                "MatMulNBits",
                *(x, f"{weight}.int4", f"{weight}.blocks"),
                domain=MICROSOFT,
                outputs=outputs,
                K=inputs,
                N=self.shapes[f"{weight}.int4"][0],
                bits=4,
                block_size=BLOCK,
                accuracy_level=4,
            )
        activation_bits = self.rounding.of(weight).activation_bits
        if f"{weight}.channels" in self.shapes:
            x = self.add("Mul", x, f"{weight}.channels")
        tiny = self.constant("tiny", np.float32(1e-30))  # a row of equal numbers divides by this
        least = self.add("ReduceMin", x, axes=[-1], keepdims=1)
        span = self.add("Sub", self.add("ReduceMax", x, axes=[-1], keepdims=1), least)
        span = self.add("Max", span, tiny)
        unit = self.add("Div", self.add("Sub", x, least), span)
        step = self.constant("step", np.float32(1 / 255))
        half = self.constant("half", np.float32(0.5))
        zero = self.constant("zero", np.uint8(0))
        integers = self.add("QuantizeLinear", unit, step, zero)
        if activation_bits == 16:  # both parts in one product, which reads the weight once
            rest = self.add("Sub", unit, self.add("DequantizeLinear", integers, step, zero))
            rest = self.add("Add", self.add("Mul", rest, self.constant("levels", np.float32(255))), half)
            rest = self.add("QuantizeLinear", rest, step, zero)
            integers = self.add("Concat", integers, rest, axis=0)
            # the half that keeps the rest above zero, of a step, is taken from what is added back for the minimum
            half_step = self.constant("half_step", np.float32(0.5 / 255))
            least = self.add("Sub", least, self.add("Mul", span, half_step))
        # the weight's zero point is optional, but ONNX Runtime aborts (1.23, x86 without VNNI) where it is left out,
        # and where two nodes share it or the weight
        kind, weight_zero = ("uint8", np.uint8(ZERO)) if f"{weight}.uint8" in self.shapes else ("int8", np.int8(0))
        product = self.add(
            "MatMulIntegerToFloat",
            *(integers, f"{weight}.{kind}", step, f"{weight}.scale", zero),
            self.constant(f"{weight}.zero", weight_zero),
            domain=MICROSOFT,
        )
        if activation_bits == 16:
            number = len(self.nodes)
            parts = [f"product_{number}", f"rest_{number}"]
            self.add("Split", product, axis=0, outputs=parts)
            product = self.add("Add", parts[0], self.add("Mul", parts[1], step))
        shift = self.add("Mul", least, f"{weight}.sum")
        return self.add("Add", self.add("Mul", product, span), shift, outputs=outputs)

    def embedding(self, ids: str, table: str) -> str:
        """Rows of a table [vocabulary, width] by id; in int8 and int4, columns of its int8 transpose."""
        if self.precision in ("fp32", "fp16"):
            return self.add("Gather", table, ids)
        kind = "uint8" if f"{table}.uint8" in self.shapes else "int8"
        columns = self.add("Gather", f"{table}.{kind}", ids, axis=1)  # [width, B, T]
        columns = self.add("Transpose", self.add("Cast", columns, to=TensorProto.FLOAT), perm=[1, 2, 0])
        if kind == "uint8":
            columns = self.add("Sub", columns, self.constant("table_zero", np.float32(ZERO)))
        last = self.constant("last_axis", np.array([-1], np.int64))
        scale = self.add("Unsqueeze", self.add("Gather", f"{table}.scale", ids), last)
        columns = self.add("Mul", columns, scale)
        return self.add("Mul", columns, f"{table}.channels") if f"{table}.channels" in self.shapes else columns

    def head(self, rows: str, table: str, width: int) -> None:
        """rows [M, width] -> logits [M, vocabulary]."""
        if self.precision in ("fp32", "fp16"):
            if self.precision == "fp16":  # logits of a hundred have steps of 1/16 in half precision
                rows = self.add("Cast", rows, to=TensorProto.FLOAT)
            self.add("Gemm", rows, table, outputs=["logits"], transB=1)
        else:
            self.matmul(rows, table, width, outputs=["logits"])

    def skip_norm(self, branch: str, residual: str, norm: str, bias: str, epsilon: float) -> tuple[str, str]:
        """residual + branch + bias, and its normalised form: (normalised, sum)."""
        total = f"sum_{len(self.nodes)}"
        normalised = self.add(
            "SkipLayerNormalization",
            *(branch, residual, f"{norm}.weight", f"{norm}.bias", bias),
            domain=MICROSOFT,
            outputs=[f"norm_{len(self.nodes)}", "", "", total],
            epsilon=epsilon,
        )
        return normalised, total

    def activation(self, x: str, bias: str, kind: str) -> str:
        """kind(x + bias)."""
        if kind in _TANH_GELU:
            return self.add("FastGelu", x, bias, domain=MICROSOFT)
        if kind in _ERF_GELU:
            return self.add("BiasGelu", x, bias, domain=MICROSOFT)
        x = self.add("Add", x, bias)
        if kind == "quick_gelu":
            return self.add("QuickGelu", x, domain=MICROSOFT, alpha=1.702)
        if kind in ("silu", "swish"):
            return self.add("QuickGelu", x, domain=MICROSOFT, alpha=1.0)
        if kind == "mish":
            return self.add("Mul", x, self.add("Tanh", self.add("Softplus", x)))
        return x if kind == "linear" else self.add(_SIMPLE[kind], x)


def check_activation(config: Config, folder: Path) -> None:
    """Raises UnknownModel for an activation that no node here computes."""
    if config.activation_function not in ACTIVATIONS:
        raise UnknownModel(
            f"'{folder}' uses the activation '{config.activation_function}', which is not supported",
            f"supported: {', '.join(sorted(ACTIVATIONS))}",
        )


def build(
    config: Config,
    weights: Sequence[Stored],
    offsets: dict[str, int],
    location: str,
    *,
    precision: str,
    rounding: Rounding,
    tied: bool,
    metadata: dict[str, str],
) -> bytes:
    """The serialised model, its initializers pointing into the file `location` beside it."""
    graph = _Graph(precision, rounding, {stored.name: stored.shape for stored in weights})
    heads, size, width = config.n_head, config.padded_head_size, config.n_embd
    epsilon = config.layer_norm_epsilon
    residual = graph.add(
        "Add", graph.embedding("input_ids", "wte.weight"), graph.add("Gather", "wpe.weight", "position_ids")
    )
    if precision == "fp16":
        residual = graph.add("Cast", residual, to=TensorProto.FLOAT16)
    x = graph.add("LayerNormalization", residual, "h.0.ln_1.weight", "h.0.ln_1.bias", axis=-1, epsilon=epsilon)
    for layer in range(config.n_layer):
        block = f"h.{layer}"
        scale = size_scale(config) / (layer + 1 if config.scale_attn_by_inverse_layer_idx else 1)
        qkv = graph.add("Add", graph.matmul(x, f"{block}.attn.c_attn.weight", width), f"{block}.attn.c_attn.bias")
        attended = graph.add(
            "GroupQueryAttention",
            *(qkv, "", "", f"past_key_{layer}", f"past_value_{layer}", "seqlens_k", "total_sequence_length"),
            domain=MICROSOFT,
            outputs=[f"attended_{layer}", f"present_key_{layer}", f"present_value_{layer}"],
            num_heads=heads,
            kv_num_heads=heads,
            do_rotary=0,
            scale=scale,
        )
        branch = graph.matmul(attended, f"{block}.attn.c_proj.weight", heads * size)
        x, residual = graph.skip_norm(branch, residual, f"{block}.ln_2", f"{block}.attn.c_proj.bias", epsilon)
        hidden = graph.matmul(x, f"{block}.mlp.c_fc.weight", width)
        hidden = graph.activation(hidden, f"{block}.mlp.c_fc.bias", config.activation_function)
        branch = graph.matmul(hidden, f"{block}.mlp.c_proj.weight", config.n_inner)
        following = f"h.{layer + 1}.ln_1" if layer + 1 < config.n_layer else "ln_f"
        x, residual = graph.skip_norm(branch, residual, following, f"{block}.mlp.c_proj.bias", epsilon)
    flat = graph.add("Reshape", x, graph.constant("rows_by_width", np.array([-1, width], np.int64)))
    table = "wte.weight" if tied and precision != "int4" else "lm_head.weight"
    graph.head(graph.add("Gather", flat, "logit_rows"), table, width)
    inputs, outputs = _interface(config, precision)
    initializers = [_external(stored, offsets[stored.name], location) for stored in weights]
    constants = [*initializers, *graph.constants.values()]
    return _serialised(helper.make_graph(graph.nodes, "gpt2", inputs, outputs, constants), metadata)


def _interface(config: Config, precision: str) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
    """Inputs and outputs, as the contract has them."""
    kept = TensorProto.FLOAT16 if precision == "fp16" else TensorProto.FLOAT
    cache: list[str | int | None] = ["batch", config.n_head, config.n_positions, config.padded_head_size]
    inputs = [
        helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "tokens"]),
        helper.make_tensor_value_info("position_ids", TensorProto.INT64, ["batch", "tokens"]),
        helper.make_tensor_value_info("logit_rows", TensorProto.INT64, ["rows"]),
        helper.make_tensor_value_info("seqlens_k", TensorProto.INT32, ["batch"]),
        helper.make_tensor_value_info("total_sequence_length", TensorProto.INT32, []),
    ]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", config.vocab_size])]
    for layer in range(config.n_layer):
        for kind in ("key", "value"):
            inputs.append(helper.make_tensor_value_info(f"past_{kind}_{layer}", kept, cache))
            outputs.append(helper.make_tensor_value_info(f"present_{kind}_{layer}", kept, cache))
    return inputs, outputs


def size_scale(config: Config) -> float:
    """What the attention scores of a head are multiplied by."""
    return config.head_size**-0.5 if config.scale_attn_weights else 1.0


def _external(stored: Stored, offset: int, location: str) -> onnx.TensorProto:
    tensor = TensorProto(
        name=stored.name,
        data_type=_ONNX_TYPES[stored.dtype],
        dims=stored.shape,
        data_location=TensorProto.EXTERNAL,
    )
    for key, value in (("location", location), ("offset", offset), ("length", stored.nbytes)):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)
    return tensor


def check(path: Path) -> None:
    """onnx.checker on a written model, external data included. Raises onnx's ValidationError."""
    onnx.checker.check_model(str(path))


def saturation_probe() -> bytes:
    """A graph that multiplies uint8 `x` [M, 64] by an int8 matrix of 127: each number of `y` is 127 * (sum of a row),
    where the processor does not saturate."""
    weight = numpy_helper.from_array(np.full((64, 32), 127, np.int8), "weight")
    node = helper.make_node("MatMulInteger", ["x", "weight"], ["y"])
    x = helper.make_tensor_value_info("x", TensorProto.UINT8, ["rows", 64])
    y = helper.make_tensor_value_info("y", TensorProto.INT32, ["rows", 32])
    return _serialised(helper.make_graph([node], "probe", [x], [y], [weight]))


def row_gather(shape: Sequence[int], count: int) -> bytes:
    """Picks rows of `count` float16 caches: `cache_N` [capacity, *shape] and int64 `rows` [M] -> `moved_N`
    [M, *shape]."""
    inputs = [helper.make_tensor_value_info("rows", TensorProto.INT64, ["rows"])]
    nodes, outputs = [], []
    for number in range(count):
        cache, moved = f"cache_{number}", f"moved_{number}"
        nodes.append(helper.make_node("Gather", [cache, "rows"], [moved], axis=0))
        inputs.append(helper.make_tensor_value_info(cache, TensorProto.FLOAT16, ["capacity", *shape]))
        outputs.append(helper.make_tensor_value_info(moved, TensorProto.FLOAT16, ["rows", *shape]))
    return _serialised(helper.make_graph(nodes, "rows", inputs, outputs))


def _serialised(graph: onnx.GraphProto, metadata: dict[str, str] | None = None) -> bytes:
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)],
        ir_version=8,
        producer_name="gpt2cli",
    )
    helper.set_model_props(model, metadata or {})
    serialised: bytes = model.SerializeToString(deterministic=True)
    return serialised
