"""qoperator: the folded QDQ graph becomes integer operators, one for one.

    Conv(DQ(x), DQ(w), DQ(b)) -> Q         =>  QLinearConv
    Gemm(DQ(x), DQ(w), DQ(b)) -> Q         =>  QGemm
    Gemm(DQ(x), DQ(w), DQ(b)) -> output    =>  MatMulInteger, Add (int32), DequantizeLinear(int32; S·s_w)
    Gemm(DQ(x), DQ(w), DQ(b)) -> island    =>  the same: norms, and sums before them, read accumulators
    Add | Mul | Concat | Sigmoid | … -> Q  =>  QLinearAdd, … : the integer form of each in graph/operators.py
    DQ(q; s, 1) -> Q(s/k, o + k)           =>  QLinearAdd(q, the code of zero): c = k·q + o, saturated (E5)
    MaxPool | Reshape | Pad | Resize | …   =>  the same on the codes
    Gelu | Erf | … (islands)               stay float between DequantizeLinear and QuantizeLinear

Spreading (E5) by a look-up, QLinearLeakyRelu(alpha = 1), gives the same and takes four times as long.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from calib.errors import QuantizationError
from calib.folding.containers import CONTAINER_MAX
from lsq_export.graph.edit import clean, constant, copy, insert, make, replace
from lsq_export.graph.grids import dequantized
from lsq_export.graph.islands import is_island
from lsq_export.graph.kept_float import is_tail, stays_float
from lsq_export.graph.layers import layer_of
from lsq_export.graph.operators import CONTRIB, MOVES, OPERATORS, IntegerForm, Kind, named
from lsq_export.graph.read import attribute, constant_of, graph_of, input_of, is_op, maker_of, producer_of
from lsq_export.rewrite.folding.pads import is_constant_pad, pad_code

from .tile_gates import tile_gates
from .widen_stem import widen_stem

OPERANDS = {"Conv": 2, "Gemm": 2}  # of the others all inputs are operands
# Add is not among these: the sum of an accumulator and its bias, on int32, is an Add as well.
FLOAT_FORMS = tuple(name for name in named(Kind.GRID, Kind.LAYER, Kind.ARITHMETIC) if name != "Add")


def to_qoperator(folded: ir.Model, *, tiled: bool = True) -> ir.Model:
    """A new model with integer operators between the input's QuantizeLinear and the outputs' DequantizeLinear.

    tiled: copy gates to all pixels (`tile_gates`), as kernels want it in [N, C, H, W].
    """
    model = copy(folded)
    graph = model.graph
    for node in list(graph):
        if is_op(node, "QuantizeLinear"):
            _fuse(node)
    for node in list(graph):
        if is_op(node, "Gemm") and _gives_float(node):
            _accumulator_output(graph, node)
    widen_stem(graph)
    if tiled:
        tile_gates(graph)
    clean(model)
    graph.opset_imports[CONTRIB] = 1
    _check_integer(graph)
    return model


def _fuse(quantize: ir.Node) -> None:
    """Everything between the DequantizeLinears and this QuantizeLinear becomes one integer operator."""
    node = producer_of(quantize.inputs[0])
    if node is None or is_island(node):
        return  # the graph input, and what islands make, are float
    row = OPERATORS.get(node.op_type) if node.domain == "" else None
    if is_op(node, "DequantizeLinear"):
        codes = _spread(node, quantize)
    elif is_op(node, *MOVES):
        codes = _on_codes(node, quantize)
    elif row is not None and row.integer is not None:
        codes = _as_integer(node, quantize, row.integer)
    else:
        raise QuantizationError(f"{node.name}: the operator {node.op_type} has no integer kernel")
    old = quantize.outputs[0]
    name = old.name
    replace(old, codes)
    old.name, codes.name = f"{name}_unused", name  # every tensor of codes keeps the name it has in the folded graph


def _result(quantize: ir.Node) -> list[ir.Value]:
    """Scale and zero point of the codes."""
    return [input_of(quantize, 1), input_of(quantize, 2)]


def _insert(
    node: ir.Node, quantize: ir.Node, op_type: str, inputs: list[ir.Value | None], domain: str, **attributes: object
) -> ir.Value:
    name, shape = f"{quantize.outputs[0].name}_codes", node.outputs[0].shape
    value = insert(quantize, op_type, inputs, name, domain=domain, shape=shape, **attributes)
    maker_of(value).name = node.name
    return value


def _as_integer(node: ir.Node, quantize: ir.Node, form: IntegerForm) -> ir.Value:
    """The integer form of an operator, with its inputs in the order that the form says."""
    if node.op_type == "MatMul":
        _check_depth(node)
    operands = node.inputs[: OPERANDS.get(node.op_type, len(node.inputs))]
    groups: dict[str, list[ir.Value | None]] = {
        "operands": [v for x in operands for v in dequantized(x)],
        "result": [*_result(quantize)],
        "bias": [_bias_codes(node)] if "bias" in form.inputs else [],
    }
    inputs = [value for group in form.inputs for value in groups[group]]
    copied = {name: attribute(node, name) for name in form.copied if attribute(node, name) is not None}
    return _insert(node, quantize, form.op_type, inputs, form.domain, **{**form.fixed, **copied})


def _bias_codes(node: ir.Node) -> ir.Value:
    return input_of(maker_of(node.inputs[2]))


def _check_depth(node: ir.Node) -> None:
    shape = input_of(node).shape
    depth = shape[-1] if shape is not None else None
    if not isinstance(depth, int) or depth * CONTAINER_MAX**2 >= 2**31:
        most = 2**31 // CONTAINER_MAX**2
        raise QuantizationError(
            f"{node.name}: a product of activations sums {depth} of them; a fixed number below {most} fits int32"
        )


def _spread(dequantize: ir.Node, quantize: ir.Node) -> ir.Value:
    """c = k·q + o: the sum with real zero."""
    codes, scale, zero_point = dequantized(dequantize.outputs[0])
    inputs: list[ir.Value | None] = [codes, scale, zero_point, zero_point, scale, zero_point, *_result(quantize)]
    return _insert(quantize, quantize, "QLinearAdd", inputs, CONTRIB)


def _on_codes(node: ir.Node, quantize: ir.Node) -> ir.Value:
    codes, *grid = dequantized(node.inputs[0])
    for before, after in zip(grid, _result(quantize), strict=True):
        if not np.array_equal(constant_of(before, str(node.name)), constant_of(after, str(node.name))):
            raise QuantizationError(
                f"{node.name}: {node.op_type} keeps codes, but its input and output have different grids"
            )
    attributes = {name: a.value for name, a in node.attributes.items()}
    others = list(node.inputs[1:])
    if is_constant_pad(node):
        scale, zero_point = (constant_of(v, str(node.name)).item() for v in grid)
        code = pad_code(node, scale, zero_point)
        others[1] = constant(graph_of(node), f"{quantize.outputs[0].name}.pad", code)
    return _insert(node, quantize, node.op_type, [codes, *others], "", **attributes)


def _gives_float(gemm: ir.Node) -> bool:
    """Its accumulator is an output, or what a tail or an island reads."""
    y = gemm.outputs[0]
    if y.is_graph_output() or any(map(is_tail, y.consumers())):
        return True
    return not stays_float(gemm) and any(map(is_island, y.consumers()))


RESHAPES = ("Flatten", "Reshape", "Squeeze", "Unsqueeze")


def _accumulator_output(graph: ir.Graph, node: ir.Node) -> None:
    """acc = Σ (x - Z)(w - Z_w) + b in int32; the output is acc · S·s_w in one float multiplication per element."""
    layer, output = layer_of(node), node.outputs[0]
    codes, _, zero_point = dequantized(node.inputs[0])
    weight, _, weight_zero = dequantized(node.inputs[1])
    bias = maker_of(node.inputs[2])
    by_column = constant(graph, f"{layer}.weight.columns", constant_of(weight, layer).T)  # [C_in, C_out]
    zeros = constant_of(weight_zero, layer).reshape(-1)  # [C_out]; 127 beside 128 where a batch norm flipped signs (E8)
    stored_zeros = zeros[0] if (zeros == zeros[0]).all() else zeros
    column_zeros = constant(graph, f"{layer}.weight.zero_point", stored_zeros)
    operands = [codes, by_column, zero_point, column_zeros]
    product = insert(node, "MatMulInteger", operands, f"{layer}.product", shape=output.shape)
    accumulator = insert(node, "Add", [product, bias.inputs[0]], f"{layer}.accumulator", shape=output.shape)
    unit = bias.inputs[1]
    value = insert(node, "DequantizeLinear", [accumulator, unit], f"{output.name}_values", shape=output.shape, axis=1)
    value.type, name = output.type, output.name
    replace(output, value)
    output.name, value.name = f"{name}_unused", name
    if constant_of(unit, layer).size == 1:
        _move_first(graph, maker_of(value))


def _move_first(graph: ir.Graph, dequantize: ir.Node) -> None:
    """Reshape(DequantizeLinear(acc))  =>  DequantizeLinear(Reshape(acc)), and the like.

    ONNX Runtime 1.32 puts codes of 8 bits between the two at its default level, which saturate int32 accumulators.
    """
    values = dequantize.outputs[0]
    while not values.is_graph_output() and len(values.uses()) == 1:
        reader = next(iter(values.consumers()))
        if reader.domain or reader.op_type not in RESHAPES:
            return
        accumulator, moved = dequantize.inputs[0], reader.outputs[0]
        reader.replace_input_with(0, accumulator)
        again = make("DequantizeLinear", [moved, dequantize.inputs[1]], f"{moved.name}_values", shape=moved.shape)
        graph.insert_after(reader, again)
        values, kind, name = again.outputs[0], moved.type, moved.name
        for user, index in [(use.node, use.idx) for use in moved.uses() if use.node is not again]:
            user.replace_input_with(index, values)
        for index, output in enumerate(graph.outputs):
            if output is moved:
                graph.outputs[index] = values
        moved.name, values.name = f"{name}_accumulator", name
        moved.type, values.type = accumulator.type if accumulator is not None else None, kind
        graph.remove(dequantize, safe=True)
        dequantize = again


def _check_integer(graph: ir.Graph) -> None:
    """A rewrite that should have fired and did not is an error that says where."""
    outputs, inputs = set(graph.outputs), set(graph.inputs)
    for node in graph:
        x = node.inputs[0] if node.inputs else None
        if is_op(node, "QuantizeLinear") and x is not None and (x in inputs or is_island(x.producer())):
            continue
        readers = node.outputs[0].consumers()
        if is_op(node, "DequantizeLinear") and (node.outputs[0] in outputs or all(map(is_island, readers))):
            continue
        if is_op(node, *FLOAT_FORMS):
            raise QuantizationError(
                f"{node.name}: a float {node.op_type} is left in the integer graph; please report this model"
            )
