"""The trained network in the forms of other tools, and back through adoption."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch

from calib.errors import QuantizationError
from lsq_export.adoption.encodings import read_encodings
from lsq_export.adoption.qonnx import quant_of
from lsq_export.bundle.layout import TRAINED
from lsq_export.graph.evaluate import evaluate
from lsq_export.interchange.encodings_file import encodings_file
from lsq_export.interchange.qonnx_file import qonnx_file
from lsq_export.interchange.trained_file import attributes_of, constants_of, is_marker
from lsq_export.interchange.writing import write
from support.commands import invoke
from support.exported import Exported


def trained(exported: Exported) -> onnx.ModelProto:
    return onnx.load(exported.bundle.directory / TRAINED)


def bits(exported: Exported) -> dict[str, int]:
    return {entry["name"]: entry["bits"] for entry in exported.bundle.manifest["layers"]}


def markers(file: onnx.ModelProto) -> dict[str, tuple[float, float, int, int]]:
    """{quantized tensor: scale, offset, qmin, qmax}."""
    constants = constants_of(file)
    found = {}
    for node in filter(is_marker, file.graph.node):
        known = attributes_of(node)
        scale, offset = (float(constants[name]) for name in node.input[1:3])
        found[node.output[0]] = (scale, offset, known["qmin"], known["qmax"])
    return found


def test_qonnx_has_every_grid_with_its_offset(exported: Exported, tmp_path: Path) -> None:
    """As adoption reads them: the scales are equal, the offsets but for the division by them in float32."""
    written = write(exported.bundle, "qonnx", tmp_path / "q.onnx")
    model = ir.load(written.files[0])
    quants = {str(node.outputs[0].name): quant_of(node) for node in model.graph if node.op_type == "Quant"}
    expected = markers(trained(exported))
    fractions = 0
    for name, (scale, offset, low, high) in expected.items():
        found = quants.pop(name)
        assert found is not None and (float(found.scale), found.low, found.high) == (scale, low, high)
        assert -float(found.zero_point) * scale == pytest.approx(offset, rel=1e-6, abs=1e-6 * scale)
        fractions += float(found.zero_point) % 1 != 0
    assert fractions > 3 and len(expected) >= 7
    assert len(quants) == len(bits(exported))  # the weights
    for found in quants.values():
        assert found is not None and not np.any(found.zero_point)
    assert {opset.domain for opset in onnx.load(written.files[0]).opset_import} == {"", "qonnx.custom_op.general"}


@pytest.mark.skipif(find_spec("qonnx") is None, reason="qonnx is not installed")
def test_qonnx_computes_what_was_trained(exported: Exported, tmp_path: Path) -> None:
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.infer_shapes import InferShapes

    x = exported.inputs
    (path,) = write(exported.bundle, "qonnx", tmp_path / "q.onnx").files
    model = ModelWrapper(str(path))
    model.set_tensor_shape("input", list(x.shape))
    found = execute_onnx(model.transform(InferShapes()), {"input": x})["output"]
    expected = evaluate(exported.graph(TRAINED).graph, torch.from_numpy(x))[0].numpy()
    assert np.abs(found - expected).max() < 1e-3 * np.abs(expected).max()


def test_weights_of_qonnx_lie_on_their_grid(exported: Exported) -> None:
    file = qonnx_file(trained(exported), bits(exported))
    before, after = constants_of(trained(exported)), constants_of(file)
    quants = {node.input[0]: node for node in file.graph.node if node.op_type == "Quant" and node.input[0] in after}
    assert len(quants) == len(bits(exported))
    for name, node in quants.items():
        scale, _, width = (after[value] for value in node.input[1:4])
        codes = after[name] / scale
        assert np.abs(codes - np.rint(codes)).max() < 1e-4 and np.abs(codes).max() <= 2 ** (int(width) - 1)
        assert np.array_equal(np.rint(codes), before[f"{name.removesuffix('.values.float')}.codes"])


def test_encodings_come_back_with_whole_offsets(exported: Exported, tmp_path: Path) -> None:
    found = write(exported.bundle, "encodings", tmp_path / "e.onnx")
    encodings = read_encodings(found.files[1])
    for name, (scale, offset, low, high) in markers(trained(exported)).items():
        one, zero = encodings.pop(name), np.rint(-offset / scale)
        ends = one.first - one.zero_point, one.last - one.zero_point
        assert float(one.scale) == scale and ends == (low - zero, high - zero)
    assert len(encodings) == len(bits(exported)) and 0 < found.moved <= 0.5
    file = onnx.load(found.files[0])
    assert {opset.domain for opset in file.opset_import} == {""}
    onnx.checker.check_model(file, full_check=True)
    names = {output for node in file.graph.node for output in node.output} | {*constants_of(file)}
    assert {entry["name"] for entry in json.loads(found.files[1].read_text())["encodings"]} <= names


def test_both_are_adopted(exported: Exported, tmp_path: Path) -> None:
    """The integer network of the QONNX file is as near to what was trained as that of the bundle."""
    import lsq_export

    write(exported.bundle, "qonnx", tmp_path / "q.onnx")
    bundle = lsq_export.adopt(tmp_path / "q.onnx", tmp_path / "out", calibration=[exported.batches[0][0]])
    expected = evaluate(exported.graph(TRAINED).graph, torch.from_numpy(exported.inputs))[0].numpy()
    again = ir.from_proto(onnx.load(bundle.directory / TRAINED))
    found = evaluate(again.graph, torch.from_numpy(exported.inputs))[0].numpy()
    assert np.abs(found - expected).max() < 1e-3 * np.abs(expected).max()


def test_a_zero_that_no_type_holds_is_refused(exported: Exported) -> None:
    file = trained(exported)
    marker = next(node for node in file.graph.node if is_marker(node))
    (offset,) = (tensor for tensor in file.graph.initializer if tensor.name == marker.input[2])
    offset.CopyFrom(onnx.numpy_helper.from_array(np.float32(1e3), offset.name))
    with pytest.raises(QuantizationError, match=r"has its zero at the code -\d+, outside of 0 … 255: .*write QONNX$"):
        encodings_file(file, bits(exported))


def test_limits_that_no_width_has_are_refused(exported: Exported) -> None:
    file = trained(exported)
    marker = next(node for node in file.graph.node if is_marker(node))
    next(a for a in marker.attribute if a.name == "qmax").i = 11
    for form in (encodings_file, qonnx_file):
        with pytest.raises(QuantizationError, match=r"has codes 0 … 11, "):
            form(file, bits(exported))


def test_bad_input_is_one_line(exported: Exported, tmp_path: Path) -> None:
    (tmp_path / "there.encodings").write_text("mine")
    for arguments, said in (
        (("--form", "aimet", "--out", tmp_path / "a.onnx"), "form 'aimet' is unknown: use qonnx or encodings"),
        (("--form", "qonnx", "--out", tmp_path / "a.txt"), "give a name that ends with .onnx"),
        (("--form", "encodings", "--out", tmp_path / "there.onnx"), "exists, and is not replaced"),
        (("--form", "qonnx", "--out", tmp_path / "no" / "a.onnx"), "cannot be written"),
    ):
        result = invoke("interchange", exported.bundle.directory, *arguments)
        assert result.exit_code == 2 and said in result.stderr and result.stderr.count("\n") == 1
    assert (tmp_path / "there.encodings").read_text() == "mine" and not (tmp_path / "there.onnx").exists()


def test_the_command_says_what_was_rounded(exported: Exported, tmp_path: Path) -> None:
    result = invoke("interchange", exported.bundle.directory, "--form", "encodings", "--out", tmp_path / "e.onnx")
    assert result.exit_code == 0 and "note: offsets are rounded to whole steps" in result.stderr
    assert result.stdout == f"wrote {tmp_path / 'e.onnx'} and {tmp_path / 'e.encodings'}\n"
