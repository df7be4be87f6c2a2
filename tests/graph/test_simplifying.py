"""lsq_export.graph.simplifying against what torch's exporter does by itself."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch
import torch.nn.functional as F
from onnx.reference import ReferenceEvaluator
from onnxscript import rewriter
from torch import nn

from lsq_export.graph import simplifying
from lsq_export.graph.exporting import _quiet_exporter, export_program
from lsq_export.graph.simplifying import rules, simplify


class Network(nn.Module):
    """Shapes that are computed, slices, a batch norm, functions that the exporter writes in several operators."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.hardswish(self.norm(self.conv(x)))
        first, second = y[:, :2], y[:, 2:]
        y = torch.cat([second, first * 1.0], 1) + F.gelu(y)
        return self.fc(y.reshape(y.shape[0], 4, -1).mean(2).clamp(0.0, 6.0))


def exported(*, optimize: bool) -> ir.Model:
    torch.manual_seed(0)
    shapes = ({0: torch.export.Dim("batch")},)
    with _quiet_exporter():
        program = torch.onnx.export(
            Network().eval(),
            (torch.zeros(2, 3, 8, 8),),
            dynamo=True,
            dynamic_shapes=shapes,
            optimize=optimize,
            verbose=False,
        )
    assert program is not None
    return program.model


def nodes(model: ir.Model) -> list[tuple[str, list[str | None], list[str | None]]]:
    """(operator, inputs, outputs) by name."""
    return [
        (node.op_type, [v.name if v else None for v in node.inputs], [v.name for v in node.outputs])
        for node in model.graph
    ]


class Every(ir.Graph):
    """A graph with every operator that a rule can be about."""

    def __init__(self) -> None:
        identifiers = [
            rule._target_pattern.output_node.op_identifier()
            for rule in rewriter._DEFAULT_REWRITE_RULES
            if rule._target_pattern.has_single_output_node
        ]
        super().__init__([], [], nodes=[ir.node(found[1], []) for found in identifiers if found])


def test_it_is_what_torch_makes() -> None:
    ours = exported(optimize=False)
    before = len(nodes(ours))
    simplify(ours)
    theirs = exported(optimize=True)
    assert nodes(ours) == nodes(theirs) and len(nodes(ours)) < before
    assert list(ours.graph.initializers) == list(theirs.graph.initializers)


def test_no_rule_looks_at_all_nodes_for_each_node() -> None:
    """What onnxscript matches from one node on; a pattern with several ends is tried with every pair of nodes."""
    chosen = rules(Every())
    assert len(chosen) > 40 and all(rule._target_pattern.has_single_output_node for rule in chosen)
    assert len(chosen) == len(rewriter._DEFAULT_REWRITE_RULES) - 1


def test_rules_about_operators_that_are_not_there_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = exported(optimize=False), exported(optimize=False)
    assert 0 < len(rules(ours.graph)) < len(rules(Every()))
    simplify(ours)
    every = rules(Every())
    monkeypatch.setattr(simplifying, "rules", lambda graph: every)
    simplify(theirs)
    assert nodes(ours) == nodes(theirs)


class Twice(nn.Module):
    """Two of the same pattern read one tensor, with other constants."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        clamped = x.clamp(-1, 1).clamp(-0.5, 2) * 2 + x.clamp(-2, 1).clamp(-0.7, 0.3)
        return clamped - F.relu(x).clamp(0, 0.4) * F.relu(x).clamp(0.1, 0.6)


def test_constants_of_one_name_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5)
    model = export_program(Twice(), x).model
    (found,) = ReferenceEvaluator(ir.to_proto(model.clone())).run(None, {"input": x.numpy()})
    np.testing.assert_allclose(found, Twice()(x).numpy(), rtol=1e-6)
    monkeypatch.setattr(simplifying, "keep_constants", lambda graph: None)
    with pytest.raises(RuntimeError, match="clone"):
        export_program(Twice(), x).model.clone()
