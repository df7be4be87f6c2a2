"""ONNX files with a second file for large constants; the limit is made small here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import calib
import lsq_export
from calib.errors import DamagedError
from lsq_export.files import large_onnx
from lsq_export.verification.runtime import Session


@pytest.fixture(autouse=True)
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_onnx, "LIMIT", 4000)


def model(size: int = 40) -> onnx.ModelProto:
    """y = x @ w + b: w is large where size² floats are, b is not."""
    rng = np.random.default_rng(0)
    w, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((size, size), (size,)))
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Add", ["p", "b"], ["y"])]
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size])] for name in ("x", "y")]
    constants = [numpy_helper.from_array(w, "w"), numpy_helper.from_array(b, "b")]
    graph = helper.make_graph(nodes, "g", *ends, initializer=constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="test")


def same_constants(a: onnx.ModelProto, b: onnx.ModelProto) -> bool:
    values = ({t.name: numpy_helper.to_array(t) for t in proto.graph.initializer} for proto in (a, b))
    ours, theirs = values
    return ours.keys() == theirs.keys() and all(np.array_equal(ours[name], theirs[name]) for name in ours)


def reader(folder: Path) -> Callable[[str], bytes]:
    return lambda name: (folder / name).read_bytes()


def test_a_small_model_is_one_file(tmp_path: Path) -> None:
    proto = model(8)
    large_onnx.save(proto, tmp_path / "m.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"] and onnx.load(tmp_path / "m.onnx") == proto
    assert large_onnx.size_of(tmp_path / "m.onnx") == (tmp_path / "m.onnx").stat().st_size


def test_a_large_one_has_a_second_file_that_every_reader_finds(tmp_path: Path) -> None:
    proto, x = model(), np.ones((2, 40), np.float32)
    before = proto.SerializeToString(deterministic=True)
    path = tmp_path / "m.onnx"
    large_onnx.save(proto, path)
    assert proto.SerializeToString(deterministic=True) == before  # as it was
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]
    assert large_onnx.size_of(path) == sum(p.stat().st_size for p in tmp_path.iterdir())
    onnx.checker.check_model(path)
    assert same_constants(onnx.load(path), proto)  # onnx reads both
    expected = onnxruntime.InferenceSession(before).run(None, {"x": x})[0]
    assert np.array_equal(onnxruntime.InferenceSession(str(path)).run(None, {"x": x})[0], expected)
    assert np.array_equal(Session(proto).run(x)["y"], expected)  # from memory
    found = onnx.load(path, load_external_data=False)
    large_onnx.fill(found, "m.onnx", reader(tmp_path))
    assert found == proto


def test_the_skeleton_shows_what_is_wrong_with_nodes() -> None:
    onnx.checker.check_model(large_onnx.skeleton(model()))
    broken = model()
    broken.graph.node[0].input[1] = "nothing"
    with pytest.raises(onnx.checker.ValidationError):
        onnx.checker.check_model(large_onnx.skeleton(broken))


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("location", "../other.data", "lies in another file"),
        ("location", "/etc/passwd", "lies in another file"),
        ("offset", "-1", "offset of a constant is '-1'"),
        ("offset", "99999999", "is not whole"),
        ("length", "4", "is not whole"),
        ("length", "", "length of a constant is ''"),
    ],
)
def test_a_place_that_no_export_writes_is_an_error(key: str, value: str, says: str, tmp_path: Path) -> None:
    large_onnx.save(model(), tmp_path / "m.onnx")
    found = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    (entry,) = (e for e in found.graph.initializer[0].external_data if e.key == key)
    entry.value = value
    with pytest.raises(ValueError, match=says):
        large_onnx.fill(found, "m.onnx", reader(tmp_path))


def test_a_bundle_of_large_files_is_verified_replaced_and_guarded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(8, 40)
    net = lsq_export.prepare(
        nn.Sequential(nn.Linear(40, 80), nn.ReLU(), nn.Linear(80, 80), nn.ReLU(), nn.Linear(80, 4))
    )
    calib.initialize(net, [x], method="minmax")
    for force in (False, True):
        bundle = lsq_export.export(net, x[:1], tmp_path / "out", calibration=[x], force=force)
    second = bundle.directory / "qoperator" / "model.onnx.data"
    assert second.exists() and (bundle.directory / "reference" / "trained.onnx.data").exists()
    assert lsq_export.verify(net, bundle, [x]).ok
    assert bundle.manifest["formats"]["qoperator"]["bytes"] == large_onnx.size_of(bundle.models["qoperator"])
    content = bytearray(second.read_bytes())
    content[7] ^= 1
    second.write_bytes(content)
    with pytest.raises(DamagedError, match=r"qoperator/model\.onnx\.data"):
        lsq_export.verify(net, bundle, [x])
