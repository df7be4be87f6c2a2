"""lsq_export/bundle/readme.py: a page that says what the receiver has to know, and what nobody said."""

from __future__ import annotations

from typing import Any

import pytest

from lsq_export.bundle.readme import render_readme, steps_of
from support.exported import Exported

SAID: dict[str, Any] = {
    "source": {"model": {"name": "shop:Net"}},
    "classes": ["cat", "dog", "2"],
    "license": "Apache-2.0 OR MIT",
    "preprocessing": {"resize": 256, "crop": 224, "divide_by": 255.0, "mean": [0.4], "std": None, "data": "x"},
    "sample": {
        "file": "sample/input.png",
        "type": "uint8",
        "shape": [20, 30],
        "range": [3.0, 250.0],
        "prepared": False,
        "class": 1,
        "label": 2,
    },
}


def test_it_says_what_is_known(exported: Exported) -> None:
    text = render_readme({**exported.bundle.manifest, **SAID})
    assert text.endswith(".\n") and not text.endswith("\n\n")
    for part in (
        "# shop:Net, in integers",
        "float32 [batch, 1, 16, 16] (channels, rows, columns)",
        "1. Take gray pixels.\n2. Resize the shorter side to 256 pixels: bilinear",
        "3. Cut out the center, 224 pixels",
        "4. Divide by 255.0, in float32.\n5. Subtract [0.4], one number for each channel.\n6. Put the channels first",
        "`sample/input.png` is a sample of the data: uint8 [20, 30], with values from 3 to 250.",
        "It has to give class 1 (dog); its label is 2.",
        "Classes: 0 (cat), 1 (dog), 2.",
        "License: Apache-2.0 OR MIT\n",
        "sha256sum -c SHA256SUMS",
        "python run.py FILE ",
        "`qoperator/model.onnx`",
        "`qdq/model.onnx`",
        "the same bits on every machine",
    ):
        assert part in text, part
    assert "not stated" not in text and max(map(len, text.splitlines())) < 170


def test_it_says_what_nobody_said(exported: Exported) -> None:
    text = render_readme({**exported.bundle.manifest, "preprocessing": None})
    for part in (
        "**What has to be done to your data before is not known**",
        "python run.py FILE --prepared",
        "is an input that is preprocessed already",
        "taken as the logits of the classes 0 … 4, without names",
        "License: **not stated**",
    ):
        assert part in text, part


def test_float_islands_and_single_formats(exported: Exported) -> None:
    manifest = exported.bundle.manifest
    text = render_readme({**manifest, "islands": [{"name": "gelu"}]})
    assert "the same bits on every machine" not in text and "Some functions stay float" in text
    text = render_readme({**manifest, "formats": {"qdq": manifest["formats"]["qdq"]}, "target": "native-low-bit"})
    assert "qoperator/model.onnx" not in text and "OpenVINO refuses 2-bit types" in text


def test_many_classes_are_cut(exported: Exported) -> None:
    text = render_readme({**exported.bundle.manifest, "classes": [f"name {i}" for i in range(1000)]})
    assert "19 (name 19), … (all 1000: `classes`" in text and "name 20" not in text


@pytest.mark.parametrize(
    ("how", "shape", "steps"),
    [
        (None, [3, 8, 8], []),
        ({}, [4], []),
        ({"divide_by": 1.0}, [4], []),
        ({"data": "npy", "mean": None}, [3, 8, 8], []),  # whether it was RGB, nobody said
        ({"data": "npz", "divide_by": 1.0}, [3, 8, 8], []),
        ({"mean": [1, 2]}, [2, 5], ["Subtract [1, 2], one number for each channel."]),
        ({"gamma": 2.2}, [4], ["gamma: 2.2 (as whoever exported it wrote; `run.py` does not know it)."]),
    ],
)
def test_steps(how: Any, shape: list[int], steps: list[str]) -> None:
    assert list(steps_of(how, shape)) == steps
