"""Depthwise and Conv in ONNX Runtime: the bits of QLinearConv, and one line for what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from onnx import helper

from lsq_export.kernels import DOMAIN, KERNEL_VARIABLE, kernel_name
from support import lookups

TYPES = (np.uint8, np.int8)
CONSTANTS = ("x_scale", "x_zero", "w", "w_scale", "w_zero", "y_scale", "y_zero", "bias")
INPUTS = ("codes", "table", "geometry", *CONSTANTS)


class Case(NamedTuple):
    """inputs: channels of x; 0: each channel is a group. shape: of the images."""

    inputs: int
    channels: int
    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    dilations: tuple[int, int]
    shape: tuple[int, int, int]

    @property
    def operator(self) -> str:
        return "Conv5" if self.inputs else "Depthwise5"

    @property
    def name(self) -> str:
        return "x".join(map(str, (self.operator, self.inputs, self.channels, *self.kernel)))


CASES = [
    Case(0, 16, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), (2, 9, 11)),
    Case(0, 72, (5, 5), (1, 1), (2, 2, 2, 2), (1, 1), (1, 14, 14)),
    Case(0, 360, (9, 9), (1, 1), (4, 4, 4, 4), (1, 1), (1, 14, 14)),  # its period would be too long
    Case(0, 40, (3, 5), (2, 1), (0, 2, 1, 1), (1, 2), (3, 8, 15)),
    Case(0, 64, (3, 3), (2, 2), (1, 1, 1, 1), (1, 1), (1, 80, 81)),  # shared by the threads
    Case(0, 7, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), (1, 5, 6)),
    Case(0, 24, (7, 7), (1, 1), (3, 3, 3, 3), (1, 1), (1, 3, 4)),  # images that are smaller than the kernel
    Case(0, 130, (2, 2), (1, 1), (0, 0, 1, 1), (1, 1), (2, 6, 5)),
    Case(16, 16, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), (2, 9, 11)),
    Case(3, 40, (7, 7), (2, 2), (3, 3, 3, 3), (1, 1), (1, 33, 30)),
    Case(64, 96, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), (1, 9, 8)),  # a product of matrices
    Case(24, 33, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), (3, 7, 9)),
    Case(128, 20, (1, 1), (2, 2), (0, 0, 0, 0), (1, 1), (1, 15, 14)),
    Case(130, 300, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), (1, 7, 7)),  # channels are shared by the threads
    Case(20, 12, (3, 5), (2, 1), (0, 2, 1, 1), (1, 2), (3, 8, 15)),
    Case(5, 1, (2, 2), (1, 1), (0, 0, 1, 1), (2, 1), (2, 6, 5)),
    Case(7, 17, (5, 5), (1, 1), (4, 4, 4, 4), (1, 1), (1, 3, 4)),
    Case(260, 65, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1), (1, 1, 1)),
]


def draw(dtype: type, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8).view(dtype)


def model(dtype: type, table: np.ndarray, case: Case = CASES[0], *, planes: bool = False, **other: Any) -> bytes:
    """The operator, with QLinearConv and Gather as its function. planes: x is [N, C, H, W]. other: constants."""
    inputs, channels, kernel, strides, pads, dilations, _ = case
    rng = np.random.default_rng(channels)
    w = rng.integers(-128, 128, (channels, inputs or 1, *kernel), dtype=np.int8)
    w[: channels // 2, :, 0] = 0  # taps that some blocks leave out
    one = channels % 3 == 0
    scales = rng.uniform(0.001, 0.01, 1 if one else channels).astype(np.float32)
    constants = {
        "geometry": np.array([*strides, *pads, *dilations, *([1] if planes else [])], np.int64),
        "x_scale": np.float32(0.03),
        "x_zero": draw(dtype, 1, seed=1)[0],
        "w": w,
        "w_scale": scales[0] if one else scales,
        "w_zero": np.int8(0) if one else np.zeros(channels, np.int8),
        "y_scale": np.float32(0.003 * np.prod(kernel) * max(inputs, 1) ** 0.5),
        "y_zero": draw(dtype, 1, seed=2)[0],
        "bias": rng.integers(-9000, 9000, channels, dtype=np.int32),
        "table": table,
    } | other
    attributes = {"strides": strides, "pads": pads, "dilations": dilations, "channels_last": 1}
    attributes["group"] = 1 if inputs else channels
    conv = helper.make_node(
        *("QLinearConv", ["last" if planes else "codes", *CONSTANTS], ["first"]),
        domain="com.microsoft",
        kernel_shape=kernel,
        **attributes,
    )
    front = [helper.make_node("Transpose", ["codes"], ["last"], perm=[0, 2, 3, 1])] if planes else []
    behind = lookups.gather(dtype, "")
    for node in behind.node:
        node.input[:] = ["first" if name == "codes" else name for name in node.input]
    function = helper.make_function(
        DOMAIN, case.operator, list(INPUTS), ["entries"], [*front, conv, *behind.node], lookups.OPSETS
    )
    node = helper.make_node(case.operator, list(INPUTS), ["entries"], name="node of entries", domain=DOMAIN)
    kept = {name: np.asarray(value) for name, value in constants.items()}
    return lookups.file(dtype, [node], table.dtype, kept, [function], [name for name in other if name == "bias"])


@pytest.mark.parametrize("kernel", ["", "avx512vbmi", "avx2", "portable"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("dtype", TYPES)
def test_the_bits_are_those_of_stock_operators(
    dtype: type, case: Case, kernel: str, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KERNEL_VARIABLE, kernel)
    lowest = np.iinfo(dtype).min
    same = np.arange(lowest, lowest + 256).astype(dtype)
    for table in (same, draw(dtype, 256), draw(np.int8, 256)):
        made = model(dtype, table, case)
        fast = lookups.session_of_kernel(made, library, kernel)
        x = draw(dtype, *case.shape, case.inputs or case.channels, seed=3)
        (found,), (stock,) = fast.run(None, {"codes": x}), lookups.session(made, None).run(None, {"codes": x})
        assert found.dtype == table.dtype and np.array_equal(found, stock)
        assert len(np.unique(found)) >= min(8, found.size // 9)


TILED = [  # channels of x and of the result, pads, images
    (16, 40, (1, 1, 1, 1), (2, 9, 11)),
    (70, 32, (1, 1, 1, 1), (1, 14, 13)),
    (3, 5, (1, 0, 1, 1), (3, 1, 2)),
    (64, 300, (1, 1, 1, 0), (1, 7, 7)),  # channels are shared by the threads
    (20, 33, (0, 0, 0, 0), (1, 40, 38)),
]


@pytest.mark.parametrize("few", TILED, ids=str)
@pytest.mark.parametrize("dtype", TYPES)
def test_few_codes_give_the_bits_of_stock_operators(dtype: type, few: Any, library: Path) -> None:
    """Products by Winograd's algorithm, where the processor has a kernel for that."""
    inputs, channels, pads, shape = few
    case = Case(inputs, channels, (3, 3), (1, 1), pads, (1, 1), shape)
    lowest, low, step, count = int(np.iinfo(dtype).min), 14, 15, 16
    rng = np.random.default_rng(channels)
    w = rng.integers(-8, 8, (channels, inputs, 3, 3), dtype=np.int8) * np.int8(8)
    geometry = np.array([1, 1, *pads, 1, 1, 0, lowest + low, step, count])
    x = (lowest + low + step * rng.integers(0, count, (*shape, inputs))).astype(dtype)
    for table in (np.arange(lowest, lowest + 256).astype(dtype), draw(np.int8, 256)):
        made = model(dtype, table, case, geometry=geometry, w=w)
        fast = lookups.session(made, library)
        (found,), (stock,) = fast.run(None, {"codes": x}), lookups.session(made, None).run(None, {"codes": x})
        assert np.array_equal(found, stock) and len(np.unique(found)) >= min(8, found.size // 9)
    if kernel_name() == "avx512vbmi":  # else what is said of codes is not used
        x[-1, -1, -1, -1] += 1
        with pytest.raises(Exception, match=r"lsq_export::Conv: x has other codes than its geometry says$"):
            fast.run(None, {"codes": x})


@pytest.mark.parametrize("kernel", ["", "avx512vbmi"])
@pytest.mark.parametrize("dtype", TYPES)
def test_images_as_planes(dtype: type, kernel: str, library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """[N, C, H, W], as networks get them."""
    monkeypatch.setenv(KERNEL_VARIABLE, kernel)
    for inputs, shape in ((3, (2, 3, 20, 19)), (5, (3, 5, 7, 8))):
        case = Case(inputs, 24, (3, 3), (2, 2), (1, 1, 1, 1), (1, 1), (0, 0, 0))
        made = model(dtype, draw(dtype, 256), case, planes=True)
        fast = lookups.session_of_kernel(made, library, kernel)
        x = draw(dtype, *shape, seed=3)
        (found,), (stock,) = fast.run(None, {"codes": x}), lookups.session(made, None).run(None, {"codes": x})
        assert np.array_equal(found, stock) and len(np.unique(found)) > 8


BAD = {
    "geometry": [
        (np.arange(7), "the geometry has 8 numbers"),
        (np.array([1, 0, 0, 0, 0, 0, 1, 1]), "the geometry cannot be"),
        (np.array([1, 1, 0, 0, -1, 0, 1, 1]), "the geometry cannot be"),
        (np.array([1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 17, 17]), "the codes of x cannot be"),
        (np.array([1, 1, 1, 1, 1, 1, 1, 1, 0, -1, 17, 4]), "the codes of x cannot be"),
        (np.array([1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 4]), "the codes of x cannot be"),
    ],
    "w": [
        (np.zeros((16, 1, 32, 32), np.int8), r"weights are \[., ., K, K\], with fewer than 1024 taps"),
        (np.zeros((16, 16, 3), np.int8), r"weights are \[., ., K, K\], with fewer than 1024 taps"),
        (np.zeros((8, 1, 3, 3), np.int8), "bias and scales have one number for each channel"),
        (np.zeros((16, 1, 3, 3), np.uint8), "a constant has another type"),
    ],
    "w_zero": [(np.ones(16, np.int8), "weights have the zero point 0")],
    "y_scale": [(np.float32(0), "a scale is not positive")],
    "bias": [(np.zeros(16, np.int32), "all but its codes and its table have to be constants")],
}


def has_kernel(operator: str) -> bool:
    """Whether this processor has a kernel for it."""
    return kernel_name() in ("amx", "avx512vbmi", *(("avx2", "neon") if operator.startswith("Depthwise") else ()))


@pytest.fixture(params=[CASES[0], CASES[8]], ids=["Depthwise", "Conv"])
def case(request: pytest.FixtureRequest, library: Path) -> Case:
    """With 16 channels, of an operator that this processor has a kernel for."""
    if not has_kernel(request.param.operator):
        pytest.skip("this processor has no kernel for it")
    return Case(*request.param)


@pytest.mark.parametrize(("name", "fault"), [(name, fault) for name, faults in BAD.items() for fault in faults])
def test_constants_that_cannot_be_are_one_line(
    name: str, fault: tuple[np.ndarray, str], case: Case, library: Path
) -> None:
    made = model(np.uint8, draw(np.uint8, 256), case, **{name: fault[0]})
    with pytest.raises(Exception, match=f"lsq_export::{case.operator.rstrip('5')} node of entries: {fault[1]}$"):
        lookups.session(made, library)


def test_two_inputs_are_none_for_depthwise(library: Path) -> None:
    if not has_kernel("Depthwise"):
        pytest.skip("this processor has no kernel for it")
    made = model(np.uint8, draw(np.uint8, 256), w=np.zeros((16, 2, 3, 3), np.int8))
    with pytest.raises(Exception, match=r"weights are \[C, 1, K, K\], with fewer than 1024 taps$"):
        lookups.session(made, library)


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ((1, 5, 5, 15), r"x is not \[N, H, W, C\] with the channels of the weights"),
        ((5, 5, 16), r"x is not \[N, H, W, C\] with the channels of the weights"),
        ((1, 5, 0, 16), "the images are smaller than the kernel"),
    ],
)
def test_images_that_do_not_fit_are_one_line(shape: tuple[int, ...], says: str, case: Case, library: Path) -> None:
    running = lookups.session(model(np.uint8, draw(np.uint8, 256), case), library)
    with pytest.raises(Exception, match=f"lsq_export::{case.operator.rstrip('5')}: {says}$"):
        running.run(None, {"codes": draw(np.uint8, *shape)})
