"""Outputs part by part: a part that is lost breaks a promise, though the whole output is near."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lsq_export.verification.output_parts import OutputParts
from lsq_export.verification.part_parity import PartParity, lost_channels, lost_parts
from support.networks import Case, Wired, folded, inputs, values
from support.parities import format_parity, parity_of

EIGHT = {"weight_bits": 8, "activation_bits": 8}


def build() -> nn.Module:
    def forward(s: Any, x: torch.Tensor) -> Any:
        boxes, scores = s.box(x).flatten(2) * 640.0, s.cls(x).flatten(2).sigmoid()
        return torch.relu(torch.cat([boxes, scores], 1)).permute(0, 2, 1), s.box(x)

    return Wired(forward, box=nn.Conv2d(3, 4, 1), cls=nn.Conv2d(3, 3, 1))


CASE = Case(build, EIGHT)


def outputs() -> list[np.ndarray]:
    found = values(folded(CASE).trained, inputs(8, 1))
    return [found["output0"], found["output1"]]


def judged(changed: list[np.ndarray], nudged: list[np.ndarray] | None = None) -> tuple[PartParity, ...]:
    expected, parts = outputs(), OutputParts(folded(CASE).trained.graph)
    parts.add(inputs(8, 1), changed, expected, nudged or expected, expected)
    return parts.result()


def test_parts_are_known_by_what_makes_them() -> None:
    found = judged(outputs())
    of_first = {part.part: part.elements for part in found if part.channel is None}
    assert of_first == {"box": 8 * 4 * 81, "Sigmoid": 8 * 3 * 81}
    assert [part.channel for part in found if part.channel is not None] == [0, 1, 2, 3]
    assert not any(part.lost for part in found) and not list(lost_parts(found)) and not lost_channels(found)


def test_the_input_may_be_a_part() -> None:
    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, s.box(x - 1.0), x.flip(3)], 1)

    case, x = Case(lambda: Wired(forward, box=nn.Conv2d(3, 4, 1)), EIGHT), inputs(8, 1)
    graph = folded(case).trained.graph
    expected, parts = [values(folded(case).trained, x)["output0"]], OutputParts(graph)
    parts.add(x, expected, expected, expected, expected)
    found = parts.result()
    assert [part.elements for part in found] == [8 * channels * 81 for channels in (3, 4, 3)]
    assert found[0].part == str(graph.inputs[0].name) and found[1].part == "box"


def test_scores_that_became_their_mean_are_lost() -> None:
    changed = outputs()
    scores = changed[0][:, :, 4:]
    scores[:] = scores.mean()
    found = judged(changed)
    (line,) = lost_parts(found)
    assert "its part Sigmoid is lost" in line and "boxes" not in line
    parity = parity_of(format_parity(), parts=found)
    assert not parity.ok and parity.failures == [line] and not parity.promises[2].holds


def test_what_noise_loses_in_the_trained_model_is_not_the_folds_doing() -> None:
    changed = outputs()
    changed[0][:, :, 4:] = 0
    assert not any(part.lost for part in judged(changed, nudged=changed))


def test_a_channel_that_is_lost_is_named() -> None:
    changed = outputs()
    changed[1][:, 2] = changed[1][:, 2].mean() + 10 * changed[1].std()
    found = judged(changed)
    assert lost_channels(found).endswith("output_1[:, 2]")
    parity = parity_of(format_parity(), parts=found)
    assert parity.ok and parity.promises[2].detail.endswith("output_1[:, 2]")


@pytest.mark.parametrize("batches", [1, 2])
def test_batches_are_summed(batches: int) -> None:
    expected, parts = outputs(), OutputParts(folded(CASE).trained.graph)
    changed = [y + 0.01 * np.random.default_rng(0).standard_normal(y.shape) for y in expected]
    for part in np.array_split(np.arange(8), batches):
        parts.add(inputs(8, 1)[part], *([y[part] for y in side] for side in (changed, expected, expected, expected)))
    assert [round(p.sqnr_db, 6) for p in parts.result()] == [round(p.sqnr_db, 6) for p in judged(changed)]


def test_of_one_number_nothing_is_lost() -> None:
    """One image has one number in each channel of a classifier's output, which varies nowhere."""
    part = PartParity(output="y", part="fc", channel=0, elements=1, sqnr_db=float("-inf"), nudged_sqnr_db=float("inf"))
    assert not part.lost and replace(part, elements=2).lost
