"""Outputs and codes read as integers."""

from __future__ import annotations

import numpy as np
import pytest

from lsq_export.replaying.integers import Scale, made_by, scale_of_output
from support.onnx_files import F32, U8, build, node

S = np.array([0.5, 0.25, 2.0], F32)
INT = np.arange(-6, 6).reshape(2, 3, 2)


def test_integers_come_back_from_their_values() -> None:
    """x = S·(c - Z), with one scale for each channel, and with one for all."""
    values = ((INT - 7) * S[None, :, None]).astype(F32)
    assert np.array_equal(Scale(values=S, zero_point=np.full(3, 7), axis=1).integers(values), INT)
    assert np.array_equal(Scale(values=F32(0.1), zero_point=np.array(3), axis=1).integers(F32(0.1) * (INT - 3)), INT)


def layer(**constants: np.ndarray) -> dict[str, np.ndarray]:
    known = {"s": F32(0.5), "z": U8(3), "w": np.ones((3, 4), F32), "b": np.zeros(3, np.int32), "bs": S}
    return {**known, **constants}


GEMM = [
    node("QuantizeLinear", "x s z", "q"),
    node("DequantizeLinear", "q s z", "v"),
    node("DequantizeLinear", "b bs", "bias"),
    node("Gemm", "v w bias", "y", name="fc", transB=1),
]


def test_the_scale_of_a_layers_output_is_that_of_its_bias() -> None:
    scale = scale_of_output(build(GEMM, **layer()), "y")
    assert scale is not None and scale.axis == 1
    assert scale.values.tolist() == S.tolist() and scale.zero_point.tolist() == [0, 0, 0]


def test_the_scale_of_a_grid_and_of_an_accumulator() -> None:
    scale = scale_of_output(build(GEMM[:2], **layer()), "v")
    assert scale is not None and (float(scale.values), int(scale.zero_point)) == (0.5, 3)
    scale = scale_of_output(build([node("DequantizeLinear", "a bs", "y", axis=2)], **layer()), "y")
    assert scale is not None and scale.axis == 2


def test_floats_have_no_scale() -> None:
    for nodes in ([node("Relu", "x", "y")], [*GEMM[:2], node("Gemm", "v w c", "y")], [node("Identity", "x", "z2")]):
        assert scale_of_output(build(nodes, **layer()), "y") is None
    assert scale_of_output(build(GEMM, **layer(bs=np.zeros(3, F32))), "y") is None  # a scale of zero tells nothing


def test_a_reshape_of_channels_has_no_scale() -> None:
    nodes = [*GEMM[:3], node("Reshape", "bias r", "y")]
    assert scale_of_output(build(nodes, **layer(r=np.array([1, 3]))), "y") is None


@pytest.mark.parametrize(
    ("tensor", "name"), [("q", "the input"), ("c", "Gemm fc"), ("d", "Clip d"), ("x", "the input")]
)
def test_the_operator_that_makes_codes(tensor: str, name: str) -> None:
    nodes = [*GEMM, node("QuantizeLinear", "y s z", "c"), node("DequantizeLinear", "c s z", "u")]
    nodes += [node("QuantizeLinear", "u s z", "e"), node("Clip", "e lo hi", "d", name="d")]
    found = made_by(build(nodes, **layer(lo=U8(0), hi=U8(15))), tensor)
    assert found == name or (tensor == "q" and found.startswith("QuantizeLinear"))
