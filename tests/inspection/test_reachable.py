"""lsq_export/inspection/reachable.py: how many codes an activation can take."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

from lsq_export import integer
from support.onnx_files import F32, U8, build, node, rows_of


# E5: k = 17, o = 255 - 17 * 15 = 0 at 4 bits; k = 80, o = 15 at 2 bits
@pytest.mark.parametrize(("bits", "k"), [(4, 17), (4, 11), (2, 80), (3, 36)])
def test_strided_codes_are_counted(bits: int, k: int) -> None:
    """All three ways of spreading codes leave 2^bits of them, and max pooling keeps these.

    They are QLinearAdd of the code of zero, a look-up by QLinearLeakyRelu, and DequantizeLinear -> QuantizeLinear.
    """
    o = 255 - k * (2**bits - 1)
    grids = {"s": F32(0.3), "z": U8(0), "s2": F32(F32(0.3) / k), "z2": U8(o)}
    first = node("QuantizeLinear", "x s z", "q")
    leaky = rows_of(build([first, node("QLinearLeakyRelu", "q s z s2 z2", "c", alpha=1.0)], **grids))
    added = rows_of(build([first, node("QLinearAdd", "q s z z s z s2 z2", "c")], **grids))
    assert "z" not in added
    pair = [first, node("DequantizeLinear", "q s z", "f"), node("QuantizeLinear", "f s2 z2", "c")]
    pooled = [*pair, node("MaxPool", "c", "p", kernel_shape=[2, 2]), node("DequantizeLinear", "p s2 z2", "y")]
    rows = rows_of(build(pooled, **grids))
    for row in (leaky["c"], added["c"], rows["c"], rows["p"]):
        assert (row.type, row.bits, row.levels) == ("UINT8", bits, 2**bits)
    assert leaky["q"].levels == 256


def test_clipped_codes_are_counted() -> None:
    nodes = [node("QuantizeLinear", "x s z", "q"), node("Clip", "q z top", "c"), node("DequantizeLinear", "c s z", "y")]
    rows = rows_of(build(nodes, s=F32(1), z=U8(0), top=U8(15)))
    assert [(r.name, r.bits, r.levels) for r in rows.values()] == [("q", 8, 256), ("c", 4, 16)]


def test_functions_of_one_tensor_are_counted_code_by_code_and_products_pair_by_pair() -> None:
    """Against the integer reference on every code, and on every pair of codes."""
    silu = [
        node("QuantizeLinear", "x s z", "q"),
        node("QLinearSigmoid", "q s z gs gz", "gate"),
        node("QLinearMul", "q s z gate gs gz ys yz", "y"),
    ]
    more = [
        node("Transpose", "q", "other", perm=[0, 1, 3, 2]),  # the same codes at other places
        node("QLinearMul", "q s z other s z ps pz", "p"),
        node("QLinearGlobalAveragePool", "y ys yz ms mz", "mean"),
    ]
    grids = {"s": F32(0.05), "z": U8(128), "gs": F32(1 / 255), "gz": U8(0), "ys": F32(0.28), "yz": U8(255 - 14)}
    grids |= {"ps": F32(4.0), "pz": U8(40), "ms": F32(0.5), "mz": U8(3)}
    rows = rows_of(build([*silu, *more], inputs=(TensorProto.FLOAT, [1, 1, 256, 256]), **grids))
    model = build(silu, **grids)
    every = (np.arange(256) - 128).astype(F32) * F32(0.05)
    found = integer.run(model, {"x": every.reshape(1, 1, 16, 16)})
    assert (
        rows["y"].levels == len(np.unique(found["y"])) == 16
        and rows["y"].bits == 4
        and rows["gate"].levels == len(np.unique(found["gate"]))
    )
    pairs = np.rint(F32(0.05) * F32(0.05) / F32(4.0) * np.outer(np.arange(256) - 128.0, np.arange(256) - 128.0)) + 40
    assert rows["other"].levels == 256 and rows["p"].levels == len(np.unique(pairs.clip(0, 255)))
    low, high = (np.rint(0.28 * (int(y) - 241) / 0.5) + 3 for y in (found["y"].min(), found["y"].max()))
    assert rows["mean"].levels == high - low + 1
