"""lsq_export/cli/fold_tables.py: what `export` prints of a manifest."""

from __future__ import annotations

from typing import Any

import pytest

from lsq_export.cli.fold_tables import GRIDS, LAYERS, print_costs, print_fold, print_layers
from support.exported import Exported


def lines(out: str) -> list[str]:
    return [line.rstrip() for line in out.splitlines()]


def test_every_grid_and_layer_has_a_line(exported: Exported, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = exported.bundle.manifest
    print_fold(manifest)
    out = capsys.readouterr().out
    for entry in (*manifest["tensors"], *manifest["layers"]):
        assert any(line.split()[:1] == [entry["name"]] for line in lines(out)), entry["name"]
    assert all(column.lstrip(">") in out for column in (*GRIDS, *LAYERS))
    assert "strided (chosen)" in out and "on 24 calibration images" in out


def test_what_carries_an_offset_is_named(exported: Exported) -> None:
    shown = {entry["name"]: GRIDS["remainder"](entry) for entry in exported.bundle.manifest["tensors"]}
    carried = {entry["name"]: entry["carried_by"] for entry in exported.bundle.manifest["tensors"]}
    assert any(carried.values()) and not all(carried.values())
    for name, layers in carried.items():
        assert (shown[name] == f"bias of {', '.join(layers)}") is bool(layers)


def test_bias_correction_is_summed_up(exported: Exported, capsys: pytest.CaptureFixture[str]) -> None:
    print_fold(exported.bundle.manifest | {"bias_correction": {"summary": "bias correction on 3 images"}})
    assert lines(capsys.readouterr().out)[-1] == "bias correction on 3 images"


def test_what_tiny_scales_cost_is_one_line(exported: Exported, capsys: pytest.CaptureFixture[str]) -> None:
    manifest, says = exported.bundle.manifest, "channels with a scale too small beside their bias: "
    print_layers(manifest)
    assert says not in capsys.readouterr().out
    first, second, *others = manifest["layers"]
    changed = {"lowered_channels": 3, "coarse_channels": 2, "coarse_steps": 0.00213}
    print_layers(manifest | {"layers": [first | changed, second | {"lowered_channels": 1}, *others]})
    assert lines(capsys.readouterr().out)[-1] == (
        f"{says}a smaller gain in 4 (exact); coarser weights in 2, which moves outputs by at most 0.0021 steps "
        f"({first['name']})"
    )
    older = [{key: value for key, value in entry.items() if key not in changed} for entry in manifest["layers"]]
    print_layers(manifest | {"layers": older})
    assert says not in capsys.readouterr().out


def test_a_fold_that_is_refused_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    costs: list[dict[str, Any]] = [
        {"fold": "strided", "images": 8, "codes_differing": 0.01, "sqnr_db": None, "top1_agreement": 1.0},
        {"fold": "integer", "refused": "a.input: its offset lies too far from zero"},
    ]
    print_costs({"fold": "strided", "folds": costs})
    title, _, strided, integer, *_ = lines(capsys.readouterr().out)
    assert title.endswith("end to end on 8 calibration images")
    assert strided.split() == ["strided", "(chosen)", "1.00%", "inf", "dB", "100.00%"]
    assert integer.split(maxsplit=1) == ["integer", "a.input: its offset lies too far from zero"]
