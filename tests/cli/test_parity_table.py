"""lsq_export/cli/parity_table.py: what people read of a parity."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lsq_export.cli.parity_table import (
    codes,
    histogram,
    print_islands,
    print_parity,
    print_verdict,
    reasons,
)
from lsq_export.verification.in_training import InTraining
from lsq_export.verification.layer_parity import IslandParity
from lsq_export.verification.reasons import Reason, explained
from support.parities import format_parity, layer, parity_of

EXPLAINED_LAYER = replace(layer(8, 1), name="conv1.input", reasons={Reason.BORDER: 3, Reason.TIE: 5})


def test_codes() -> None:
    assert codes(format_parity(layers=(layer(3, 1, 100), layer(0, 0, 50)))) == "3 of 150"


def test_a_histogram_shows_its_ends() -> None:
    assert histogram(replace(layer(0, 0), histogram={1: 5, -1: 3})) == "-1: 3, +1: 5"
    many = replace(layer(0, 0), histogram={step: 1 for step in range(-5, 5) if step})
    assert histogram(many) == "-5: 1, -4: 1, -3: 1, …, +2: 1, +3: 1, +4: 1"


def test_reasons() -> None:
    assert reasons(replace(layer(1, 1), reasons={Reason.TIE: 1})) == "tie"
    assert reasons(EXPLAINED_LAYER) == "tie 5, border 3" and reasons(layer(1, 1)) == "unknown"


def test_formats_are_in_one_table(capsys: pytest.CaptureFixture[str]) -> None:
    parity = parity_of(format_parity(reference_mismatch=7, first_mismatch="q"), format_parity("qdq", accuracy=0.5))
    print_parity(parity, layers=False)
    title, header, *rows = capsys.readouterr().out.splitlines()
    assert title.rstrip() == "Against the trained model, 4 images"
    assert header.split("  ")[0] == "model" and "≠ integer reference" in header
    assert [row.split()[0] for row in rows if row.strip()] == [
        *("float", "trained", "trained,", "folded", "qoperator", "qdq")
    ]
    assert rows[0].split() == ["float", "not", "measured"]
    assert rows[4].split()[2:] == ["Runtime)", "100.00%", "40.0", "dB", "–", "7", "0", "of", "1000000"]
    assert "50.00%" in rows[5]
    known = InTraining(float_accuracy=0.75, trained_accuracy=0.5, data="digits", images=359)
    print_parity(replace(parity, in_training=known), layers=False)
    assert capsys.readouterr().out.splitlines()[2].split("  ")[0] == "float (359 test images of digits)"


def test_layers_that_differ_are_listed_with_what_their_reasons_mean(capsys: pytest.CaptureFixture[str]) -> None:
    worse = replace(EXPLAINED_LAYER, name="conv2.input", differing=0.5)
    print_parity(parity_of(format_parity(), trained_layers=(EXPLAINED_LAYER, worse)), layers=True)
    out = capsys.readouterr().out
    assert out.index("conv2.input") < out.index("conv1.input")  # the worst first
    parity = parity_of(format_parity(), trained_layers=(layer(0, 0), EXPLAINED_LAYER))
    print_parity(parity, layers=True)
    out = capsys.readouterr().out
    assert "Folded against trained" in out and "conv1.input" in out and "8.0e-06" in out and "tie 5, border 3" in out
    assert "1 of 2 tensors differ (all of them: parity.json)" in out
    assert "qoperator against folded: codes, on the same inputs" in out and "none of 1 tensors differ" in out
    for reason, meaning in explained().items():
        assert (f"{reason}: {meaning}" in out) is (reason in EXPLAINED_LAYER.reasons)


def test_islands_are_listed_once(capsys: pytest.CaptureFixture[str]) -> None:
    islands = tuple(
        IslandParity(codes=name, operators=("sin (Sin)",), elements=100, differing=1, largest=1) for name in "qc"
    )
    print_islands(parity_of(format_parity(islands=islands)))
    out = capsys.readouterr().out
    assert "Float islands: 1 operator has no integer form" in out and out.count("sin (Sin)") == 2
    for parity in (parity_of(format_parity()), parity_of(format_parity("qdq"))):
        print_islands(parity)
        assert capsys.readouterr().out == ""


def test_the_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    print_verdict(parity_of(format_parity()))
    assert capsys.readouterr() == ("all promises hold\n", "")
    for same, nudged, says in ((0.6, 45.0, ": see nearer"), (0.6, 25.0, ": see fold"), (0.95, 45.0, None)):
        parity = parity_of(format_parity(top1_agreement=same), nudged_sqnr_db=nudged, folded_sqnr_db=25.0)
        print_verdict(parity)
        other = "but 40.00% of the integer network's classes are others than the trained one's"
        held = f"all promises hold, {other}" if says else "all promises hold"
        held = f"{held}; {parity.far.said()}" if nudged == 45.0 else held  # 20 dB behind
        assert capsys.readouterr() == (f"{held}{says or ''}\n", "") and parity.verdict == held
    print_verdict(parity_of(format_parity(accumulator_mismatch=2)))
    assert capsys.readouterr() == ("", "FAILED: qoperator: 2 accumulators differ from the folded model's\n")
