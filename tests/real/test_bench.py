"""Bits, and a page of two parts that are written one at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .__main__ import main
from .files import EIGHT, Bits, file_of, folder_of
from .networks import NETWORKS
from .table import write_docs

WAYS = ("minmax", "entropy", "percentile", "nncf")


def _way(score: float | None) -> dict[str, Any]:
    return {"score": score, "sqnr_db": score and 10 * score, "cpu": score and 12.3, "why": "" if score else "no | no"}


def _eight() -> dict[str, Any]:
    ways = {name: _way(0.5) for name in ("ours", *WAYS)}
    told = {"differing": 0, "promises": True, "islands": {"Softmax": 1}, "multiplications": None}
    return {"name": "magika", "samples": 8, "ways": ways, "ours": told, "latency": None}


def _few(bits: str, **more: str) -> dict[str, Any]:
    ways = {name: _way(None) for name in WAYS} | {"mse": _way(0.25), "reconstruction": _way(0.75)}
    told = {"differing": 0, "promises": True, "calibrate_cpu": 3.4, "peak_gb": 1.25}
    ours = {"mse": told, "reconstruction": told}
    return {"name": "magika", "bits": bits, "samples": 8, "ways": ways, "ours": ours} | more


def test_bits_have_folders_and_names(tmp_path: Path) -> None:
    bits = Bits.parse("4,8")
    assert (bits.weight, bits.activation, str(bits), bits.arguments) == (4, 8, "W4A8", ("4", "8"))
    assert folder_of(tmp_path, bits) == tmp_path / "w4a8" and folder_of(tmp_path, EIGHT) == tmp_path
    assert file_of(tmp_path, "mse") == tmp_path / "mse/qoperator/model.onnx"
    assert file_of(tmp_path, "minmax") == tmp_path / "minmax.onnx"
    with pytest.raises(ValueError):
        Bits.parse("4")


def test_a_part_of_the_page_is_written_without_the_other(tmp_path: Path) -> None:
    page = tmp_path / "real.md"
    write_docs([_few("W4A8")], tmp_path)
    alone = page.read_text()
    write_docs([_eight()], tmp_path)
    assert page.read_text().endswith(alone) and page.read_text().startswith("# Real networks")
    write_docs([_few("W4A8"), _few("W4A4")], tmp_path)
    assert page.read_text().count("## Four bits") == page.read_text().count("# Real networks") == 1
    assert (
        "| magika | W4A4 | same type as float | 25.0%, 2.5 dB | 75.0%, 7.5 dB | no file: no / no |" in page.read_text()
    )
    assert [found["bits"] for found in json.loads((tmp_path / "real-few-bits.json").read_text())] == ["W4A8", "W4A4"]
    assert [found["name"] for found in json.loads((tmp_path / "real.json").read_text())] == ["magika"]


def test_rows_of_several_commits_are_told_apart(tmp_path: Path) -> None:
    write_docs([_few("W4A8", commit="abc1234"), _few("W4A4", commit="abc1234")], tmp_path)
    assert "abc1234" not in (tmp_path / "real.md").read_text()
    write_docs([_few("W4A8"), _few("W4A4", commit="abc1234")], tmp_path)
    page = (tmp_path / "real.md").read_text()
    assert "older ones: magika W4A8; abc1234: magika W4A4.\n" in page
    others = [name for name in NETWORKS if name != "magika"]
    missing = ", ".join(f"{name} {bits}" for bits in ("W4A8", "W4A4") for name in others)
    assert page.endswith(f"Not run so far: {missing}.\n")


def test_the_page_has_what_the_record_has_and_nothing_is_run(tmp_path: Path) -> None:
    (tmp_path / "record").write_text("".join(json.dumps(row) + "\n" for row in (_eight(), _few("W4A8"))))
    given = ("--record", str(tmp_path / "record"), "--docs", str(tmp_path), "--work", str(tmp_path / "work"))
    main(["--bits", "4,8", "--bits", "4,4", "--recorded", *given])
    assert [row["bits"] for row in json.loads((tmp_path / "real-few-bits.json").read_text())] == ["W4A8"]
    assert not (tmp_path / "real.json").exists() and not (tmp_path / "work").exists()
