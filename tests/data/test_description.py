"""data.description: one line says what is read and how."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from lsq_export.data.description import description
from lsq_export.data.loading import load


def test_each_kind_of_source(tmp_path: Path) -> None:
    drawn = "(no split there: 20% of each class, drawn with a fixed seed)"
    assert description(load("digits", image_size=16, channels=1)) == (
        f"digits: 1,438 images to train and 359 to test {drawn}, 10 classes; "
        "to 16×16 pixels, divided by 16, mean 0.3055, std 0.319"
    )
    for split in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(tmp_path / split / name / "x.png")
    plain = description(load(f"imagefolder:{tmp_path}", image_size=32, mean=(0.5,), std=(0.25,)))
    assert plain.endswith(
        "2 images to train and 2 to test, 2 classes; "
        "shorter side to 32 pixels, center 32×32, divided by 255, mean 0.5, std 0.25"
    )
    cropped = description(load(f"imagefolder:{tmp_path}", image_size=32, resize=36))
    assert "shorter side to 36 pixels, center 32×32, divided by 255, mean 0.485,0.456,0.406" in cropped
    np.savez(tmp_path / "x.npz", x=np.zeros((4, 1, 8, 8), np.float32), y=np.array([0, 1, 0, 1]))
    assert description(load(f"npz:{tmp_path / 'x.npz'}")).endswith(f"{drawn}, 2 classes; taken as they are")
