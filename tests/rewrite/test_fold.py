"""The whole fold, network by network: every promise holds on the exported files, or the network is refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn

from calib import QuantizationError
from lsq_export import integer
from lsq_export.rewrite.contract.decisions import Remainder
from lsq_export.rewrite.emit import emit_all
from lsq_export.rewrite.fold import fold
from lsq_export.targets import ORT_CPU
from lsq_export.verification.runtime import Session, integer_tensors
from support import networks, simulation
from support.networks import ZOO, Case, Conv, captured, folded, inputs, three, train, trained, verified


def batches(shape: tuple[int, ...]) -> list[torch.Tensor]:
    """Inputs beyond the calibrated range, and well within."""
    return [inputs(8, 2, shape, spread=3.0), inputs(8, 5, shape, spread=0.5)]


@pytest.mark.parametrize("name", ZOO)
def test_every_promise_holds(name: str):
    parity, files = verified(trained(name), folded(name), batches(ZOO[name].shape))
    assert parity.ok, parity.failures
    for found in parity.formats.values():
        assert (found.reference_mismatch, found.accumulator_mismatch, found.output_mismatch, found.altered) == (
            0,
            0,
            0,
            (),
        )
    for file in files.values():
        onnx.checker.check_model(file, full_check=True)
    assert all(layer.largest <= 1 for layer in parity.formats["qoperator"].layers)
    wanted = [(value.name, list(value.shape)[1:]) for value in captured(name).model.graph.outputs]
    for file in files.values():  # the outside keeps the names and shapes that it knows
        assert [(o.name, [d.dim_value for d in o.type.tensor_type.shape.dim][1:]) for o in file.graph.output] == wanted


DEEP = (3, 24, 24)


def deep() -> nn.Module:
    """Six padded 3×3 layers with learned grids behind all of them: no edges."""
    layers: list[nn.Module] = []
    for index in range(6):
        layers += [Conv(3 if index == 0 else 16, 16, 3, padding=1), networks.norm(16), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * 24 * 24, 4))


def quantizer_behind(model: nn.Module, index: int) -> tuple[str, Any]:
    """(name, quantizer) that reads the output of layer `index`; behind the last one comes a Flatten."""
    name = str(3 * index + 3 + (index == 5))
    return f"{name}.input", model.get_submodule(name).input_quantizer


def layer_of(model: Any, index: int) -> simulation.Layer:
    """Plain numbers out of the trained model: convolution, its batch norm, the quantizer of what comes next."""
    conv, norm, (_, q) = model[3 * index], model[3 * index + 1], quantizer_behind(model, index)
    s = conv.parametrizations.weight[0]
    weight, bias = conv.parametrizations.weight.original.detach().numpy(), conv.bias.detach().double().numpy()
    statistics = [v.detach().double().numpy() for v in (norm.weight, norm.bias, norm.running_mean, norm.running_var)]
    scale, offset = (float(v.detach()) for v in (q.scale, q.offset))
    return simulation.Layer(
        weight, float(s.scale.detach()), s.qmin, s.qmax, bias, *statistics, norm.eps, scale, offset, q.qmax + 1
    )


@pytest.mark.parametrize("bits", [2, pytest.param(3, marks=pytest.mark.slow), 4, 8])
def test_every_code_of_every_layer_is_that_of_a_float64_simulation(bits: int):
    """The design's bar: 0 differing codes, with arbitrary real β, end to end, half a million a layer; ONNX Runtime's
    are the integer reference's.

    Scales of weights and biases are checked on the way (E6, E9).
    """
    model = train(Case(deep, {"weight_bits": bits, "activation_bits": bits}, DEEP))
    made = fold(networks.quick_capture(model, DEEP), [inputs(4, 1, DEEP)])
    (file,) = emit_all(made, ("qoperator",), ORT_CPU).values()
    x = inputs(57, 2, DEEP, spread=3.0).numpy()
    codes = integer.run(file, {"input": x})
    for level in ("default", "disabled"):
        runtime = Session(file, level, integer_tensors(file)).run(x)
        assert all(np.array_equal(value, codes[name]) for name, value in runtime.items())
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in file.graph.initializer}
    decisions = {d.name: d for d in made.tensors}
    assert [d.kind for d in made.tensors] == ["activation"] * 7  # no edges

    first = decisions["0.input"]  # 8 bits, moved onto an integer zero point: β' is all there is
    q = (np.rint(x / np.float32(first.container_scale)).astype(np.float64) + first.zero_point).clip(0, 255)
    assert np.array_equal(q, codes[first.codes])
    values, remainder, input_scale = first.container_scale * (q - first.zero_point), 0.0, first.container_scale
    for index in range(6):
        layer, name = layer_of(model, index), str(3 * index)
        decision = decisions[quantizer_behind(model, index)[0]]
        # codes below that of zero, which a ReLU never makes (E10)
        skipped = round((decision.offset - layer.offset) / layer.scale)
        scale, bias = simulation.folded_numbers(layer, remainder)
        stored = constants[f"{name}.weight.scale"].astype(np.float64)
        # the first layer has 8 bits
        gain = 1 if index == 0 or bits == 8 else 64 // np.abs(layer.codes_of_weights()).max()
        assert np.abs(stored * gain / np.abs(scale) - 1).max() < 1e-5  # E9 moves a scale by some float32 neighbors
        unit, less = input_scale * stored, skipped * layer.scale  # the bias carries -β of the codes that are left (E3)
        rounded = constants[f"{name}.bias.codes"].astype(np.float64)
        # E6: half a unit, and what two float32 roundings of scales on the way move a bias by
        assert (np.abs((bias - less) / unit - rounded) <= 0.5 + 2.0**-23 * np.abs(rounded)).all()
        # files hold the bias's unit as float32
        carried = rounded * (np.float32(input_scale) * stored.astype(np.float32)).astype(np.float64)
        found = simulation.folded_codes(layer, values, np.sign(scale) * stored * gain, carried + less)
        assert found.size >= 2**19 and len(np.unique(found)) > 2
        expected = decision.stride * (found - skipped) + decision.origin
        assert int((expected != codes[decision.codes]).sum()) == 0, f"layer {index}"

        # promise 3, away from the border, which sees β'
        trained = simulation.trained_codes(layer, values + remainder)[:, :, 1:-1, 1:-1]
        rounding = next(d.bias_error_steps for d in made.layers if d.name == name)
        assert (trained != found[:, :, 1:-1, 1:-1]).mean() <= 3 * rounding + 1e-4
        remainder, input_scale = decision.offset - decision.offset_carried, decision.container_scale
        values = layer.scale * found + layer.offset - remainder


def test_an_offset_rounded_to_the_trained_grid_would_show():
    """The simulation can fail:

    with Z = round(-β/s), what other tools export, some per cent of a layer's codes are others.
    """
    model = train(Case(deep, {"weight_bits": 3, "activation_bits": 3}, DEEP))
    layer, previous = layer_of(model, 2), layer_of(model, 1)
    q = np.random.default_rng(0).integers(0, previous.levels, (4, 16, 24, 24)).astype(np.float64)
    real = previous.scale * q + previous.offset
    naive = previous.scale * (q + np.rint(previous.offset / previous.scale))
    assert (simulation.trained_codes(layer, real) != simulation.trained_codes(layer, naive)).mean() > 0.01


REFUSED: dict[str, tuple[Case, str]] = {
    "padding": (
        Case(lambda: three(1), networks.LOW, offsets={"2.input": 300.0}),
        r"^2\.input: real zero is off the grid",
    ),
    "eight bits": (Case(lambda: three(1), {}, offsets={"0.input": 300.0}), r"^0\.input: real zero is off the grid"),
    "dead clamp": (
        Case(lambda: three(0), networks.LOW, offsets={"4.input": -30.0}),
        r"^4\.input: the clamp to 0 … inf .* leaves one code",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_integer_form_is_refused_by_name(case: str):
    made, message = REFUSED[case]
    captured_case = networks.quick_capture(train(made))
    with pytest.raises(QuantizationError, match=message) as error:
        fold(captured_case, [inputs(4, 1)])
    assert "\n" not in str(error.value)


def test_the_captured_graph_is_not_changed():
    before = onnx_bytes(captured("residual3").model)
    fold(captured("residual3"), [inputs(4, 1)])
    assert onnx_bytes(captured("residual3").model) == before


def onnx_bytes(model: ir.Model) -> bytes:
    return ir.to_proto(model).SerializeToString(deterministic=True)


def test_the_border_bound_of_a_decision_holds():
    """E5: along a padded border the value β - β' is missing; decisions say how much that can be."""
    for name in ("chain", "chain2", "geometry"):
        for decision in folded(name).tensors:
            assert decision.border >= 0 and (decision.border > 0) <= (decision.error_steps != 0)
            assert (
                decision.kind == "edge"
                or decision.remainder is Remainder.MOVED
                or abs(decision.error_steps) <= 0.5 / decision.stride
                or decision.carried_by
            )


def test_capture_and_fold_see_the_trained_model():
    """The folded model against PyTorch's own: outputs within a few steps of the output's grid, on the median image."""
    for name in ("chain", "residual", "pools"):
        x = inputs(8, 1)
        with torch.no_grad():
            expected = trained(name)(x).numpy()
        found = networks.values(folded(name).model, x)["output0"]
        assert np.median(np.abs(found - expected)) < 0.1 * np.abs(expected).max()
