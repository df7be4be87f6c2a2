"""The whole fold, network by network: every promise holds on the exported files, or the network is refused by name."""

from __future__ import annotations

import networks
import numpy as np
import onnx
import pytest
import torch
from networks import ZOO, Case, Conv, captured, folded, inputs, three, train, trained
from torch import nn

from calib import QuantizationError
from lsq_export.capture import capture
from lsq_export.emit import emit_all
from lsq_export.fold import Folded, fold
from lsq_export.parity import Parity
from lsq_export.targets import ORT_CPU
from lsq_export.verify import check


def verified(model: nn.Module, made: Folded, shape: tuple[int, ...] = networks.SHAPE) -> tuple[dict[str, onnx.ModelProto], Parity]:
    files = emit_all(made, ("qdq", "qoperator"), ORT_CPU)
    return files, check(model, made.trained, made.model, files, ORT_CPU.name, [inputs(8, 2, shape, spread=3.0), inputs(8, 5, shape, spread=0.5)])


@pytest.mark.parametrize("name", ZOO)
def test_every_promise_holds(name: str):
    files, parity = verified(trained(name), folded(name))
    assert parity.ok, parity.failures
    for found in parity.formats.values():
        assert (found.reference_mismatch, found.accumulator_mismatch, found.output_mismatch, found.altered) == (0, 0, 0, ())
    for file in files.values():
        onnx.checker.check_model(file, full_check=True)
    assert all(layer.largest <= 1 for layer in parity.formats["qoperator"].layers)
    wanted = [(value.name, list(value.shape)[1:]) for value in captured(name).model.graph.outputs]
    for file in files.values():  # the outside keeps the names and shapes that it knows
        assert [(o.name, [d.dim_value for d in o.type.tensor_type.shape.dim][1:]) for o in file.graph.output] == wanted
