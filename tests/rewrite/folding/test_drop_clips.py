"""ends: where an end of the container is the clip, every tensor keeps its values, and no code passes the other end."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from calib.errors import QuantizationError
from lsq_export import integer
from lsq_export.graph.capture import Captured
from lsq_export.inspection.tensors import inspect_model
from lsq_export.rewrite.contract.decisions import TensorDecision
from lsq_export.rewrite.emit import emit_all
from lsq_export.rewrite.fold import Folded, fold
from lsq_export.rewrite.folding import drop_clips as ends
from lsq_export.rewrite.folding import unspread
from lsq_export.targets import get
from lsq_export.verification.checking import Subject, check
from support.networks import Case, Conv, Wired, inputs, operators, quick_capture, train, values
from support.passes import leave_out, unwatched

FORMATS = ("qdq", "qoperator")


def squeeze(s: Any, x: torch.Tensor) -> torch.Tensor:
    """A block of EfficientNet: SiLUs, a padded depthwise convolution, a gate."""
    x = F.silu(s.deep(F.silu(s.a(x))))
    gate = torch.sigmoid(s.expand(F.silu(s.reduce(x.mean((2, 3), keepdim=True)))))
    return s.b(x * gate)


@pytest.fixture(autouse=True)
def fine_biases(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few channels have coarse ones, for which codes are spread; that is not the question here."""
    monkeypatch.setattr(unspread, "UNIT_ON_EDGE", np.inf)
    monkeypatch.setattr(unspread, "UNIT_ON_CODES", np.inf)


def network(bits: int = 4) -> Any:
    def build() -> Any:
        padded = {"padding": 1}
        layers = {"a": Conv(3, 12, 3, **padded), "deep": Conv(12, 12, 3, groups=12, **padded), "b": Conv(12, 5, 1)}
        return Wired(squeeze, reduce=Conv(12, 4, 1), expand=Conv(4, 12, 1), **layers)

    case = Case(build, {"weight_bits": bits, "activation_bits": bits, "first_last_bits": None, "offset": "integer"})
    model = train(case)
    for name in ("deep", "reduce", "expand", "b"):  # grids that hold the whole negative half of a SiLU
        quantizer = model.get_submodule(f"{name}.input_quantizer")
        scale = quantizer.scale.detach()
        quantizer.set_grid(scale, -scale * torch.ceil(0.28 / scale))
    return model


def activations(made: Folded) -> dict[str, TensorDecision]:
    return {d.name: d for d in made.tensors if d.kind == "activation"}


def clipped_and_not(captured: Captured, monkeypatch: pytest.MonkeyPatch) -> tuple[Folded, Folded]:
    with monkeypatch.context() as patch:
        leave_out(patch, "drop_clips")
        clipped = fold(captured, [inputs(16, 1)])
    return clipped, fold(captured, [inputs(16, 1)])


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_every_tensor_keeps_its_values(bits: int, monkeypatch: pytest.MonkeyPatch):
    clipped, made = clipped_and_not(quick_capture(network(bits)), monkeypatch)
    assert operators(clipped.model).count("Clip") >= 4 > operators(made.model).count("Clip")
    was, now = activations(clipped), activations(made)
    moved = {name: d.origin for name, d in now.items() if d.origin != was[name].origin}
    dropped = {name for name, d in now.items() if d.codes != was[name].codes}
    assert {"deep.input", "b.input"} <= dropped and set(moved.values()) == {256 - 2**bits}
    for spread in (0.1, 3.0, 100.0):  # far beyond what calibration saw
        x = inputs(8, 5, spread=spread)
        before, after = (values(m.model, x) for m in (clipped, made))
        assert np.array_equal(before["output0"], after["output0"])
        for name in now:
            codes, others = after[now[name].codes], before[was[name].codes]
            assert np.array_equal(codes - now[name].origin, others - was[name].origin), name
            assert codes.min() >= now[name].origin and codes.max() <= now[name].origin + now[name].levels - 1


def test_the_files_are_verified_and_have_fewer_nodes():
    model = network()
    made = fold(quick_capture(model), [inputs(16, 1)])
    files = emit_all(made, FORMATS, get("ort-cpu"))
    parity = check(Subject.of(made, files, "ort-cpu"), [inputs(16, 2, spread=3.0)], model=model)
    assert parity.ok, parity.failures
    for name, d in activations(made).items():
        assert d.offset_carried == pytest.approx(
            -d.container_scale * (d.zero_point - d.origin), rel=1e-12, abs=1e-12
        ), name
    for file in files.values():  # who reads the files finds the low bits in them
        levels = {row.name: row.levels for row in inspect_model(file)}
        assert all(
            levels[activations(made)[name].codes] <= 16
            for name in ("deep.input", "reduce.input", "expand.input", "b.input")
        )
    ops = [node.op_type for node in files["qoperator"].graph.node]
    assert ops.count("Clip") + ops.count("QLinearAdd") <= 2


def test_a_convolution_s_codes_stay_clipped():
    config = {"first_last_bits": None, "offset": "integer"}
    case = Case(lambda: Wired(lambda s, x: s.b(F.relu(s.a(x))), a=Conv(3, 6, 3), b=Conv(6, 4, 3, padding=1)), config)
    d = activations(fold(quick_capture(train(case)), [inputs(16, 1)]))["b.input"]
    assert d.origin == 0 and d.codes == "b.input.clipped"


def test_a_grid_that_cuts_off_the_negative_half_is_clipped_at_its_lower_end():
    model = network()
    quantizer = model.get_submodule("deep.input_quantizer")
    quantizer.set_grid(quantizer.scale.detach(), torch.zeros_like(quantizer.offset))  # zero is the lowest code: a ReLU
    made = fold(quick_capture(model), [inputs(16, 1)])
    d = activations(made)["deep.input"]
    assert (d.origin, d.zero_point) == (0, 0)
    file = emit_all(made, FORMATS, get("ort-cpu"))["qoperator"]
    codes = integer.run(file, {file.graph.input[0].name: inputs(8, 5, spread=100.0).numpy()})[d.codes]
    assert (codes.min(), codes.max()) == (0, 15)


def test_a_reach_that_says_too_little_is_seen(monkeypatch: pytest.MonkeyPatch):
    """Sabotage: codes below the lowest one come out."""
    model = network()
    quantizer = model.get_submodule("deep.input_quantizer")
    quantizer.set_grid(quantizer.scale.detach(), torch.zeros_like(quantizer.offset))
    monkeypatch.setattr(ends, "reach", lambda value: (0.0, np.inf))
    captured = quick_capture(model)
    with pytest.raises(QuantizationError, match=r"deep\.input: .* codes differ after the pass drop_clips"):
        fold(captured, [inputs(16, 1)])
    unwatched(monkeypatch)
    made = fold(captured, [inputs(16, 1)])
    d = activations(made)["deep.input"]
    assert values(made.model, inputs(8, 5, spread=3.0))[d.codes].min() < d.origin == 240
    files = emit_all(made, FORMATS, get("ort-cpu"))
    parity = check(Subject.of(made, files, "ort-cpu"), [inputs(16, 2, spread=3.0)], model=model)
    layer = next(layer for layer in parity.trained_layers if layer.name == "deep.input")
    assert layer.differing > 0.05


def test_other_folds_keep_their_clips():
    made = fold(quick_capture(network()), [inputs(16, 1)], "integer")
    assert operators(made.model).count("Clip") >= 4 and {d.origin for d in made.tensors} == {0}
