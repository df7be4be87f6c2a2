"""mixed, equalize, channel_offsets:

convolutions side by side become one, with the same values before rounding and the same codes after it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lsq_export
from lsq_export import integer
from lsq_export.graph.edit import copy
from lsq_export.graph.evaluate import evaluate
from lsq_export.graph.layers import weight_codes
from lsq_export.graph.notes import EQUALIZES
from lsq_export.graph.read import attribute, is_marker
from lsq_export.rewrite.contract.decisions import Remainder, decisions_of
from lsq_export.rewrite.emit import emit_all
from lsq_export.rewrite.fold import Folded, fold
from lsq_export.rewrite.folding.freeze_weights import freeze_weights
from lsq_export.rewrite.folding.merge_parallel import merge_parallel
from lsq_export.rewrite.normalizing.normalize import normalize
from lsq_export.rewrite.normalizing.split_to_slices import split_to_slices
from lsq_export.targets import get
from lsq_export.verification.checking import Subject, check
from lsq_export.verification.fold_costs import compare_folds
from lsq_export.verification.trained_layers import TrainedLayers
from support import networks
from support.networks import Case, Conv, Wired, captured, find, folded, inputs, operators, quick_capture, train, values
from support.parallel import STEPS, case_of

FLOAT64 = 1e-6  # relative: the ratios of steps are kept as float32


def unmerged(case: Case) -> ir.Model:
    model = copy(captured(case).model)
    split_to_slices(model)
    normalize(model)
    freeze_weights(model)
    return model


def holds(case: Case) -> Folded:
    """Promises 1 and 2."""
    found = folded(case)
    files = emit_all(found, ("qdq", "qoperator"), get("ort-cpu"))
    parity = check(Subject.of(found, files, "ort-cpu"), [inputs(8, 2, spread=3.0)])
    assert all(f.ok for f in parity.formats.values()), parity.failures
    return found


@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_merged_convolutions_compute_the_same(bits: int, stride: int) -> None:
    was = unmerged(case_of(bits=bits, stride=stride))
    now = copy(was)
    merge_parallel(now)
    assert (
        operators(was).count("Conv") == 6 and operators(was).count("Concat") == 2 and operators(was).count("Slice") == 4
    )
    assert operators(now).count("Conv") == 4 + 2 and not {"Concat", "Slice"} & set(operators(now))
    a, b = (evaluate(m.graph, inputs(6, 2, spread=3.0))[0].numpy() for m in (was, now))
    assert np.abs(a - b).max() <= FLOAT64 * np.abs(a).max()


def test_kernels_groups_and_names() -> None:
    model = unmerged(case_of())
    merge_parallel(model)
    layers = {str(node.name): node for node in find(model, "Conv") if not EQUALIZES.on(node)}
    depthwise, pointwise = (node for node in layers.values() if attribute(node, "group", 1) > 1)
    codes, _ = weight_codes(depthwise)
    assert (
        codes.shape == (8, 1, 5, 5)
        and not codes[:5, :, 0].any()
        and not codes[:5, :, :, -1].any()
        and codes[5:, :, 0].any()
    )
    assert (attribute(depthwise, "group"), attribute(depthwise, "pads")) == (8, (2, 2, 2, 2))
    assert attribute(pointwise, "group") == 2 and weight_codes(pointwise)[0].shape == (12, 4, 1, 1)


@pytest.mark.parametrize("activation", [F.silu, F.relu])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_the_promises_hold(activation: Any, bits: int) -> None:
    found = holds(case_of(activation, bits))
    assert not {"Concat", "Slice"} & set(operators(found.model)) or bits == 8


@pytest.mark.parametrize("bits", [3, 4])
@pytest.mark.parametrize(("zero_points", "shared"), [((1, 1), True), ((1, 2), False), ((0, 0), True)])
def test_a_zero_point_that_all_parts_share_needs_no_sum(bits: int, zero_points: tuple[int, int], shared: bool) -> None:
    """Offsets on multiples of the parts' own scales; at 2 bits the unit of this network's biases is too coarse."""
    # `train` counts in steps before their factor
    steps = {name: -0.9 * z for name, z in zip(("d3.input", "d5.input"), zero_points, strict=True)}
    found = holds(case_of(bits=bits, offsets={**STEPS, **steps}))
    made = {value.name for node in found.model.graph for value in node.outputs}
    assert "Concat.input.clipped" in made and ("Concat.input.apart" in made) != shared
    for name, zero_point in zip(("d3.input", "d5.input"), zero_points, strict=True):
        (decision,) = [d for d in found.tensors if d.name == name]
        assert (
            decision.stride == 1 and decision.zero_point == zero_point and decision.remainder is Remainder.NONE
        ) == shared


def test_a_relu_goes_into_the_codes_where_it_clamps_all_parts_alike() -> None:
    """β of -0.3 and -0.45 steps:

    code 0 is the lowest for both. -0.3 and -2.2 steps: codes 0 and 2, so the Relu keeps a grid of its own.
    """
    alike, apart = (holds(case_of(F.relu, offsets={**STEPS, "d5.input": beta})) for beta in (-0.45, -2.2))
    assert sum(EQUALIZES.on(node) or "scaling" in str(node.name) for node in find(alike.model, "Conv")) < sum(
        "scaling" in str(node.name) for node in find(apart.model, "Conv")
    )


def test_every_part_has_its_decision() -> None:
    found = {d.name: d for d in folded(case_of()).tensors}
    d3, d5 = found["d3.input"], found["d5.input"]
    assert d3.codes == d5.codes and d3.scale != d5.scale and d3.zero_point == d5.zero_point
    for decision, steps in ((d3, -0.3), (d5, -0.45)):
        # `train` counts in steps before their factor
        assert decision.offset == pytest.approx(steps / 0.9 * decision.scale, rel=1e-5)
        assert abs(decision.error_steps) <= 0.5 / decision.stride
    assert found["p1.input"].error_steps == 0 and found["p1.input"].remainder is Remainder.CARRIED


@pytest.mark.parametrize("padding", [1, 0])
def test_export_and_verify_compare_each_part_with_its_own_channels(padding: int, tmp_path: Path) -> None:
    """Two parts of equal size: only the record tells whose codes are whose."""

    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        a, b = torch.split(s.stem(x), [4, 4], 1)
        return s.fc(torch.cat([s.first(a), s.second(b)], 1))

    def build() -> nn.Module:
        first, second = (Conv(4, 4, 3, padding=padding, groups=4) for _ in range(2))
        made: nn.Module = Wired(forward, stem=Conv(3, 8, 1), first=first, second=second, fc=Conv(8, 4, 1))
        return made

    model, x = train(Case(build, networks.LOW, offsets={"first.input": -0.3, "second.input": -2.45})), inputs(16, 1)
    bundle = lsq_export.export(model, x[:1], tmp_path / "out", calibration=[x])
    tensors = {entry["name"]: entry for entry in bundle.manifest["tensors"]}
    first, second = tensors["first.input"], tensors["second.input"]
    assert (first["channels"], second["channels"], tensors["fc.input"]["channels"]) == ([0, 4], [4, 8], None) and first[
        "codes"
    ] == second["codes"]
    pixels = x[0, 0].numel()
    own = {layer.name: layer for layer in lsq_export.verify(model, bundle, [x]).trained_layers}
    for layer in (own["first.input"], own["second.input"]):
        assert layer.elements == 16 * 4 * pixels and layer.reasons.keys() <= {"tie"}, layer  # its bias is rounded
    costs = compare_folds(model, x[:1], [x], [x])
    assert costs[2].codes_differing < 0.02 < costs[0].codes_differing

    first["channels"], second["channels"] = second["channels"], first["channels"]
    exchanged = {d.name: d for d in decisions_of(bundle.manifest)[0]}
    found = fold(quick_capture(model), [x])
    tool = TrainedLayers(found.trained.graph, found.model.graph, tuple(exchanged.values()), found.layers)
    tool.add(x, integer.run(onnx.load(bundle.models["qoperator"]), {"input": x.numpy()}))
    assert all(
        layer.reasons["unknown"] > 1000 for layer in tool.result() if layer.name in ("first.input", "second.input")
    )
    for entry in (first, second):
        del entry["channels"]  # a bundle of an earlier version
    (old,) = {d.channels for d in decisions_of(bundle.manifest)[0]}
    assert old is None


def test_parts_that_differ_in_more_than_their_grids_stay_apart() -> None:
    def dilated() -> nn.Module:
        def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
            a, b = torch.split(s.stem(x), [4, 4], 1)
            return s.fc(torch.cat([s.d3(a), s.d5(b)], 1))

        return Wired(
            forward,
            stem=Conv(3, 8, 1),
            d3=Conv(4, 4, 3, padding=1),
            d5=Conv(4, 4, 3, padding=2, dilation=2),
            fc=Conv(8, 4, 1),
        )

    case = Case(dilated, networks.LOW)
    model = unmerged(case)
    merge_parallel(model)
    assert operators(model).count("Concat") == 1 and operators(model).count("Slice") == 2
    holds(case)


@pytest.mark.parametrize(("bits", "apart"), [(8, True), (4, False)])
def test_offsets_that_no_grid_holds_stay_apart(bits: int, apart: bool) -> None:
    """-7 and -9 steps below zero: 256 codes have no room for both beside real zero, 16 do."""
    case = case_of(bits=bits, offsets={**STEPS, "d3.input": -7.0, "d5.input": -9.0})
    model = unmerged(case)
    merge_parallel(model)
    assert ("d3" in [str(node.name) for node in find(model, "Conv")]) == apart
    holds(case)


def test_kernels_whose_outputs_only_happen_to_have_one_size_stay_apart() -> None:
    """Stride 2 on 8 pixels: kernels of 3 and of 4 with pads of 1 both give 4."""

    def even() -> nn.Module:
        def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
            a, b = torch.split(s.stem(x), [4, 4], 1)
            return s.fc(torch.cat([s.d3(a), s.d4(b)], 1))

        convs = {"d3": Conv(4, 4, 3, 2, padding=1, groups=4), "d4": Conv(4, 4, 4, 2, padding=1, groups=4)}
        return Wired(forward, stem=Conv(3, 8, 2), fc=Conv(8, 4, 1), **convs)

    assert operators(holds(Case(even, networks.LOW)).model).count("Concat") == 1


@pytest.mark.parametrize(
    ("shares", "sizes", "depthwise", "outputs", "merges"),
    [
        ((4, 4), (3, 3), True, (4, 12), False),  # outputs would land in other groups
        ((4, 4), (3, 5), True, (8, 4), False),
        ((4, 4), (3, 5), True, (8, 8), True),
        ((1, 7), (1, 1), False, (4, 4), True),  # one channel: dense and depthwise at once
        ((1, 1), (1, 1), False, (2, 4), True),
    ],
)
def test_shares_and_multipliers(
    shares: tuple[int, int], sizes: tuple[int, int], depthwise: bool, outputs: tuple[int, int], merges: bool
) -> None:
    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        a, b = torch.split(F.relu(s.stem(x)), list(shares), 1)
        return s.fc(torch.cat([s.first(a), s.second(b)], 1))

    def build() -> nn.Module:
        first, second = (
            Conv(i, o, k, padding=k // 2, groups=i if depthwise else 1)
            for i, o, k in zip(shares, outputs, sizes, strict=True)
        )
        return Wired(forward, stem=Conv(3, sum(shares), 1), first=first, second=second, fc=Conv(sum(outputs), 4, 1))

    case = Case(build, networks.LOW)
    was = unmerged(case)
    now = copy(was)
    merge_parallel(now)
    assert operators(now).count("Concat") == (0 if merges else 1)
    a, b = (evaluate(m.graph, inputs(6, 2, spread=3.0))[0].numpy() for m in (was, now))
    assert np.abs(a - b).max() <= FLOAT64 * np.abs(a).max()
    holds(case)


def test_an_origin_off_by_one_is_seen() -> None:
    found = folded(case_of())
    files = emit_all(found, ("qoperator",), get("ort-cpu"))
    name = next(t.name for t in files["qoperator"].graph.initializer if t.name.endswith("apart.codes"))
    (tensor,) = (t for t in files["qoperator"].graph.initializer if t.name == name)
    codes = np.frombuffer(tensor.raw_data, np.uint8).copy()
    codes[0] += 1
    tensor.raw_data = codes.tobytes()
    parity = check(Subject.of(found, files, "ort-cpu"), [inputs(8, 2, spread=3.0)])
    assert any("more than ties" in line for line in parity.failures)


def test_markers_have_one_offset_a_channel() -> None:
    model = unmerged(case_of())
    merge_parallel(model)
    merged = [node for node in model.graph if is_marker(node) and attribute(node, "axis") == 1]
    assert len(merged) == 2 and all(values(model)[str(node.outputs[0].name)].shape[1] == 8 for node in merged)
