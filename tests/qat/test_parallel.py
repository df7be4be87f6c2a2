"""qat.parallel: what the fold makes one convolution of has no trained grids inside, and is merged as ever."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import lsq_export
from lsq_export.rewrite.emit import emit_all
from lsq_export.targets import get
from lsq_export.verification.checking import Subject, check
from support.networks import Case, Conv, Wired, folded, inputs, operators
from support.parallel import STEPS, mixed

TRAINED = {"weight_bits": 4, "activation_bits": 4, "edges": "trained", "offset": "container"}


def edges(net: nn.Module, **options: Any) -> set[str]:
    model = lsq_export.prepare(net, lsq_export.QATConfig(**{**TRAINED, **options}))
    return {name.removeprefix("edges.") for name in lsq_export.quantizers(model) if name.startswith("edges.")}


def test_parts_and_what_they_compute_have_no_grids() -> None:
    assert edges(mixed(torch.relu)) == {"fc"}  # the output
    silu = edges(mixed())
    assert silu == {"bn", "silu_sigmoid", "silu_product", "bn2", "silu_1_sigmoid", "silu_1_product", "fc"}


def parts(first: Callable[[], nn.Module], second: Callable[[], nn.Module], dim: int = 1, shuffled: bool = False) -> Any:
    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        a, b = torch.split(torch.relu(s.stem(x)), [4, 4], 1)
        return s.last(torch.cat([s.second(b), s.first(a)] if shuffled else [s.first(a), s.second(b)], dim))

    return Wired(forward, stem=Conv(3, 8, 3, padding=1), first=first(), second=second(), last=Conv(8, 4, 1))


@pytest.mark.parametrize(
    "net",
    [
        parts(lambda: Conv(4, 4, 3, padding=1), lambda: Conv(4, 4, 3)),
        parts(lambda: Conv(4, 4, 3, padding=1), lambda: Conv(4, 4, 3, padding=2, dilation=2)),
        parts(lambda: Conv(4, 4, 3, padding=1), lambda: Conv(4, 4, 3, padding=1, groups=4)),
        parts(lambda: Conv(4, 4, 3, 2, padding=1), lambda: Conv(4, 4, 3, padding=1)),
        parts(lambda: Conv(4, 4, 3, padding=1), lambda: Conv(4, 4, 3, padding=1), shuffled=True),
        parts(lambda: Conv(4, 4, 1), lambda: Conv(4, 4, 1), dim=2),
    ],
    ids=["pads", "dilation", "groups", "strides", "order", "other dimension"],
)
def test_what_is_not_merged_has_grids(net: nn.Module) -> None:
    assert {"first", "second"} <= edges(net)


def test_what_is_merged_has_none_in_any_spelling() -> None:
    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        a, b = torch.relu(s.stem(x)).chunk(2, dim=1)
        return s.last(torch.cat((s.first(a), s.second(b)), dim=1))

    def net() -> nn.Module:
        layers = {"stem": Conv(3, 8, 3, padding=1), "first": Conv(4, 4, 1), "second": Conv(4, 4, 1)}
        return Wired(forward, **layers, last=Conv(8, 4, 1))

    assert edges(net()) == edges(parts(lambda: Conv(4, 4, 1), lambda: Conv(4, 4, 1))) == {"last"}
    assert {"first", "second"} <= edges(net(), layers={"first": {"activation_bits": 3}})
    assert {"second"} <= edges(net(), layers={"first": "float"})


@pytest.mark.parametrize("activation", [torch.relu, nn.functional.silu], ids=["relu", "silu"])
def test_the_fold_merges_them_and_the_promises_hold(activation: Any) -> None:
    found = folded(Case(lambda: mixed(activation), TRAINED, offsets=STEPS))
    files = emit_all(found, ("qdq", "qoperator"), get("ort-cpu"))
    assert not {"Concat", "Slice", "QLinearConcat"} & set(operators(found.model))
    parity = check(Subject.of(found, files, "ort-cpu"), [inputs(8, 2, spread=3.0)])
    assert all(file.ok for file in parity.formats.values()), parity.failures
