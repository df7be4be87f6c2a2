"""calib.garbage: fewer searches for garbage in a network in the making, and as many as before after it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from calib.garbage import LIGHT, OLD, YOUNG, drop, few_collections, size_of


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


def test_few_inside_and_as_before_afterwards() -> None:
    gc.set_threshold(700, 10, 10)
    with few_collections(nn.Linear(3, 2)):
        assert gc.get_threshold()[::2] == (YOUNG, OLD)
    assert gc.get_threshold() == (700, 10, 10)


def test_as_before_after_an_error() -> None:
    gc.set_threshold(700, 10, 10)
    with pytest.raises(ValueError), few_collections(nn.Linear(3, 2)):
        raise ValueError
    assert gc.get_threshold() == (700, 10, 10)


@pytest.mark.parametrize(
    ("thresholds", "size"), [((0, 10, 10), 100), ((10**9, 10**6, 10**6), 100), ((700, 10, 10), 2 * LIGHT)]
)
def test_nothing_is_searched_more_often_and_nothing_large_is_kept(thresholds: tuple[int, int, int], size: int) -> None:
    gc.set_threshold(*thresholds)
    with few_collections(SimpleNamespace(size=size)):
        assert gc.get_threshold() == thresholds


@pytest.mark.parametrize(("size", "searches"), [(LIGHT, 0), (LIGHT + 1, 1)])
def test_large_constants_are_dropped_at_once(size: int, searches: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[int] = []
    monkeypatch.setattr(gc, "collect", lambda: found.append(1))
    drop(size)
    assert len(found) == searches


def test_size_of_a_model() -> None:
    assert size_of(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))) == 4 * (6 + 2 + 4 + 4) + 8
    assert size_of(nn.LazyLinear(3)) == size_of(None) == 0
    assert size_of(nn.Linear(3, 2, bias=False, dtype=torch.float64)) == 48
