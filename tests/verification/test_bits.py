"""lsq_export/verification/bits.py: which codes have how many bits, in one line."""

from __future__ import annotations

from typing import Any

import pytest

from lsq_export.verification.bits import LONGEST, bits, listed


def layer(name: str, width: int, container: str = "INT8") -> dict[str, Any]:
    return {"name": name, "bits": width, "container": container}


def tensor(name: str, levels: int, kind: str = "activation", container: str = "UINT8") -> dict[str, Any]:
    return {"name": name, "kind": kind, "levels": levels, "container": container}


def line(layers: list[dict[str, Any]], tensors: list[dict[str, Any]], *islands: dict[str, Any]) -> str:
    return bits({"layers": layers, "tensors": tensors, "islands": list(islands)})


def test_what_is_wider_is_named_and_counted() -> None:
    layers = [layer("stem", 8, "UINT8"), *(layer(f"conv{i}", 4) for i in range(5)), layer("fc", 8, "UINT8")]
    tensors = [tensor("stem.input", 256), *(tensor(f"conv{i}.input", 16) for i in range(5)), tensor("fc.input", 256)]
    tensors += [tensor("edges.add", 256), tensor("pool.output", 256, "edge")]
    found = line(layers, tensors)
    counts = "5 of 7 weights, 5 of 9 tensors"
    assert found == f"4 bits in INT8/UINT8: {counts}; 8 bits: stem, fc, 2 between layers"
    tensors[2] = tensor("conv1.input", 8)  # a clamp took the upper half away
    assert line(layers, tensors) == found


def test_other_widths_of_weights_and_activations_are_counted_beside_them() -> None:
    layers = [layer("stem", 8), *(layer(f"conv{i}", 3) for i in range(5))]
    tensors = [tensor("stem.input", 256), *(tensor(f"conv{i}.input", 4) for i in range(5))]
    expected = "3-bit weights (5 of 6), 2-bit activations (5 of 6) in INT8/UINT8; 8 bits: stem"
    assert line(layers, tensors) == expected


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("c", "8 bits: c0, c1 and 2 more, 33 between layers"),
        ("conv", "8 bits: conv0 and 3 more, 33 between layers"),
        ("features.stage.conv", "8 bits: 4 layers, 33 between layers"),
    ],
)
def test_a_long_line_names_fewer_layers(name: str, shown: str) -> None:
    layers = [*(layer(f"{name}{i}", 8) for i in range(4)), *(layer(f"l{i}", 4) for i in range(17))]
    tensors = [*(tensor(f"{name}{i}.input", 256) for i in range(4)), *(tensor(f"l{i}.input", 16) for i in range(17))]
    tensors += [tensor(f"edges.{i}", 256) for i in range(33)]
    found = line(layers, tensors)
    assert found == f"4 bits in INT8/UINT8: 17 of 21 weights, 17 of 54 tensors; {shown}" and len(found) <= LONGEST


def test_a_residual_network_fits() -> None:
    layers = [layer("conv1", 8), *(layer(f"l{i}", 4) for i in range(19)), layer("fc", 8)]
    tensors = [tensor("conv1.input", 256), *(tensor(f"l{i}.input", 16) for i in range(19)), tensor("fc.input", 256)]
    found = line(layers, [*tensors, *(tensor(f"edges.{i}", 256) for i in range(33))])
    assert found == "4 bits in INT8/UINT8: 19 of 21 weights, 19 of 54 tensors; 8 bits: conv1, fc, 33 between layers"


def test_all_of_one_width_and_native_types() -> None:
    both = [tensor("a.input", 256), tensor("b.input", 256)]
    assert line([layer("a", 8), layer("b", 8)], both) == "8-bit codes stored as INT8/UINT8"
    few = [tensor("a.input", 4, container="UINT2"), tensor("b.input", 4, container="UINT2")]
    assert line([layer("a", 3, "INT4"), layer("b", 3, "INT4")], few) == (
        "3-bit weights, 2-bit activations stored as INT4/UINT2"
    )


def test_float_islands_are_named() -> None:
    gelu = {"name": "act.Gelu", "operator": "Gelu", "wished": False}
    kept = {"name": "fc", "operator": "Gemm", "wished": True}
    found = line([layer("a", 4)], [tensor("a.input", 16)], gelu, kept)
    assert found.endswith("; float: act.Gelu (Gelu), fc (Gemm, kept float)")
    assert line([], [], gelu) == "float: act.Gelu (Gelu)" and listed([*"abcde"]) == "a, b, c and 2 more"
    assert listed([*"ab"], 0) == "2 layers" and listed(["a"], 0) == "1 layer"
