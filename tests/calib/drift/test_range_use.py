"""calib.drift.range_use: how data use a grid, counted again by plain numpy on all samples."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
import torch

from calib.drift import range_use
from calib.drift.range_use import RangeCounter, RangeUse
from calib.errors import QuantizationError
from lsq_export.qat.quantizer import Quantizer
from support.range_oracle import agree, oracle


def given(scale: float = 0.1, offset: float = -0.237, bits: int = 4, grid: Any = "unsigned-asymmetric") -> Quantizer:
    quantizer = Quantizer.activation("a.input", bits, grid=grid)
    quantizer.set_grid(scale, offset)
    return quantizer


def counted(quantizer: Quantizer, *batches: torch.Tensor) -> RangeUse:
    counter = RangeCounter(quantizer)
    for x in batches:
        counter.update(x)
    return counter.result()


def samples(shape: tuple[int, ...] = (40, 8, 12, 13), seed: int = 0) -> torch.Tensor:
    """Of both signs, beyond the range, with ties (multiples of 0.05 - 0.237)."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    x.view(-1)[::3] = torch.arange(x.numel())[::3] % 40 * 0.05 - 0.237
    return x


@pytest.mark.parametrize("grid", ["unsigned-asymmetric", "signed-asymmetric", "signed-symmetric"])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_counts_are_those_of_numpy(grid: Any, bits: int) -> None:
    scale = 1.6 / 2**bits
    quantizer, x = given(scale, 0.0 if grid.endswith("-symmetric") else -0.237, bits, grid), samples()
    expected = oracle(x.numpy(), scale, float(quantizer.offset.detach()), quantizer.qmin, quantizer.qmax)
    agree(counted(quantizer, x), expected)
    assert expected["above"] > 0 and expected["mse"] > 0
    damaged = {**expected, "above": expected["above"] + 1 / x.numel()}  # one element more: the comparison can fail
    with pytest.raises(AssertionError, match="above"):
        agree(counted(quantizer, x), damaged)


def test_streaming_equals_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    quantizer, x = given(), samples()
    whole = counted(quantizer, x)
    expected = {field.name: getattr(whole, field.name) for field in fields(whole) if field.type != "str"}
    agree(counted(quantizer, *x.split(7), x[:0]), expected)
    agree(counted(quantizer, x.to(memory_format=torch.channels_last)), expected)
    agree(counted(quantizer, x.transpose(1, 3)), expected)
    monkeypatch.setattr(range_use, "BLOCK", 1000)
    agree(counted(quantizer, x), expected)


def test_far_from_zero_and_half_types() -> None:
    x = samples() + 1e4
    assert counted(given(offset=1e4), x).std == pytest.approx(x.double().std(correction=0).item(), rel=1e-9)
    half = samples().bfloat16()
    agree(counted(given(), half), oracle(half.float().numpy(), 0.1, -0.237, 0, 15))


def test_memory_does_not_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that a counter keeps, and no tensor that it makes, depends on the number of elements."""
    quantizer = given()
    counter = RangeCounter(quantizer)

    def kept() -> list[int]:
        return [v.numel() if isinstance(v, torch.Tensor) else 1 for v in vars(counter).values()]

    sizes: list[int] = []
    position = range_use.position
    monkeypatch.setattr(range_use, "position", lambda x, *rest: (sizes.append(x.numel()), position(x, *rest))[1])
    before = kept()
    for _ in range(3):
        counter.update(torch.zeros(3 * range_use.BLOCK + 5))
    assert kept() == before and max(sizes) == range_use.BLOCK and len(sizes) == 12


def test_a_grid_that_moves_counts_each_batch_on_its_own_grid() -> None:
    quantizer, x = given(0.1, -0.2), samples()
    counter = RangeCounter(quantizer)
    counter.update(x)
    first = counter.result()
    quantizer.set_grid(0.05, -0.1)
    counter.update(x)
    both, second = counter.result(), counted(quantizer, x)
    for key in ("below", "above", "mse", "noise"):
        assert getattr(both, key) == pytest.approx((getattr(first, key) + getattr(second, key)) / 2, rel=1e-12)


def test_a_constant_and_an_outlier() -> None:
    constant = counted(given(), torch.full((4, 4), 0.3))
    assert constant.codes == 1 and constant.relative_error is None
    x = torch.zeros(10_000)
    x[0] = 1.0  # one element in 10,000 uses no code
    assert counted(given(), x).codes == 1


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_not_finite(bad: float) -> None:
    with pytest.raises(QuantizationError, match=r"^a\.input: values are not finite"):
        counted(given(), torch.tensor([0.0, bad]))
