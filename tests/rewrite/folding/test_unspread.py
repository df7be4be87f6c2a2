"""unspread: a low-bit grid behind an edge keeps its codes 0 … p where nothing needs them spread, and the network stays
the trained one.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from calib.errors import QuantizationError
from calib.folding.containers import integral_zero_point
from calib.grid import Grid
from lsq_export import integer
from lsq_export.rewrite.contract.decisions import Remainder, TensorDecision
from lsq_export.rewrite.emit import emit_all
from lsq_export.rewrite.fold import Folded, fold
from lsq_export.rewrite.folding import edges, offsets, unspread
from lsq_export.targets import get
from lsq_export.verification.checking import Subject, check
from lsq_export.verification.parity import Parity
from support import networks
from support.networks import Case, Conv, Wired, captured, inputs, quick_capture, train
from support.passes import unwatched

FORMATS = ("qdq", "qoperator")


def network(padding: int = 0) -> Any:
    """Three 1×1 convolutions (or padded 3×3 ones) with SiLUs between."""

    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        return s.c(F.silu(s.b(F.silu(s.a(x)))))

    kernel = 1 + 2 * padding
    return Wired(
        forward, a=Conv(3, 12, 3), b=Conv(12, 12, kernel, padding=padding), c=Conv(12, 4, kernel, padding=padding)
    )


@cache
def case_of(bits: int = 4, padding: int = 0) -> Case:
    return Case(lambda: network(padding), {"first_last_bits": None, "weight_bits": bits, "activation_bits": bits})


def verified(case: Case) -> tuple[Folded, Parity, Any]:
    model = train(case)
    made = fold(quick_capture(model), [inputs(16, 1)])
    files = emit_all(made, FORMATS, get("ort-cpu"))
    batches = [inputs(16, 2, spread=3.0)]
    return (
        made,
        check(Subject.of(made, files, "ort-cpu"), batches, model=model),
        files["qoperator"],
    )


def learned(made: Folded) -> dict[str, TensorDecision]:
    return {d.name: d for d in made.tensors if d.kind == "activation"}


def sums(file: Any) -> int:
    return [node.op_type for node in file.graph.node].count("QLinearAdd")


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_one_sum_less_a_grid_and_the_same_network(bits: int, monkeypatch: pytest.MonkeyPatch):
    made, parity, file = verified(case_of(bits))
    monkeypatch.setattr(offsets, "own_codes", lambda *rest: None)
    spread, parity_spread, file_spread = verified(case_of(bits))
    assert parity.ok and parity_spread.ok, (parity.failures, parity_spread.failures)
    own = [name for name, d in learned(made).items() if d.stride == 1]
    assert {"b.input", "c.input"} <= set(own) and sums(file) == sums(file_spread) - len(own)
    for name in own:
        d = learned(made)[name]
        assert (d.origin, d.zero_point, d.levels) == (0, 0, 2**bits) and learned(spread)[name].stride > 1
        assert d.remainder is Remainder.CARRIED and d.carried_by
    for mine, other in zip(
        parity.trained_layers, parity_spread.trained_layers, strict=True
    ):  # what the 8-bit edges cost, and no more
        assert mine.name == other.name and mine.differing <= 1.1 * other.differing + 0.002 and mine.largest <= 1, (
            mine,
            other,
        )


def test_the_codes_stay_below_p_without_a_clamp():
    made, _, file = verified(case_of())
    x = inputs(64, 5, spread=50.0).numpy()  # far beyond what calibration saw
    codes = integer.run(file, {file.graph.input[0].name: x})
    own = [d for d in learned(made).values() if d.stride == 1 and d.levels == 16]
    assert own
    for d in own:
        assert codes[d.codes].max() == d.levels - 1 and codes[d.codes].min() == 0


def test_an_edge_that_reaches_beyond_p_keeps_the_clamp(monkeypatch: pytest.MonkeyPatch):
    """Sabotage: with no look at the edge's reach, codes beyond p come out of the sum."""
    # the edge's own grid: all that calibration saw
    monkeypatch.setattr("lsq_export.rewrite.folding.calibrate_edges._aligned", lambda edge: None)
    model = train(case_of())
    with torch.no_grad():
        model.get_submodule("b.input_quantizer").scale.mul_(0.5)
        model.get_submodule("b.input_quantizer").offset.fill_(0.1)  # and a SiLU reaches below the grid, down to -0.28
    narrow = quick_capture(model)
    kept = learned(fold(narrow, [inputs(16, 1, spread=4.0)]))["b.input"]
    monkeypatch.setattr(unspread, "ROOM", np.inf)
    with pytest.raises(QuantizationError, match="codes differ after the pass place_offsets"):
        fold(narrow, [inputs(16, 1, spread=4.0)])
    unwatched(monkeypatch)
    loose = learned(fold(narrow, [inputs(16, 1, spread=4.0)]))["b.input"]
    assert kept.stride > 1 and loose.stride == 1


def test_above_a_silu_s_lowest_value_the_container_s_top_is_the_clamp(monkeypatch: pytest.MonkeyPatch):
    """As before, but the grid holds all that is below: no clamp is needed there."""
    monkeypatch.setattr("lsq_export.rewrite.folding.calibrate_edges._aligned", lambda edge: None)
    model = train(case_of())
    with torch.no_grad():
        quantizer = model.get_submodule("b.input_quantizer")
        quantizer.scale.mul_(0.5)
        quantizer.offset.clamp_(max=-0.3)
    made = fold(quick_capture(model), [inputs(16, 1, spread=4.0)])
    file = emit_all(made, FORMATS, get("ort-cpu"))["qoperator"]
    d = learned(made)["b.input"]
    assert (d.stride, d.origin, d.zero_point, d.levels) == (1, 240, 240, 16)
    codes = integer.run(file, {file.graph.input[0].name: inputs(64, 5, spread=50.0).numpy()})[d.codes]
    assert codes.min() >= 240 and codes.max() == 255
    files = {"qoperator": file}
    assert check(Subject.of(made, files, "ort-cpu"), [inputs(16, 2, spread=3.0)], model=model).ok


def test_padded_consumers_keep_the_fine_grid():
    made, parity, _ = verified(case_of(padding=1))
    assert parity.ok and all(learned(made)[name].stride > 1 for name in ("b.input", "c.input"))


def test_coarse_biases_keep_the_fine_grid(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(unspread, "UNIT_ON_EDGE", 1e-4)
    made, _, _ = verified(case_of())
    assert learned(made)["b.input"].stride > 1


def test_the_bias_s_rounding_stays_below_an_eighth_of_a_step():
    made, _, _ = verified(case_of())
    assert learned(made)["b.input"].stride == 1
    layer = next(d for d in made.layers if d.name.startswith("b"))
    assert 0 < layer.bias_error_steps <= unspread.UNIT_ON_EDGE / 2


def test_no_codes_of_its_own_without_an_edge():
    grid = Grid(0.1, 0.0, 0, 15)
    model = networks.before("chain", "place_offsets")
    marker = next(node for node in model.graph if node.op_type == "FakeQuantize")
    assert unspread.own_codes(marker, grid, []) is None


# Offsets on multiples of the scale: real zero is one of the codes.


@cache
def integral_case(bits: int = 4, padding: int = 1) -> Case:
    case = case_of(bits, padding)
    return Case(case.build, {**case.config, "offset": "integer"})


def without_integer_offsets(monkeypatch: pytest.MonkeyPatch) -> None:
    """As real offsets are placed: an edge, a sum with -β, codes spread over the container."""
    for module in (offsets, unspread):
        monkeypatch.setattr(module, "integral_zero_point", lambda grid: None)
    monkeypatch.setattr(edges, "made_in_one_step", edges.moves_to_integer_zero)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_integer_offsets_need_neither_edges_nor_sums(bits: int, monkeypatch: pytest.MonkeyPatch):
    """Also in front of padded convolutions; the products of SiLUs are rounded once, to the learned codes."""
    made, parity, file = verified(integral_case(bits))
    without_integer_offsets(monkeypatch)
    long_way, parity_long_way, file_long_way = verified(integral_case(bits))
    assert parity.ok and parity_long_way.ok, (parity.failures, parity_long_way.failures)
    assert sums(file) == 0 and sums(file_long_way) == 5
    count = [sum(d.kind == "edge" for d in m.tensors) for m in (made, long_way)]
    assert count == [5, 8]  # two inputs of SiLUs, two sigmoids, the output; beside those the image and two products
    for name, d in learned(made).items():
        assert (d.stride, d.levels, d.remainder, d.border) == (1, 2**bits, Remainder.NONE, 0.0), name
        assert d.origin in (0, 256 - 2**bits) and d.zero_point - d.origin == round(-d.offset / d.scale)
    assert any(d.zero_point for d in learned(made).values()) and all(
        learned(long_way)[name].stride > 1 for name in ("b.input", "c.input")
    )
    flips = [sum(layer.differing * layer.elements for layer in p.trained_layers) for p in (parity, parity_long_way)]
    assert flips[0] <= flips[1] and all(layer.largest <= 1 for layer in parity.trained_layers)


def test_codes_of_integer_offsets_end_at_p(monkeypatch: pytest.MonkeyPatch):
    x = inputs(64, 5, spread=50.0).numpy()  # far beyond what calibration saw
    captured_case = captured(integral_case())

    def highest() -> dict[str, int]:
        made = fold(captured_case, [inputs(16, 1)])
        file = emit_all(made, FORMATS, get("ort-cpu"))["qoperator"]
        codes = integer.run(file, {file.graph.input[0].name: x})
        assert all(codes[d.codes].min() >= d.origin for d in learned(made).values())
        return {name: int(codes[d.codes].max()) - d.origin for name, d in learned(made).items()}

    assert set(highest().values()) == {15}
    monkeypatch.setattr(offsets, "clip_codes", lambda graph, before, codes, *rest: codes)  # sabotage
    assert max(highest().values()) > 15


def test_coarse_biases_spread_integer_offsets_without_an_edge(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(unspread, "UNIT_ON_EDGE", 1e-4)
    made, parity, file = verified(integral_case())
    assert parity.ok and learned(made)["b.input"].stride > 1
    assert not any("shifted" in name for node in file.graph.node for name in node.output)


def test_the_integer_fold_takes_the_same_codes():
    strided, narrow = (learned(fold(captured(integral_case()), [inputs(16, 1)], how)) for how in ("strided", "integer"))
    assert {n: (d.scale, d.zero_point - d.origin) for n, d in strided.items()} == {
        n: (d.scale, d.zero_point) for n, d in narrow.items()
    }
    assert {d.origin for d in narrow.values()} == {0}


@pytest.mark.parametrize(
    ("grid", "expected"),
    [
        (Grid(0.1, -0.2, 0, 15), 2),
        (Grid(0.1, 0.0, 0, 15), 0),
        (Grid(0.1, 0.0, -8, 7), 8),
        (Grid(0.1, -1.5, 0, 15), 15),
        (Grid(0.1, -0.2001, 0, 15), None),
        (Grid(0.1, -1.6, 0, 15), None),
        (Grid(0.1, 0.1, 0, 15), None),
    ],
)
def test_zero_points_of_integer_offsets(grid: Grid, expected: int | None):
    assert integral_zero_point(grid) == expected


def test_offsets_that_float32_rounded_are_still_whole_steps():
    scales = np.random.default_rng(0).uniform(0.01, 3, 500).astype(np.float32)
    for zero_point in (1, 100, 167, 200, 255):
        rounded = -(scales * np.float32(zero_point))
        assert {
            integral_zero_point(Grid(float(s), float(b), 0, 255)) for s, b in zip(scales, rounded, strict=True)
        } == {zero_point}


def clamped_far_from_zero(low: float, high: float, start: float) -> Any:
    """Two readers of a clamp that lies on one side of zero; their grids begin `start` steps inside of it."""

    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        t = (s.a(x) + s.a2(x)).clamp(low, high)
        return s.d(s.b(t) + s.c(t))

    wired = Wired(forward, a=Conv(3, 8, 1), a2=Conv(3, 8, 1), b=Conv(8, 8, 1), c=Conv(8, 8, 1), d=Conv(8, 5, 1))
    with torch.no_grad():
        wired.a.bias.add_((low + high) / 2)
    model = train(Case(lambda: wired, {"weight_bits": 4, "activation_bits": 4}))
    step = (high - low) / 15 * 0.8
    for name in ("b", "c"):
        model.get_submodule(f"{name}.input_quantizer").set_grid(torch.tensor(step), torch.tensor(low + start * step))
    return model


@pytest.mark.parametrize(
    ("low", "high", "start"),
    [(10.0, 12.0, 0.65), (20.0, 23.0, 0.75), (4.0, 6.0, 0.58), (-12.0, -10.0, 2.3), (-23.0, -20.0, 2.3)],
)
def test_no_code_leaves_its_grid_however_far_from_zero_the_values_lie(
    low: float, high: float, start: float, monkeypatch: pytest.MonkeyPatch
):
    for name in ("UNIT_ON_EDGE", "UNIT_ON_CODES"):
        monkeypatch.setattr(unspread, name, np.inf)
    model = clamped_far_from_zero(low, high, start)
    x = inputs(16, 1, spread=3.0)
    made = fold(quick_capture(model), [x])
    files = emit_all(made, FORMATS, get("ort-cpu"))
    parity = check(Subject.of(made, files, "ort-cpu"), [x], model=model)
    assert parity.ok, parity.failures


def test_codes_that_leave_their_grid_are_a_broken_promise(monkeypatch: pytest.MonkeyPatch):
    """Sabotage: a reach that ends where the grid does."""
    for name in ("UNIT_ON_EDGE", "UNIT_ON_CODES"):
        monkeypatch.setattr(unspread, name, np.inf)
    monkeypatch.setattr(unspread, "reach", lambda value: (10.2, 10.9))
    model = clamped_far_from_zero(10.0, 12.0, 3.0)
    x = inputs(16, 1, spread=3.0)
    captured = quick_capture(model)
    with pytest.raises(QuantizationError, match=r"b\.input: .* codes differ after the pass place_offsets"):
        fold(captured, [x])
    unwatched(monkeypatch)
    made = fold(captured, [x])
    files = emit_all(made, FORMATS, get("ort-cpu"))
    parity = check(Subject.of(made, files, "ort-cpu"), [x], model=model)
    assert any("codes are none of its grid's" in line for line in parity.failures)
