"""lsq_export/verification/islands.py: a tie that an island rounds otherwise does not spread, and is counted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from lsq_export import integer
from lsq_export.rewrite.emit import emit
from lsq_export.rewrite.fold import Folded, fold
from lsq_export.targets import ORT_CPU
from lsq_export.verification.islands import IslandCheck
from lsq_export.verification.tally import NOT_A_CODE
from support import networks
from support.networks import LOW, Case, Conv, Wired, inputs


def folded(function: Callable[[torch.Tensor], torch.Tensor] | None) -> Folded:
    """Two convolutions, and a function between them that has no integer form."""

    def build() -> nn.Module:
        made: nn.Module = Wired(
            lambda s, x: s.b(function(s.a(x)) if function else s.a(x)), a=Conv(3, 4, 3), b=Conv(4, 4, 1)
        )
        return made

    torch.manual_seed(0)
    return fold(networks.quick_capture(networks.train(Case(build, LOW))), [inputs(16, 1)])


@pytest.fixture(scope="module")
def made() -> Folded:
    return folded(torch.sin)


def checked(made: Folded) -> tuple[IslandCheck, onnx.ModelProto, np.ndarray, dict[str, np.ndarray]]:
    """(check, reference, input, the reference's tensors)."""
    reference, x = emit(made.model, "qoperator", ORT_CPU), inputs(4, 2).numpy()
    tensors = integer.run(reference, {reference.graph.input[0].name: x})
    return IslandCheck(made.model.graph, reference), reference, x, tensors


def test_without_islands_there_is_nothing_to_do() -> None:
    check, _, x, tensors = checked(folded(None))
    assert check.codes == [] and check.expected(x, tensors, {}) is tensors and check.result() == ()
    assert check.outside(tensors) == tensors


def test_what_follows_an_island_is_expected_on_the_sessions_codes(made: Folded) -> None:
    check, reference, x, tensors = checked(made)
    name = check.codes[-1]
    session = dict(tensors)
    session[name] = tensors[name].copy()
    session[name].flat[0] ^= 64  # 64 codes up or down
    expected = check.expected(x, tensors, session)
    assert np.array_equal(expected[name], session[name])
    last = reference.graph.output[0].name
    assert not np.array_equal(expected[last], tensors[last])
    results = {island.codes: island for island in check.result()}
    assert (results[name].elements, results[name].differing, results[name].largest) == (tensors[name].size, 1, 64)
    assert len(results[name].operators) == 1 and results[name].operators[0].endswith("(Sin)") and not results[name].ok


def test_the_floats_inside_an_island_are_not_compared(made: Folded) -> None:
    check, _, x, tensors = checked(made)
    inside = tensors.keys() - check.outside(tensors).keys()
    assert len(inside) == 1 and tensors[inside.pop()].dtype == np.float32
    assert check.expected(x, tensors, tensors).keys() == check.outside(tensors).keys()


def test_counts_add_up_and_another_shape_differs_everywhere(made: Folded) -> None:
    check, _, x, tensors = checked(made)
    check.expected(x, tensors, tensors)
    check.expected(x, tensors, tensors)
    (first, *_) = check.result()
    assert (first.elements, first.differing, first.largest) == (2 * tensors[first.codes].size, 0, 0)
    check._count(first.codes, tensors[first.codes][:1], tensors[first.codes], False)
    (first, *_) = check.result()
    assert (first.differing, first.largest) == (tensors[first.codes].size, NOT_A_CODE) and not first.ok


def test_sessions_with_the_same_codes_run_the_reference_once(made: Folded, monkeypatch: pytest.MonkeyPatch) -> None:
    check, _, x, tensors = checked(made)
    runs: list[int] = []
    run = integer.run
    monkeypatch.setattr(integer, "run", lambda *args, **more: (runs.append(1), run(*args, **more))[1])
    other = dict(tensors)
    other[check.codes[-1]] = tensors[check.codes[-1]] ^ 1
    expected = [check.expected(x, tensors, session) for session in (tensors, tensors, other, dict(other), tensors)]
    assert len(runs) == 1
    assert all(np.array_equal(expected[2][name], expected[3][name]) for name in expected[2])
    assert any(not np.array_equal(expected[2][name], expected[0][name]) for name in expected[0])
    again = {name: value.copy() for name, value in tensors.items()}  # another batch
    check.expected(x, again, other)
    assert len(runs) == 2
