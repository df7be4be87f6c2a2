"""Products and sums in ONNX Runtime: the bits of its own operators, and one line for what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from lsq_export.kernels import DOMAIN, KERNEL_VARIABLE
from support import lookups

TYPES = (np.uint8, np.int8)
NUMBERS = ("a_scale", "a_zero", "b_scale", "b_zero", "y_scale", "y_zero")
INPUTS = ("codes", "b", "table", *NUMBERS)
SHAPES = [
    ((7,), (7,)),
    ((2, 3, 5, 19), (2, 3, 5, 19)),
    ((2, 3, 5, 19), (2, 1, 1, 19)),  # more rows at once than an image has
    ((3, 40, 41, 24), (3, 1, 1, 24)),  # shared by the threads
    ((1, 3, 7, 2500), (1, 1, 1, 2500)),  # more channels than a segment has room for
    ((2, 300, 300), (2, 300, 300)),
    ((3, 5, 6, 600), (1, 1, 1, 600)),  # the same for all images
    ((3, 5), (1, 5)),
    ((0, 4), (0, 4)),
]


def draw(dtype: type, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8).view(dtype)


def model(dtype: type, table: np.ndarray, operator: str, seed: int = 0, **other: Any) -> bytes:
    """Product3 or Sum3 of "codes" and "b", with the stock operator and Gather as its function. other: numbers."""
    rng = np.random.default_rng(seed)
    scales = dict(zip(NUMBERS[::2], rng.uniform(0.01, 0.1, 3).astype(np.float32), strict=True))
    scales["y_scale"] *= np.float32(2 if operator == "Sum" else 4)
    zeros = dict(zip(NUMBERS[1::2], draw(dtype, 3, seed=seed + 1), strict=True))
    constants = {name: np.asarray(value) for name, value in {**scales, **zeros, **other}.items()}
    stock = {"Product": "QLinearMul", "Sum": "QLinearAdd"}[operator]
    sides = ["codes", "a_scale", "a_zero", "b", "b_scale", "b_zero", "y_scale", "y_zero"]
    behind = lookups.gather(dtype, "")
    for node in behind.node:
        node.input[:] = ["pair" if name == "codes" else name for name in node.input]
    nodes = [helper.make_node(stock, sides, ["pair"], domain="com.microsoft"), *behind.node]
    function = helper.make_function(DOMAIN, f"{operator}3", list(INPUTS), ["entries"], nodes, lookups.OPSETS)
    node = helper.make_node(f"{operator}3", list(INPUTS), ["entries"], name="node of entries", domain=DOMAIN)
    constants |= {"table": table, "b": draw(dtype, 1)}
    fed = ["b", *(name for name in other if name == "a_zero" and np.ndim(other[name]))]
    return lookups.file(dtype, [node], table.dtype, constants, [function], fed)


@pytest.mark.parametrize("kernel", ["", "avx2", "portable"])
@pytest.mark.parametrize("operator", ["Product", "Sum"])
@pytest.mark.parametrize("out", TYPES)
@pytest.mark.parametrize("dtype", TYPES)
def test_the_bits_are_those_of_stock_operators(
    dtype: type, out: type, operator: str, kernel: str, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KERNEL_VARIABLE, kernel)
    lowest = np.iinfo(dtype).min
    same = np.arange(lowest, lowest + 256).astype(dtype)  # changes nothing, where the types are one
    for seed, table in enumerate((draw(out, 256), draw(out, 256, seed=1), same.astype(out))):
        made = model(dtype, table, operator, seed)
        fast = lookups.session_of_kernel(made, library, kernel)
        plain = lookups.session(made, None)
        for first, second in SHAPES:
            feed = {"codes": draw(dtype, *first, seed=seed), "b": draw(dtype, *second, seed=seed + 7)}
            (found,), (stock,) = fast.run(None, feed), plain.run(None, feed)
            assert found.dtype == out and found.shape == first and np.array_equal(found, stock)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((2, 3), (3,)),
        ((3, 3, 4), (2, 1, 4)),
        ((2, 3, 4), (2, 3, 1)),
        ((2, 1, 4), (2, 3, 4)),
        ((3,), (1,)),
        ((0, 3), (2, 3)),
    ],
)
def test_shapes_that_do_not_fit_are_one_line(first: tuple[int, ...], second: tuple[int, ...], library: Path) -> None:
    running = lookups.session(model(np.uint8, draw(np.uint8, 256), "Product"), library)
    line = r"Status Message: lsq_export::Product: the shapes of a and b do not fit$"
    with pytest.raises(Exception, match=line):
        running.run(None, {"codes": draw(np.uint8, *first), "b": draw(np.uint8, *second)})


@pytest.mark.parametrize(
    ("number", "value", "says"),
    [
        ("a_scale", np.float32(0), "a scale is not positive"),
        ("y_scale", np.float32(np.nan), "a scale is not positive"),
        ("b_scale", np.float32(np.inf), "a scale is not positive"),
        ("b_zero", np.int8(3), "a constant has another type"),
        ("y_scale", np.float64(1), "a constant has another type"),
        ("y_zero", np.zeros((2, 1), np.uint8), "a scale or zero point is one number"),
        ("a_zero", np.zeros(2, np.uint8), "all but its codes and its table have to be constants"),
    ],
)
def test_numbers_that_cannot_be_are_one_line(number: str, value: Any, says: str, library: Path) -> None:
    made = model(np.uint8, draw(np.uint8, 256), "Product", **{number: value})
    with pytest.raises(Exception, match=f"lsq_export::Product node of entries: {says}$"):
        lookups.session(made, library)


def test_a_table_of_another_size_is_one_line(library: Path) -> None:
    with pytest.raises(Exception, match=r"lsq_export::Sum node of entries: the table has 255 entries: it needs 256$"):
        lookups.session(model(np.uint8, draw(np.uint8, 255), "Sum"), library)
