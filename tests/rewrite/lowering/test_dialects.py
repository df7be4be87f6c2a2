"""Dialects: what a target asks for changes no value, and the file passes the rules of the target."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import lsq_export
from lsq_export import integer, targets
from lsq_export.graph.edit import constant, copy
from lsq_export.graph.layers import weight_of
from lsq_export.graph.read import array_of, constant_of, producer_of
from lsq_export.rewrite.emit import emit
from lsq_export.rewrite.fixed_batch import batch_of, with_batch
from lsq_export.rewrite.fold import Folded, fold
from lsq_export.rewrite.lowering.dialects import REWRITES, in_dialect
from lsq_export.rewrite.lowering.int8_weights import int8_weights
from lsq_export.rewrite.lowering.keep_branches import is_of_convolution
from lsq_export.rewrite.lowering.split_strides import split_strides
from lsq_export.rewrite.lowering.trim_pads import trim_pads
from lsq_export.verification.checking import Subject, check
from support.networks import captured, folded, inputs, operators

NETWORKS = ("residual", "chain", "pools", "geometry")
WRITTEN = (
    "onnx-standard",
    "portable",
    "openvino",
    "openvino-float",
    "tract",
    "opencv",
    "web",
    "qnn-htp",
    "litert",
    "qonnx",
)


@functools.cache
def narrow(network: str) -> Folded:
    """With zero points among the codes, which are clipped."""
    return fold(captured(network), [inputs(16, 1)], "integer")


def run(file: onnx.ModelProto, x: np.ndarray, names: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Each operator for itself, as its documentation says."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    wider = onnx.ModelProto()
    wider.CopyFrom(file)
    wider.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    session = onnxruntime.InferenceSession(wider.SerializeToString(), options)
    outputs = [value.name for value in session.get_outputs()]
    return dict(zip(outputs, session.run(None, {session.get_inputs()[0].name: x}), strict=True))


def values_of_codes(file: onnx.ModelProto) -> dict[str, str]:
    """{tensor of codes: tensor of its values}, of activations."""
    made = {name for node in file.graph.node for name in node.output}
    return {n.input[0]: n.output[0] for n in file.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in made}


@pytest.mark.parametrize("how", [folded, narrow], ids=["strided", "integer"])
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", [*WRITTEN, "st-neural-art"])
def test_all_values_are_those_of_the_plain_file(name: str, network: str, how: functools._lru_cache_wrapper) -> None:  # type: ignore[type-arg]
    """Bit for bit, where every operator runs for itself: beyond the calibrated range, too.

    Where layers sum codes, they are those of the requantization on integers, which float sums miss at ties.
    """
    made, x = how(network), inputs(4, 5, spread=3.0).numpy()
    plain = emit(made.model, "qdq", targets.get("ort-cpu"))
    written = with_any_batch(emit(made.model, "qdq", targets.get(name)))
    ours, theirs = values_of_codes(plain), values_of_codes(written)
    assert set(ours) <= set(theirs)
    if "exact-sums" in targets.get(name).dialect:
        expected = integer.run(emit(made.model, "qoperator", targets.get("ort-cpu")), {"input": x})
        found = run(written, x, sorted(set(ours) & set(expected)))
        for codes in set(ours) & set(expected):
            np.testing.assert_array_equal(found[codes], expected[codes], err_msg=codes)
    else:
        found, expected = run(written, x, [theirs[codes] for codes in ours]), run(plain, x, list(ours.values()))
        for codes, value in ours.items():
            np.testing.assert_array_equal(found[theirs[codes]], expected[value], err_msg=codes)
    for output in plain.graph.output:
        np.testing.assert_array_equal(found[output.name], expected[output.name])


def with_any_batch(file: onnx.ModelProto) -> onnx.ModelProto:
    for value in (*file.graph.input, *file.graph.output, *file.graph.value_info):
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
    return file


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", WRITTEN)
def test_a_written_file_passes_its_rules(name: str, network: str) -> None:
    target = targets.get(name)
    for kind in target.formats:
        found = lsq_export.lint(emit(folded(network).model, kind, target), name)
        assert found.ok, found.findings


@pytest.mark.parametrize("name", ["openvino", "portable", "st-neural-art"])
def test_verification_holds_a_dialect_to_the_reference(name: str) -> None:
    """No code differs from the folded model, batch by batch of another size; one changed bound is found."""
    made, target = folded("residual"), targets.get(name)
    files = {"qdq": emit(made.model, "qdq", target)}
    parity = check(Subject.of(made, files, name), [inputs(7, 2, spread=3.0)])
    assert parity.ok, parity.failures
    assert sum(layer.differing for layer in parity.formats["qdq"].layers) == 0
    other = onnx.ModelProto()
    other.CopyFrom(files["qdq"])
    scale = next(t for t in other.graph.initializer if t.name.endswith(".scale") and not t.dims)
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(2), scale.name))
    assert not check(Subject.of(made, {"qdq": other}, name), [inputs(7, 2)]).ok


def test_clips_of_codes_become_clips_of_values() -> None:
    plain = emit(narrow("chain").model, "qdq", targets.get("ort-cpu"))
    assert "no-clip-on-codes" in {f.rule for f in lsq_export.lint(plain, "portable").findings}
    written = emit(narrow("chain").model, "qdq", targets.get("portable"))
    clips = [node.output[0] for node in written.graph.node if node.op_type == "Clip"]
    assert sum(not name.endswith(".sum") for name in clips) == sum(n.op_type == "Clip" for n in plain.graph.node)
    made = {n.output[0]: n.op_type for n in written.graph.node if not n.output[0].endswith(".sum")}
    readers = [n.op_type for n in written.graph.node if any(made.get(name) == "Clip" for name in n.input)]
    assert set(readers) == {"QuantizeLinear"}


def test_the_branch_of_a_sum_is_kept_and_others_are_left_alone() -> None:
    model = copy(folded("residual").model)
    sums = [value for node in model.graph if node.op_type == "Add" for value in node.inputs if is_of_convolution(value)]
    assert sums
    x = inputs(5, 2).numpy()
    before = run(ir.to_proto(model), x)
    REWRITES["keep-branches"](model)
    assert operators(model).count("Max") == len(sums)
    REWRITES["keep-branches"](model)
    assert operators(model).count("Max") == len(sums)
    kept = [node for node in model.graph if node.op_type == "Max"]
    after = run(ir.to_proto(model), x, [str(node.outputs[0].name) for node in kept])
    assert all(np.array_equal(after[name], value) for name, value in before.items())
    assert all(after[str(node.outputs[0].name)].min() >= array_of(node.inputs[1]) for node in kept)


def strided(kernel: int, pads: list[int]) -> ir.Model:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "q"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["v"], "v"),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wv"], "wv", axis=0),
        helper.make_node(
            "Conv", ["v", "wv"], ["y"], "conv", kernel_shape=[kernel] * 2, strides=[2, 2], pads=pads, group=1
        ),
    ]
    constants = {
        "s": np.float32(0.1),
        "z": np.uint8(7),
        "w": np.arange(-6, 6 + 0, dtype=np.int8)[: 4 * 3].reshape(4, 3, 1, 1).repeat(kernel, 2).repeat(kernel, 3),
        "ws": np.full(4, 0.5, np.float32),
        "wz": np.zeros(4, np.int8),
    }
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, 7, 7])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


@pytest.mark.parametrize(("kernel", "pads", "split"), [(1, [0] * 4, True), (3, [0] * 4, False), (1, [1] * 4, False)])
def test_single_pixels_are_taken_before_the_convolution(kernel: int, pads: list[int], split: bool) -> None:
    model = strided(kernel, pads)
    x = np.random.default_rng(0).normal(size=(2, 3, 7, 7)).astype(np.float32) * 9
    before = run(ir.to_proto(model), x)["y"]
    split_strides(model)
    assert ("MaxPool" in operators(model)) == split
    np.testing.assert_array_equal(run(ir.to_proto(model), x)["y"], before)


@pytest.mark.parametrize(
    ("size", "pads", "dilations", "trimmed"),
    [
        ([2, 2], [1] * 4, [1, 1], [1, 1, 0, 0]),
        ([1, 2], [1] * 4, [1, 1], [1, 1, 1, 0]),  # its one row needs both
        ([3, 4], [1, 0, 3, 2], [1, 2], [1, 0, 3, 1]),  # two rows; one column, of which the sixth is not read
        ([7, 7], [1] * 4, [1, 1], [1] * 4),
        (["H", 2], [1] * 4, [1, 1], [1, 1, 1, 0]),
    ],
)
def test_padding_that_nothing_reads_goes(
    size: list[int | str], pads: list[int], dilations: list[int], trimmed: list[int]
) -> None:
    model = strided(3, pads)
    model.graph.inputs[0].shape = model.graph.outputs[0].shape = None
    (conv,) = (node for node in model.graph if node.op_type == "Conv")
    conv.attributes["strides"] = ir.AttrInt64s("strides", [3, 3] if size == [3, 4] else [2, 2])
    conv.attributes["dilations"] = ir.AttrInt64s("dilations", dilations)
    x = np.random.default_rng(0).normal(size=(2, 3, *(2 if n == "H" else n for n in size))).astype(np.float32) * 9  # type: ignore[misc]
    before = run(ir.to_proto(model), x)["y"]
    assert conv.inputs[0] is not None
    conv.inputs[0].shape = ir.Shape(["N", 3, *size])
    conv.outputs[0].shape = ir.Shape(["N", 4, "H" if size[0] == "H" else before.shape[2], before.shape[3]])
    trim_pads(model)
    assert list(conv.attributes["pads"].as_ints()) == trimmed
    np.testing.assert_array_equal(run(ir.to_proto(model), x)["y"], before)


@pytest.mark.parametrize(("largest", "zero", "kind"), [(255, 127, np.uint8), (255, 128, np.int8), (254, 127, np.int8)])
def test_weights_that_int8_does_not_hold_stay(largest: int, zero: int, kind: type) -> None:
    """+128 in one channel."""
    model = strided(1, [0] * 4)
    maker = producer_of(next(n for n in model.graph if n.op_type == "Conv").inputs[1])
    assert maker is not None
    codes = np.full((4, 3, 1, 1), 100, np.uint8)
    codes[2, 1] = largest
    maker.replace_input_with(0, constant(model.graph, "u", codes))
    maker.replace_input_with(2, constant(model.graph, "uz", np.array([128, 128, zero, 128], np.uint8)))
    x = np.random.default_rng(0).normal(size=(2, 3, 7, 7)).astype(np.float32)
    before = run(ir.to_proto(model), x)["y"]
    int8_weights(model)
    conv = next(n for n in model.graph if n.op_type == "Conv")
    assert constant_of(weight_of(conv).inputs[0], "w").dtype == kind
    np.testing.assert_array_equal(run(ir.to_proto(model), x)["y"], before)


def test_a_batch_is_fixed_by_its_name_alone() -> None:
    file = emit(folded("chain").model, "qdq", targets.get("ort-cpu"))
    assert batch_of(file) is None
    fixed = with_batch(file, 3)
    assert batch_of(fixed) == 3 and batch_of(file) is None
    sizes = [d.dim_value or d.dim_param for d in fixed.graph.output[0].type.tensor_type.shape.dim]
    assert sizes[0] == 3 and all(isinstance(size, int) for size in sizes)
    session = onnxruntime.InferenceSession(fixed.SerializeToString())
    assert session.get_inputs()[0].shape[0] == 3


def test_every_dialect_of_a_target_is_known() -> None:
    for target in targets.everything():
        assert set(target.dialect) <= set(REWRITES)
    assert {name for target in targets.everything() for name in target.dialect} == set(REWRITES)
    model = copy(folded("chain").model)
    assert in_dialect(model, ()) is not None


def test_narrow_types_are_those_of_the_target() -> None:
    """Codes of two bits go into four bits where the target has no type of two."""
    made = narrow("chain")
    for name, opset in (("native-int4", 21), ("native-int2", 25)):
        file = emit(made.model, "qdq", targets.get(name))
        kinds = {TensorProto.DataType.Name(t.data_type) for t in file.graph.initializer}
        assert file.opset_import[0].version == opset and "UINT4" in kinds and not {"UINT2", "INT2"} & kinds
        assert lsq_export.lint(file, name).ok
