"""Tensors of a converted file, whose channels are last, are compared in the order of the ONNX file."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

import pytest

SHAPES = {"wide": [1, 8, 32, 32], "square": [1, 16, 16, 16], "tokens": [1, 5, 7], "of one size": [1, 7, 7]}


@pytest.fixture
def adapter(monkeypatch: pytest.MonkeyPatch) -> Any:
    """As if its runtime were installed."""
    for name in ("onnx2tf", "ai_edge_litert", "ai_edge_litert.interpreter"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setattr(sys.modules["ai_edge_litert.interpreter"], "Interpreter", None, raising=False)
    name = "lsq_export.replaying.adapters.run_litert"
    monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module(name)
    sys.modules.pop(name, None)


def test_sizes_tell_where_they_can(adapter: Any) -> None:
    is_last = adapter.is_last
    assert is_last([1, 32, 32, 8], SHAPES["wide"]) is True and is_last([1, 8, 32, 32], SHAPES["wide"]) is False
    assert is_last([1, 16, 16, 16], SHAPES["square"]) is None
    assert is_last([4, 1, 1, 8], [1, 8, 1, 1]) is True  # batches do not count
    assert is_last([1, 10], [1, 10]) is False and is_last([1, 80], SHAPES["wide"]) is False


def test_others_with_as_many_axes_tell_of_the_rest(adapter: Any) -> None:
    with_channels_last = adapter.with_channels_last
    moved = {**SHAPES, "wide": [1, 32, 32, 8]}
    assert with_channels_last(moved, SHAPES) == {"wide", "square"}  # tokens are as they were
    assert with_channels_last(SHAPES, SHAPES) == set()
    assert with_channels_last({"square": [1, 16, 16, 16]}, SHAPES) == {"square"}, "the converter's habit"
    assert with_channels_last({"unknown": [1, 4, 4, 4]}, SHAPES) == set()
