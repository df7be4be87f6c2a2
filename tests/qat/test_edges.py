"""qat.edges: 8-bit grids of sums in training, and offsets on the steps of containers.

The fold then has nothing to round.
"""

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
from calib import QuantizationError
from calib.folding.containers import container_steps, strided_grid
from calib.grid import Grid
from calib.quantized import bypassed
from lsq_export import integer
from lsq_export.graph.notes import PASSED
from lsq_export.qat.quantizer import Quantizer
from lsq_export.rewrite.emit import emit_all
from lsq_export.rewrite.fold import Folded, fold
from lsq_export.targets import ORT_CPU
from lsq_export.verification.checking import Subject, check
from lsq_export.verification.trained_layers import TrainedLayers
from support import networks
from support.networks import Conv, Wired, inputs
from support.published import published

CONFIG = {"weight_bits": 3, "activation_bits": 3}


def prepared(build: Callable[[], nn.Module], **options: Any) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(7)
    net = build().eval()
    return net, lsq_export.prepare(net, published(**{**CONFIG, "edges": "trained", "offset": "container", **options}))


def test_a_quantizer_stands_where_the_fold_would_calibrate_a_grid() -> None:
    net, model = prepared(networks.residual)
    names = [name for name in lsq_export.quantizers(model) if name.startswith("edges.")]
    assert sorted(names) == [f"edges.{name}" for name in ("b", "c", "down", "mean", "relu", "relu_2", "relu_3")]
    assert set(net.state_dict()) <= {
        name.replace("parametrizations.weight.original", "weight") for name in model.state_dict()
    }
    x = inputs(4, 2)
    with torch.no_grad(), bypassed(model):
        assert torch.equal(model(x), net(x))


def gated(activation: Callable[[torch.Tensor], torch.Tensor]) -> nn.Module:
    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        act = getattr(s, "act", activation)
        return s.c(act(s.b(act(s.a(x)))))

    modules = {"act": activation} if isinstance(activation, nn.Module) else {}
    return Wired(forward, **modules, a=Conv(3, 8, 3, padding=1), b=Conv(8, 8, 3, padding=1), c=Conv(8, 4, 1))


@pytest.mark.parametrize(
    ("activation", "gate"),
    [(F.silu, "silu_sigmoid"), (nn.SiLU(), "act_sigmoid"), (F.hardswish, "hardswish_hardsigmoid")],
)
def test_a_gate_has_a_grid_of_its_own_and_the_fold_changes_almost_no_code(activation: Any, gate: str) -> None:
    """Integer kernels multiply x with 8-bit codes of σ(x).

    Without that grid in training, the product's rounding differs.
    """
    net, model = prepared(lambda: gated(activation), first_last_bits=None)
    with torch.no_grad(), bypassed(model):
        assert torch.allclose(model(inputs(4, 2)), net(inputs(4, 2)), atol=1e-6)
    calib.initialize(model, [inputs(16, 1)], "minmax")
    gates = [name for name in lsq_export.quantizers(model) if gate.rpartition("_")[2] in name]
    assert len(gates) == 2
    shares = {}
    for case in ("trained", "in float"):
        for name in gates if case == "in float" else ():
            lsq_export.quantizers(model)[name].bypass = True
        made = fold(networks.quick_capture(model), [inputs(16, 1)])
        (file,) = emit_all(made, ("qoperator",), ORT_CPU).values()
        tool = TrainedLayers(made.trained.graph, made.model.graph, made.tensors, made.layers)
        tool.add(inputs(32, 2), integer.run(file, {"input": inputs(32, 2).numpy()}))
        shares[case] = {layer.name: layer.differing for layer in tool.result()}
        assert not any(layer.reasons.get("unknown") for layer in tool.result()), tool.result()
        assert any(layer.reasons.get("edge") for layer in tool.result()) == (case == "in float")
    product = next(name for name in shares["trained"] if name.endswith("_product"))
    assert shares["trained"][product] < 1e-3 < 1e-2 < shares["in float"][product], shares


def test_questions_about_a_shape_get_no_grid() -> None:
    net = Wired(
        lambda s, x: s.b(F.relu(s.a(x)).view(x.size(0), 4, x.shape[2] * 9)), a=Conv(3, 4, 1), b=nn.Linear(81, 5)
    )
    _, model = prepared(lambda: net)
    assert [name for name in lsq_export.quantizers(model) if name.startswith("edges.")] == []
    with bypassed(model):
        assert model(inputs(2, 1)).shape == (2, 4, 5)


@pytest.mark.parametrize("name", ["residual", "preactivation", "concat", "pools", "clamped_sum", "two_readers"])
def test_nothing_is_left_to_calibrate_but_inputs_and_outputs(name: str) -> None:
    _, model = prepared(networks.ZOO[name].build)
    calib.initialize(model, [inputs(16, 1)], "minmax")
    made = fold(networks.quick_capture(model), [inputs(16, 1)])
    ends = {d.name for d in made.tensors if d.kind == "edge"} - {"x", "input"}
    outputs = {str(v.producer().inputs[0].producer().outputs[0].name) for v in made.model.graph.outputs if v.producer()}  # type: ignore[union-attr]
    assert all(d.codes in outputs for d in made.tensors if d.name in ends), ends
    files = emit_all(made, ("qdq", "qoperator"), ORT_CPU)
    parity = check(Subject.of(made, files, ORT_CPU.name), [inputs(8, 2)], model=model)
    assert parity.ok, parity.failures


def folded(**options: Any) -> tuple[Folded, dict[str, float]]:
    """The residual network with offsets moved as by training, and what the fold changes.

    That is {quantizer: share of codes that differ on the same inputs}.
    """
    _, model = prepared(networks.residual, first_last_bits=None, **options)
    calib.initialize(model, [inputs(16, 1)], "minmax")
    for quantizer in lsq_export.quantizers(model).values():
        if quantizer.kind == "activation" and quantizer.bits < 8:
            quantizer.set_grid(quantizer.scale.detach(), quantizer.offset.detach() - 0.137 * quantizer.scale.detach())
    made = fold(networks.quick_capture(model), [inputs(16, 1)])
    (file,) = emit_all(made, ("qoperator",), ORT_CPU).values()
    tool = TrainedLayers(made.trained.graph, made.model.graph, made.tensors, made.layers)
    x = inputs(64, 2)
    tool.add(x, integer.run(file, {"input": x.numpy()}))
    assert all(layer.elements for layer in tool.result()), (
        "edges.mean too: a Flatten that it moved before comes after the classifier's grid"
    )
    return made, {layer.name: layer.differing for layer in tool.result()}


def test_the_fold_changes_almost_no_code_and_no_border() -> None:
    """What is left are ties of rounded biases (integer biases, E6), and scales of sums that move clear of ties.

    Those move by millionths. Without the options it is more.
    """
    made, differing = folded()
    assert all(d.border < 1e-5 for d in made.tensors)
    low = [share for name, share in differing.items() if not name.startswith("edges.")]
    assert max(low) < 2e-3
    made, plain = folded(edges="calibrated", offset="real")
    assert max(plain.values()) > 5e-3 and max(d.border for d in made.tensors) > 1e-3


def test_a_pad_that_two_grids_moved_in_front_of_is_compared_where_it_adds_nothing() -> None:
    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        h = F.relu(s.a(x))
        return s.b(F.max_pool2d(F.pad(h + h, (1, 1, 1, 1), value=0.7), 3, 1, 1))

    _, model = prepared(lambda: Wired(forward, a=Conv(3, 4, 3), b=Conv(4, 4, 1)), first_last_bits=None)
    calib.initialize(model, [inputs(16, 1)], "minmax")
    made = fold(networks.quick_capture(model), [inputs(16, 1)])
    assert any(
        PASSED.get(node, ()) == ("b.input", "edges.max_pool2d") for node in made.model.graph if node.op_type == "Pad"
    )
    (file,) = emit_all(made, ("qoperator",), ORT_CPU).values()
    tool = TrainedLayers(made.trained.graph, made.model.graph, made.tensors, made.layers)
    tool.add(inputs(16, 2), integer.run(file, {"input": inputs(16, 2).numpy()}))
    found = {layer.name: layer for layer in tool.result()}
    # Windows without the padding.
    assert found["edges.max_pool2d"].elements == 16 * 4 * 5 * 5 and found["b.input"].elements == 16 * 4 * 9 * 9
    assert all(layer.differing < 2e-3 for layer in found.values())


@pytest.mark.parametrize("levels", [2, 4, 5, 8, 16, 32, 64, 128, 256])
def test_container_steps_are_exact_for_offsets_from_the_last_code_to_a_step_above_zero(levels: int) -> None:
    k, p = container_steps(levels), levels - 1
    for steps in np.arange(-k * p, (k if levels < 256 else 0) + 1, max(1, k * p // 50)) / k:
        strided = strided_grid(Grid(0.25, 0.25 * steps, 0, p), padded=True)
        assert abs(strided.remainder) < 1e-7 * (1 + abs(strided.trained.offset))  # S as float32


def test_offsets_are_multiples_of_a_container_step_and_train_straight_through() -> None:
    quantizer = Quantizer.activation("a.input", 3, integer_offset=True, offset_steps=container_steps(8)).double()
    quantizer.set_grid(0.5, -0.2337)
    steps = quantizer.effective_offset.item() / 0.5 * 31
    assert steps == pytest.approx(round(-0.2337 / 0.5 * 31), abs=1e-9)
    quantizer.effective_offset.backward()
    assert quantizer.offset.grad == 1 and quantizer.scale.grad.item() == pytest.approx(steps / 31 + 0.2337 / 0.5)


def test_the_options_survive_a_config_and_a_state_dict() -> None:
    config = lsq_export.QATConfig(**CONFIG, edges="trained", offset="container")
    assert lsq_export.QATConfig.from_dict(config.to_dict()) == config
    _, model = prepared(networks.residual)
    calib.initialize(model, [inputs(16, 1)], "minmax")
    _, other = prepared(networks.residual)
    other.load_state_dict(model.state_dict())
    assert torch.equal(model(inputs(2, 3)), other(inputs(2, 3)))
    with pytest.raises(QuantizationError, match="edges"):
        lsq_export.QATConfig(edges="guessed")  # type: ignore[arg-type]


def branching() -> nn.Module:
    return Wired(lambda s, x: s.a(x) if x.sum() > 0 else s.a(-x), a=Conv(3, 4, 1))


def dropping() -> nn.Module:
    return Wired(lambda s, x: s.b(F.dropout(s.a(x))), a=Conv(3, 4, 1), b=Conv(4, 4, 1))


def unused() -> nn.Module:
    return Wired(lambda s, x: s.a(x), a=Conv(3, 4, 1), b=Conv(4, 4, 1))


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (branching, "needs a model that torch.fx can trace"),
        (dropping, r"use torch\.nn\.Dropout"),
        (unused, "layer b is not used"),
    ],
)
def test_what_cannot_be_traced_is_refused_in_one_line(build: Callable[[], nn.Module], says: str) -> None:
    with pytest.raises(QuantizationError, match=says) as error:
        prepared(build)
    assert "\n" not in str(error.value)


class Parts(nn.Module):
    """A gate far from zero, and a split whose parts have one grid."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.a(x)
        h = h * torch.sigmoid(0.1 * h)
        parts = torch.split(h, [4, 4], 1)
        return torch.cat([self.b(parts[0]), self.c(parts[1])], 1)


def test_edges_hold_real_zero() -> None:
    """The gate's values lie around 1/2, in a range a tenth as wide.

    Kernels need a zero point in the container all the same.
    """
    torch.manual_seed(0)
    model = lsq_export.prepare(Parts().eval(), published(first_last_bits=None, edges="trained"))
    calib.initialize(model, [torch.randn(8, 3, 6, 6)], method="mse")
    edges = {name: q for name, q in lsq_export.quantizers(model).items() if name.startswith("edges.")}
    assert edges and not any("split" in name or "getitem" in name for name in edges)
    for quantizer in edges.values():
        zero_point = -float(quantizer.effective_offset.detach() / quantizer.scale.detach())
        assert zero_point == pytest.approx(round(zero_point), abs=1e-3) and -1e-3 <= zero_point <= 255 + 1e-3
    quantizer = edges["edges.sigmoid"]
    with torch.no_grad():
        quantizer.offset.fill_(0.4)  # training may push the parameter anywhere
    assert quantizer.effective_offset.item() == 0


def split_by(groups: int, merged: bool) -> nn.Module:
    """Two convolutions, pointwise or depthwise, on the halves of what one layer makes; or in an order of their own."""

    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        halves = torch.split(F.relu(s.a(x)), [4, 4], 1)
        parts = [s.b(halves[0]), s.c(halves[1])]
        return s.d(torch.cat(parts if merged else parts[::-1], 1))

    size = 1 if groups == 1 else 3
    return Wired(
        forward,
        a=Conv(3, 8, 3, padding=1),
        b=nn.Conv2d(4, 4, size, padding=size // 2, groups=groups),
        c=nn.Conv2d(4, 4, 1 if groups == 1 else 5, padding=0 if groups == 1 else 2, groups=groups),
        d=nn.Conv2d(8, 4, 1),
    )


@pytest.mark.parametrize("merged", [True, False])
@pytest.mark.parametrize("groups", [1, 4])
def test_a_split_behind_a_layer_has_a_grid_where_the_fold_needs_one(groups: int, merged: bool) -> None:
    _, model = prepared(lambda: split_by(groups, merged), first_last_bits=None)
    calib.initialize(model, [inputs(16, 1)], "minmax")
    assert ("edges.relu" in lsq_export.quantizers(model)) is not merged
    made = fold(networks.quick_capture(model), [inputs(16, 1)])
    assert [d.name for d in made.tensors if d.kind == "edge"] == []  # nothing is left to calibration
