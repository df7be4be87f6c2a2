"""lsq_export/verification/yardstick.py: how a network answers to noise, also where its input grid hides it."""

from __future__ import annotations

import math

import onnx_ir as ir
import torch

import lsq_export
from lsq_export.bundle.directory import TRAINED
from lsq_export.graph.evaluate import evaluate
from lsq_export.verification.nearer import LIMIT
from lsq_export.verification.yardstick import Yardstick, first_grids, larger
from support.exported import Exported


def on_its_grid(graph: ir.Graph, x: torch.Tensor) -> torch.Tensor:
    """Inputs that lie in the middle of the steps of their grid, as 8-bit pixels may do."""
    (name,) = first_grids(graph)
    seen: dict[str, torch.Tensor] = {}

    def see(value: str, found: torch.Tensor) -> None:
        if value == name:
            seen[value] = found

    evaluate(graph, x, dtype=torch.float32, on_value=see)
    return seen[name]


def test_an_input_grid_that_hides_the_change(exported: Exported) -> None:
    """No code flips, and yet the network amplifies noise: its other grids are as fine as they ever were."""
    trained = exported.graph(TRAINED)
    x = on_its_grid(trained.graph, torch.from_numpy(exported.inputs))
    yardstick, expected = Yardstick(trained), [v.numpy() for v in evaluate(trained.graph, x, dtype=torch.float32)]
    assert [(a == b).all() for a, b in zip(yardstick.on_inputs(x), expected, strict=True)] == [True]
    yardstick.add(x, yardstick.on_inputs(x), expected)
    plain = lsq_export.verify(None, exported.bundle, exported.batches)
    assert 20 < yardstick.result().sqnr_db < LIMIT and abs(yardstick.result().sqnr_db - plain.nudged_sqnr_db) < 10
    parity = lsq_export.verify(None, exported.bundle, x.split(10))
    assert parity.nudged_sqnr_db < LIMIT and parity.nudged_top1_agreement == yardstick.result().top1


def test_inputs_that_flip_codes_are_what_is_measured(exported: Exported) -> None:
    """Also where the first batch flips none: then the values behind the grid are no longer asked."""
    trained, x = exported.graph(TRAINED), torch.from_numpy(exported.inputs)
    yardstick, alone = Yardstick(trained), Yardstick(trained)
    for batch in (on_its_grid(trained.graph, x), x):
        expected = [v.numpy() for v in evaluate(trained.graph, batch, dtype=torch.float32)]
        yardstick.add(batch, yardstick.on_inputs(batch), expected)
    alone.add(x, alone.on_inputs(x), expected)
    assert math.isclose(yardstick.result().sqnr_db, alone.result().sqnr_db + 10 * math.log10(2), abs_tol=1)
    assert yardstick.result().images == 2 * len(x)


def test_a_change_does_not_overflow() -> None:
    most = torch.finfo(torch.float32).max
    assert larger(torch.tensor([most, 1.0, -most])).tolist() == [most, torch.tensor(1.0001).item(), -most]
