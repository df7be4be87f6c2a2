"""What is different about data, compared with those that a bundle was made for: one line each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from calib.samples import in_words, same_shape

from .dataset import Dataset


def differences(manifest: Mapping[str, Any], data: Dataset) -> list[str]:
    """Which, and both values: of the shape, the classes and each step of the preprocessing that both have.

    manifest: of the bundle, as its file has it; what it does not say is not compared.
    """
    return [f"{what}: {ours} in these data, {theirs} in the manifest" for what, ours, theirs in _found(manifest, data)]


def input_shape_of(manifest: Mapping[str, Any]) -> Any:
    """Of one sample: a tuple, or {name: tuple} of several inputs. manifest: of a bundle, as its file has it."""
    several = manifest.get("inputs")
    if several:
        return {entry["name"]: tuple(entry["shape"][1:]) for entry in several}
    return tuple(manifest["input"]["shape"][1:])


def _found(manifest: Mapping[str, Any], data: Dataset) -> Iterator[tuple[str, object, object]]:
    shape = input_shape_of(manifest)
    if not same_shape(data.input_shape, shape):
        yield "input shape", in_words(data.input_shape), in_words(shape)
    yield from _classes(manifest, data)
    steps = _table(manifest.get("preprocessing"))
    for step, ours in data.preprocessing.items():
        if step in steps and step != "classes" and not _same(ours, steps[step]):
            yield f"preprocessing {step}", ours, steps[step]


def _classes(manifest: Mapping[str, Any], data: Dataset) -> Iterator[tuple[str, object, object]]:
    model = _table(_table(manifest.get("source")).get("model"))
    ours = _names(data.classes) or _names(data.preprocessing.get("classes"))
    theirs = _names(manifest.get("classes")) or _names(_table(manifest.get("preprocessing")).get("classes"))
    count = len(theirs) or model.get("num_classes")
    if isinstance(count, int) and data.num_classes and count != data.num_classes:
        yield "number of classes", data.num_classes, count
    elif ours and theirs and ours != theirs:
        index, names = next((i, pair) for i, pair in enumerate(zip_longest(ours, theirs)) if pair[0] != pair[1])
        yield f"name of class {index}", repr(names[0]), repr(names[1])


def _same(ours: Any, theirs: Any) -> bool:
    """Equal, but for a last digit and for tuples that JSON made lists."""
    if isinstance(ours, (list, tuple)) and isinstance(theirs, (list, tuple)):
        return len(ours) == len(theirs) and all(_same(a, b) for a, b in zip(ours, theirs, strict=True))
    if isinstance(ours, float) and isinstance(theirs, (int, float)):
        return abs(ours - theirs) <= 1e-6 * max(1.0, abs(ours))
    return bool(ours == theirs)


def _names(value: object) -> Sequence[str]:
    return [str(name) for name in value] if isinstance(value, (list, tuple)) else []


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
