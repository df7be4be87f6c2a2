"""All tensors inside, of files that are right and of one that was changed on purpose."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

import lsq_export
from calib.errors import QuantizationError
from lsq_export.replaying import runtime
from lsq_export.replaying.expected import Reference
from lsq_export.replaying.inside import inside_of
from lsq_export.replaying.processes import Place, Ran
from support.exported import Exported

from .test_probing import broken

ORT = runtime.get("onnxruntime")


class Flipping(Place):
    """A runtime that rounds one code of a tensor in the middle to the other side, and goes on with it."""

    def run(self, runtime: Any, model: onnx.ModelProto, feeds: Any, batch: int) -> Ran:
        ran = super().run(runtime, model, feeds, batch)
        values = {name: np.array(value) for name, value in ran.outputs.items()}
        name = list(values)[len(values) // 2]
        step = np.unique(np.abs(np.diff(np.unique(values[name])))).min()
        values[name].flat[0] += step if values[name].flat[0] < values[name].max() else -step
        return Ran("ran", outputs=values)


@pytest.mark.parametrize("name", ["qdq", "qoperator"])
def test_a_right_file_has_no_difference(exported: Exported, name: str) -> None:
    reference = Reference(exported.bundle)
    found = inside_of(Place(), ORT, reference.task(name, exported.inputs), reference, 2)
    assert found.difference is not None and found.alone is not None and found.images == 2 and found.tensors > 8
    assert found.difference.differing == found.alone.differing == 0 and found.differing == ()
    assert found.difference.elements == found.alone.elements > 1000
    assert found.line.startswith("inside: 0 of ") and found.line.endswith("differ, on 2 inputs")


def test_one_flipped_code_is_one_where_operators_are_given_the_same(exported: Exported) -> None:
    reference = Reference(exported.bundle)
    found = inside_of(Flipping(), ORT, reference.task("qdq", None), reference, 2)
    assert found.difference is not None and found.alone is not None
    assert found.difference.differing == 1 <= found.alone.differing  # what reads it was not computed with it
    assert len(found.differing) >= 1 and found.alone.largest >= 1


def test_a_layer_that_was_changed_is_the_only_one_where_operators_are_given_the_same(exported: Exported) -> None:
    """The layers behind it compute what they should of what they get."""
    reference = Reference(exported.bundle)
    found = inside_of(Place(), ORT, broken(reference.task("qoperator", None), "conv2"), reference, 2)
    assert found.difference is not None and found.alone is not None
    assert 0 < found.alone.differing < found.difference.differing and len(found.differing) == 1
    assert f"; {found.alone.differing:,} if each operator is given the same integers" in found.line


def test_a_runtime_that_does_not_run_it_says_why(exported: Exported) -> None:
    reference = Reference(exported.bundle)
    task = reference.task("qoperator", None)
    found = inside_of(Place(), runtime.get("reference"), task, reference, 1)
    assert found.difference is None and "com.microsoft" in found.line and found.line.startswith("inside: ")


def test_replay_compares_what_is_inside(exported: Exported) -> None:
    found = lsq_export.replay(exported.bundle, "onnxruntime", inputs=exported.inputs, inside=3)
    assert found.ok and all(run.inside is not None and run.inside.images == 3 for run in found.runs)
    with pytest.raises(QuantizationError, match=r"^inside is 0: give a number of samples"):
        lsq_export.replay(exported.bundle, "onnxruntime", inside=0)
