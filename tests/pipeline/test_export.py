"""export: the Python API of the contract, the files that come out, and one line for whatever cannot be exported."""

from __future__ import annotations

import importlib
import inspect
import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from click.testing import Result
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import calib
import lsq_export
from calib.errors import QuantizationError
from lsq_export import integer
from lsq_export.graph.capture import Captured, capture
from lsq_export.graph.evaluate import evaluate
from lsq_export.rewrite.fold import fold
from lsq_export.verification.runtime import Session, integer_tensors
from support import badnets
from support.commands import invoke
from support.exported import SHAPE, Exported, content, images, save
from support.published import published

FORMATS = ("qdq", "qoperator")
INTEGER_KERNELS = {
    *(
        "QLinearConv",
        "QGemm",
        "MatMulInteger",
        "QLinearAdd",
        "QLinearConcat",
        "QLinearAveragePool",
        "QLinearGlobalAveragePool",
    ),
    *(
        "MaxPool",
        "NhwcMaxPool",
        "SpaceToDepth",
        "Add",
        "Reshape",
        "Flatten",
        "Transpose",
        "ReorderInput",
        "ReorderOutput",
    ),  # on codes or int32: the types are looked at as well
}


# The contract


def code_tensors(proto: onnx.ModelProto) -> list[str]:
    """The tensors of 8-bit codes of a qdq file: outputs of QuantizeLinear and of operators on codes (Clip)."""
    codes = {node.output[0] for node in proto.graph.node if node.op_type == "QuantizeLinear"}
    for node in proto.graph.node:
        if node.op_type == "Clip" and node.input[0] in codes:
            codes.add(node.output[0])
    return [name for node in proto.graph.node for name in node.output if name in codes]


def test_the_contract_as_it_is_written(tmp_path: Path) -> None:
    """Design, part 3, line by line."""
    float_model, example_input = badnets.plain().eval(), torch.zeros(1, *SHAPE)
    before = {name: tensor.clone() for name, tensor in float_model.state_dict().items()}
    batches = [images(0), images(1)]
    config = published(
        weight_bits=4,
        activation_bits=4,
        activation_grid="unsigned-asymmetric",
        weight_granularity="tensor",
        first_last_bits=8,
        offset="real",
    )
    model = lsq_export.prepare(float_model, config)
    calib.initialize(model, batches, method="mse")
    quantizers = lsq_export.quantizers(model)
    bundle = lsq_export.export(
        model, example_input, str(tmp_path / "out"), formats=("qdq", "qoperator"), calibration=batches
    )
    parity = lsq_export.verify(model, bundle, batches)

    assert list(quantizers) == [
        f"{layer}.{what}" for layer in ("first", "block.conv", "last") for what in ("input", "weight")
    ]
    for name, quantizer in quantizers.items():
        assert isinstance(quantizer.scale, nn.Parameter) and isinstance(quantizer.offset, nn.Parameter)
        assert (
            quantizer.bits == (4 if "block" in name else 8) and quantizer.qmax - quantizer.qmin == 2**quantizer.bits - 1
        )
    assert bundle.directory == tmp_path / "out"
    assert bundle.models == {name: tmp_path / "out" / name / "model.onnx" for name in FORMATS}
    assert parity.ok is True and set(parity.formats) == set(FORMATS)
    for name in FORMATS:
        found = parity.formats[name]
        assert 0 <= found.top1_agreement <= 1 and found.sqnr_db > 20 and found.reference_mismatch == 0
        for layer in found.layers:
            assert isinstance(layer.name, str) and layer.differing == 0 and layer.largest == 0
    after = float_model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_names_and_keywords() -> None:
    assert set(lsq_export.__all__) >= {
        "QATConfig",
        "prepare",
        "quantizers",
        "export",
        "verify",
        "open_bundle",
        "Bundle",
        "Parity",
        "QuantizationError",
        "QuantizationWarning",
    }
    parameters = inspect.signature(lsq_export.export).parameters
    assert list(parameters)[:3] == ["model", "example_input", "out"] and {
        "formats",
        "calibration",
        "target",
        "force",
    } <= set(parameters)
    assert list(inspect.signature(lsq_export.verify).parameters)[:3] == ["model", "bundle", "batches"]
    assert lsq_export.QuantizationError is QuantizationError and issubclass(QuantizationError, ValueError)


def test_inputs_alone_and_one_pass_are_enough(tmp_path: Path) -> None:
    """calibration may be a generator of tensors; the model keeps its modes and its weights."""
    model = prepared_plain()
    model.train()
    model.first.eval()
    modes, state = [m.training for m in model.modules()], {name: t.clone() for name, t in model.state_dict().items()}
    lsq_export.export(
        model,
        torch.zeros(1, *SHAPE),
        tmp_path / "out",
        calibration=(images(seed)[0] for seed in range(2)),
        formats="qdq",
    )
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_stages_are_told_and_the_parity_is_returned(tmp_path: Path) -> None:
    told: list[str] = []
    calibration = [images(0)[0]]
    bundle = lsq_export.export(
        prepared_plain(), torch.zeros(1, *SHAPE), tmp_path / "out", calibration=calibration, on_stage=told.append
    )
    assert told == ["capture", "fold", "rewrite", "verify", "bundle"]
    assert isinstance(bundle.parity, lsq_export.Parity) and bundle.parity.images == 24
    assert bundle.parity.to_dict() == json.loads((tmp_path / "out" / "parity.json").read_text())


def test_a_fold_that_is_refused_does_not_stop_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The manifest says what each fold of the target costs; of one that cannot be made, why."""

    def place(graph: Any, marker: Any, *rest: Any, **options: Any) -> None:
        raise QuantizationError("block.conv.input: no")

    monkeypatch.setattr("lsq_export.rewrite.folding.offsets.place_integer", place)
    bundle = lsq_export.export(prepared_plain(), torch.zeros(1, *SHAPE), tmp_path / "out", calibration=[images(0)[0]])
    strided, integer = bundle.manifest["folds"]
    assert integer == {"fold": "integer", "refused": "block.conv.input: no"}
    assert (
        strided["fold"] == "strided"
        and strided["images"] == 24
        and strided["sqnr_db"] > 10
        and 0 < strided["codes_differing"] < 0.5
    )
    with pytest.raises(QuantizationError, match=r"block\.conv\.input: no"):
        lsq_export.export(
            prepared_plain(), torch.zeros(1, *SHAPE), tmp_path / "other", calibration=[images(0)[0]], fold="integer"
        )


# The files


@pytest.mark.parametrize("name", FORMATS)
def test_versions_and_checker(name: str, exported: Exported) -> None:
    proto = exported.file(name)
    onnx.checker.check_model(proto, full_check=True)
    assert {o.domain: o.version for o in proto.opset_import} == (
        {"": 17} if name == "qdq" else {"": 17, "com.microsoft": 1}
    )
    assert (
        proto.ir_version == 8
        and proto.producer_name == "lsq-export"
        and proto.producer_version == lsq_export.__version__
    )
    (x,), (y,) = proto.graph.input, proto.graph.output
    assert (
        x.name == "input"
        and x.type.tensor_type.elem_type == y.type.tensor_type.elem_type == TensorProto.FLOAT
        and y.name == "output"
    )
    names = [node.name for node in proto.graph.node]
    assert len(set(names)) == len(names) and all(names)
    # nothing of the exporter's machine
    assert not any(node.doc_string or node.metadata_props for node in proto.graph.node)


def test_qoperator_has_no_float_between_its_ends(exported: Exported) -> None:
    """By the types that ONNX Runtime sees, of every tensor, with and without optimization."""
    proto = exported.file("qoperator")
    tensors = integer_tensors(proto)
    for level in ("default", "disabled"):
        found = Session(proto, level, tensors).run(exported.inputs)
        assert {name for name, value in found.items() if value.dtype not in (np.uint8, np.int8, np.int32)} == {
            "output"
        }, level
    nodes = list(proto.graph.node)
    assert (nodes[0].op_type, nodes[-1].op_type) == ("QuantizeLinear", "DequantizeLinear") and nodes[0].input[
        0
    ] == "input"
    assert {node.op_type for node in nodes[1:-1]} <= INTEGER_KERNELS
    assert {t.data_type for t in proto.graph.initializer if t.dims} <= {
        TensorProto.UINT8,
        TensorProto.INT8,
        TensorProto.INT32,
        TensorProto.INT64,
        1,
    }


def test_a_float_tensor_in_the_middle_would_be_seen(exported: Exported) -> None:
    """The test above can fail: the same look at a qdq file."""
    proto = exported.file("qdq")
    found = Session(proto, "disabled", integer_tensors(proto)).run(exported.inputs)
    assert len([name for name, value in found.items() if value.dtype == np.float32]) > 10


def profile(path: Path, x: np.ndarray, directory: Path) -> list[tuple[str, set[str]]]:
    """(kernel, types of its outputs) of a default session, in the order in which they ran."""
    options = onnxruntime.SessionOptions()
    options.enable_profiling, options.profile_file_prefix = True, str(directory / "profile")
    session = onnxruntime.InferenceSession(path, options)
    session.run(None, {"input": x})
    events = json.loads(Path(session.end_profiling()).read_text())
    kernels = [
        event["args"] for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")
    ]
    return [(args["op_name"], {kind for output in args["output_type_shape"] for kind in output}) for args in kernels]


def test_the_default_session_runs_integer_kernels(exported: Exported, tmp_path: Path) -> None:
    kernels = profile(exported.bundle.models["qoperator"], exported.inputs[:1], tmp_path)
    assert kernels[0] == ("QuantizeLinear", {"uint8"}) and kernels[-1] == ("DequantizeLinear", {"float"})
    for kernel, types in kernels[1:-1]:
        assert kernel in INTEGER_KERNELS and types <= {"uint8", "int8", "int32"}, kernel
    transposes = sum(kernel == "Transpose" for kernel, _ in kernels)
    assert transposes <= 2  # to channels last and back, once: nothing between the layers keeps it from that
    assert len(kernels) - transposes == len(exported.file("qoperator").graph.node)


def test_the_profile_shows_float_kernels_where_there_are_some(exported: Exported, tmp_path: Path) -> None:
    from lsq_export.bench.float_model import float_model_of

    (tmp_path / "float.onnx").write_bytes(float_model_of(exported.bundle.directory))
    kernels = profile(tmp_path / "float.onnx", exported.inputs[:1], tmp_path)
    assert not {kernel for kernel, _ in kernels} <= INTEGER_KERNELS and all("float" in types for _, types in kernels)


@pytest.mark.parametrize("name", FORMATS)
def test_a_default_session_has_nothing_to_say(name: str, exported: Exported, capfd: pytest.CaptureFixture[str]) -> None:
    session = onnxruntime.InferenceSession(exported.bundle.models[name])
    session.run(None, {"input": exported.inputs[:1]})
    assert capfd.readouterr() == ("", "")
    spoiled = exported.file(name)
    spoiled.graph.initializer.append(numpy_helper.from_array(np.float32(1), "unused"))
    onnxruntime.InferenceSession(spoiled.SerializeToString())
    assert "unused" in capfd.readouterr().err  # it does speak where there is something to say


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("batch", [1, 3, 17])
def test_the_batch_is_dynamic(name: str, batch: int, exported: Exported) -> None:
    """Each image gets what it gets alone."""
    x = exported.inputs[np.arange(batch) % 24]
    (found,) = onnxruntime.InferenceSession(exported.bundle.models[name]).run(None, {"input": x})
    alone = integer.run(exported.file("qoperator"), {"input": exported.inputs}, outputs=["output"])["output"]
    assert found.shape == (batch, 5)
    if name == "qoperator":
        assert np.array_equal(found, alone[np.arange(batch) % 24])
    else:
        np.testing.assert_allclose(found, alone[np.arange(batch) % 24], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("bits", [4])
def test_low_bit_codes_are_clipped_to_their_levels(name: str, bits: int, exported: Exported) -> None:
    """The levels that the manifest states are all that occur, and nearly all occur.

    The inputs are ten times as large as in calibration.
    """
    proto = exported.file(name)
    x = 10 * images(seed=7, count=64)[0].numpy()
    tensors = Session(proto, "disabled", code_tensors(proto) if name == "qdq" else integer_tensors(proto)).run(x)
    low_bit = [t for t in exported.bundle.manifest["tensors"] if t["kind"] == "activation" and t["levels"] < 256]
    assert len(low_bit) >= 5
    for tensor in low_bit:
        codes = np.unique(tensors[tensor["codes"]])
        assert 0.75 * tensor["levels"] <= len(codes) <= tensor["levels"] <= 2**bits, tensor["name"]
        assert set((codes.astype(int) - tensor["origin"]) % tensor["stride"]) == {0}


@pytest.mark.parametrize("name", FORMATS)
def test_low_bit_weights_take_few_codes(name: str, exported: Exported) -> None:
    from lsq_export.inspection.tensors import inspect_model

    weights = [row for row in inspect_model(exported.file(name)) if row.kind == "weight"]
    layers = exported.bundle.manifest["layers"]
    assert len(weights) == len(layers) == 7
    for row, layer in zip(weights, layers, strict=True):
        assert row.bits <= layer["bits"] and row.gain is not None and row.gain % layer["gain"] == 0, layer["name"]


def test_constants_of_a_module_used_twice_are_stored_once(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = badnets.Net(
        lambda self, x: torch.relu(self.conv(torch.relu(self.conv(x)))), conv=nn.Conv2d(4, 4, 3, padding=1, bias=False)
    )
    model = lsq_export.prepare(net.eval(), published())
    calib.initialize(model, [images(0)[0]], method="minmax")
    bundle = lsq_export.export(model, torch.zeros(1, *SHAPE), tmp_path / "out", calibration=[images(0)[0]])
    assert lsq_export.verify(model, bundle, [images(1)[0]]).ok
    for path in bundle.models.values():
        stored = [tuple(t.dims) for t in onnx.load(path).graph.initializer]
        assert stored.count((4, 4, 3, 3)) == 1


def test_equal_constants_are_shared_alike_from_memory_and_from_disk(tmp_path: Path) -> None:
    """Of 64 equal zero points one is kept, of which the stem makes another one; the bundle's folded graph has it."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 1), nn.ReLU(), nn.Conv2d(64, 4, 1)).eval()
    model = lsq_export.prepare(net, lsq_export.QATConfig(weight_bits=8, activation_bits=8))
    x = torch.randn(4, 3, 6, 6)
    calib.initialize(model, [x], method="minmax")
    bundle = lsq_export.export(model, x[:1], tmp_path / "out", calibration=[x])
    assert bundle.parity is not None and bundle.parity.ok
    parity = lsq_export.verify(model, bundle, [x])
    assert parity.ok and not any(found.altered for found in parity.formats.values()), parity.failures


# Bad input, through Python and on the command line


def prepared_plain(net: nn.Module | None = None) -> nn.Module:
    """A small network with grids; its inner layer (block.conv) has 4 bits, the first and the last 8."""
    torch.manual_seed(0)
    model = lsq_export.prepare((net or badnets.plain()).eval(), published())
    calib.initialize(model, [images(0)[0]], method="minmax")
    return model


@pytest.fixture(scope="module")
def captured() -> Captured:
    return capture(prepared_plain(), torch.zeros(1, *SHAPE))


def refused(tmp_path: Path, model: nn.Module, *, x: Any = None, **options: Any) -> str:
    """The one line with which export refuses; nothing may be left on the disk."""
    out = tmp_path / "refused"
    out.mkdir()
    example = torch.zeros(1, *SHAPE) if x is None else x
    with pytest.raises(QuantizationError) as error:
        lsq_export.export(model, example, out / "bundle", **{"calibration": [images(0)[0]], **options})
    assert "\n" not in str(error.value) and content(out) == {}
    return str(error.value)


def command(tmp_path: Path, *arguments: str) -> Result:
    """`lsq-export export … --out <tmp_path>/cli/bundle`, which must refuse in one line and leave nothing behind."""
    out = tmp_path / "cli"
    out.mkdir()
    result = invoke("export", *arguments, "--trust", "--out", str(out / "bundle"))  # networks of the tests
    assert result.exit_code == 2 and result.stdout == "" and content(out) == {}, result.output
    assert (
        result.stderr.startswith("error: ")
        and result.stderr.count("\n") == 1
        and "an error of lsq-export itself" not in result.stderr
    )
    return result


def change(model: nn.Module, quantizer: str, what: str, value: float) -> nn.Module:
    with torch.no_grad():
        getattr(lsq_export.quantizers(model)[quantizer], what).fill_(value)
    return model


@pytest.mark.parametrize("value", [-1.0, 0.0, math.nan, math.inf])
@pytest.mark.parametrize("quantizer", ["block.conv.weight", "block.conv.input"])
def test_a_bad_scale_is_named(quantizer: str, value: float, exported: Exported, tmp_path: Path) -> None:
    model = change(prepared_plain(), quantizer, "scale", value)
    says = f"{quantizer}: scale is {value}, but must be finite and positive"
    assert says in refused(tmp_path, model)
    bad = save(model, tmp_path / "bad.safetensors", exported.data, name="support.badnets:plain")
    if math.isfinite(value):  # as an optimizer leaves it in a checkpoint: the least positive one, with a warning
        result = invoke("export", str(bad), "--trust", "--out", str(tmp_path / "bundle"))
        assert (
            f"training drove 1 scale to the least that they may reach, 0.001 of their first values ({quantizer})"
            in (result.stderr)
        )
    else:
        assert says in command(tmp_path, str(bad)).stderr


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_a_bad_offset_is_named(value: float, exported: Exported, tmp_path: Path) -> None:
    model = change(prepared_plain(), "block.conv.input", "offset", value)
    says = f"block.conv.input: offset is {value}, but must be finite"
    assert says in refused(tmp_path, model)
    bad = save(model, tmp_path / "bad.safetensors", exported.data, name="support.badnets:plain")
    assert says in command(tmp_path, str(bad)).stderr


@pytest.mark.parametrize("value", [1e-42, 1e-30])
def test_an_activation_scale_near_zero_names_its_layer(value: float, tmp_path: Path) -> None:
    """Products of scales leave the range of float32."""
    assert "block.conv" in refused(tmp_path, change(prepared_plain(), "block.conv.input", "scale", value))


def test_an_activation_scale_that_is_nothing_beside_the_output_is_a_constant(tmp_path: Path) -> None:
    """All values of such a grid are nearly 0; no weights are needed."""
    model = change(change(prepared_plain(), "block.conv.input", "scale", 1e-30), "block.conv.input", "offset", 0.0)
    with torch.no_grad():
        model.block.norm.bias.fill_(0.5)
    bundle = lsq_export.export(model, torch.zeros(1, *SHAPE), tmp_path / "out", calibration=[images(0)[0]])
    assert lsq_export.verify(model, bundle, [images(1)[0]]).ok
    (layer,) = (layer for layer in bundle.manifest["layers"] if layer["name"] == "block.conv")
    assert layer["dead_channels"] == layer["coarse_channels"] == 4 and 0 < layer["coarse_steps"] < 1e-20


def test_a_weight_scale_near_zero_is_a_layer_of_zeros(tmp_path: Path) -> None:
    """What such a scale makes of the weights in training, too; nothing overflows."""
    model = change(prepared_plain(), "block.conv.weight", "scale", 1e-42)
    bundle = lsq_export.export(model, torch.zeros(1, *SHAPE), tmp_path / "out", calibration=[images(0)[0]])
    assert lsq_export.verify(model, bundle, [images(1)[0]]).ok
    assert {layer["name"]: layer["dead_channels"] for layer in bundle.manifest["layers"]} == {
        "first": 0,
        "block.conv": 4,
        "last": 0,
    }


def test_an_offset_far_from_zero_names_its_quantizer(tmp_path: Path) -> None:
    assert "block.conv.input" in refused(tmp_path, change(prepared_plain(), "block.conv.input", "offset", 1e3))


def test_weights_that_are_not_finite_are_named(tmp_path: Path) -> None:
    model = prepared_plain()
    with torch.no_grad():
        model.block.conv.parametrizations.weight.original[0, 0, 0, 0] = math.nan
    assert "block.conv.weight" in refused(tmp_path, model)
    model = prepared_plain()
    with torch.no_grad():
        model.block.norm.running_var[0] = math.inf
    (tmp_path / "refused").rmdir()
    assert "block.norm" in refused(tmp_path, model)


@pytest.mark.parametrize(
    ("example", "says"),
    [
        (torch.zeros(1, 1, 17, 17), r"does not take an input of shape [1, 17, 17]"),
        (torch.zeros(1, 3, 16, 16), r"does not take an input of shape [3, 16, 16]"),
        (torch.zeros(16), "example_input has the shape [16]"),
        (torch.zeros(0, *SHAPE), "example_input has the shape [0, 1, 16, 16]"),
        (torch.zeros(1, *SHAPE, dtype=torch.int64), "torch.int64: pass a float tensor"),
        (torch.zeros(1, *SHAPE, dtype=torch.float64), "example_input is torch.float64: use float32"),
        (np.zeros((1, *SHAPE), np.float32), "example_input is a ndarray: pass one float tensor"),
    ],
)
def test_a_wrong_example_input_is_named(example: Any, says: str, tmp_path: Path) -> None:
    assert says in refused(tmp_path, prepared_plain(), x=example)


@pytest.mark.parametrize(
    ("calibration", "says"),
    [
        ([], "no calibration batches"),
        (iter(()), "no calibration batches"),
        (None, "batches is NoneType: give an iterable"),
        (torch.zeros(4, *SHAPE), "batches is a tensor: give an iterable of batches"),
        ([torch.zeros(0, *SHAPE)], "calibration data is empty"),
        (
            [images(0)[0], torch.zeros(2, 1, 9, 9)],
            "calibration batch 1 has inputs of shape [1, 9, 9], the example input has [1, 16, 16]",
        ),
        ([torch.full((2, *SHAPE), math.nan)], "calibration batch 0 holds NaN or infinity"),
        (["digits"], "calibration batch 0 is str"),
    ],
)
def test_wrong_calibration_data_is_named(
    calibration: Any, says: str, captured: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the same each time
    monkeypatch.setattr(importlib.import_module("lsq_export.pipeline"), "capture", lambda model, *_: captured)
    assert says in refused(tmp_path, prepared_plain(), calibration=calibration)


@pytest.mark.parametrize(
    ("options", "arguments", "says"),
    [
        ({"formats": ["tflite"]}, ["--format", "tflite"], "format 'tflite' is unknown: use qdq, qoperator"),
        ({"formats": ("qdq", "QDQ")}, ["--format", "qdq", "--format", "QDQ"], "format 'QDQ' is unknown"),
        ({"target": "tpu"}, ["--target", "tpu"], "target 'tpu' is unknown: use "),
    ],
)
def test_unknown_options_are_named(
    options: dict[str, Any], arguments: list[str], says: str, exported: Exported, tmp_path: Path
) -> None:
    assert says in refused(tmp_path, prepared_plain(), **options)
    assert says in command(tmp_path, str(exported.checkpoint), *arguments).stderr


def test_no_format_is_an_error(tmp_path: Path) -> None:
    assert "formats is empty" in refused(tmp_path, prepared_plain(), formats=())


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (
            badnets.branch_on_values,
            "the model cannot be captured by torch.onnx.export: Could not guard on data-dependent expression",
        ),
    ],
)
def test_a_network_that_cannot_be_captured_says_so(
    build: Callable[[], nn.Module], says: str, exported: Exported, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """On the command line (and through Python); torch's exporter, which can write pages, is silent."""
    model = prepared_plain(build())
    assert says in refused(tmp_path, model)
    file = save(model, tmp_path / "own.safetensors", exported.data, name=f"support.badnets:{build.__name__}")
    assert says in command(tmp_path, str(file)).stderr
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (badnets.cumulated, "block.CumSum (CumSum)"),
        (badnets.compared, "block.Greater (Greater), block.Where (Where)"),
    ],
)
def test_what_has_no_integer_form_is_refused_on_request_by_module(
    build: Callable[[], nn.Module], says: str, tmp_path: Path
) -> None:
    assert refused(tmp_path, prepared_plain(build()), strict_integer=True).startswith(f"{says}: no integer form; ")


@pytest.mark.parametrize(("name", "says"), [("no_layers", "nothing to quantize in Sequential")])
def test_a_network_without_layers_is_named(name: str, says: str, exported: Exported, tmp_path: Path) -> None:
    """By prepare, and before any training by the command."""
    with pytest.raises(QuantizationError) as error:
        lsq_export.prepare(getattr(badnets, name)(), published())
    assert says in str(error.value)
    out = tmp_path / "t.safetensors"
    arguments = [
        "--model",
        f"support.badnets:{name}",
        "--data",
        exported.data,
        "--float-epochs",
        "0",
        "--epochs",
        "0",
        "--out",
        str(out),
    ]
    result = invoke("train", *arguments)
    assert result.exit_code == 2 and result.stderr.count("\n") == 1 and not out.exists()
    # without layers it has nothing to train either, which is found first
    assert says in result.stderr or name == "no_layers"


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (badnets.plain, "the model has no quantizers: call lsq_export.prepare"),
        (
            lambda: lsq_export.prepare(badnets.plain(), published()),
            "first.input: the quantizer has no grid yet; call calib.initialize",
        ),
        (lambda: prepared_plain().double(), "the model is torch.float64: use float32"),
    ],
)
def test_a_model_that_is_not_ready_is_named(model: Callable[[], nn.Module], says: str, tmp_path: Path) -> None:
    assert says in refused(tmp_path, model())


def damaged_checkpoints(path: Path, whole: bytes) -> dict[str, tuple[bytes | None, str]]:
    torch.save({"state_dict": {"w": torch.zeros(2)}}, path)
    zipped = path.read_bytes()
    return {
        "missing": (None, "does not exist"),
        "empty": (b"", "is damaged or no safetensors file"),
        "cut short": (whole[:-100], "is damaged or no safetensors file"),
        "torch.save": (zipped, "is a pickle (.pt, .pth), which can run code"),
        "a plain pickle": (pickle.dumps({"w": 1}), "is a pickle (.pt, .pth), which can run code"),
        "an ONNX file": (None, ""),
    }


@pytest.mark.parametrize("damage", ["missing", "empty", "cut short", "torch.save", "a plain pickle"])
def test_a_bad_checkpoint_is_named(damage: str, exported: Exported, tmp_path: Path) -> None:
    path = tmp_path / "bad.safetensors"
    data, says = damaged_checkpoints(path, exported.checkpoint.read_bytes())[damage]
    path.unlink() if data is None else path.write_bytes(data)
    stderr = command(tmp_path, str(path)).stderr
    assert says in stderr and str(path) in stderr


def test_a_float_checkpoint_and_data_that_do_not_fit_are_named(exported: Exported, tmp_path: Path) -> None:
    from lsq_export.training import checkpoint

    own, no_data = tmp_path / "float.safetensors", tmp_path / "no-data.safetensors"
    for path, model, config in (
        (own, badnets.plain(), None),
        (no_data, prepared_plain(), published().to_dict()),
    ):
        spec = {"name": "support.badnets:plain"}
        checkpoint.save(path, model, model_spec=spec, config=config, input_shape=SHAPE, preprocessing={}, extra={})
    assert "is of a float model, which has no grids" in command(tmp_path, str(own), "--data", exported.data).stderr
    for data, says in (
        ("mnist", "data 'mnist' is unknown"),
        ("npz:none.npz", "none.npz does not exist"),
        (None, "give --data digits"),
    ):
        (tmp_path / "cli").rmdir()
        arguments = [str(no_data)] if data is None else [str(no_data), "--data", data]
        assert says in command(tmp_path, *arguments).stderr


def test_data_of_another_shape_is_named(exported: Exported, tmp_path: Path) -> None:
    x, y = np.zeros((8, 1, 9, 9), np.float32), np.arange(8) % 2
    np.savez(tmp_path / "d.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    stderr = command(tmp_path, str(exported.checkpoint), "--data", f"npz:{tmp_path / 'd.npz'}").stderr
    assert "has inputs of shape [1, 9, 9], the model takes [1, 16, 16]: give such data" in stderr
    (tmp_path / "cli").rmdir()
    assert "--images" in command(tmp_path, str(exported.checkpoint), "--images", "0").stderr


def test_a_directory_that_is_not_empty_is_named(exported: Exported, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("ten years of work")
    for more, says in (
        ([], "is not empty: give another, or --force"),
        (["--force"], "holds no bundle, so it is not replaced"),
    ):
        result = invoke("export", str(exported.checkpoint), "--out", str(tmp_path / "out"), *more)
        assert result.exit_code == 2 and says in result.stderr and result.stderr.count("\n") == 1
    assert content(tmp_path) == {"out/thesis.txt": b"ten years of work"}


def test_a_file_that_onnx_would_not_take_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph that fails onnx.checker, or that ONNX Runtime cannot load, is an error and no bundle."""
    from lsq_export.rewrite import emit as emit_module

    emit = emit_module.emit

    def broken(*arguments: Any) -> onnx.ModelProto:
        proto = emit(*arguments)
        proto.graph.node.append(helper.make_node("Conv", ["nothing", "nowhere"], ["never"], name="stray"))
        return proto

    monkeypatch.setattr(emit_module, "emit", broken)
    assert "the exported graph is not valid ONNX" in refused(tmp_path, prepared_plain())


def test_a_layer_without_weights_keeps_its_bias_whatever_its_scale() -> None:
    """Codes that are all zero leave the scale free: the bias must not be rounded on a useless unit."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(4 * 36, 5))
    model = lsq_export.prepare(net, published())
    x = torch.randn(8, 3, 8, 8)
    calib.initialize(model, [x])
    lsq_export.quantizers(model)["3.weight"].set_grid(1e6)
    folded = fold(capture(model, x), [x])
    outputs = evaluate(folded.model.graph, x)[0].numpy()
    assert np.abs(outputs - net[3].bias.detach().numpy()).max() < 1e-6


class Places(nn.Module):
    """Where a map is largest, beside the map."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.conv(x)
        return y, y.flatten(1).argmax(1)


def test_integers_among_outputs_are_the_same_or_not_and_no_signals(tmp_path: Path) -> None:
    torch.manual_seed(0)
    batches = [torch.randn(16, 3, 8, 8) for _ in range(4)]
    model = lsq_export.calibrate(Places(), batches)
    parity = lsq_export.export(model, batches[0], tmp_path / "bundle", calibration=batches).parity
    assert parity is not None and parity.folded_sqnr_db > 40
    (name,) = parity.same_integers
    assert name == "output_1" and parity.same_integers[name] > 0.9
    assert {part.output for part in parity.parts} == {"output_0"}


def test_python_warns_where_the_verdict_is_more_than_that_all_promises_hold(tmp_path: Path) -> None:
    """Whoever does not print the parity hears of it, at a line of his own."""
    torch.manual_seed(0)
    batches = [torch.randn(16, 3, 8, 8) for _ in range(4)]
    model = lsq_export.calibrate(Places(), batches)
    with torch.no_grad():
        model.conv.bias[0] += 1e4  # one grid for all channels: the others are lost in it
    with pytest.warns(lsq_export.ParityWarning, match="LOST") as heard:
        bundle = lsq_export.export(model, batches[0], tmp_path / "bundle", calibration=batches)
    with pytest.warns(lsq_export.ParityWarning, match="LOST"):
        lsq_export.verify(model, bundle, batches)
    assert {Path(one.filename).name for one in heard} == {"test_export.py"}
