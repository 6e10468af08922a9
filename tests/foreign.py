"""Ready-made GPT-2 graphs as other tools export them, from the same random weights as everything else, in standard
operators only (opset 17), written from the interfaces that optimum documents."""

import json

import numpy as np
import onnx
from checkpoints import SMALL, make_checkpoint
from onnx import TensorProto, helper, numpy_helper

FLOAT, HALF, INT64, INT32, BOOL = (
    TensorProto.FLOAT,
    TensorProto.FLOAT16,
    TensorProto.INT64,
    TensorProto.INT32,
    TensorProto.BOOL,
)


class Net:
    """Nodes of one graph, named as they come."""

    def __init__(self, prefix):
        self.nodes, self.prefix = [], prefix

    def add(self, operator, *inputs, outputs=1, **attributes):
        names = [f"{self.prefix}{operator}_{len(self.nodes)}_{number}" for number in range(outputs)]
        self.nodes.append(helper.make_node(operator, inputs, names, **attributes))
        return names[0] if outputs == 1 else names


def forward(net, config, constants, *, past, positions, dtype):
    """The nodes from input_ids to logits; returns (logits, presents). `past` False: no cache is read."""
    heads, width = config["n_head"], config["n_embd"]
    size = width // heads

    def constant(name, value):
        constants[name] = numpy_helper.from_array(np.asarray(value), name)
        return name

    def number(value):
        return constant(f"number_{value}", np.asarray(value, dtype))

    def axis(*values):
        return constant("axes_" + "_".join(map(str, values)), np.array(values, np.int64))

    ids = net.add("Cast", "input_ids", to=INT64)
    new = net.add("Gather", net.add("Shape", ids), axis(1), axis=0)
    before = net.add("Gather", net.add("Shape", "past_key_values.0.key"), axis(2), axis=0) if past else axis(0)
    total = net.add("Add", before, new)
    every = net.add("Range", *(net.add("Squeeze", part, axis(0)) for part in (axis(0), total)), axis_one(constants))
    here = net.add("Slice", every, before, total, axis(0))  # [T]
    places = net.add("Cast", "position_ids", to=INT64) if positions else net.add("Unsqueeze", here, axis(0))
    x = net.add("Add", net.add("Gather", "wte.weight", ids), net.add("Gather", "wpe.weight", places))
    later = net.add("Greater", net.add("Unsqueeze", every, axis(0)), net.add("Unsqueeze", here, axis(1)))
    future = net.add("Mul", net.add("Cast", later, to=FLOAT if dtype == np.float32 else HALF), number(-10000.0))
    presents = []

    def norm(value, name):
        return net.add("LayerNormalization", value, f"{name}.weight", f"{name}.bias", axis=-1, epsilon=1e-5)

    def linear(value, name):
        return net.add("Add", net.add("MatMul", value, f"{name}.weight"), f"{name}.bias")

    for layer in range(config["n_layer"]):
        block = f"h.{layer}"
        qkv = net.add("Split", linear(norm(x, f"{block}.ln_1"), f"{block}.attn.c_attn"), outputs=3, axis=-1)
        query, key, value = (
            net.add("Transpose", net.add("Reshape", part, axis(0, 0, heads, size)), perm=[0, 2, 1, 3]) for part in qkv
        )
        if past:
            key = net.add("Concat", f"past_key_values.{layer}.key", key, axis=2)
            value = net.add("Concat", f"past_key_values.{layer}.value", value, axis=2)
        presents += [key, value]
        scores = net.add("MatMul", query, net.add("Transpose", key, perm=[0, 1, 3, 2]))
        scores = net.add("Add", net.add("Div", scores, number(np.sqrt(size))), future)
        mixed = net.add("MatMul", net.add("Softmax", scores, axis=-1), value)
        merged = net.add("Reshape", net.add("Transpose", mixed, perm=[0, 2, 1, 3]), axis(0, 0, width))
        x = net.add("Add", x, linear(merged, f"{block}.attn.c_proj"))
        h = linear(norm(x, f"{block}.ln_2"), f"{block}.mlp.c_fc")
        cube = net.add("Mul", net.add("Mul", h, net.add("Mul", h, h)), number(0.044715))
        wave = net.add("Tanh", net.add("Mul", net.add("Add", h, cube), number(np.sqrt(2 / np.pi))))
        h = net.add("Mul", net.add("Mul", h, number(0.5)), net.add("Add", wave, number(1.0)))
        x = net.add("Add", x, linear(h, f"{block}.mlp.c_proj"))
    head = net.add("Transpose", "wte.weight", perm=[1, 0])
    return net.add("MatMul", norm(x, "ln_f"), head), presents


def axis_one(constants):
    constants["one"] = numpy_helper.from_array(np.array(1, np.int64), "one")
    return "one"


def make_foreign(folder, kind="current", *, name="model.onnx", external=None, seed=0, **changes):
    """Write a ready-made export; returns (config, tensors as the graph has them).

    kind: current, unpositioned (no position_ids), merged (use_cache_branch), plain (no cache), half (float16),
    int32, one_by_one (a token at a time once there is a cache). `external`: where the weights lie, beside the graph."""
    config = SMALL | changes
    _, tensors = make_checkpoint(folder, config, seed=seed)
    (folder / "model.safetensors").unlink()
    dtype = np.float16 if kind == "half" else np.float32
    floating = HALF if kind == "half" else FLOAT
    integer = INT32 if kind == "int32" else INT64
    positions = kind not in ("unpositioned", "merged")
    constants = {key: numpy_helper.from_array(value.astype(dtype), key) for key, value in tensors.items()}
    heads, size = config["n_head"], config["n_embd"] // config["n_head"]
    caches = [f"{layer}.{part}" for layer in range(config["n_layer"]) for part in ("key", "value")]
    inputs = [
        helper.make_tensor_value_info("input_ids", integer, ["batch", 1 if kind == "one_by_one" else "tokens"]),
        helper.make_tensor_value_info("attention_mask", integer, ["batch", "total"]),
    ]
    if positions:
        inputs.append(helper.make_tensor_value_info("position_ids", integer, ["batch", "tokens"]))
    if kind != "plain":
        for cache in caches:
            shape = ["batch", heads, "past", size]
            inputs.append(helper.make_tensor_value_info(f"past_key_values.{cache}", floating, shape))
    outputs = [helper.make_tensor_value_info("logits", floating, ["batch", "tokens", config["vocab_size"]])]
    if kind != "plain":
        for cache in caches:
            shape = ["batch", heads, "total", size]
            outputs.append(helper.make_tensor_value_info(f"present.{cache}", floating, shape))
    names = [output.name for output in outputs]

    def branch(prefix, past):
        net = Net(prefix)
        logits, presents = forward(net, config, constants, past=past, positions=positions, dtype=dtype)
        return net, [logits, *presents]

    if kind == "merged":
        inputs.append(helper.make_tensor_value_info("use_cache_branch", BOOL, [1]))
        graphs = []
        for prefix, past in (("then_", True), ("else_", False)):
            net, results = branch(prefix, past)
            infos = [helper.make_tensor_value_info(result, floating, None) for result in results]
            graphs.append(helper.make_graph(net.nodes, prefix, [], infos))
        nodes = [helper.make_node("If", ["use_cache_branch"], names, then_branch=graphs[0], else_branch=graphs[1])]
    else:
        net, results = branch("", kind != "plain")
        nodes = net.nodes + [
            helper.make_node("Identity", [result], [name_]) for result, name_ in zip(results, names, strict=False)
        ]
    graph = helper.make_graph(nodes, "foreign", inputs, outputs, list(constants.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    target = folder / name
    target.parent.mkdir(exist_ok=True)
    if external:
        onnx.save(model, target, save_as_external_data=True, location=external, size_threshold=1000)
    else:
        onnx.save(model, target)
    kept = {key: np.asarray(value, np.float64) for key, value in tensors.items()}
    if kind == "half":
        kept = {key: value.astype(np.float16).astype(np.float64) for key, value in kept.items()}
    return json.loads((folder / "config.json").read_text()), kept
