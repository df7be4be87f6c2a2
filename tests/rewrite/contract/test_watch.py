"""same: a pass that hands on another network than it was given ends the export, whatever the promises say."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

import lsq_export.rewrite.fold as stage
from calib import QuantizationError
from lsq_export.graph.layers import bias_of, set_bias, set_weight, weight_codes
from lsq_export.graph.read import attribute, is_marker
from lsq_export.rewrite.contract.passes import Keeps, State
from lsq_export.rewrite.contract.watch import FLIPS, Watch, _check_flips, probe
from support.networks import SHAPE, Case, Conv, before, find, inputs, norm, quick_capture, set_constant, train
from support.parallel import case_of
from support.passes import spoil

Spoil = Callable[[ir.Model], None]


def last_conv(model: ir.Model, group: int | None = None) -> ir.Node:
    return [node for node in find(model, "Conv") if group is None or attribute(node, "group", 1) == group][-1]


def other_channels(model: ir.Model) -> None:
    """The outputs of a convolution in another order."""
    conv = last_conv(model, 8)
    codes, scale = weight_codes(conv)
    set_weight(conv, model.graph, codes[::-1].copy(), scale[::-1].copy())


def bias_of_one_channel(model: ir.Model) -> None:
    conv = find(model, "Conv")[1]
    bias = bias_of(conv).copy()
    bias[-1] += 0.3 * np.abs(bias).max()
    set_bias(conv, model.graph, bias)


def other_signs(model: ir.Model) -> None:
    """The last layer but one: its codes go to a grid."""
    conv = find(model, "Conv")[1]
    codes = -weight_codes(conv)[0]
    scale = weight_codes(conv)[1]
    set_weight(conv, model.graph, codes.astype(np.int8), scale, np.zeros(len(scale), np.int8))


def lowest_code(model: ir.Model) -> None:
    """A clamp that came out one code too low."""
    marker = next(
        node
        for node in model.graph
        if is_marker(node) and attribute(node, "kind") == "activation" and attribute(node, "qmin") > 0
    )
    marker.attributes["qmin"] = ir.AttrInt64("qmin", attribute(marker, "qmin") - 2)


def twice_the_step(model: ir.Model) -> None:
    marker = [node for node in model.graph if is_marker(node) and attribute(node, "kind") == "activation"][-1]
    assert marker.inputs[1] is not None
    set_constant(marker.inputs[1], np.float32(2 * marker.inputs[1].const_value.numpy()))  # type: ignore[union-attr]


def padded() -> nn.Module:
    """Relu in front of a grid with an offset below zero: the clamp goes into the codes."""
    return nn.Sequential(
        Conv(3, 6, 3, padding=1), norm(6), nn.ReLU(), Conv(6, 6, 3, padding=1), norm(6), nn.ReLU(), Conv(6, 4, 1)
    )


PLAIN = Case(
    padded,
    {"first_last_bits": None, "weight_bits": 4, "activation_bits": 4},
    offsets={"3.input": -3.0, "6.input": -3.0},
    shift=0.0,
)


@pytest.mark.parametrize(
    ("name", "damage", "case"),
    [
        ("freeze_weights", other_signs, PLAIN),
        ("merge_parallel", other_channels, case_of()),
        ("merge_parallel", twice_the_step, case_of()),
        ("fold_batch_norms", bias_of_one_channel, PLAIN),
        ("absorb_clamps", lowest_code, PLAIN),
        ("absorb_clamps", twice_the_step, PLAIN),
        ("equalize", bias_of_one_channel, PLAIN),
        ("place_offsets", bias_of_one_channel, PLAIN),
        ("clear_ties", bias_of_one_channel, PLAIN),
        ("drop_clips", bias_of_one_channel, PLAIN),
        ("place_integers", other_signs, PLAIN),
    ],
)
def test_a_pass_that_changes_the_network_ends_the_fold(
    monkeypatch: pytest.MonkeyPatch, name: str, damage: Spoil, case: Case
) -> None:
    found = quick_capture(train(case))
    stage.fold(found, [inputs(4, 1)])
    spoil(monkeypatch, name, damage)
    with pytest.raises(QuantizationError, match=rf"after the pass {name}, which keeps .*; please report") as error:
        stage.fold(found, [inputs(4, 1)])
    assert "\n" not in str(error.value)


def test_a_network_that_becomes_nan_is_not_the_same() -> None:
    model = before("chain", "fold_batch_norms")
    watch = Watch(torch.ones(1, *SHAPE, dtype=torch.float64))
    watch.before(model, State(), Keeps.VALUES)
    norm_node = find(model, "BatchNormalization")[-1]
    set_constant(norm_node.inputs[2], np.full(norm_node.inputs[2].shape, np.nan, np.float32))
    with pytest.raises(QuantizationError, match="differs by nan"):
        watch.after(model, State())


def test_the_probe_leaves_the_batches_as_they_were():
    batches = [inputs(3, 1), inputs(2, 2)]
    image, rest = probe(iter(batches))
    kept = list(rest)
    assert image is not None and image.shape == (1, *SHAPE) and image.dtype == torch.float64
    assert len(kept) == 2 and all(torch.equal(a, b) for a, b in zip(kept, batches, strict=True))
    assert torch.equal(probe(batches)[0], image) and not torch.equal(image, batches[0][:1].double())
    flat, _ = probe([torch.zeros(1, *SHAPE)])
    assert flat is not None and len(torch.unique(flat)) == flat.numel()  # an empty image tells its pixels apart as well
    assert probe([])[0] is None


def codes(seed: int, levels: int, *, channels: int = 8) -> torch.Tensor:
    """[1, channels, 8, 8]: one value in the first channel, any in the others."""
    found = torch.randint(0, levels, (1, channels, 8, 8), generator=torch.Generator().manual_seed(seed)).double()
    found[:, 0] = 5
    return found


def test_equal_values_next_to_a_tie_may_flip_together():
    """A channel with a tiny γ lies at one place, perhaps next to a tie; equal codes have equal sigmoids."""
    was = codes(0, 16)
    position = was.clone()
    for chosen in ((torch.arange(8) == 0).reshape(1, 8, 1, 1).expand(was.shape), was == 5):
        now = torch.where(chosen, was + 1, was)
        position[chosen] = 5.5 - FLIPS / 2
        _check_flips("a", now, was, FLIPS, position)
        with pytest.raises(QuantizationError, match="codes differ"):  # by two codes, which no tie explains
            _check_flips("a", torch.where(chosen, was + 2, was), was, FLIPS, position)
        position[chosen] = 5.5 - 2 * FLIPS
        with pytest.raises(QuantizationError, match="codes differ"):  # as far from a tie as any
            _check_flips("a", now, was, FLIPS, position)


@pytest.mark.parametrize("levels", [4, 16, 256])
@pytest.mark.parametrize("step", [1.0, -1.0, 2.0, torch.nan])
def test_a_channel_that_is_off_is_still_seen(levels: int, step: float):
    was = codes(1, levels)
    now = was.clone()
    now[:, 3] += step
    with pytest.raises(QuantizationError, match="a: 64 of 512 codes differ"):
        _check_flips("a", now, was, FLIPS)
    constant = was.clone()
    constant[:, 0] += 2 * step  # more than a tie
    with pytest.raises(QuantizationError, match="a: 64 of 512 codes differ"):
        _check_flips("a", constant, was, FLIPS)


def test_three_constant_channels_do_not_flip_at_once():
    was = codes(2, 16)
    was[:, 1:3] = 7
    now = was.clone()
    now[:, :3] += 1
    with pytest.raises(QuantizationError, match="a: 192 of 512"):
        _check_flips("a", now, was, FLIPS)
