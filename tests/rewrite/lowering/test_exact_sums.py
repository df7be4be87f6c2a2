"""exact_sums and round_first: a receiver that computes in floats has the integers, in whatever order it sums."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator
from torch import nn

from lsq_export import integer, lint, targets
from lsq_export.graph.edit import constant, copy
from lsq_export.graph.read import is_op, producer_of
from lsq_export.rewrite.emit import emit
from lsq_export.rewrite.lowering.dialects import in_dialect
from lsq_export.rewrite.lowering.exact_sums import EXACT, exact_sums
from support.networks import EIGHT, Case, folded, inputs

GATED = Case(lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.SiLU(), nn.Conv2d(8, 4, 1)), EIGHT)
LAYERS = ("Conv", "Gemm", "MatMul")


def with_sums(file: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """The file with what its layers make as further outputs, and their names."""
    wider = onnx.ModelProto()
    wider.CopyFrom(file)
    names = [node.output[0] for node in file.graph.node if node.op_type in LAYERS]
    wider.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    return wider, names


@pytest.mark.parametrize("network", ["residual", "chain", "geometry"])
def test_layers_sum_whole_numbers(network: str) -> None:
    """So no order of sums changes them; in a plain file they are products of scales."""
    made, x = folded(network), inputs(3, 5, spread=3.0).numpy()
    for name, whole in (("onnx-standard", True), ("web", False)):
        file, names = with_sums(emit(made.model, "qdq", targets.get(name)))
        file.opset_import[0].version = 21
        sums = ReferenceEvaluator(file).run(names, {"input": x})
        assert names and all(np.array_equal(y, np.rint(y)) for y in sums) == whole


@pytest.mark.parametrize("network", ["residual", "chain", "pools", "geometry"])
def test_an_evaluator_that_knows_no_integers_has_the_integers(network: str) -> None:
    """onnx's own, in numpy: all codes and outputs of the integer reference."""
    made, x = folded(network), inputs(6, 5, spread=3.0).numpy()
    expected = integer.run(emit(made.model, "qoperator", targets.get("ort-cpu")), {"input": x})
    file = emit(made.model, "qdq", targets.get("onnx-standard"))
    codes = [n.output[0] for n in file.graph.node if n.op_type == "QuantizeLinear" and n.output[0] in expected]
    names = [*codes, *(value.name for value in file.graph.output)]
    file.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in codes)
    for name, found in zip(names, ReferenceEvaluator(file).run(names, {"input": x}), strict=True):
        np.testing.assert_array_equal(found, expected[name], err_msg=name)


def test_a_layer_whose_bias_has_too_many_bits_stays() -> None:
    model = in_dialect(copy(folded("chain").model), ())
    layers = [node for node in model.graph if is_op(node, *LAYERS)]
    bias = producer_of(layers[0].inputs[2])
    assert bias is not None and bias.inputs[0] is not None
    codes = bias.inputs[0].const_value.numpy().copy()  # type: ignore[union-attr]
    codes[0] = EXACT + 1
    bias.replace_input_with(0, constant(model.graph, "large", codes))
    exact_sums(model)
    assert is_op(producer_of(layers[0].inputs[2]), "DequantizeLinear")
    assert all(producer_of(node.inputs[2]) is None for node in layers[1:])


def test_opencv_rounds_before_it_adds_the_zero_point() -> None:
    file = emit(folded("residual").model, "qdq", targets.get("opencv"))
    made = {node.output[0]: node for node in file.graph.node}
    grids = [n for n in file.graph.node if n.op_type == "QuantizeLinear" and ".one" in n.input[1]]
    assert grids and all(made[n.input[0]].op_type == "Round" for n in grids)


def test_opencv_fuses_no_sigmoid_with_a_layer() -> None:
    """Which it computes with the wrong zero point: a plain file breaks the rule, one for OpenCV does not."""
    made = folded(GATED).model
    plain, written = (emit(made, "qdq", targets.get(name)) for name in ("ort-cpu", "opencv"))
    assert "sigmoid-zero-points" in {found.rule for found in lint(plain, "opencv").findings}
    assert lint(written, "opencv").ok
