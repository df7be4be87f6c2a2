"""Whatever a forward calls: pools, masks, selections, norms, functions of one value; which of them are islands.

ONNX Runtime is held against the fake-quant model in float64, which nothing of the product computes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import calib
import lsq_export
from lsq_export.graph.capture import capture
from lsq_export.graph.islands import islands
from lsq_export.rewrite.emit import emit_all
from lsq_export.rewrite.fold import fold
from lsq_export.targets import get
from lsq_export.verification.checking import Subject, check
from support.networks import Wired, inputs

EIGHT = lsq_export.QATConfig(weight_bits=8, activation_bits=8)
CAUSAL = torch.ones(9, 9).tril().bool()
Function = Callable[[torch.Tensor], torch.Tensor]


def ramp(*shape: int) -> torch.Tensor:
    return torch.linspace(-1, 1, int(np.prod(shape))).reshape(shape)


def attention(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Written by hand, with a mask of numbers that is added."""
    return F.softmax(x @ x.transpose(2, 3) / 3 + mask, -1) @ x


# {name: (function of [N, 4, 9, 9], islands)}
POOLS: dict[str, tuple[Function, Sequence[str]]] = {
    "last windows cut off": (lambda x: F.avg_pool2d(x, 2, 2, ceil_mode=True), ()),
    "cut off, pads that count": (lambda x: F.avg_pool2d(x, 4, 3, 1, ceil_mode=True), ()),
    "cut off, pads that do not": (lambda x: F.avg_pool2d(x, 4, 3, 1, ceil_mode=True, count_include_pad=False), ()),
    "divisor": (lambda x: F.avg_pool2d(x, 3, 2, 1, divisor_override=5), ()),
    "divisor, cut off": (lambda x: F.avg_pool2d(x, 2, 2, ceil_mode=True, divisor_override=3), ()),
    "one axis": (lambda x: F.avg_pool1d(x.flatten(2), 4, 3, ceil_mode=True), ()),
    "adaptive, whole windows": (lambda x: F.adaptive_avg_pool2d(x, 3), ()),
    "adaptive": (lambda x: F.adaptive_avg_pool2d(x, (4, 5)), ()),
    "adaptive, one axis": (lambda x: F.adaptive_avg_pool1d(x.flatten(2), 7), ()),
    "adaptive maxima": (lambda x: F.adaptive_max_pool2d(x, 4), ()),
}
MASKS: dict[str, tuple[Function, Sequence[str]]] = {
    "causal": (lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True), ("Add", "Softmax")),
    "added mask": (lambda x: attention(x, torch.zeros(9, 9).masked_fill(~CAUSAL, -1e9)), ("Add", "Mul", "Softmax")),
    "infinite mask": (
        lambda x: attention(x, torch.zeros(9, 9).masked_fill(~CAUSAL, -torch.inf)),
        ("Add", "Mul", "Softmax"),
    ),
    "position bias": (lambda x: attention(x, ramp(4, 9, 9)), ("Add", "Mul", "Softmax")),
    "masked_fill": (lambda x: x.masked_fill(CAUSAL, 0.5), ("Where",)),
    "einsum": (lambda x: torch.einsum("bchw,bcwk->bchk", x, x), ()),
    "addmm": (lambda x: torch.addmm(ramp(5), x.flatten(1), ramp(324, 5), alpha=0.1, beta=0.5), ()),
    "float and integer bounds": (lambda x: x.clamp(0.1, 900), ()),
    "bounds off the grid": (lambda x: x.clamp(-0.123, 0.456), ()),
}
FUNCTIONS: dict[str, tuple[Function, Sequence[str]]] = {
    "celu": (lambda x: F.celu(x, 0.7), ("Celu",)),
    "selu": (F.selu, ("Selu",)),
    "hardshrink": (F.hardshrink, ("LessOrEqual", "Where")),
    "threshold": (lambda x: F.threshold(x, 0.1, 0.2), ("LessOrEqual", "Where")),
    "group norm": (lambda x: F.group_norm(x, 2), ()),
    "layer norm without parameters": (lambda x: F.layer_norm(x, (9,)), ("LayerNormalization",)),
}


def network(function: Function) -> nn.Module:
    y = function(torch.zeros(2, 4, 9, 9))
    flat = y.dim() != 4 or y.shape[2] < 3
    last: nn.Module = nn.Linear(y[0].numel(), 5) if flat else nn.Conv2d(y.shape[1], 4, 3, padding=1)
    return Wired(
        lambda s, x: s.b(function(s.a(x)).flatten(1) if flat else function(s.a(x))),
        a=nn.Conv2d(3, 4, 3, padding=1),
        b=last,
    )


def held(function: Function, least: float = 30.0) -> list[str]:
    """The islands; the promises hold, and ONNX Runtime is at least that many dB from the fake-quant model."""
    torch.manual_seed(0)
    model = lsq_export.prepare(network(function).eval(), EIGHT, example=inputs(4, 1))
    calib.initialize(model, [inputs(16, 1)], method="minmax")
    made = fold(capture(model, inputs(2, 1)), [inputs(16, 1)])
    files = emit_all(made, ("qdq", "qoperator"), get("ort-cpu"))
    test = inputs(16, 2)
    parity = check(Subject.of(made, files, "ort-cpu"), [test], model=model)
    assert parity.ok, parity.failures
    assert parity.capture_error is not None and parity.capture_error < 1e-5
    with torch.no_grad():
        expected = copy.deepcopy(model).double()(test.double()).numpy()
    for file in files.values():
        session = ort.InferenceSession(file.SerializeToString(), providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {session.get_inputs()[0].name: test.numpy()})
        noise = ((found - expected) ** 2).sum() / (expected**2).sum()
        assert 10 * np.log10(noise) < -least
    return sorted(island.operator for island in islands(made.model.graph))


@pytest.mark.parametrize("name", POOLS)
def test_pools_are_integers(name: str) -> None:
    function, expected = POOLS[name]
    assert held(function) == list(expected)


@pytest.mark.parametrize("name", MASKS)
def test_masks_stay_with_the_softmax(name: str) -> None:
    function, expected = MASKS[name]
    assert held(function) == list(expected)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_islands_or_integers(name: str) -> None:
    function, expected = FUNCTIONS[name]
    assert held(function) == list(expected)
