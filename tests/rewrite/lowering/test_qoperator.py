"""qoperator: integer operators one for one; the same codes, with no float arithmetic left between input and output."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from calib import QuantizationError
from lsq_export import integer
from lsq_export.graph.edit import constant, copy, insert
from lsq_export.graph.evaluate import evaluate
from lsq_export.graph.read import array_of
from lsq_export.rewrite.emit import serialize
from lsq_export.rewrite.lowering.qoperator import to_qoperator
from support import networks
from support.networks import before, find, folded, inputs, set_constant

TIES = 1e-5  # promise 2


def codes_of(model: ir.Model, x: np.ndarray) -> dict[str, np.ndarray]:
    """Every tensor of the integer graph, by name."""
    return integer.run(serialize(model, 17, "test"), {model.graph.inputs[0].name: x})


def disagreements(model: ir.Model, reference: ir.Model) -> tuple[int, int]:
    """(elements, differing codes) of all tensors of codes:

    the folded graph in float64 is given the integer graph's codes for each layer.
    """
    x = inputs(8, 2, spread=3.0)
    found = codes_of(model, x.numpy())
    counts = [0, 0]

    def compare(name: str, value):
        if name not in found or found[name].dtype == np.float32:
            return None
        counts[0] += value.numel()
        counts[1] += int((value.numpy() != found[name]).sum())
        return value.new_tensor(found[name])

    evaluate(reference.graph, x, on_value=compare)
    return counts[0], counts[1]


@pytest.mark.parametrize(
    "name", ["chain", "residual3", "concat", "pools", "uncounted", "perceptron8", "unflatten", "negative8"]
)
def test_codes_are_those_of_the_folded_graph(name: str):
    reference = folded(name).model
    count, differing = disagreements(to_qoperator(reference), reference)
    assert count > 500 and differing <= max(1, TIES * count)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("chain", {"QLinearConv": 2, "QLinearAdd": 1, "MaxPool": 1, "Reshape": 1, "MatMulInteger": 1, "Add": 1}),
        ("residual3", {"QLinearAdd": 7, "QLinearGlobalAveragePool": 1}),
        ("concat", {"QLinearConcat": 2}),
        ("uncounted", {"QLinearAveragePool": 1}),
        ("perceptron8", {"QGemm": 2, "MatMulInteger": 1}),
    ],
)
def test_every_operator_has_its_integer_form(name: str, expected: dict[str, int]):
    was = folded(name).model
    before_it = ir.to_proto(was).SerializeToString(deterministic=True)
    model = to_qoperator(was)
    assert ir.to_proto(was).SerializeToString(deterministic=True) == before_it  # its input stays
    found = networks.operators(model)
    for op, count in expected.items():
        assert found.count(op) == count or (name == "residual3" and op == "QLinearAdd" and found.count(op) >= 2)
    assert found.count("QuantizeLinear") == found.count("DequantizeLinear") == 1
    assert not {"Conv", "Gemm", "AveragePool", "GlobalAveragePool", "Concat"} & set(found)
    assert [v.name for v in model.graph.outputs] == [v.name for v in was.graph.outputs]


def test_tensors_of_codes_keep_their_names():
    was, now = folded("residual3").model, to_qoperator(folded("residual3").model)
    names = {node.outputs[0].name for node in find(was, "QuantizeLinear", "Clip")}
    assert names <= {node.outputs[0].name for node in now.graph}
    layers = {node.name for node in find(was, "Conv")}
    assert layers == {node.name for node in find(now, "QLinearConv")}


def test_the_accumulator_is_the_output_without_a_loss():
    reference = folded("chain").model
    x = inputs(8, 2, spread=3.0)
    model = to_qoperator(reference)
    found = codes_of(model, x.numpy())
    last = next(node for node in model.graph if node.op_type == "DequantizeLinear")
    scale = array_of(last.inputs[1])
    accumulator = found[str(last.inputs[0].name)]
    assert accumulator.dtype == np.int32 and np.array_equal(found["output"], accumulator.astype(np.float32) * scale)


def test_columns_with_flipped_signs_keep_zero_points_of_their_own():
    """E8 at 8 bits: a channel with γ < 0 has the codes -127 … 128, so that one zero point for all columns is wrong."""
    model = to_qoperator(folded("perceptron8").model)
    (product,) = find(model, "MatMulInteger")
    assert set(np.atleast_1d(array_of(product.inputs[3]))) <= {127, 128}
    changed = copy(folded("perceptron8").model)
    weights = next(n for n in find(changed, "DequantizeLinear") if n.outputs[0].name == "7.weight.values")
    zeros = array_of(weights.inputs[2]).copy()
    zeros[0] = 255 - zeros[0]  # 127 <-> 128
    set_constant(weights.inputs[2], zeros)
    (product,) = find(to_qoperator(changed), "MatMulInteger")
    assert np.array_equal(array_of(product.inputs[3]), zeros) and zeros.shape == (6,)


@pytest.mark.parametrize("what", ["scale", "zero point", "bias"])
def test_sabotage_shows(what: str):
    reference = folded("chain").model
    model = to_qoperator(reference)
    conv = find(model, "QLinearConv")[1]
    index = {"scale": 6, "zero point": 2, "bias": 8}[what]
    change = {"scale": lambda v: v * 2, "zero point": lambda v: v + 1, "bias": lambda v: v + 5_000}[what]
    set_constant(conv.inputs[index], change(array_of(conv.inputs[index])))
    assert disagreements(model, reference)[1] > 20


def test_an_operator_without_an_integer_kernel_is_refused():
    model = before("two_readers", "qoperator")
    quantize = find(model, "QuantizeLinear")[-1]
    quantize.replace_input_with(0, insert(quantize, "Relu", [quantize.inputs[0]], "float_relu"))
    with pytest.raises(QuantizationError, match="float_relu: the operator Relu has no integer kernel"):
        to_qoperator(model)


def test_codes_kept_between_two_grids_are_refused():
    model = before("chain", "qoperator")
    (pool,) = find(model, "MaxPool")
    (quantize,) = pool.outputs[0].consumers()
    quantize.replace_input_with(1, constant(model.graph, "other", np.float32(0.123)))
    with pytest.raises(QuantizationError, match="MaxPool keeps codes, but its input and output have different grids"):
        to_qoperator(model)


def test_a_value_that_is_on_no_grid_is_refused():
    model = before("chain", "qoperator")
    conv = find(model, "Conv")[0]
    conv.replace_input_with(0, model.graph.inputs[0])
    with pytest.raises(QuantizationError, match="input: this value is not on a grid"):
        to_qoperator(model)


def test_a_float_operator_that_is_left_is_an_error():
    model = before("chain", "qoperator")
    gemm = find(model, "Gemm")[0]
    insert(gemm, "AveragePool", [find(model, "Conv")[0].inputs[0]], "left", kernel_shape=[2, 2])
    model.graph.outputs.append(next(node for node in model.graph if node.op_type == "AveragePool").outputs[0])
    with pytest.raises(
        QuantizationError,
        match=r"a float (DequantizeLinear|AveragePool) is left in the integer graph; please report this model",
    ):
        to_qoperator(model)


def test_the_file_is_valid():
    onnx.checker.check_model(serialize(to_qoperator(folded("residual3").model), 17, "test"), full_check=True)
