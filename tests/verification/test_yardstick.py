"""lsq_export/verification/yardstick.py: how a network answers to noise, also where its input grid hides it."""

from __future__ import annotations

import math

import onnx_ir as ir
import pytest
import torch

import calib
import lsq_export
from lsq_export.bundle.directory import TRAINED
from lsq_export.graph.capture import capture
from lsq_export.graph.evaluate import evaluate
from lsq_export.graph.read import is_marker
from lsq_export.verification.far import LIMIT, NUDGE
from lsq_export.verification.yardstick import Yardstick, input_step, larger, up_or_down
from support.exported import Exported


def on_its_grid(graph: ir.Graph, x: torch.Tensor) -> torch.Tensor:
    """Inputs that lie in the middle of the steps of their grid, as 8-bit pixels may do."""
    (marker,) = (node for node in graph if is_marker(node) and node.inputs[0] is graph.inputs[0])
    seen: dict[str, torch.Tensor] = {}

    def see(value: str, found: torch.Tensor) -> None:
        if value == marker.outputs[0].name:
            seen["x"] = found

    evaluate(graph, x, dtype=torch.float32, on_value=see)
    return seen["x"]


def added(trained: ir.Model, *batches: torch.Tensor) -> Yardstick:
    yardstick = Yardstick(trained)
    for x in batches:
        expected = [v.numpy() for v in evaluate(trained.graph, x, dtype=torch.float32)]
        yardstick.add(x, expected)
    return yardstick


def test_an_input_grid_that_hides_the_change(exported: Exported) -> None:
    """No code flips, and yet the network amplifies noise as it does on images that lie anywhere on the grid."""
    trained, images = exported.graph(TRAINED), torch.from_numpy(exported.inputs)
    x = on_its_grid(trained.graph, images).repeat(8, 1, 1, 1)  # so many that chance does not decide
    (plain,) = evaluate(trained.graph, x, dtype=torch.float32)
    assert (Yardstick(trained).on_larger(x)[0] == plain.numpy()).all()
    hidden, free = added(trained, x).result(), added(trained, images).result()
    assert 20 < hidden.sqnr_db < LIMIT and abs(hidden.sqnr_db - free.sqnr_db) < 6
    assert added(trained, *x.split(50)).result().sqnr_db == pytest.approx(hidden.sqnr_db)  # whatever the batches are
    parity = lsq_export.verify(None, exported.bundle, x.split(50))
    assert parity.nudged_sqnr_db == pytest.approx(hidden.sqnr_db) and parity.nudged_top1_agreement == hidden.top1


def test_inputs_that_flip_codes_are_what_is_measured(exported: Exported) -> None:
    """Also where the first batch flips none."""
    trained, x = exported.graph(TRAINED), torch.from_numpy(exported.inputs)
    both, alone = added(trained, on_its_grid(trained.graph, x), x).result(), added(trained, x).result()
    assert math.isclose(both.sqnr_db, alone.sqnr_db + 10 * math.log10(2), abs_tol=1)  # half of it is without noise
    assert both.images == 2 * len(x)


def test_an_input_without_a_grid_has_no_step(exported: Exported) -> None:
    graph = exported.graph(TRAINED).graph
    assert input_step(graph) > 0
    for node in graph:
        if is_marker(node) and node.inputs[0] is graph.inputs[0]:
            node.replace_input_with(0, node.outputs[0])  # of no use but to this test
    assert input_step(graph) == 0


def test_a_change_does_not_overflow() -> None:
    most = torch.finfo(torch.float32).max
    assert larger(torch.tensor([most, 1.0, -most])).tolist() == [most, torch.tensor(1.0001).item(), -most]


class Words(torch.nn.Module):
    """Tokens and their places, and a norm, which takes away what all numbers have in common."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.places = torch.nn.Embedding(50, 16), torch.nn.Parameter(torch.randn(1, 6, 16))
        self.norm, self.hidden, self.head = torch.nn.LayerNorm(16), torch.nn.Linear(16, 32), torch.nn.Linear(32, 4)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.hidden(self.norm(self.words(ids) + self.places))))


@pytest.mark.filterwarnings("ignore:layers that stay float")
def test_tokens_are_measured_by_the_rows_of_their_tables() -> None:
    ids = torch.randint(0, 50, (64, 6), generator=torch.Generator().manual_seed(1))
    model = lsq_export.prepare(Words(), lsq_export.QATConfig(weight_bits=4, activation_bits=4))
    calib.initialize(model, [ids], "minmax")
    trained = capture(model.eval(), ids[:1]).model
    whole = added(trained, ids).result()
    assert 5 < whole.sqnr_db < LIMIT
    assert added(trained, *ids.split(9)).result().sqnr_db == pytest.approx(whole.sqnr_db)  # whatever the batches are


def test_numbers_of_rows_move_apart() -> None:
    rows = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    ratio = (up_or_down(rows).double() / rows.double() - 1) / NUDGE
    assert torch.allclose(ratio.abs(), torch.ones_like(ratio), atol=2e-3)
    assert 400 < int((ratio > 0).sum()) < 600
