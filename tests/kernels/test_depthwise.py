"""Depthwise convolutions in ONNX Runtime: the bits of QLinearConv, and one line for what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from lsq_export.kernels import DOMAIN, KERNEL_VARIABLE, kernel_name
from support import lookups

TYPES = (np.uint8, np.int8)
CONSTANTS = ("x_scale", "x_zero", "w", "w_scale", "w_zero", "y_scale", "y_zero", "bias")
INPUTS = ("codes", "table", "geometry", *CONSTANTS)
# channels, kernel, strides, pads, dilations, shape without channels
CASES = [
    (16, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), (2, 9, 11)),
    (72, (5, 5), (1, 1), (2, 2, 2, 2), (1, 1), (1, 14, 14)),
    (360, (9, 9), (1, 1), (4, 4, 4, 4), (1, 1), (1, 14, 14)),  # its period would be too long
    (40, (3, 5), (2, 1), (0, 2, 1, 1), (1, 2), (3, 8, 15)),
    (64, (3, 3), (2, 2), (1, 1, 1, 1), (1, 1), (1, 80, 81)),  # shared by the threads
    (7, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), (1, 5, 6)),
    (24, (7, 7), (1, 1), (3, 3, 3, 3), (1, 1), (1, 3, 4)),  # images that are smaller than the kernel
    (130, (2, 2), (1, 1), (0, 0, 1, 1), (1, 1), (2, 6, 5)),
]


def draw(dtype: type, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8).view(dtype)


def model(dtype: type, table: np.ndarray, case: Any = CASES[0], **other: Any) -> bytes:
    """Depthwise5 of "codes", with QLinearConv and Gather as its function. other: constants."""
    channels, kernel, strides, pads, dilations, _ = case
    rng = np.random.default_rng(channels)
    w = rng.integers(-128, 128, (channels, 1, *kernel), dtype=np.int8)
    w[: channels // 2, :, 0] = 0  # taps that some blocks leave out
    one = channels % 3 == 0
    scales = rng.uniform(0.001, 0.01, 1 if one else channels).astype(np.float32)
    constants = {
        "geometry": np.array([*strides, *pads, *dilations], np.int64),
        "x_scale": np.float32(0.03),
        "x_zero": draw(dtype, 1, seed=1)[0],
        "w": w,
        "w_scale": scales[0] if one else scales,
        "w_zero": np.int8(0) if one else np.zeros(channels, np.int8),
        "y_scale": np.float32(0.003 * np.prod(kernel)),
        "y_zero": draw(dtype, 1, seed=2)[0],
        "bias": rng.integers(-9000, 9000, channels, dtype=np.int32),
        "table": table,
    } | other
    attributes = {"strides": strides, "pads": pads, "dilations": dilations, "group": channels, "channels_last": 1}
    conv = helper.make_node(
        "QLinearConv", ["codes", *CONSTANTS], ["first"], domain="com.microsoft", kernel_shape=kernel, **attributes
    )
    behind = lookups.gather(dtype, "")
    for node in behind.node:
        node.input[:] = ["first" if name == "codes" else name for name in node.input]
    function = helper.make_function(
        DOMAIN, "Depthwise5", list(INPUTS), ["entries"], [conv, *behind.node], lookups.OPSETS
    )
    node = helper.make_node("Depthwise5", list(INPUTS), ["entries"], name="node of entries", domain=DOMAIN)
    kept = {name: np.asarray(value) for name, value in constants.items()}
    return lookups.file(dtype, [node], table.dtype, kept, [function], [name for name in other if name == "bias"])


@pytest.mark.parametrize("kernel", ["", "avx2", "portable"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: "x".join(map(str, (case[0], *case[1]))))
@pytest.mark.parametrize("dtype", TYPES)
def test_the_bits_are_those_of_stock_operators(
    dtype: type, case: Any, kernel: str, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KERNEL_VARIABLE, kernel)
    lowest = np.iinfo(dtype).min
    same = np.arange(lowest, lowest + 256).astype(dtype)
    for table in (same, draw(dtype, 256), draw(np.int8, 256)):
        made = model(dtype, table, case)
        try:
            fast = lookups.session(made, library, threads=2)
        except Exception as error:
            assert "LSQ_EXPORT_KERNEL names no kernel" in str(error) and kernel == "avx2"
            pytest.skip("this processor cannot run it")
        x = draw(dtype, *case[5], case[0], seed=3)
        (found,), (stock,) = fast.run(None, {"codes": x}), lookups.session(made, None).run(None, {"codes": x})
        assert found.dtype == table.dtype and np.array_equal(found, stock) and len(np.unique(found)) > 8


BAD = {
    "geometry": [
        (np.arange(7), "the geometry has 8 numbers"),
        (np.array([1, 0, 0, 0, 0, 0, 1, 1]), "the geometry cannot be"),
        (np.array([1, 1, 0, 0, -1, 0, 1, 1]), "the geometry cannot be"),
    ],
    "w": [
        (np.zeros((16, 2, 3, 3), np.int8), r"weights are \[C, 1, K, K\], with fewer than 1024 taps"),
        (np.zeros((16, 1, 32, 32), np.int8), r"weights are \[C, 1, K, K\], with fewer than 1024 taps"),
        (np.zeros((8, 1, 3, 3), np.int8), "bias and scales have one number for each channel"),
        (np.zeros((16, 1, 3, 3), np.uint8), "a constant has another type"),
    ],
    "w_zero": [(np.ones(16, np.int8), "weights have the zero point 0")],
    "y_scale": [(np.float32(0), "a scale is not positive")],
    "bias": [(np.zeros(16, np.int32), "all but its codes and its table have to be constants")],
}


@pytest.fixture
def fast(library: Path) -> Path:
    """The library, on a processor that has a kernel for it."""
    if kernel_name() == "portable":
        pytest.skip("this processor has no kernel for it")
    return library


@pytest.mark.parametrize(("name", "fault"), [(name, fault) for name, faults in BAD.items() for fault in faults])
def test_constants_that_cannot_be_are_one_line(name: str, fault: tuple[np.ndarray, str], fast: Path) -> None:
    made = model(np.uint8, draw(np.uint8, 256), **{name: fault[0]})
    with pytest.raises(Exception, match=f"lsq_export::Depthwise node of entries: {fault[1]}$"):
        lookups.session(made, fast)


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ((1, 5, 5, 15), r"x is not \[N, H, W, C\] with the channels of the weights"),
        ((5, 5, 16), r"x is not \[N, H, W, C\] with the channels of the weights"),
        ((1, 5, 0, 16), "the images are smaller than the kernel"),
    ],
)
def test_images_that_do_not_fit_are_one_line(shape: tuple[int, ...], says: str, fast: Path) -> None:
    running = lookups.session(model(np.uint8, draw(np.uint8, 256)), fast)
    with pytest.raises(Exception, match=f"lsq_export::Depthwise: {says}$"):
        running.run(None, {"codes": draw(np.uint8, *shape)})
