"""Files of encodings beside a float network, of all three versions: the same grids as in AIMET's own QDQ file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from calib.errors import QuantizationError
from lsq_export import adopt
from lsq_export.adoption.network import read_quantized
from lsq_export.graph.read import array_of, attribute, is_marker
from support.adopted import SAMPLES, adopted_outputs, differing, inputs

AIMET = SAMPLES / "aimet-onnx"
VERSIONS = ("0.6.1", "1.0.0", "2.0.0")


@pytest.fixture(scope="module")
def floats(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """{bits: the network without its grids}, as AIMET writes it beside encodings, with the same names of tensors."""
    directory = tmp_path_factory.mktemp("floats")
    return {bits: _without_grids(AIMET / f"w{bits}a{bits}_qdq_floatbias.onnx", directory) for bits in (4, 8)}


def _without_grids(file: Path, directory: Path) -> Path:
    model = onnx.load(file)
    given = {name: node.input[0] for node in model.graph.node for name in node.output if "Linear" in node.op_type}

    def source(name: str) -> str:
        while name in given:
            name = given[name]
        return name

    for node in model.graph.node:
        node.input[:] = [source(name) for name in node.input]
    for output in model.graph.output:
        last = next(node for node in model.graph.node if node.output[0] == source(output.name))
        last.output[0] = output.name
    kept = [node for node in model.graph.node if "Linear" not in node.op_type]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    onnx.save(model, directory / file.name)
    return directory / file.name


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("version", VERSIONS)
def test_the_network_computes_what_aimet_simulates(floats: dict[int, Path], version: str, bits: int) -> None:
    network = read_quantized(floats[bits], AIMET / f"w{bits}a{bits}_enc{version}.encodings")
    expected = np.load(AIMET / f"w{bits}a{bits}.outputs.npz")["output_0"]
    assert differing(adopted_outputs(network, inputs()), expected) == 0


def test_all_versions_have_the_same_grids(floats: dict[int, Path]) -> None:
    found = []
    for version in VERSIONS:
        graph = read_quantized(floats[4], AIMET / f"w4a4_enc{version}.encodings").captured.model.graph
        markers = {attribute(node, "quantizer"): node for node in graph if is_marker(node)}
        found.append(
            {
                name: (attribute(m, "qmin"), attribute(m, "qmax"), np.asarray(array_of(m.inputs[1])).tolist())
                for name, m in markers.items()
                if name != "view"  # version 2 has one for the reshaped tensor, too
            }
        )
    assert found[0] == found[1] == found[2] and len(found[0]) == 11


def test_it_becomes_a_bundle(floats: dict[int, Path], tmp_path: Path) -> None:
    encodings = AIMET / "w4a4_enc1.0.0.encodings"
    bundle = adopt(floats[4], tmp_path / "out", encodings=encodings, calibration=[inputs()])
    assert bundle.parity is not None and bundle.parity.ok and bundle.parity.folded_sqnr_db > 100


def test_grids_of_tensors_that_are_not_there_are_named() -> None:
    network = read_quantized(SAMPLES / "aimet-torch" / "encodings.onnx", AIMET / "w4a4_enc1.0.0.encodings")
    assert {"input", "relu", "val_15"} <= {left.name for left in network.left if "no such tensor" in left.why}


@pytest.mark.parametrize("version", ["0.6.1", "1.0.0", "2.0.0"])
def test_offsets_may_differ_from_channel_to_channel(floats: dict[int, Path], tmp_path: Path, version: str) -> None:
    """Asymmetric weights: codes 0 … 15 less 8, 5, 8, …"""
    content = json.loads((AIMET / f"w4a4_enc{version}.encodings").read_text())
    weights = content["encodings"] if version == "2.0.0" else content["param_encodings"]
    entry = weights["conv1.weight"] if version == "0.6.1" else next(e for e in weights if e["name"] == "conv1.weight")
    offsets = [-8, -5] * 4
    if version == "2.0.0":
        entry |= {"y_zero_point": [8, 5] * 4, "output_dtype": "uint4"}
    elif version == "1.0.0":
        entry["offset"] = offsets
    else:
        for part, offset in zip(entry, offsets, strict=True):
            part["offset"] = offset
    (tmp_path / "net.encodings").write_text(json.dumps(content))
    graph = read_quantized(floats[4], tmp_path / "net.encodings").captured.model.graph
    marker = next(node for node in graph if is_marker(node) and attribute(node, "kind") == "weight")  # of conv1
    weight = {v.name: v for v in onnx.load(floats[4]).graph.initializer}["conv1.weight"]
    scale, low = np.asarray(array_of(marker.inputs[1])).reshape(-1, 1, 1, 1), np.reshape(offsets, (-1, 1, 1, 1))
    expected = np.rint(onnx.numpy_helper.to_array(weight) / scale).clip(low, low + 15) * scale
    np.testing.assert_allclose(array_of(marker.inputs[0]), expected, atol=1e-7)
    assert (np.rint(expected / scale).min(axis=(1, 2, 3)) == low[:, 0, 0, 0]).sum() >= 4  # these are cut off


def test_scales_of_parts_of_a_channel_leave_a_weight_float(floats: dict[int, Path], tmp_path: Path) -> None:
    content = json.loads((AIMET / "w4a4_enc1.0.0.encodings").read_text())
    entry = next(e for e in content["param_encodings"] if e["name"] == "conv1.weight")
    entry |= {"scale": entry["scale"] * 3, "offset": entry["offset"] * 3}
    (tmp_path / "net.encodings").write_text(json.dumps(content))
    left = {entry.name: entry.why for entry in read_quantized(floats[4], tmp_path / "net.encodings").left}
    assert left["conv1.weight"] == "its encoding has scales for other parts than its output channels"


def _changed(tmp_path: Path, change: str) -> Path:
    content = json.loads((AIMET / "w4a4_enc1.0.0.encodings").read_text())
    path = tmp_path / "net.encodings"
    if change == "no JSON":
        path.write_text("grids")
        return path
    if change == "another version":
        content["version"] = "3.0.0"
    elif change == "a scale of zero":
        content["activation_encodings"][0]["scale"] = [0.0]
    elif change == "a list":
        content = [content]
    elif change == "no offset":
        del content["activation_encodings"][0]["offset"]
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("change", ["no JSON", "another version", "a scale of zero", "a list", "no offset"])
def test_files_that_cannot_be_read(floats: dict[int, Path], tmp_path: Path, change: str) -> None:
    with pytest.raises(QuantizationError, match=r"encodings .*net.encodings cannot be read") as error:
        read_quantized(floats[4], _changed(tmp_path, change))
    assert "\n" not in str(error.value)
