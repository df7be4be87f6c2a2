"""qoperator: the folded QDQ graph becomes integer operators, one for one.

Conv(DQ(x), DQ(w), DQ(b)) -> Q                  =>  QLinearConv
Gemm(DQ(x), DQ(w), DQ(b)) -> Q                  =>  com.microsoft::QGemm
Gemm(DQ(x), DQ(w), DQ(b)) -> output             =>  MatMulInteger, Add (int32), DequantizeLinear(int32; S·s_w): the accumulator, without a loss
Add | Mul | Concat | Sigmoid | AveragePool | GlobalAveragePool  =>  com.microsoft::QLinear…
DQ(q; s, 1) -> Q(s/k, o + k)                    =>  com.microsoft::QLinearAdd(q, the code of zero): c = k·q + o, saturated (E5);
                                                    a look-up, QLinearLeakyRelu(alpha = 1), gives the same and takes
                                                    four times as long
MatMul(DQ(x), DQ(y)) -> Q                       =>  QLinearMatMul
LeakyRelu(DQ(x)) -> Q                           =>  com.microsoft::QLinearLeakyRelu
MaxPool | Reshape | Pad | Resize | …            =>  the same on the codes
Gelu | Erf | … (islands.py)                     stay float between DequantizeLinear and QuantizeLinear
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from calib.errors import QuantizationError
from calib.folding.containers import CONTAINER_MAX
from lsq_export.graph.build import attribute, clean, constant, constant_of, copy, insert, is_op, replace
from lsq_export.graph.islands import is_island
from lsq_export.rewrite.folding.pads import is_constant_pad, pad_code
from lsq_export.rewrite.folding.weights import layer_of
from lsq_export.rewrite.normalizing.normalize import CODE_PRESERVING

from .tile_gates import tile_gates
from .widen_stem import widen_stem

CONTRIB = "com.microsoft"


def to_qoperator(folded: ir.Model) -> ir.Model:
    """A new model with integer operators between the input's QuantizeLinear and the outputs' DequantizeLinear."""
    model = copy(folded)
    graph = model.graph
    for node in list(graph):
        if is_op(node, "QuantizeLinear"):
            _fuse(graph, node)
    for output in list(graph.outputs):
        producer = output.producer()
        if producer is not None and is_op(producer, "Gemm"):
            _accumulator_output(graph, producer)
    widen_stem(graph)
    tile_gates(graph)
    clean(model)
    graph.opset_imports[CONTRIB] = 1
    _check_integer(graph)
    return model


def _fuse(graph: ir.Graph, quantize: ir.Node) -> None:
    """Everything between the DequantizeLinears and this QuantizeLinear becomes one integer operator."""
    x = quantize.inputs[0]
    node = x.producer() if x is not None else None
    if node is None:
        return  # the graph input stays float
    if is_island(node):
        return
    if is_op(node, "DequantizeLinear"):
        codes = _spread(node, quantize)
    elif is_op(node, *CODE_PRESERVING):
        codes = _on_codes(node, quantize)
    elif node.op_type in FUSIONS and node.domain == "":
        codes = FUSIONS[node.op_type](node, quantize)
    else:
        raise QuantizationError(f"{node.name}: the operator {node.op_type} has no integer kernel")
    _take_over(quantize, codes)


def _take_over(quantize: ir.Node, codes: ir.Value) -> None:
    old = quantize.outputs[0]
    name = old.name
    replace(old, codes)
    old.name, codes.name = f"{name}_unused", name  # every tensor of codes keeps the name it has in the folded graph


def source(value: ir.Value | None) -> tuple[ir.Value, ir.Value, ir.Value]:
    """(codes, scale, zero point) of a dequantized value."""
    node = value.producer() if value is not None else None
    if node is None or not is_op(node, "DequantizeLinear"):
        raise QuantizationError(f"{value.name if value else '?'}: this value is not on a grid")
    codes, scale, zero_point = node.inputs[:3]
    assert codes is not None and scale is not None and zero_point is not None
    return codes, scale, zero_point


def _target(quantize: ir.Node) -> tuple[ir.Value, ir.Value]:
    _, scale, zero_point = quantize.inputs
    assert scale is not None and zero_point is not None
    return scale, zero_point


def _emit(
    node: ir.Node,
    quantize: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    domain: str = CONTRIB,
    **attributes: object,
) -> ir.Value:
    value = insert(
        quantize,
        op_type,
        inputs,
        f"{quantize.outputs[0].name}_codes",
        domain=domain,
        shape=node.outputs[0].shape,
        **attributes,
    )
    made = value.producer()
    assert made is not None
    made.name = node.name
    return value


def _bias_codes(node: ir.Node) -> ir.Value:
    bias = node.inputs[2].producer() if len(node.inputs) > 2 and node.inputs[2] is not None else None
    assert bias is not None and bias.inputs[0] is not None
    return bias.inputs[0]


def _conv(node: ir.Node, quantize: ir.Node) -> ir.Value:
    inputs = [*source(node.inputs[0]), *source(node.inputs[1]), *_target(quantize), _bias_codes(node)]
    names = ("dilations", "group", "kernel_shape", "pads", "strides")
    attributes = {name: attribute(node, name) for name in names if attribute(node, name) is not None}
    return _emit(node, quantize, "QLinearConv", inputs, "", **attributes)


def _gemm(node: ir.Node, quantize: ir.Node) -> ir.Value:
    inputs = [*source(node.inputs[0]), *source(node.inputs[1]), _bias_codes(node), *_target(quantize)]
    return _emit(node, quantize, "QGemm", inputs, alpha=1.0, transA=0, transB=1)


def _elementwise(node: ir.Node, quantize: ir.Node) -> ir.Value:
    return _emit(
        node, quantize, f"QLinear{node.op_type}", [*(v for x in node.inputs for v in source(x)), *_target(quantize)]
    )


def _leaky_relu(node: ir.Node, quantize: ir.Node) -> ir.Value:
    return _emit(
        node,
        quantize,
        "QLinearLeakyRelu",
        [*source(node.inputs[0]), *_target(quantize)],
        alpha=attribute(node, "alpha", 0.01),
    )


def _matmul(node: ir.Node, quantize: ir.Node) -> ir.Value:
    depth = node.inputs[0].shape[-1] if node.inputs[0] is not None and node.inputs[0].shape is not None else None
    if not isinstance(depth, int) or depth * CONTAINER_MAX**2 >= 2**31:
        raise QuantizationError(
            f"{node.name}: a product of activations sums {depth} of them; a fixed number below "
            f"{2**31 // CONTAINER_MAX**2} fits int32"
        )
    return _emit(
        node, quantize, "QLinearMatMul", [*(v for x in node.inputs for v in source(x)), *_target(quantize)], ""
    )


def _concat(node: ir.Node, quantize: ir.Node) -> ir.Value:
    inputs = [v for part in node.inputs for v in source(part)]
    return _emit(node, quantize, "QLinearConcat", [*_target(quantize), *inputs], axis=attribute(node, "axis"))


def _global_average(node: ir.Node, quantize: ir.Node) -> ir.Value:
    return _emit(
        node, quantize, "QLinearGlobalAveragePool", [*source(node.inputs[0]), *_target(quantize)], channels_last=0
    )


def _average(node: ir.Node, quantize: ir.Node) -> ir.Value:
    names = ("ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides")
    attributes = {name: attribute(node, name) for name in names if attribute(node, name) is not None}
    return _emit(
        node,
        quantize,
        "QLinearAveragePool",
        [*source(node.inputs[0]), *_target(quantize)],
        channels_last=0,
        **attributes,
    )


def _spread(dequantize: ir.Node, quantize: ir.Node) -> ir.Value:
    codes, scale, zero_point = source(dequantize.outputs[0])
    return _emit(
        quantize, quantize, "QLinearAdd", [codes, scale, zero_point, zero_point, scale, zero_point, *_target(quantize)]
    )  # + real zero


def _on_codes(node: ir.Node, quantize: ir.Node) -> ir.Value:
    codes, scale, zero_point = source(node.inputs[0])
    for mine, theirs in zip((scale, zero_point), _target(quantize), strict=True):
        if not np.array_equal(constant_of(mine, str(node.name)), constant_of(theirs, str(node.name))):
            raise QuantizationError(
                f"{node.name}: {node.op_type} keeps codes, but its input and output have different grids"
            )
    attributes = {name: a.value for name, a in node.attributes.items()}
    others = list(node.inputs[1:])
    if is_constant_pad(node):
        grid = (constant_of(v, str(node.name)).item() for v in (scale, zero_point))
        assert isinstance(node.graph, ir.Graph)
        others[1] = constant(node.graph, f"{quantize.outputs[0].name}.pad", pad_code(node, *grid))
    return _emit(node, quantize, node.op_type, [codes, *others], "", **attributes)


FUSIONS: dict[str, Callable[[ir.Node, ir.Node], ir.Value]] = {
    "Conv": _conv,
    "Gemm": _gemm,
    "Add": _elementwise,
    "Mul": _elementwise,
    "Sigmoid": _elementwise,
    "Concat": _concat,
    "LeakyRelu": _leaky_relu,
    "MatMul": _matmul,
    "GlobalAveragePool": _global_average,
    "AveragePool": _average,
}


def _accumulator_output(graph: ir.Graph, node: ir.Node) -> None:
    """acc = Σ (x - Z)(w - Z_w) + b in int32; the output is acc · S·s_w in one float multiplication per element."""
    layer = layer_of(node)
    codes, _, zero_point = source(node.inputs[0])
    weight, _, weight_zero = source(node.inputs[1])
    bias = node.inputs[2].producer() if node.inputs[2] is not None else None
    assert bias is not None
    by_column = constant(graph, f"{layer}.weight.columns", constant_of(weight, layer).T)  # [C_in, C_out]
    zeros = constant_of(weight_zero, layer).reshape(-1)  # [C_out]; 127 beside 128 where a batch norm flipped signs (E8)
    column_zeros = constant(graph, f"{layer}.weight.zero_point", zeros[0] if (zeros == zeros[0]).all() else zeros)
    product = insert(
        node,
        "MatMulInteger",
        [codes, by_column, zero_point, column_zeros],
        f"{layer}.product",
        shape=node.outputs[0].shape,
    )
    accumulator = insert(node, "Add", [product, bias.inputs[0]], f"{layer}.accumulator", shape=node.outputs[0].shape)
    output = node.outputs[0]
    value = insert(
        node, "DequantizeLinear", [accumulator, bias.inputs[1]], f"{output.name}_values", shape=output.shape, axis=1
    )
    value.type, name = output.type, output.name
    replace(output, value)
    output.name, value.name = f"{name}_unused", name


def _check_integer(graph: ir.Graph) -> None:
    """A rewrite that should have fired and did not is an error that says where."""
    outputs, inputs = set(graph.outputs), set(graph.inputs)
    for node in graph:
        x = node.inputs[0] if node.inputs else None
        if is_op(node, "QuantizeLinear") and x is not None and (x in inputs or is_island(x.producer())):
            continue
        if is_op(node, "DequantizeLinear") and (
            node.outputs[0] in outputs or all(map(is_island, node.outputs[0].consumers()))
        ):
            continue
        if is_op(
            node,
            "QuantizeLinear",
            "DequantizeLinear",
            "Conv",
            "Gemm",
            "Mul",
            "MatMul",
            "Sigmoid",
            "Tanh",
            "AveragePool",
            "GlobalAveragePool",
        ):
            raise QuantizationError(
                f"{node.name}: a float {node.op_type} is left in the integer graph; please report this model"
            )
