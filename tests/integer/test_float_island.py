"""Float islands are computed in float64 and rounded once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from calib.errors import QuantizationError
from lsq_export.integer import run
from support.integer_reference import EVERY, F
from support.single_node import node, onnx_runtime

FUNCTIONS: dict[str, Any] = {
    "Celu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "Cos": np.cos,
    "Elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "Erf": np.vectorize(math.erf),
    "Exp": np.exp,
    "Gelu": lambda x: x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2,
    "Log": np.log,
    "LogSoftmax": lambda x: x - np.log(np.exp(x).sum(-1, keepdims=True)),
    "Mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
    "Reciprocal": lambda x: 1 / x,
    "Selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x)),
    "Sin": np.sin,
    "Softmax": lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True),
    "Softplus": lambda x: np.log1p(np.exp(x)),
    "Softsign": lambda x: x / (1 + np.abs(x)),
    "Sqrt": np.sqrt,
}


@pytest.mark.parametrize("op", FUNCTIONS)
def test_islands(op: str) -> None:
    """Within one unit in the last place of the correctly rounded value; ONNX Runtime's float32 within some more."""
    x = np.random.default_rng(26).normal(0, 2, (1, 5000)).astype(F)
    x = np.abs(x) + F(0.01) if op in ("Log", "Sqrt") else x
    model = node(op, {"x": x}, [], F)
    model.opset_import[0].version = 20 if op == "Gelu" else 21
    ours, exact = run(model, {"x": x})["y"], FUNCTIONS[op](x.astype(np.float64))
    one_place = 1.01 * np.spacing(np.abs(exact).astype(F)) + 1e-7 * (op in ("LogSoftmax", "Selu"))
    assert ours.dtype == F and np.all(np.abs(ours - exact) <= one_place)
    assert np.abs(onnx_runtime(model, {"x": x}, "plain")["y"] - exact).max() <= 4e-6 * max(1.0, np.abs(exact).max())


def test_islands_of_codes_are_refused() -> None:
    says = r"node node \(Sin\): its input x is uint8: a float island computes in float32"
    with pytest.raises(QuantizationError, match=says):
        run(node("Sin", {"x": EVERY}, []), {"x": EVERY})
