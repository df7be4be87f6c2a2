"""qat.output_edges: what the fold rounds at outputs is rounded in training, and the fold has nothing to calibrate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import calib
import lsq_export
from calib.folding.edge_grid import TANH
from lsq_export.rewrite.emit import emit_all
from lsq_export.rewrite.fold import Folded, fold
from lsq_export.targets import ORT_CPU
from lsq_export.verification.checking import Subject, check
from support import networks
from support.networks import Conv, Wired, inputs

EIGHT = {"weight_bits": 8, "activation_bits": 8, "edges": "trained"}
Forward = Callable[[Any, torch.Tensor], Any]
# name: (forward, quantizers of edges)
CASES: dict[str, tuple[Forward, set[str]]] = {
    "a convolution": (lambda s, x: s.a(x), {"a"}),
    "after a norm": (lambda s, x: s.norm(s.a(x)), {"norm"}),
    "flattened": (lambda s, x: s.a(x).flatten(1), {"flatten"}),
    "transposed": (lambda s, x: s.a(x).transpose(2, 3), {"a"}),
    "clamped": (lambda s, x: F.relu(s.a(x)), {"relu"}),
    "sigmoid": (lambda s, x: torch.sigmoid(s.a(x)), {"a", "sigmoid"}),
    "tanh": (lambda s, x: torch.tanh(s.a(x)), {"a", "tanh"}),
    "a mean": (lambda s, x: s.a(x).mean(1), {"a", "mean"}),
    "times a number": (lambda s, x: s.a(x) * 0.5, {"a"}),
    "a linear layer": (lambda s, x: s.last(x), set()),
    "a linear layer, moved": (lambda s, x: s.last(x).permute(0, 2, 1, 3).flatten(2), set()),
    "a float function": (lambda s, x: s.last(x).softmax(-1), {"last"}),
    "parts": (
        lambda s, x: torch.cat([(y := s.a(x)).flatten(1), torch.sigmoid(s.c(y)).flatten(1)], 1),
        {"a", "flatten", "c", "flatten_1"},
    ),
    "read inside as well": (lambda s, x: (y := F.relu(s.a(x)), s.c(y).mean((2, 3)))[::-1], {"relu", "c", "mean"}),
}  # fmt: skip


def made(name: str) -> tuple[nn.Module, Folded, set[str]]:
    torch.manual_seed(3)
    forward, _ = CASES[name]
    layers = {"a": Conv(3, 4, 3, padding=1), "b": Conv(3, 2, 1), "c": Conv(4, 2, 1), "last": nn.Linear(9, 5)}
    used = {layer: module for layer, module in layers.items() if layer in forward.__code__.co_names}
    norm = {"norm": nn.BatchNorm2d(4)} if "norm" in forward.__code__.co_names else {}
    model = lsq_export.prepare(Wired(forward, **used, **norm).eval(), lsq_export.QATConfig(**EIGHT))
    calib.initialize(model, [inputs(16, 1)], "minmax")
    edges = {q.removeprefix("edges.") for q in lsq_export.quantizers(model) if q.startswith("edges.")}
    return model, fold(networks.quick_capture(model), [inputs(16, 1)]), edges


@pytest.mark.parametrize("name", CASES)
def test_the_fold_has_nothing_to_calibrate(name: str) -> None:
    model, folded, edges = made(name)
    assert edges == CASES[name][1]
    assert [d.name for d in folded.tensors if d.kind == "edge"] == []
    parity = check(
        Subject.of(folded, emit_all(folded, ("qdq", "qoperator"), ORT_CPU), "ort-cpu"), [inputs(8, 2)], model=model
    )
    assert parity.ok, parity.failures
    assert parity.folded_sqnr_db > 55, parity.folded_sqnr_db  # rounding outputs to 8 bits leaves some 45


def test_the_grid_of_a_tanh_is_that_of_its_codes_whatever_the_data() -> None:
    model, _, _ = made("tanh")
    quantizer = lsq_export.quantizers(model)["edges.tanh"]
    assert (float(quantizer.scale), float(quantizer.effective_offset)) == pytest.approx((1 / 127, -1.0), rel=1e-6)
    assert not quantizer.scale.requires_grad and not quantizer.offset.requires_grad
    with torch.no_grad():
        values = np.unique(model(inputs(8, 2)).numpy()) * 127
    assert np.abs(values - np.rint(values)).max() < 1e-4 and TANH.zero_point == 127
