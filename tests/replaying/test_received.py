"""What can be checked of a bundle without PyTorch, and what is found of one that was changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from calib.errors import DamagedError
from lsq_export.bundle.sums import write_sums
from lsq_export.replaying.received import check_received
from support.exported import Exported
from support.sabotage import change


def test_a_whole_bundle_holds(exported: Exported) -> None:
    found = check_received(exported.bundle, exported.inputs)
    assert found.ok and not found.changed and found.images == 26
    assert found.golden == {"qdq": 0, "qoperator": 0} and {*found.outputs} == {"qdq", "qoperator"}
    assert found.inside is not None and found.inside.differing == 0 and found.inside.elements > 100_000


def test_a_changed_file_that_is_not_needed_is_named(exported: Exported, tmp_path: Path) -> None:
    bundle = exported.copy(tmp_path)
    (bundle.directory / "README.md").write_text("something else", encoding="utf-8")
    found = check_received(bundle)
    assert not found.ok and found.changed == ("README.md",)


def test_a_changed_file_that_is_needed_is_an_error(exported: Exported, tmp_path: Path) -> None:
    bundle = exported.copy(tmp_path)
    bundle.models["qoperator"].write_bytes(b"")
    with pytest.raises(DamagedError, match=r"qoperator/model\.onnx is not what was exported"):
        check_received(bundle)


def test_golden_outputs_that_are_none_are_found(exported: Exported, tmp_path: Path) -> None:
    """Also where somebody made the sums anew."""
    bundle = exported.copy(tmp_path)
    path = bundle.directory / "qoperator/test_data_set_0/output_0.pb"
    tensor = onnx.load_tensor(path)
    values = numpy_helper.to_array(tensor).copy()
    values[0, 0] += np.float32(1)
    path.write_bytes(numpy_helper.from_array(values, tensor.name).SerializeToString())
    write_sums(bundle.directory)
    found = check_received(bundle)
    assert not found.ok and not found.changed and found.golden == {"qdq": 0, "qoperator": 1}


def test_a_bias_that_moved_is_found(exported: Exported, tmp_path: Path) -> None:
    bundle = exported.copy(tmp_path)
    path = bundle.models["qoperator"]
    proto = onnx.load(path)
    change(proto, "conv2.bias.codes", lambda bias: bias + np.int32(1000))
    onnx.save(proto, path)
    write_sums(bundle.directory)
    found = check_received(bundle)
    assert not found.ok and found.golden["qoperator"] > 0
