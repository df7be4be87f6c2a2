"""lsq_export.graph.evaluate against onnx's reference evaluator, operator by operator."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from calib.errors import QuantizationError
from lsq_export.graph.evaluate import OPERATORS, PORTION, VALUES, evaluate, portions_of
from lsq_export.graph.read import MARKER, MARKER_DOMAIN

OPSET = 22
RNG = np.random.default_rng(8)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32) * 2


def model(
    nodes: list[onnx.NodeProto],
    constants: dict[str, np.ndarray],
    shape: tuple[int, ...],
    output: str = "y",
    kind: int = 1,
) -> onnx.ModelProto:
    inputs = [helper.make_tensor_value_info("x", 1, list(shape))]
    outputs = [helper.make_tensor_value_info(output, kind, None)]
    initializers = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(MARKER_DOMAIN, 1)], ir_version=10
    )


def single(
    op: str, shape: tuple[int, ...], *constants: np.ndarray | None, x_at: int = 0, kind: int = 1, **attributes: Any
) -> onnx.ModelProto:
    """One node; x is its input number x_at."""
    names = ["" if c is None else f"c{i}" for i, c in enumerate(constants)]
    names.insert(x_at, "x")
    known = {f"c{i}": c for i, c in enumerate(constants) if c is not None}
    return model([helper.make_node(op, names, ["y"], "node", **attributes)], known, shape, kind=kind)


def both(proto: onnx.ModelProto, x: np.ndarray, dtype: torch.dtype = torch.float64) -> tuple[np.ndarray, np.ndarray]:
    """(ours, onnx's), in float64 where its types allow."""
    ours = evaluate(ir.from_proto(proto).graph, x, dtype=dtype)[0].numpy()
    return ours, ReferenceEvaluator(proto).run(None, {"x": x})[0]


def agree(proto: onnx.ModelProto, x: np.ndarray) -> None:
    for dtype in (torch.float64, torch.float32):
        ours, theirs = both(proto, x, dtype)
        assert ours.shape == theirs.shape
        # onnx's evaluator computes in float32, in another order: some roundings of 6e-8 of the largest term
        assert np.abs(ours - theirs).max() <= 2e-6 * max(1.0, np.abs(theirs).max())


X4 = (2, 4, 9, 8)


CONVOLUTIONS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "plain": ((3, 4, 3, 3), {}),
    "asymmetric pads": ((3, 4, 3, 3), {"pads": [0, 1, 2, 3]}),
    "stride": ((3, 4, 3, 3), {"pads": [1, 1, 1, 1], "strides": [2, 3]}),
    "dilation": ((3, 4, 3, 2), {"pads": [2, 0, 2, 1], "dilations": [2, 3]}),
    "groups": ((6, 2, 3, 3), {"pads": [1, 1, 1, 1], "group": 2}),
    "depthwise": ((4, 1, 2, 2), {"pads": [0, 0, 1, 1], "group": 4}),
    "pointwise": ((5, 4, 1, 1), {}),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("biased", [True, False])
def test_conv(name: str, biased: bool):
    shape, attributes = CONVOLUTIONS[name]
    weights = [normal(*shape)] + ([normal(shape[0])] if biased else [])
    agree(single("Conv", X4, *weights, kernel_shape=list(shape[2:]), **attributes), normal(*X4))


@pytest.mark.parametrize("bias", [None, (5,), (1, 5), ()])
@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm(bias: tuple[int, ...] | None, transposed: int):
    w = normal(5, 7) if transposed else normal(7, 5)
    constants = [w] if bias is None else [w, normal(*bias) if bias else np.float32(0.7)]
    agree(single("Gemm", (3, 7), *constants, transB=transposed, alpha=0.5, beta=2.0), normal(3, 7))
    agree(single("Gemm", (7, 3), *constants, transA=1, transB=transposed), normal(7, 3))


@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [2, 3]},
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
        {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [0, 0, 1, 1]},
        {"kernel_shape": [2, 2], "dilations": [2, 3]},
        {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
    ],
)
def test_max_pool(attributes: dict[str, Any]):
    agree(single("MaxPool", X4, **attributes), normal(*X4) - 5)


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"), [(11, 2, 2, 1), (9, 3, 2, 1), (8, 3, 3, 0), (7, 2, 3, 1), (10, 3, 2, 1)]
)
def test_max_pool_has_the_windows_of_torch(size: int, kernel: int, stride: int, padding: int, ceil_mode: bool):
    """A window that would begin behind the input is left out;

    onnx's evaluator keeps it (operator set 22 forbids it).
    """
    x = torch.from_numpy(normal(1, 2, size, size)) - 5
    proto = single(
        "MaxPool",
        tuple(x.shape),
        kernel_shape=[kernel] * 2,
        strides=[stride] * 2,
        pads=[padding] * 4,
        ceil_mode=int(ceil_mode),
    )
    expected = torch.nn.functional.max_pool2d(x, kernel, stride, padding, ceil_mode=ceil_mode)
    assert torch.equal(evaluate(ir.from_proto(proto).graph, x, dtype=torch.float32)[0], expected)


@pytest.mark.parametrize("counted", [0, 1])
@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [2, 3]},
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
        {"kernel_shape": [3, 3], "strides": [2, 1], "ceil_mode": 1},
        {"kernel_shape": [3, 2], "strides": [2, 3], "pads": [1, 0, 1, 0]},
    ],
)
def test_average_pool(attributes: dict[str, Any], counted: int):
    agree(single("AveragePool", X4, count_include_pad=counted, **attributes), normal(*X4))


def test_average_pool_with_asymmetric_pads():
    agree(single("AveragePool", X4, kernel_shape=[3, 3], pads=[0, 0, 1, 1]), normal(*X4))


def test_batch_norm():
    parameters = [normal(4), normal(4), normal(4), np.abs(normal(4))]
    agree(single("BatchNormalization", X4, *parameters, epsilon=1e-3), normal(*X4))
    agree(single("BatchNormalization", (3, 4), *parameters), normal(3, 4))


REST: list[tuple[str, list[np.ndarray | None], dict[str, Any]]] = [
    ("Relu", [], {}),
    ("Identity", [], {}),
    ("GlobalAveragePool", [], {}),
    ("Flatten", [], {}),
    ("Flatten", [], {"axis": 0}),
    ("Flatten", [], {"axis": 3}),
    ("Flatten", [], {"axis": -1}),
    ("Transpose", [], {}),
    ("Transpose", [], {"perm": [0, 3, 1, 2]}),
    ("Reshape", [np.array([0, -1, 4])], {}),
    ("Reshape", [np.array([2, 288])], {"allowzero": 1}),
    ("Clip", [np.float32(-0.5), np.float32(0.7)], {}),
    ("Clip", [None, np.float32(0.7)], {}),
    ("Clip", [np.float32(0.1)], {}),
    ("Min", [np.float32(0.3)], {}),
    ("Max", [np.float32(0.3)], {}),
    ("Sub", [normal(4, 1, 1)], {}),
    ("Dropout", [], {}),
    ("ReduceMean", [np.array([2, 3])], {}),
    ("ReduceMean", [np.array([-1])], {"keepdims": 0}),
    ("ReduceMean", [], {}),
    ("ReduceSum", [np.array([1, -1])], {"keepdims": 0}),
    ("ReduceMax", [np.array([1])], {}),
    ("ReduceMin", [np.array([1, 3])], {}),
    ("ReduceMin", [], {"keepdims": 0}),
    ("Add", [normal(*X4)], {}),
    ("Add", [normal(4, 1, 1)], {}),
    ("Concat", [normal(2, 3, 9, 8)], {"axis": 1}),
    ("Concat", [normal(2, 4, 9, 3)], {"axis": -1}),
]


@pytest.mark.parametrize(("op", "constants", "attributes"), REST)
def test_the_rest(op: str, constants: list[np.ndarray | None], attributes: dict[str, Any]):
    agree(single(op, X4, *constants, **attributes), normal(*X4))


I64 = np.int64
LEAST = np.iinfo(I64).min
MOVE_CASES: dict[str, list[tuple[list[np.ndarray], dict[str, Any]]]] = {
    "DepthToSpace": [([], {"blocksize": 2}), ([], {"blocksize": 2, "mode": "CRD"})],
    "Slice": [
        ([np.array([1]), np.array([3]), np.array([1])], {}),
        ([np.array([-3, 0]), np.array([99, -1]), np.array([2, -1]), np.array([2, 3])], {}),
        ([np.array([-1, 5]), np.array([LEAST, 1]), np.array([3, 2]), np.array([-1, -2])], {}),
        ([np.array([0, 1]), np.array([2, 3])], {}),
    ],
    "SpaceToDepth": [([], {"blocksize": 2})],
    "Squeeze": [([np.array([0])], {})],
    "Unsqueeze": [([np.array([1])], {}), ([np.array([-1, 0])], {})],
}


@pytest.mark.parametrize(("op", "case"), [(op, i) for op, cases in MOVE_CASES.items() for i in range(len(cases))])
def test_moves(op: str, case: int):
    constants, attributes = MOVE_CASES[op][case]
    x = normal(1, 8, 6, 8) if op != "Slice" else normal(*X4)
    ours, theirs = both(single(op, x.shape, *constants, **attributes), x)
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("index", "axis"), [(np.array([2, 0, -1]), 1), (np.array(1), 1), (np.array([[0, 1], [3, 2]]), 2)]
)
def test_gather(index: np.ndarray, axis: int):
    ours, theirs = both(single("Gather", X4, index, axis=axis), x := normal(*X4))
    assert np.array_equal(ours, theirs) and x.size


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate"])
def test_pad_is_torchs(mode: str):
    x, pads = normal(*X4), np.array([0, 0, 2, 0, 0, 0, 1, 3])
    value = [np.float32(-0.7)] if mode == "constant" else []
    proto = single("Pad", X4, pads, *value, mode={"replicate": "edge"}.get(mode, mode))
    expected = torch.nn.functional.pad(
        torch.from_numpy(x), (0, 3, 2, 1), mode=mode, **({"value": -0.7} if value else {})
    )
    assert torch.equal(evaluate(ir.from_proto(proto).graph, x, dtype=torch.float32)[0], expected)


def test_pad_of_channels_and_crop():
    x = normal(*X4)
    proto = single("Pad", X4, np.array([0, 2, -1, 0, 0, 1, 0, -3]), np.float32(0.5))
    expected = np.pad(x[:, :, 1:, :-3], ((0, 0), (2, 1), (0, 0), (0, 0)), constant_values=0.5)
    assert np.array_equal(evaluate(ir.from_proto(proto).graph, x)[0].numpy(), expected)


@pytest.mark.parametrize("scale", [(2, 2), (3, 1), (1.5, 2.5), (0.5, 0.75)])
def test_resize_is_torchs(scale: tuple[float, float]):
    x = normal(2, 3, 8, 12)
    scales = np.array([1, 1, *scale], np.float32)
    proto = single(
        "Resize",
        x.shape,
        None,
        scales,
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    expected = torch.nn.functional.interpolate(torch.from_numpy(x), scale_factor=scale)
    assert torch.equal(evaluate(ir.from_proto(proto).graph, x, dtype=torch.float32)[0], expected)


F = torch.nn.functional
FUNCTION_CASES: dict[str, list[tuple[Any, list[Any], dict[str, Any]]]] = {  # torch's function, constants, attributes
    "Abs": [(torch.abs, [], {})],
    "Celu": [(lambda x: F.celu(x, 0.5), [], {"alpha": 0.5})],
    "Cos": [(torch.cos, [], {})],
    "Div": [(lambda x: x / 3, [np.float32(3)], {})],
    "Elu": [(lambda x: F.elu(x, 0.5), [], {"alpha": 0.5})],
    "Erf": [(torch.erf, [], {})],
    "Exp": [(torch.exp, [], {})],
    "Gelu": [(F.gelu, [], {}), (lambda x: F.gelu(x, approximate="tanh"), [], {"approximate": "tanh"})],
    "HardSigmoid": [
        (lambda x: (0.25 * x + 0.75).clamp(0, 1), [], {"alpha": 0.25, "beta": 0.75}),
        (lambda x: (0.2 * x + 0.5).clamp(0, 1), [], {}),
    ],
    "HardSwish": [(F.hardswish, [], {})],
    "LeakyRelu": [(F.leaky_relu, [], {}), (torch.abs, [], {"alpha": -1.0})],
    "Log": [(lambda x: x.abs().log(), [], {})],
    "LogSoftmax": [(lambda x: F.log_softmax(x, 1), [], {"axis": 1})],
    "MatMul": [(lambda x: x @ torch.eye(8).double().flip(0), [np.eye(8, dtype=np.float32)[::-1]], {})],
    "Mish": [(F.mish, [], {})],
    "Mul": [(lambda x: x * 0.3, [np.float32(0.3)], {})],
    "Neg": [(torch.neg, [], {})],
    "PRelu": [
        (
            lambda x: F.prelu(x, torch.linspace(-1, 1, 4).double()),
            [np.linspace(-1, 1, 4, dtype=np.float32).reshape(4, 1, 1)],
            {},
        )
    ],
    "Pow": [(lambda x: x**3, [np.float32(3)], {})],
    "Reciprocal": [(torch.reciprocal, [], {})],
    "Selu": [(F.selu, [], {})],
    "Sigmoid": [(torch.sigmoid, [], {})],
    "Sin": [(torch.sin, [], {})],
    "Softmax": [(lambda x: F.softmax(x, 1), [], {"axis": 1}), (lambda x: F.softmax(x, -1), [], {})],
    "Softplus": [(F.softplus, [], {})],
    "Softsign": [(F.softsign, [], {})],
    "Sqrt": [(lambda x: x.abs().sqrt(), [], {})],
    "Sum": [(lambda x: x, [], {}), (lambda x: x + 3, [np.float32(3)], {})],
    "Tanh": [(torch.tanh, [], {})],
}


@pytest.mark.parametrize(("op", "case"), [(op, i) for op, cases in FUNCTION_CASES.items() for i in range(len(cases))])
def test_functions_are_torchs(op: str, case: int):
    """float64, against torch's function and, in float32, onnx's evaluator."""
    function, constants, attributes = FUNCTION_CASES[op][case]
    x = normal(*X4)
    x = np.abs(x) if op in ("Log", "Sqrt") else x
    proto = single(op, X4, *constants, **attributes)
    ours, theirs = both(proto, x)
    expected = function(torch.from_numpy(x).double()).numpy()
    assert np.abs(ours - expected).max() <= (1e-6 if constants else 1e-13) * max(1, np.abs(expected).max())
    assert np.abs(ours - theirs).max() <= 2e-6 * max(1.0, np.abs(expected).max())


def test_layer_normalization_is_torchs():
    x, weight, bias = normal(*X4), normal(4, 9, 8), normal(4, 9, 8)
    expected = F.layer_norm(
        *(torch.from_numpy(v).double() for v in (x,)),
        (4, 9, 8),
        *(torch.from_numpy(v).double() for v in (weight, bias)),
        2.0**-9,
    )
    ours = evaluate(ir.from_proto(single("LayerNormalization", X4, weight, bias, axis=-3, epsilon=2.0**-9)).graph, x)[0]
    assert (ours - expected).abs().max() < 1e-12


@pytest.mark.parametrize(("low", "high", "dtype"), [(0, 255, np.uint8), (-128, 127, np.int8)])
def test_quantize_and_dequantize(low: int, high: int, dtype: Any):
    scale, zero = np.float32(0.25), dtype(3)
    # every code and every tie
    x = np.concatenate([np.arange(low - 20, high + 20) * 0.25, np.arange(low, high) * 0.25 + 0.125]).astype(np.float32)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    ours, theirs = both(single("QuantizeLinear", x.shape, scale, zero, kind=kind), x)
    assert np.array_equal(ours, theirs)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    ours, theirs = both(model(nodes, {"s": scale, "z": zero}, x.shape), x)
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_dequantize_per_channel(axis: int):
    shape = (3, 4, 5)
    codes = RNG.integers(-128, 128, shape).astype(np.int8)
    scale, zero = np.abs(normal(shape[axis])), RNG.integers(-9, 9, shape[axis]).astype(np.int8)
    for zeros in ({"z": zero}, {}):
        nodes = [
            helper.make_node("DequantizeLinear", ["c", "s", *zeros], ["w"], axis=axis),
            helper.make_node("Add", ["w", "x"], ["y"]),
        ]
        agree(model(nodes, {"c": codes, "s": scale, **zeros}, shape), normal(*shape))


@pytest.mark.parametrize(("sizes", "parts"), [([1, 3], 2), (None, 2), (None, 4)])
def test_split(sizes: list[int] | None, parts: int):
    x = normal(*X4)
    names = [f"p{i}" for i in range(parts)]
    constants = {"sizes": np.array(sizes)} if sizes else {}
    nodes = [
        helper.make_node("Split", ["x", *constants], names, axis=1, **({} if sizes else {"num_outputs": parts})),
        helper.make_node("Concat", [*names[::-1]], ["y"], axis=1),
    ]
    agree(model(nodes, constants, X4), x)


def test_every_operator_is_tested():
    tested = (
        "AveragePool BatchNormalization Conv ConvTranspose DequantizeLinear Einsum Gemm MaxPool QuantizeLinear Gather "
        "LayerNormalization Pad Resize Split"
    )
    simple = (case[0] for case in REST)
    assert set(OPERATORS) == {*tested.split(), *simple, *FUNCTION_CASES, *MOVE_CASES}


def marker_model(inputs: list[str]) -> onnx.ModelProto:
    node = helper.make_node(
        MARKER, inputs, ["y"], "node", domain=MARKER_DOMAIN, qmin=-2, qmax=1, kind="activation", quantizer="a.input"
    )
    return model([node], {"s": np.float32(0.5), "b": np.float32(0.1)}, (7,))


def test_a_marker_is_e1():
    x = np.array([-9, -0.91, -0.16, -0.14, 0.34, 0.36, 9], np.float32)
    ours = evaluate(ir.from_proto(marker_model(["x", "s", "b"])).graph, x)[0].numpy()
    assert np.allclose(ours, [-0.9, -0.9, -0.4, 0.1, 0.1, 0.6, 0.6], rtol=0, atol=1e-7)
    # an edge without a grid passes through
    assert np.array_equal(evaluate(ir.from_proto(marker_model(["x"])).graph, x)[0].numpy(), x)


ANY: list[tuple[str, list[np.ndarray | None], dict[str, Any]]] = [
    ("Ceil", [], {}),
    ("ReduceMax", [np.array([1])], {"keepdims": 0}),
    ("CumSum", [np.array(1)], {}),
    ("Conv", [normal(3, 4, 2)], {}),
    ("InstanceNormalization", [normal(4), normal(4)], {}),
]


@pytest.mark.parametrize(("op", "constants", "attributes"), ANY, ids=[name for name, *_ in ANY])
def test_any_operator_of_onnx_runtime(op: str, constants: list[np.ndarray | None], attributes: dict[str, Any]):
    agree(single(op, (2, 4, 7), *constants, **attributes), normal(2, 4, 7))


def test_an_operator_that_nobody_has_is_refused_by_name():
    proto = model([helper.make_node("Sin", ["x"], ["y"], "node", domain="elsewhere")], {}, (3,))
    with pytest.raises(QuantizationError, match="the operator elsewhere::Sin"):
        evaluate(ir.from_proto(proto).graph, normal(3))


def test_on_value_sees_and_replaces():
    """x -> Relu a -> Identity b; a + b = y. What takes the place of `a` reaches both of its readers."""
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Identity", ["a"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    graph = ir.from_proto(model(nodes, {}, (3,))).graph
    seen: dict[str, torch.Tensor] = {}
    x = np.array([-1.0, 0.5, 2.0])
    assert evaluate(graph, x, on_value=lambda name, value: seen.update({name: value}))[0].tolist() == [0, 1, 4]
    assert {name: value.tolist() for name, value in seen.items()} == {
        "a": [0, 0.5, 2],
        "b": [0, 0.5, 2],
        "y": [0, 1, 4],
    }
    replaced = evaluate(
        graph, x, on_value=lambda name, value: torch.full_like(value, 3).float() if name == "a" else None
    )[0]
    assert replaced.tolist() == [6, 6, 6] and replaced.dtype == torch.float64
    assert evaluate(graph, x, on_value=lambda name, value: -value if name == "y" else None)[0].tolist() == [0, -1, -4]


def test_every_output_is_there_and_a_graph_input_may_be_one():
    nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Add", ["a", "x"], ["y"])]
    proto = model(nodes, {}, (2,))
    proto.graph.output.append(helper.make_tensor_value_info("a", 1, [2]))
    assert [y.tolist() for y in evaluate(ir.from_proto(proto).graph, np.array([-1.0, 2.0]))] == [[-1, 4], [0, 2]]


def test_portions_are_small_where_one_number_becomes_many() -> None:
    """A token of 64 becomes a row of a table; weights count for nothing."""
    x = torch.zeros(100, 64)
    for size, expected in ((1, 100), (2**16, VALUES // (64 * 2**16)), (2**23, 1)):
        graph = ir.from_proto(model([helper.make_node("Mul", ["x", "c"], ["wide"], "node")], {}, ("batch", 64))).graph  # type: ignore[arg-type]
        (wide,) = graph[0].outputs
        wide.shape = ir.Shape(["batch", 64, size])
        parts = portions_of(x, graph)
        assert len(parts[0]) == expected and sum(map(len, parts)) == 100
        wide.shape = ir.Shape([64, size])  # as of what is made of constants alone
        assert len(portions_of(x, graph)) == 1
    images = torch.zeros(PORTION // (3 * 32**2) + 1, 3, 32, 32)
    assert [len(part) for part in portions_of(images, graph)] == [98, 1]
