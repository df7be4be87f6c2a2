"""float16 and bfloat16 files: the float32 network of the same numbers, said in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from calib.errors import QuantizationWarning
from lsq_export import adopt, calibrate
from lsq_export.adoption.network import read_quantized
from lsq_export.adoption.reading import read_network
from lsq_export.graph.evaluate import evaluate
from support.adopted import SAMPLES, inputs

SAID = r"computes in float16 or bfloat16: it is read as float32"
FLOAT = SAMPLES / "aimet-torch" / "encodings.onnx"


def _halved(file: Path, out: Path, kind: int = TensorProto.FLOAT16, *, casts: bool = False) -> onnx.ModelProto:
    """The file with all floats in float16 or bfloat16, saved at `out`; casts: but the input and the output."""
    model = onnx.load(file)
    for tensor in (*model.graph.initializer, *(a.t for node in model.graph.node for a in node.attribute)):
        if tensor.data_type == TensorProto.FLOAT:
            array, shape = numpy_helper.to_array(tensor), list(tensor.dims)
            tensor.CopyFrom(helper.make_tensor(tensor.name, kind, shape, array.flatten()))
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = kind
    if casts:
        _with_casts(model.graph, kind)
    onnx.save(model, out)
    return model


def _with_casts(graph: onnx.GraphProto, kind: int) -> None:
    given, made = graph.input[0], graph.output[0]
    for node in graph.node:
        node.input[:] = ["half_in" if name == given.name else name for name in node.input]
        node.output[:] = ["half_out" if name == made.name else name for name in node.output]
    graph.node.insert(0, helper.make_node("Cast", [given.name], ["half_in"], to=kind))
    graph.node.append(helper.make_node("Cast", ["half_out"], [made.name], to=TensorProto.FLOAT))
    given.type.tensor_type.elem_type = made.type.tensor_type.elem_type = TensorProto.FLOAT


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
@pytest.mark.parametrize("casts", [False, True])
def test_the_network_is_that_of_the_same_numbers_in_float32(kind: int, casts: bool, tmp_path: Path) -> None:
    halved = _halved(FLOAT, tmp_path / "half.onnx", kind, casts=casts)
    with pytest.warns(QuantizationWarning, match=SAID):
        model = read_network(tmp_path / "half.onnx")
    operators = [node.op_type for node in model.graph if node.op_type != "Identity"]
    assert operators == [node.op_type for node in onnx.load(FLOAT).graph.node]
    wanted = {t.name: ir.from_proto(t).numpy().astype(np.float32) for t in halved.graph.initializer}
    for name, value in model.graph.initializers.items():
        if name in wanted and value.const_value is not None:
            np.testing.assert_array_equal(value.const_value.numpy(), wanted[name])
    values = [*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()]
    assert not {str(value.dtype) for value in values} & {"FLOAT16", "BFLOAT16"}


def test_it_is_calibrated(tmp_path: Path) -> None:
    _halved(FLOAT, tmp_path / "half.onnx")
    with pytest.warns(QuantizationWarning, match=SAID):
        network = calibrate(tmp_path / "half.onnx", [inputs()])
    (found,), (plain,) = network.outputs(inputs()), calibrate(FLOAT, [inputs()]).outputs(inputs())
    np.testing.assert_allclose(found, plain, atol=0.01 * float(np.abs(plain).max()))


def test_grids_with_scales_of_float16_are_adopted(tmp_path: Path) -> None:
    file = SAMPLES / "onnxruntime" / "qdq_u8s8_perchannel.onnx"
    _halved(file, tmp_path / "half.onnx")
    with pytest.warns(QuantizationWarning, match=SAID):
        network = read_quantized(tmp_path / "half.onnx")
        bundle = adopt(tmp_path / "half.onnx", tmp_path / "out", calibration=[inputs()])
    assert bundle.parity is not None and bundle.parity.ok
    (made,) = evaluate(network.captured.model.graph, inputs(), dtype=torch.float32)
    assert made.dtype == torch.float32


def test_casts_inside_of_branches_are_widened(tmp_path: Path) -> None:
    text = """<ir_version: 10, opset_import: ["": 20]>
      net (float16[1, 4] x, bool on) => (float[1, 4] y) {
        h = If (on) <then_branch = yes () => (float16[1, 4] a) { a = Mul(x, x) },
                     else_branch = no () => (float16[1, 4] b) { b = Cast <to: int = 10> (x) }>
        y = Cast <to: int = 1> (h)
      }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "net.onnx")
    with pytest.warns(QuantizationWarning, match=SAID):
        model = read_network(tmp_path / "net.onnx")
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
