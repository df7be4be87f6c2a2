"""checkpoint: learned grids under the names that libraries give them, with the scales of their own simulations.

The names and the values expected are those of files that the libraries wrote (the scales of NNCF: of its own export).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from calib.errors import QuantizationError
from lsq_export.inspection.checkpoint import LearnedGrid, learned_grids

WEIGHT = {"conv1.weight": torch.zeros(2, 3, 3, 3), "bn1.weight": torch.ones(2)}


def found(tmp_path: Path, content: Mapping[str, Any], bits: int | None = None) -> tuple[LearnedGrid, ...]:
    torch.save(OrderedDict({**WEIGHT, **content}), tmp_path / "net.pth")
    return learned_grids(tmp_path / "net.pth", bits)


def scalar(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def test_torch_keeps_steps(tmp_path: Path) -> None:
    content = {
        "activation_post_process_0.scale": scalar(0.25).reshape(1),
        "activation_post_process_0.zero_point": torch.tensor([7], dtype=torch.int32),
        "conv1.weight_fake_quant.scale": torch.tensor([0.5, 0.125]),
        "conv1.weight_fake_quant.zero_point": torch.zeros(2, dtype=torch.int32),
    }
    first, second = found(tmp_path, content)
    assert (first.place, first.role, first.scale, first.zero_point) == (
        "activation_post_process_0",
        "activation",
        (0.25,),
        (7.0,),
    )
    assert (second.place, second.role, second.scale) == ("conv1", "weight", (0.5, 0.125))
    assert {first.library, second.library} == {"torch.ao / torchao"} and first.bits is None


def test_brevitas_keeps_a_range_which_needs_the_bits(tmp_path: Path) -> None:
    front = "q_in.act_quant.fused_activation_quant_proxy.tensor_quant"
    content = {f"{front}.scaling_impl.value": scalar(3.0), f"{front}.zero_point_impl.value": scalar(-1.0)}
    (grid,) = found(tmp_path, content)
    assert (grid.place, grid.low, grid.high, grid.scale, grid.bits) == ("q_in", (-1.0,), (2.0,), None, None)
    (grid,) = found(tmp_path, content, bits=4)
    assert (grid.scale, grid.zero_point, grid.bits) == ((0.2,), (5.0,), 4)


def test_nncf_moves_the_range_before_it_uses_it(tmp_path: Path) -> None:
    front = "__nncf_hooks.post_hooks.silu/silu/0__0.0"
    content = {
        f"{front}._num_bits": torch.tensor([8]),
        f"{front}.input_low": scalar(-0.27873483300209045),
        f"{front}.input_range": scalar(1.2454917430877686),
        "__nncf_hooks.pre_hooks.conv1/conv2d/0__1.0._num_bits": torch.tensor([8]),
        "__nncf_hooks.pre_hooks.conv1/conv2d/0__1.0.scale": torch.tensor([[1.27], [2.54]], dtype=torch.float64),
        "__nncf_hooks.pre_hooks.conv1/conv2d/0__1.0.signed_tensor": torch.tensor([1]),
    }
    silu, weight = found(tmp_path, content)
    assert silu.scale is not None and weight.scale is not None
    assert round(silu.scale[0], 7) == 0.0048901 and silu.zero_point == (57.0,)  # not 1.24549 / 255 = 0.0048843
    assert (silu.role, silu.bits, weight.role) == ("output", 8, "weight")
    assert weight.scale == pytest.approx((0.01, 0.02)) and weight.zero_point == (0.0, 0.0)


@pytest.mark.parametrize(("low", "high"), [(-7e-6, 5.0), (0.1, 5.0), (-3.0, 0.0), (-3.0, 4.0), (-3.0, -1.0)])
def test_nncf_grids_hold_zero_and_reach_as_far(low: float, high: float, tmp_path: Path) -> None:
    front = "__nncf_hooks.post_hooks.x__0.0"
    content = {f"{front}.input_low": scalar(low), f"{front}.input_range": scalar(high - low)}
    (grid,) = found(tmp_path, content, bits=8)
    assert grid.scale is not None and grid.zero_point is not None and grid.low is not None
    assert abs(grid.low[0] + grid.zero_point[0] * grid.scale[0]) < 1e-12
    lowest = -grid.zero_point[0] * grid.scale[0]
    assert min(low, 0) - grid.scale[0] < lowest <= min(low, 0) + grid.scale[0]
    assert lowest + 255 * grid.scale[0] > max(high, 0) - grid.scale[0]


def test_aimet_keeps_both_ends_and_the_codes(tmp_path: Path) -> None:
    def state(first: int, last: int, symmetric: bool) -> dict[str, Any]:
        return {"qmin": torch.tensor(first), "qmax": torch.tensor(last), "symmetric": torch.tensor(symmetric)}

    content = {
        "conv1.param_quantizers.weight.min": torch.tensor([[-0.8], [-1.6]], dtype=torch.float64),
        "conv1.param_quantizers.weight.max": torch.tensor([[0.7], [1.4]], dtype=torch.float64),
        "conv1.param_quantizers.weight._extra_state": state(-8, 7, True),
        "conv1.input_quantizers.0.min": scalar(-1.0),
        "conv1.input_quantizers.0.max": scalar(2.0),
        "conv1.input_quantizers.0._extra_state": state(0, 15, False),
    }
    weight, data = found(tmp_path, content)
    assert weight.scale == pytest.approx((0.1, 0.2)) and weight.zero_point == (0.0, 0.0)
    assert (data.scale, data.zero_point, data.bits, data.role) == ((0.2,), (5.0,), 4, "input")


def test_modelopt_has_a_real_offset(tmp_path: Path) -> None:
    content = {
        "dw.input_quantizer._amax": scalar(2.6),
        "dw.input_quantizer._bias_value": torch.full((1, 1, 1, 1), 2.5, dtype=torch.float64),
        "dw.weight_quantizer._amax": torch.tensor([[0.7], [1.4]], dtype=torch.float64),
    }
    data, weight = found(tmp_path, {"model_state_dict": {**content, **WEIGHT}, "modelopt_state": {"x": 1}}, bits=4)
    assert data.scale == pytest.approx((2.6 / 7,)) and data.zero_point == pytest.approx((-2.5 / (2.6 / 7),))
    assert weight.scale == pytest.approx((0.1, 0.2)) and (data.library, weight.role) == ("ModelOpt", "weight")


def test_quark_mct_and_graphs_of_torchao(tmp_path: Path) -> None:
    content = {
        "conv1._input_quantizer.scale": scalar(0.5),
        "conv1._input_quantizer.zero_point": torch.tensor(7),
        "relu_activation_holder_quantizer.activation_holder_quantizer_out": scalar(8.0).reshape(1),
        "_scale_0": torch.tensor([0.5, 0.25]),
        "_zero_point_0": torch.tensor([0, 0]),
    }
    quark, mct, frozen = found(tmp_path, content)
    assert (quark.library, quark.place, quark.role, quark.scale) == ("Quark", "conv1", "input", (0.5,))
    assert (mct.library, mct.place, mct.scale, mct.high) == ("MCT", "relu", None, (8.0,))
    assert (frozen.library, frozen.role, frozen.scale) == ("torchao, converted", "weight", (0.5, 0.25))


@pytest.mark.parametrize("step", ["s", "alpha", "step_size"])
def test_code_of_papers_has_real_offsets(step: str, tmp_path: Path) -> None:
    content = {f"layer1.act_quant.{step}": scalar(0.25), "layer1.act_quant.beta": scalar(-0.1)}
    content |= {f"layer1.weight_quant.{step}": scalar(0.5)}
    content |= {f"layer1.norm.{step}": torch.ones(4), "layer1.norm.beta": torch.ones(4), "ls.scale": torch.ones(4)}
    data, weight = found(tmp_path, content)
    assert (data.library, data.scale, data.zero_point) == ("LSQ+", (0.25,), pytest.approx((0.4,)))
    assert (weight.library, weight.role, weight.scale, weight.zero_point) == ("LSQ", "weight", (0.5,), None)


def test_a_float_network_has_none(tmp_path: Path) -> None:
    with pytest.raises(QuantizationError, match=r"net.pth: none of its 2 tensors belongs to a quantizer"):
        found(tmp_path, {})
    save_file(WEIGHT, tmp_path / "net.safetensors")
    with pytest.raises(QuantizationError, match="none of its 2 tensors"):
        learned_grids(tmp_path / "net.safetensors")
    with pytest.raises(QuantizationError, match="bits is 1: give 2"):
        learned_grids(tmp_path / "net.safetensors", bits=1)


def test_tensors_that_are_no_grid_are_named(tmp_path: Path) -> None:
    content = {"x.input_quantizers.0.min": scalar(0.0), "x.input_quantizers.0.max": torch.tensor(1j)}
    with pytest.raises(QuantizationError, match=r"x.input_quantizers.0: these tensors are no grid of AIMET \(min, max"):
        found(tmp_path, content)


def test_a_range_before_calibration(tmp_path: Path) -> None:
    content = {"x.input_quantizers.0.min": scalar(0.0), "x.input_quantizers.0.max": scalar(0.0)}
    (grid,) = found(tmp_path, content, bits=8)
    assert grid.scale == (0.0,) and grid.zero_point is not None and grid.zero_point[0] != grid.zero_point[0]
