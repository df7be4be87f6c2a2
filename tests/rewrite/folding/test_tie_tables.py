"""tie_tables: the scale of a sum moves to where functions of its codes have the codes that training gave them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from calib.rounding.candidates import MARGIN
from calib.rounding.ties import clear_scale, tie_distance
from lsq_export.rewrite.folding.tie_tables import changes_of
from support.networks import find, hand_made

SCALE, TABLE = 0.02, 0.0092
make = helper.make_node


def elu(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def graph() -> ir.Model:
    """A grid, Elu, and a grid that also reads the first one twice as large: two tables."""
    grids = {"scale": np.float32(SCALE), "zero": np.uint8(128), "table": np.float32(TABLE), "low": np.uint8(91)}
    nodes = [
        make("QuantizeLinear", ["x", "scale", "zero"], ["codes"]),
        make("DequantizeLinear", ["codes", "scale", "zero"], ["d"]),
        make("Elu", ["d"], ["e"]),
        make("QuantizeLinear", ["e", "table", "low"], ["of_elu"]),
        make("Mul", ["d", "two"], ["m"]),
        make("QuantizeLinear", ["m", "table", "low"], ["of_two"]),
        make("Add", ["d", "x"], ["other"]),  # no function of the codes alone
        make("QuantizeLinear", ["other", "table", "low"], ["of_other"]),
    ]
    return hand_made(nodes, {**grids, "two": np.float32(2)}, ("N", 4), ("of_elu", "of_two", "of_other"))


def codes(scale: float) -> np.ndarray:
    """Of both tables, by numpy."""
    x = (np.arange(256) - 128) * scale
    steps = np.concatenate([elu(x), 2 * x]) / np.float64(np.float32(TABLE))
    return np.clip(np.rint(steps) + 91, 0, 255)


@pytest.mark.parametrize("by", [1e-3, -1e-3, 1e-4, -1e-5, 0.0])
def test_codes_that_change_are_counted(by: float) -> None:
    scale = float(np.float32(SCALE))
    changes = changes_of(find(graph(), "DequantizeLinear"), scale)
    assert changes(scale * (1 + by)) == (codes(scale) != codes(scale * (1 + by))).sum()
    assert (by == 0) <= (changes(scale * (1 + by)) == 0) and changes(scale * 1.001) > 0


def test_a_scale_that_changes_no_table_is_preferred() -> None:
    """Of those that are as clear of ties; without the tables another one is the nearest."""
    scale, sums = float(np.float32(SCALE)), np.arange(-300, 300) * SCALE / 2
    changes = changes_of(find(graph(), "DequantizeLinear"), scale)
    alone = clear_scale(sums, scale, -128, 127)
    kept = clear_scale(sums, scale, -128, 127, changes=changes)
    assert changes(alone) > 0 == changes(kept) and alone != kept
    assert tie_distance(sums / kept, -128, 127) >= MARGIN
