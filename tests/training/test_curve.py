"""training.curve: the files that are drawn."""

from __future__ import annotations

from pathlib import Path

import pytest

from calib.errors import QuantizationError
from lsq_export.training import curve
from support.made_up_epochs import HISTORY


@pytest.mark.parametrize("name", ["c.svg", "c.png"])
def test_curve(name: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for path in (tmp_path / name, tmp_path / f"again-{name}"):
        curve.draw({"float": HISTORY, "low-bit": HISTORY}, path, "<tiny> on $[digits]_{")
    assert (tmp_path / name).read_bytes()[:5] in (b"<?xml", b"\x89PNG\r") and {
        p.suffix for p in tmp_path.iterdir()
    } == {Path(name).suffix}
    with pytest.raises(QuantizationError, match=r"curve .* cannot be written"):
        curve.draw({"float": HISTORY}, tmp_path / "no" / name, "")
