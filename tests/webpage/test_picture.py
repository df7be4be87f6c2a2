"""picture.js makes of a picture what `preprocess` in run.py makes of it, bit for bit; there Pillow resizes."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lsq_export.bundle.run import preprocess
from lsq_export.webpage.writing import STATIC

SOURCE = Path(__file__).parents[2] / "lsq_export" / "webpage" / "picture.js"
NODE = shutil.which("node")
PROGRAM = """
import { readFileSync, writeFileSync } from "node:fs";
import { preprocessed, pixels, cutOut } from "./picture.mjs";
const request = JSON.parse(readFileSync("request.json"));
const kinds = { uint8: Uint8Array, float32: Float32Array };
const data = new kinds[request.type](Uint8Array.from(readFileSync("data.bin")).buffer);
const { height, width, channels, how, shape, what } = request;
const picture = { height, width, channels, data };
const made = { preprocessed: () => preprocessed(picture, how, shape), pixels: () => pixels(picture, channels).data,
  cutOut: () => Uint8Array.from(cutOut(picture, true).data) }[what]();
writeFileSync("found.bin", Buffer.from(made.buffer));
"""

pytestmark = pytest.mark.skipif(NODE is None, reason="there is no node")


def made(folder: Path, picture: np.ndarray, **request: Any) -> bytes:
    """What picture.js makes of a picture [H, W, C]."""
    shutil.copyfile(SOURCE, folder / "picture.mjs")
    (folder / "program.mjs").write_text(PROGRAM)
    height, width, channels = picture.shape
    known = {"type": str(picture.dtype), "height": height, "width": width, "channels": channels}
    (folder / "request.json").write_text(json.dumps({"what": "preprocessed", **known, **request}))
    (folder / "data.bin").write_bytes(picture.tobytes())
    done = subprocess.run([str(NODE), "program.mjs"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return (folder / "found.bin").read_bytes()


def pixels(height: int, width: int, channels: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, channels), dtype=np.uint8)


@pytest.mark.parametrize("interpolation", ["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"])
@pytest.mark.parametrize(("height", "width", "to"), [(37, 53, [16, 16]), (9, 12, [32, 20]), (24, 24, [24, 11])])
def test_pixels_are_resized_as_pillow_does_it(
    tmp_path: Path, interpolation: str, height: int, width: int, to: list[int]
) -> None:
    picture, shape = pixels(height, width, 3), [3, *to]
    how = {"resize": to, "interpolation": interpolation, "divide_by": 255, "mean": [0.485, 0.456, 0.406], "std": [0.2]}
    found = np.frombuffer(made(tmp_path, picture, how=how, shape=shape), np.float32)
    assert np.array_equal(found, preprocess(picture, how, shape).reshape(-1))


def test_the_shorter_side_and_the_center(tmp_path: Path) -> None:
    picture, shape = pixels(45, 66, 3), [3, 16, 16]
    how = {"data": "x", "resize": 19, "crop": 16, "divide_by": 255.0, "mean": None, "std": [0.2, 0.3, 0.7]}
    found = np.frombuffer(made(tmp_path, picture, how=how, shape=shape), np.float32)
    assert np.array_equal(found, preprocess(picture, how, shape).reshape(-1))


@pytest.mark.parametrize("channels", [1, 3])
def test_arrays_are_resized_without_antialiasing(tmp_path: Path, channels: int) -> None:
    picture = np.random.default_rng(1).normal(size=(8, 8, 1)).astype(np.float32)
    how = {"resize": [20, 13], "divide_by": 16.0, "mean": [0.3055], "std": [0.3237]}
    found = np.frombuffer(made(tmp_path, picture, how=how, shape=[channels, 20, 13]), np.float32)
    assert np.array_equal(found, preprocess(picture[..., 0], how, [channels, 20, 13]).reshape(-1))


def test_gray_is_that_of_pillow(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    rgba = np.concatenate([pixels(40, 40, 3), np.full((40, 40, 1), 255, np.uint8)], 2)
    request = {"what": "pixels", "how": {}, "shape": []}
    gray = image.fromarray(rgba[..., :3]).convert("L")
    (tmp_path / "gray").mkdir()
    program = made(tmp_path / "gray", rgba, **request, channels=1)
    assert np.array_equal(np.frombuffer(program, np.uint8), np.asarray(gray).reshape(-1))


def test_what_is_drawn_is_cut_out_and_centered(tmp_path: Path) -> None:
    rgba = np.zeros((50, 50, 4), np.uint8)
    rgba[5:15, 30:34] = 255  # 10 by 4
    square = np.frombuffer(made(tmp_path, rgba, what="cutOut", how={}, shape=[]), np.uint8)
    side = 12  # 10 rows and a margin of 6 % on both sides, rounded up
    found = square.reshape(side, side, 4)[..., 0]
    rows, columns = np.nonzero(found)
    assert [rows.min(), rows.max(), columns.min(), columns.max()] == [1, 10, 4, 7] and found.sum() == 255 * 40


def test_scripts_are_among_the_files_of_the_page() -> None:
    assert SOURCE.name in STATIC and all((SOURCE.parent / name).is_file() for name in STATIC)
