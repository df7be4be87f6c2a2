"""What has to come out of a bundle, by its golden vectors and the integer reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calib.errors import DamagedError, QuantizationError
from lsq_export.replaying.expected import Reference
from support.exported import Exported


def test_golden_vectors_are_the_task(exported: Exported) -> None:
    task = Reference(exported.bundle).task("qdq", None)
    assert task.images == task.batch == 2 and {*task.golden} == {"output"}


def test_inputs_are_run_besides(exported: Exported) -> None:
    reference = Reference(exported.bundle)
    golden, task = reference.task("qdq", None), reference.task("qdq", exported.inputs)
    assert task.images == golden.images + len(exported.inputs) > 16  # in more than one portion
    (name,) = task.feeds
    again = reference.tensors(task.feeds, ["output"])["output"]
    assert np.array_equal(task.feeds[name][2:], exported.inputs)
    assert np.array_equal(task.golden["output"], again)  # also of the golden inputs


def test_a_bundle_without_exact_operators_has_a_reference(exported: Exported) -> None:
    """What the folded model prescribes is what export writes."""
    reference = Reference(exported.bundle)
    assert reference._prescribed().graph.node == reference.proto().graph.node


@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (0, 1, 16, 16)])
def test_inputs_that_do_not_fit(exported: Exported, shape: tuple[int, ...]) -> None:
    with pytest.raises(QuantizationError, match=r"the network takes \['N', 1, 16, 16\]: give at least one$"):
        Reference(exported.bundle).task("qdq", np.zeros(shape, np.float32))
    with pytest.raises(QuantizationError, match=r"^the network takes input: the data have x$"):
        Reference(exported.bundle).task("qdq", {"x": exported.inputs})


def test_a_changed_file_is_not_run(exported: Exported, tmp_path: Path) -> None:
    bundle = exported.copy(tmp_path)
    path = bundle.models["qdq"]
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(DamagedError, match=r"qdq/model\.onnx is not what was exported"):
        Reference(bundle).task("qdq", None)
