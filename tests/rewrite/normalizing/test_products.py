"""products: every Gemm and Einsum becomes matrix products that compute the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from onnx import helper
from torch import nn

from lsq_export.graph.evaluate import evaluate
from lsq_export.rewrite.normalizing.normalize import normalize
from support.forms import exact_form
from support.networks import Wired, find, hand_made, operators

EQUATIONS = {
    "bchw,bcvw->bchv": ((2, 3, 4, 5), (2, 3, 6, 5)),
    "bhwc,bvwc->bhvw": ((2, 3, 4, 5), (2, 6, 4, 5)),
    "bnqd,bnkd->bnqk": ((2, 3, 4, 5), (2, 3, 6, 5)),
    "bnqk,bnkd->bqnd": ((2, 3, 4, 6), (2, 3, 6, 5)),
    "bchw,bdhw->bcd": ((2, 3, 4, 5), (2, 6, 4, 5)),
    "bij,bjk->bki": ((2, 3, 4), (2, 4, 5)),
    "btc,bt->bc": ((2, 3, 4), (2, 3)),
    "bc,bd->bcd": ((2, 3), (2, 4)),
    "bc,bc->b": ((2, 3), (2, 3)),
    "bc,bc->bc": ((2, 3), (2, 3)),
    "btc,dc->btd": ((2, 3, 4), (5, 4)),
    "dc,btc->btd": ((5, 4), (2, 3, 4)),
}


@pytest.mark.parametrize("equation", EQUATIONS)
def test_einsum(equation: str) -> None:
    """Against numpy; the second tensor is computed too, or a constant where it has no batch."""
    shapes = EQUATIONS[equation]
    draw = np.random.default_rng(1)
    a, b = (draw.standard_normal(shape).astype(np.float32) for shape in shapes)
    whole = np.concatenate([a.reshape(2, -1), b.reshape(2, -1)], 1) if len(a) == len(b) == 2 else None
    make = helper.make_node
    constants: dict[str, np.ndarray] = {}
    if whole is None:
        x, first = (a, True) if len(a) == 2 else (b, False)
        constants["c"] = b if first else a
        nodes = [make("Einsum", ["x", "c"] if first else ["c", "x"], ["y"], "product", equation=equation)]
        given: tuple[Any, ...] = ("batch", *x.shape[1:])
    else:
        x, given, nodes = whole, ("batch", whole.shape[1]), []
        cut, end = a[0].size, whole.shape[1]
        constants = {"zero": np.array([0]), "cut": np.array([cut]), "end": np.array([end]), "one": np.array([1])}
        for name, low, high, shape in (("a", "zero", "cut", a.shape), ("b", "cut", "end", b.shape)):
            constants[f"{name}s"] = np.array([-1, *shape[1:]])
            nodes += [make("Slice", ["x", low, high, "one"], [f"{name}f"], f"{name}f")]
            nodes += [make("Reshape", [f"{name}f", f"{name}s"], [name], name)]
        nodes.append(make("Einsum", ["a", "b"], ["y"], "product", equation=equation))
    model = hand_made(nodes, constants, given)
    assert np.abs(evaluate(model.graph, x)[0].numpy() - np.einsum(equation, a, b)).max() < 1e-5
    normalize(model)
    found = evaluate(model.graph, x)[0].numpy()
    assert not find(model, "Einsum") and len(find(model, "MatMul")) == 1
    assert found.shape == np.einsum(equation, a, b).shape and np.abs(found - np.einsum(equation, a, b)).max() < 1e-5


@pytest.mark.parametrize(("turned", "other"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_a_gemm_of_two_computed_tensors(turned: int, other: int) -> None:
    constants = {"c": np.linspace(-1, 1, 4, dtype=np.float32)}
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], "a"),
        helper.make_node("Gemm", ["x", "a", "c"], ["y"], "g", transA=turned, transB=other, alpha=0.5, beta=2.0),
    ]
    model = hand_made(nodes, constants, (4, 4))
    x = np.random.default_rng(1).standard_normal((4, 4)).astype(np.float32)
    a, b = (x.T if turned else x), np.maximum(x, 0).T if other else np.maximum(x, 0)
    normalize(model)
    assert not find(model, "Gemm")
    assert np.abs(evaluate(model.graph, x)[0].numpy() - (0.5 * a @ b + 2 * constants["c"])).max() < 1e-5


def between(function: Any, last: int) -> Any:
    def build() -> nn.Module:
        layers = {"a": nn.Conv2d(3, 4, 3, padding=1), "b": nn.Linear(last, 5)}
        return Wired(lambda s, x: s.b(function(s.a(x)).flatten(1)), **layers)

    return build


def test_end_to_end() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        t = x.flatten(2)
        gram = torch.baddbmm(t[:, :, :4], t, t.transpose(1, 2), beta=0.5, alpha=0.25)
        return torch.einsum("bij,bjk->bki", gram, t)

    assert exact_form(between(function, 324), least_db=9).count("QLinearMatMul") == 2  # cubic in its input


def test_constant_matrices_get_a_grid() -> None:
    left = torch.linspace(-1, 1, 81).reshape(9, 9)
    assert "QLinearMatMul" in exact_form(between(lambda x: left @ F.relu(x) @ left.T, 324))


def test_factors_of_a_linear_go_into_it() -> None:
    constants = {
        "w": np.ones((2, 3), np.float32),
        "s": np.float32(0.5),
        "z": np.float32(0),
        "c": np.ones(2, np.float32),
    }
    grid = {"qmin": -8, "qmax": 7, "bits": 4, "kind": "weight", "axis": -1, "quantizer": "fc.weight"}
    nodes = [
        helper.make_node("FakeQuantize", ["w", "s", "z"], ["q"], "q", domain="lsq_export", **grid),
        helper.make_node("Gemm", ["x", "q", "c"], ["y"], "fc", transB=1, alpha=0.5, beta=2.0),
    ]
    model = hand_made(nodes, constants, (2, 3))
    x = np.random.default_rng(1).standard_normal((2, 3)).astype(np.float32)
    expected = 0.5 * x @ np.ones((3, 2)) + 2
    normalize(model)
    assert operators(model) == ["FakeQuantize", "Gemm", "Mul", "Add"] and find(model, "Gemm")[0].name == "fc"
    assert np.abs(evaluate(model.graph, x)[0].numpy() - expected).max() < 1e-5
