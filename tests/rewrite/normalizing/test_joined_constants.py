"""joined_constants: class tokens and other constants beside computed values are sums with padded values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from onnx import helper
from torch import nn

from lsq_export.graph.evaluate import evaluate
from lsq_export.rewrite.normalizing.normalize import normalize
from support.forms import exact_form
from support.networks import Wired, hand_made, operators

X = ("batch", 3, 4)


def joined(names: list[str], axis: int, *more: Any, marked: bool = False) -> Any:
    """A Concat of x and of "c", a constant that is repeated for each sample, in that order."""
    make = helper.make_node
    constants = {
        "c": np.linspace(-1, 1, 4 if axis == 1 else 3, dtype=np.float32).reshape((1, 1, 4) if axis == 1 else (1, 3, 1)),
        "shape": np.array([1, 1, 1]),
        "s": np.float32(0.25),
        "z": np.float32(0.125),
    }
    grid = {"qmin": -2, "qmax": 1, "bits": 2, "kind": "activation", "axis": -1, "quantizer": "edges.c"}
    nodes = [
        make("Shape", ["x"], ["batch"], "batch", start=0, end=1),
        make("Concat", ["batch", "ones"], ["sizes"], "sizes", axis=0),
        make("Expand", ["c", "sizes"], ["e"], "e"),
        make("FakeQuantize", ["e", "s", "z"], ["m"], "m", domain="lsq_export", **grid),
        make("Relu", ["x"], ["r"], "r"),
        make("Concat", [("m" if marked else "e") if n == "c" else n for n in names], ["y"], "joined", axis=axis),
    ]
    model = hand_made(nodes, constants | {"ones": np.array([1, 1])}, X)
    for node in model.graph:
        if node.op_type in ("Expand", "FakeQuantize"):
            sizes = (1, 4) if axis == 1 else (3, 1)
            node.outputs[0].shape = type(model.graph.inputs[0].shape)(["batch", *sizes])  # type: ignore[misc]
        if node.op_type == "Concat" and node.name == "joined":
            extra = len(names) - 1
            x_parts = sum(n != "c" for n in names)
            whole = [3 * x_parts + (len(names) - x_parts), 4] if axis == 1 else [3, 4 * x_parts + len(names) - x_parts]
            assert extra
            node.outputs[0].shape = type(model.graph.inputs[0].shape)(["batch", *whole])  # type: ignore[misc]
    return model, constants["c"]


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("names", [["c", "x"], ["x", "c"], ["c", "x", "r", "c"]])
@pytest.mark.parametrize("marked", [False, True])
def test_a_sum_takes_its_place(names: list[str], axis: int, marked: bool) -> None:
    model, c = joined(names, axis, marked=marked)
    x = np.random.default_rng(1).standard_normal((2, 3, 4)).astype(np.float32)
    token = np.clip(np.round((c - 0.125) / 0.25), -2, 1) * 0.25 + 0.125 if marked else c
    known = {"x": x, "r": np.maximum(x, 0), "c": np.broadcast_to(token, (2, *c.shape[1:]))}
    normalize(model)
    assert [name for name in operators(model) if name not in ("Relu", "Concat")] == ["Pad", "Add"]
    found = evaluate(model.graph, x)[0].numpy()
    assert np.abs(found - np.concatenate([known[name] for name in names], axis)).max() < 1e-6


def tokens() -> nn.Module:
    """A class token, a distilled one behind, and positions."""

    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        t = s.patch(x).flatten(2).transpose(1, 2)
        n = t.shape[0]
        t = torch.cat([s.token.expand(n, -1, -1), t, s.other.expand(n, -1, -1)], 1) + s.positions.expand(n, -1, -1)
        return s.head(t[:, 0]) + s.head(t[:, -1])

    made = Wired(forward, patch=nn.Conv2d(3, 8, 3, stride=3), head=nn.Linear(8, 5))
    for name, count in (("token", 1), ("other", 1), ("positions", 11)):
        setattr(made, name, nn.Parameter(torch.randn(1, count, 8) * 0.5))
    return made


def test_class_tokens_end_to_end() -> None:
    operators = exact_form(tokens)
    assert "Pad" in operators and not {"Shape", "Expand"} & set(operators)
