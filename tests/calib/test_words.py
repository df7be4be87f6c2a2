"""calib/words.py: one of a thing is no plural, in what is printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import calib
import lsq_export
from calib.words import counted

# {len(rows)} tensors, {count} images, {self.images} test images; not: 3 of {len(rows)} tensors
NOUNS = [
    "tensors",
    "images",
    "inputs",
    "layers",
    "elements",
    "operators",
    "outputs",
    "scales",
    "quantizers",
    "grids",
    "folders",
    "accumulators",
    "samples",
    "epochs",
    "threads",
    "channels",
    "places",
    "entries",
    "labels",
    "targets",
]
ADJECTIVES = [
    "test",
    "training",
    "calibration",
    "quantized",
    "learned",
    "more",
    "other",
    "non-finite",
    "class",
    "float",
]
PLURAL = re.compile(
    rf"""(?<!of )(?<!its )\{{(?:[\w.]*\.)?(?:len\([^{{}}]*\)|images|count|\w+_mismatch)\}} """
    rf"""(?:(?:{"|".join(ADJECTIVES)}) )*(?:{"|".join(NOUNS)})\b"""
)


@pytest.mark.parametrize(("count", "said"), [(0, "0 images"), (1, "1 image"), (2, "2 images")])
def test_a_count_with_its_noun(count: int, said: str) -> None:
    assert counted(count, "image") == said


def test_a_count_with_what_is_said_of_it() -> None:
    assert [counted(n, "tensor differs", "tensors differ") for n in (1, 3)] == ["1 tensor differs", "3 tensors differ"]


def test_sentences_count_with_it() -> None:
    """Where a count may be 1, as in "1 tensors differ"; places that know that it is not stand here."""
    never_one = {"faces.py", "batches.py", "run.py"}
    found = [
        f"{path}: {match[0]}"
        for package in (calib, lsq_export)
        for path in sorted(Path(str(package.__file__)).parent.rglob("*.py"))
        for match in PLURAL.finditer(path.read_text(encoding="utf-8"))
        if path.name not in never_one
    ]
    assert not found, found
