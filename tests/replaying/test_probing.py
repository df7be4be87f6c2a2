"""The first tensor inside that differs, of files that were changed on purpose."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from lsq_export.replaying import runtime
from lsq_export.replaying.expected import Reference, Task
from lsq_export.replaying.probing import Probe
from lsq_export.replaying.processes import Place, Ran
from support.exported import Exported

ORT = runtime.get("onnxruntime")


def broken(task: Task, layer: str) -> Task:
    """The same, with the bias of a layer moved by 1,000 units."""
    file = onnx.ModelProto()
    file.CopyFrom(task.file)
    (bias,) = (tensor for tensor in file.graph.initializer if tensor.name == f"{layer}.bias.codes")
    moved = numpy_helper.to_array(bias) + np.int32(1000)
    bias.CopyFrom(numpy_helper.from_array(moved, bias.name))
    return replace(task, file=file)


class Fusing(Place):
    """A runtime that computes something else unless more than one further output is asked for."""

    def run(self, runtime: Any, model: onnx.ModelProto, feeds: Any, batch: int) -> Ran:
        ran = super().run(runtime, model, feeds, batch)
        many = len(model.graph.output) > 2
        return replace(ran, outputs={k: v + 1 if k == "output" and many else v for k, v in ran.outputs.items()})


@pytest.mark.parametrize("name", ["qdq", "qoperator"])
@pytest.mark.parametrize("place", [Place(), Fusing()], ids=["at once", "one by one"])
def test_the_layer_that_was_changed_is_named(exported: Exported, name: str, place: Place) -> None:
    reference = Reference(exported.bundle)
    task = broken(reference.task(name, None), "conv2")
    plain = Place().run(ORT, task.file, task.feeds, task.batch)
    found = Probe(place, ORT, task, reference).first(plain.outputs)
    assert found is not None and found.difference.differing > 0
    assert found.made_by.split() == ["QLinearConv" if name == "qoperator" else "Conv", "conv2"]
    assert found.alone is isinstance(place, Fusing) and found.before


@pytest.mark.parametrize("name", ["qdq", "qoperator"])
def test_all_tensors_of_a_right_file_are_equal(exported: Exported, name: str) -> None:
    reference = Reference(exported.bundle)
    task = reference.task(name, None)
    plain = Place().run(ORT, task.file, task.feeds, task.batch)
    probe = Probe(Place(), ORT, task, reference)
    assert probe.first(plain.outputs) is None
    assert len(probe._shown) > 8  # there was something to see
