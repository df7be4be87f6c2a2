"""Files of thirteen tools (tests/adoption/samples/): what is adopted computes what the file computes, and its tool."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from calib.errors import QuantizationError, QuantizationWarning
from lsq_export import adopt
from lsq_export.graph.read import is_marker
from support.adopted import (
    ADOPTED,
    REFUSED,
    SAMPLES,
    SIMULATED,
    UNLIMITED,
    adopted_outputs,
    differing,
    file_outputs,
    inputs,
    read,
)

# 16-bit grids stay operators of the file, and 5 of 160 sums lie next to one of their ties.
TIES = {"onnxruntime/qdq_u16s8": 6}
ONE_A_TOOL = (
    "aimet-onnx/w4a4_qdq",
    "amd-quark-onnx/a16w8",
    "amd-quark-torch/minmax4_fx",
    "brevitas/qonnx_torchscript",
    "mct/qat_fakely_quant",
    "neural-compressor/static_dynamo",
    "nncf/onnx_ptq8",
    "nvidia-modelopt/onnx_int8",
    "olive/static_w4",
    "onnxruntime/qoperator_u8s8",
    "torch-fx-qat/qat8_torchscript",
    "torchao-pt2e-qat/x86_converted",
)


def test_there_are_files_of_every_tool() -> None:
    assert len(ADOPTED) >= 38
    assert len({name.partition("/")[0] for name in ADOPTED}) == 13


@pytest.mark.parametrize("name", ADOPTED)
def test_what_is_adopted_computes_what_the_file_computes(name: str) -> None:
    network, x = read(name), inputs()
    assert any(is_marker(node) for node in network.captured.model.graph)
    assert differing(adopted_outputs(network, x), file_outputs(network, x)) <= TIES.get(name, 0)


@pytest.mark.parametrize("name", SIMULATED)
def test_what_is_adopted_computes_what_the_tool_simulates(name: str) -> None:
    expected = np.load(SAMPLES / f"{SIMULATED[name]}.npz")["output_0"]
    assert differing(adopted_outputs(read(name), inputs()), expected) == 0


def test_another_scale_is_seen(tmp_path: Path) -> None:
    """The comparison above can fail: one grid that is a twentieth wider makes other outputs."""
    network, x = read("onnxruntime/qdq_u8s8_perchannel"), inputs()
    graph = network.captured.model.graph
    scale = next(value for name, value in graph.initializers.items() if name == "relu.scale")
    assert scale.const_value is not None
    scale.const_value.numpy()[...] *= 1.05
    assert differing(adopted_outputs(network, x), file_outputs(network, x)) > 5


def _check_export(name: str, out: Path) -> None:
    with pytest.warns(QuantizationWarning, match="only a type of 8 limits") if name in UNLIMITED else nullcontext():
        bundle = adopt(SAMPLES / f"{name}.onnx", out, calibration=[inputs()])
    assert bundle.parity is not None and bundle.parity.ok
    assert bundle.parity.capture_error is not None and bundle.parity.capture_error < 1e-5
    assert bundle.manifest["source"]["file"] == f"{name.rpartition('/')[2]}.onnx"


def test_a_reference_graph_that_is_no_valid_onnx_never_leaves(tmp_path: Path) -> None:
    network = read("onnxruntime/qdq_u8s8_perchannel")
    model = network.captured.model
    given = model.graph.opset_imports
    given.pop("lsq_export")  # of which the reference graph has nodes
    with pytest.raises(QuantizationError, match=r"trained.onnx is no valid ONNX .*lsq_export"):
        adopt(network, tmp_path / "out", calibration=[inputs()])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ONE_A_TOOL)
def test_all_promises_hold(name: str, tmp_path: Path) -> None:
    _check_export(name, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ADOPTED if name not in ONE_A_TOOL])
def test_all_promises_hold_of_the_others(name: str, tmp_path: Path) -> None:
    _check_export(name, tmp_path / "out")


@pytest.mark.parametrize("name", REFUSED)
def test_what_holds_no_integers_is_refused(name: str) -> None:
    with pytest.raises(QuantizationError, match=r"float network|TensorRT's own|mct-quantizers") as error:
        read(name)
    assert "\n" not in str(error.value) and f"{name.rpartition('/')[2]}.onnx" in str(error.value)
