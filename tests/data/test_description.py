"""data.description: one line says what is read and how."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from lsq_export.data import describe, load

DRAWN = "(one in five of each class is test, drawn with a fixed seed)"


def test_each_kind_of_source(tmp_path: Path) -> None:
    assert describe(load("digits", image_size=16, channels=1)) == (
        f"images 8×8 → 16×16 (stretched); mean 0.3055, std 0.319; 1,438 train / 359 test {DRAWN}"
    )
    for split in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(tmp_path / split / name / "x.png")
    spec = f"imagefolder:{tmp_path}"
    assert describe(load(spec, image_size=32, mean=(0.5,), std=(0.25,))) == (
        "images 50×40 → 32×32 (shorter side to 32, center); mean 0.5, std 0.25; 2 train / 2 test"
    )
    cut = describe(load(spec, image_size=32, resize=36))
    assert "→ 32×32 (shorter side to 36, center); mean 0.485,0.456,0.406, std 0.229,0.224,0.225 (ImageNet's)" in cut
    assert "→ 16×16 (stretched)" in describe(load(spec, image_size=16, resize="stretch"))
    assert "→ 40×40 (shorter side to 40, center; no --image-size: not 224, they are small)" in describe(load(spec))
    np.savez(tmp_path / "x.npz", x=np.zeros((4, 1, 8, 8), np.float32), y=np.array([0, 1, 0, 1]))
    assert describe(load(f"npz:{tmp_path / 'x.npz'}")) == (
        f"images 8×8 as they are; no mean and std; 2 train / 2 test {DRAWN}"
    )


def test_sizes_that_vary_and_sizes_that_stay(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            for i, size in enumerate(((20, 10), (36, 36), (30, 40))):
                Image.new("RGB", size).save(tmp_path / split / name / f"{i}.png")
    assert "images 20×10 to 36×36 → 16×16" in describe(load(f"imagefolder:{tmp_path}", image_size=16))
    assert describe(load("digits", image_size=8)).startswith("images 8×8 as they are; mean 0.3055, std ")
