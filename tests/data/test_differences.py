"""lsq_export/data/differences.py: data that are not those of the bundle are told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lsq_export.data.differences import differences
from lsq_export.data.loading import load

DATA = load("digits", image_size=8)
MANIFEST: dict[str, Any] = {
    "input": {"shape": ["batch", 3, 8, 8]},
    "preprocessing": DATA.preprocessing,
    "source": {"model": {"num_classes": 10}},
}


def named(*names: str) -> dict[str, Any]:
    return {**DATA.preprocessing, "classes": list(names)}


def test_the_same_data_differ_in_nothing() -> None:
    assert differences(MANIFEST, DATA) == []
    assert differences({"input": MANIFEST["input"], "preprocessing": None, "source": None}, DATA) == []
    nearly = {**DATA.preprocessing, "divide_by": 16.0 + 1e-7}  # a last digit
    assert differences({**MANIFEST, "preprocessing": nearly}, DATA) == []


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"input": {"shape": ["batch", 1, 8, 8]}}, "input shape: [3, 8, 8] in these data, [1, 8, 8] in the manifest"),
        ({"source": {"model": {"num_classes": 12}}}, "number of classes: 10 in these data, 12 in the manifest"),
        ({"classes": ["a", "b"]}, "number of classes: 10 in these data, 2 in the manifest"),
        (
            {"preprocessing": {**DATA.preprocessing, "divide_by": 255.0}},
            "preprocessing divide_by: 16.0 in these data, 255.0 in the manifest",
        ),
        (
            {"preprocessing": {**DATA.preprocessing, "crop": 7}},
            "preprocessing crop: None in these data, 7 in the manifest",
        ),
    ],
)
def test_which_and_both_values(changed: dict[str, Any], line: str) -> None:
    assert differences({**MANIFEST, **changed}, DATA) == [line]


def test_names_of_classes() -> None:
    data = replace(DATA, num_classes=2, classes=("cat", "dog"))
    manifest = {**MANIFEST, "source": None, "classes": ["cat", "frog"]}
    assert differences(manifest, data) == ["name of class 1: 'dog' in these data, 'frog' in the manifest"]
    assert differences({**manifest, "classes": ["cat", "dog"]}, data) == []
    older = {**manifest, "classes": None, "preprocessing": named("rat", "dog")}
    assert differences(older, data) == ["name of class 0: 'cat' in these data, 'rat' in the manifest"]
