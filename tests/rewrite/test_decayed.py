"""Networks whose γ are between 1e-1 and 1e-6 or 0, beside biases up to 1: all export, and the promises hold."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn

import calib
import lsq_export
from calib.rounding.sums import NEGLIGIBLE
from lsq_export import integer
from lsq_export.graph.evaluate import evaluate
from lsq_export.graph.layers import layer_of, output_grid_of, set_weight, weight_codes
from lsq_export.graph.read import constant_of, is_op
from lsq_export.rewrite.emit import emit_all
from lsq_export.rewrite.fold import Folded, fold
from lsq_export.targets import ORT_CPU
from lsq_export.verification.runtime import Session
from support.decayed import GAMMAS, SHAPE, Decayed, build, draw
from support.networks import Conv, find, inputs, norm, quick_capture, verified
from support.published import published

NETWORKS, AT_ONCE = 200, 20
FAST = (0, 2, 6, 9, 147)  # 8, 8, 3, 3 and 2 bits; the last two have channels next to a tie


def exports(spec: Decayed, how: str = "strided") -> Folded:
    torch.set_num_threads(1)
    model, x = build(spec)
    made = fold(quick_capture(model, SHAPE), [x], how)
    parity, _ = verified(model, made, [x, 2 * x])
    assert parity.ok, (spec, parity.failures)
    assert parity.formats["qoperator"].reference_mismatch == parity.formats["qoperator"].accumulator_mismatch == 0
    for layer in made.layers:
        assert layer.accumulator < 2**31 and layer.coarse_steps <= NEGLIGIBLE, (spec, layer)
    return made


@pytest.mark.parametrize("seed", FAST)
def test_decayed_networks_export(seed: int):
    made = exports(draw(seed))
    assert any(layer.coarse_channels or layer.lowered_channels or layer.dead_channels for layer in made.layers)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, NETWORKS, AT_ONCE))
def test_many_decayed_networks_export(first: int):
    """All bits, granularities, grids, offsets and edges: `draw`."""
    for seed in range(first, first + AT_ONCE):
        exports(draw(seed))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 40, AT_ONCE))
def test_many_decayed_networks_export_with_integer_zero_points(first: int):
    for seed in range(first, first + AT_ONCE):
        exports(draw(seed), "integer")


def small(seed: int = 0, gamma: float = 1.0) -> nn.Module:
    """A padded convolution of tiny γ, all of them with a bias; then a learned grid and a linear layer.

    gamma: a factor on all γ.
    """
    torch.manual_seed(seed)
    layers = [Conv(3, 8, 3, padding=1), norm(8), nn.ReLU(), Conv(8, 14, 3, padding=1), norm(14), nn.Flatten()]
    net = nn.Sequential(*layers, nn.Linear(14 * 81, 4)).eval()
    with torch.no_grad():
        net[4].weight.copy_(gamma * torch.tensor(GAMMAS * 2))  # type: ignore[union-attr, operator]
        net[4].bias.uniform_(-1, 1)  # type: ignore[union-attr, operator]
    model = lsq_export.prepare(net, published(weight_bits=4, activation_bits=4))
    calib.initialize(model, [inputs(16, 1)], "minmax")
    return model


def steps_moved(made: Folded, layer: str, x: torch.Tensor) -> tuple[float, float]:
    """(how far an output of this layer moved, what its decision allows) in steps of its grid.

    On the inputs that it has in the folded graph, against weights and biases before integers were placed, in float64.
    """
    (node,) = (n for n in find(made.model, "Conv", "Gemm") if layer_of(n) == layer)
    grid, seen = output_grid_of(node), {}
    evaluate(made.model.graph, x, on_value=lambda name, value: seen.update({name: value}))
    assert grid is not None and node.inputs[0] is not None
    values, found = seen[str(node.inputs[0].name)], seen[str(node.outputs[0].name)]
    trained, bias = trained_numbers(made, layer)
    expected = torch.nn.functional.conv2d(values, trained, bias, padding=1)
    (decision,) = (d for d in made.layers if d.name == layer)
    scales = 1e-5 * float(expected.abs().max()) / grid.scale  # E9 moves scales by some float32 neighbors
    moved = float((found - expected).abs().max()) / grid.scale
    return moved, decision.coarse_steps + decision.bias_error_steps + scales


def trained_numbers(made: Folded, layer: str) -> tuple[torch.Tensor, torch.Tensor]:
    """(weight, bias) of a layer and its batch norm, by hand: γ/σ·ŵ, and the bias with -β of the grid behind it."""
    graph = made.trained.graph
    conv = next(n for n in graph if is_op(n, "Conv") and layer_of(n) == layer)
    batch_norm = next(n for n in conv.outputs[0].consumers() if is_op(n, "BatchNormalization"))
    numbers = (constant_of(v, "batch norm").astype(np.float64) for v in batch_norm.inputs[1:])
    gamma, shift, mean, variance = numbers
    codes, scale = weight_codes(conv)
    factor = gamma / np.sqrt(variance + batch_norm.attributes["epsilon"].value)
    weight = codes * (scale * factor).reshape(-1, 1, 1, 1)
    bias = (constant_of(conv.inputs[2], "bias").astype(np.float64) - mean) * factor + shift
    behind = next(d for d in made.tensors if d.name == "6.input")
    return torch.from_numpy(weight), torch.from_numpy(bias - behind.offset)


def test_an_output_moves_by_no_more_than_its_decision_says():
    """float64, folded against trained, on inputs within and beyond the grids."""
    model = small()
    made = fold(quick_capture(model), [inputs(16, 1)])
    (decision,) = (d for d in made.layers if d.name == "3")
    assert decision.coarse_channels >= 2 and 0 < decision.coarse_steps <= NEGLIGIBLE
    for x in (inputs(8, 2), inputs(8, 3, spread=6.0)):
        moved, allowed = steps_moved(made, "3", x)
        assert 0 < moved <= allowed


def test_weights_that_are_too_coarse_show():
    """The check of the test above fails where the weights of one channel more are left out."""
    model = small()
    made = fold(quick_capture(model), [inputs(16, 1)])
    (node,) = (n for n in find(made.model, "Conv") if layer_of(n) == "3")
    codes, scale = weight_codes(node)
    codes[2] = 0  # γ = 1e-3
    set_weight(node, made.model.graph, codes.astype(np.int8), scale, np.zeros(len(scale), np.int8))
    moved, allowed = steps_moved(made, "3", inputs(8, 2))
    assert moved > 2 * allowed


def constant_channels(file: onnx.ModelProto, tensor: str, x: np.ndarray, level: str) -> Iterator[np.ndarray]:
    """The codes of each channel of one tensor in ONNX Runtime."""
    model = ir.to_proto(ir.from_proto(file))
    model.graph.output.append(onnx.helper.make_tensor_value_info(tensor, onnx.TensorProto.UINT8, None))
    codes = Session(model, level, (tensor,)).run(x)[tensor]
    yield from codes.swapaxes(0, 1)


@pytest.mark.parametrize("level", ["default", "disabled"])
@pytest.mark.parametrize("name", ["qdq", "qoperator"])
def test_channels_of_a_bias_alone_keep_it_in_both_formats(name: str, level: str):
    """ONNX Runtime's own quantization of float biases lets them wrap around int32; ours are int32 in both files."""
    made = fold(quick_capture(small(gamma=1e-9)), [inputs(16, 1)])
    file = emit_all(made, (name,), ORT_CPU)[name]
    (decision,) = (d for d in made.layers if d.name == "3")
    behind = next(d for d in made.tensors if d.name == "6.input")
    assert decision.dead_channels >= 12
    _, bias = trained_numbers(made, "3")
    expected = np.rint(bias.numpy() / behind.scale).clip(0, behind.levels - 1) * behind.stride + behind.origin
    assert len(set(expected.tolist())) > 4
    x = inputs(2, 4).numpy()
    found = integer.run(emit_all(made, ("qoperator",), ORT_CPU)["qoperator"], {"input": x})[behind.codes]
    assert all((codes == code).all() for codes, code in zip(found.swapaxes(0, 1), expected, strict=True))
    session = Session(file, level, (behind.codes,))
    assert np.array_equal(session.run(x)[behind.codes], found)
