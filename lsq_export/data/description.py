"""What is read from a data set and how, in one line: what a training says first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .dataset import Dataset
from .splitting import TEST_FRACTION


def description(data: Dataset) -> str:
    """Such as: imagefolder:my: 1,438 images to train and 359 to test, 10 classes; shorter side to 32, mean …, std …."""
    drawn = f" (no split there: {TEST_FRACTION:.0%} of each class, drawn with a fixed seed)" if data.drawn else ""
    counts = f"{len(data.train):,} images to train and {len(data.test):,} to test{drawn}, {data.num_classes} classes"
    return f"{data.name}: {counts}; {', '.join(_steps(data)) or 'taken as they are'}"


def _steps(data: Dataset) -> Iterator[str]:
    """In the order in which they are done."""
    step = {key: value for key, value in data.preprocessing.items() if value is not None}
    size = step.get("resize")
    if isinstance(size, int):
        yield f"shorter side to {size} pixels"
    elif size is not None:
        yield f"to {size[0]}×{size[1]} pixels"
    if step.get("crop") not in (None, size):
        yield f"center {step['crop']}×{step['crop']}"
    elif isinstance(size, int):
        yield f"center {size}×{size}"
    if step.get("divide_by", 1) != 1:
        yield f"divided by {step['divide_by']:g}"
    for name in ("mean", "std"):
        if name in step:
            yield f"{name} {_numbers(step[name])}"


def _numbers(values: Sequence[float]) -> str:
    distinct = list(dict.fromkeys(values))
    return ",".join(f"{value:.4g}" for value in (distinct if len(distinct) == 1 else values))
