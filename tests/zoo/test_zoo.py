"""The zoo: some of the smallest networks on each run, all of them with -m slow; and the checks that judge them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from .multiplications import multiplications
from .registry import NETWORKS
from .run import Result, decibels, run, yardsticks
from .table import page

FAST = (("repvgg", 4), ("lstm_tagger", 8))  # of each run: another kind each
RECORD = Path(__file__).parents[2] / "docs" / "zoo.json"


def recorded() -> list[tuple[str, int]]:
    """What was good when the table of the documentation was written."""
    if not RECORD.exists():
        return []
    results = [Result(**row) for row in json.loads(RECORD.read_text())]
    return [(result.name, int(result.bits[-1])) for result in results if result.kind == "good"]


@pytest.mark.parametrize(
    ("name", "bits"),
    [*FAST, *(pytest.param(*case, marks=pytest.mark.slow) for case in recorded() if case not in FAST)],
)
@pytest.mark.usefixtures("one_thread")
def test_a_network_of_the_zoo_is_good(name: str, bits: int) -> None:
    result = run(NETWORKS[name], bits, method="minmax" if (name, bits) in FAST else "mse")
    assert result.kind == "good", result


def test_every_network_runs_and_differs_from_input_to_input() -> None:
    assert len(NETWORKS) >= 67
    for network in NETWORKS.values():
        assert network.makers and network.build.__module__.endswith(network.family)


def test_a_fault_is_called_what_it_is() -> None:
    fine = {
        "name": "n",
        "family": "f",
        "bits": "W8A8",
        "sqnr": 40.0,
        "yardstick": 42.0,
        "integer": 0.96,
        "wanted": 0.95,
    }
    kinds = {
        "good": {},
        "far": {"sqnr": 38.9},
        "float": {"integer": 0.94},
        "promise": {"failures": ["lost"]},
        "refused": {"refusal": "no"},
        "crash": {"crash": "KeyError: 0"},
    }
    for kind, changes in kinds.items():
        assert Result(**{**fine, **changes}).kind == kind
    assert Result(**{**fine, "sqnr": 57.5, "yardstick": 200.0}).kind == "good"  # nobody asks for more
    assert "| n | W8A8 | **a promise is broken** | 40.0 | 42.0 | 96.0% |" in page([Result(**fine, failures=["lost"])])


def test_a_network_that_cannot_be_is_a_result_and_no_error() -> None:
    result = run(NETWORKS["repvgg"], 9)
    assert result.kind == "refused" and result.stage == "prepare" and "lsq_export/qat/" in result.where


def test_decibels() -> None:
    y = [[np.array([3.0, 4.0])], [np.array([0.0])]]
    assert decibels(y, [[np.array([3.0, 3.5])], [np.array([0.0])]], 0) == pytest.approx(20.0)
    assert decibels(y, y, 0) == 200


def test_multiplications_are_counted_by_what_they_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weight = numpy_helper.from_array(rng.standard_normal((6, 2, 3, 3)).astype(np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["y"], group=2),
        helper.make_node("MatMul", ["y", "y"], ["z"]),
        helper.make_node("Mul", ["z", "z"], ["out"]),
    ]
    x, out = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", (1, 4, 6, 6)), ("out", None)))
    graph = helper.make_graph(nodes, "g", [x], [out], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    feed = {"x": rng.standard_normal((1, 4, 6, 6)).astype(np.float32)}
    counted, share = multiplications(tmp_path / "m.onnx", feed)
    pixels = 6 * 4 * 4
    assert counted == {"Conv": pixels * 2 * 9, "MatMul": pixels * 4, "Mul": pixels} and share == 0


def test_the_yardstick_asks_of_several_draws() -> None:
    """Of a step function with ties everywhere: noise meets them in each draw, the inputs as they are never."""

    class Steps(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.round()

    whole = torch.arange(-500.0, 500.0).reshape(1, -1)  # inputs × 1.0001 round to themselves
    assert torch.equal((whole * 1.0001).round(), whole)
    (found,) = yardsticks(Steps(), [(whole,)])
    assert 20 < found < 80
    (finer,) = yardsticks(nn.Identity(), [(whole,)])
    assert finer == pytest.approx(80, abs=0.1)  # 1e-4 of everything
