"""README.md of a bundle: a page for those who receive it, made of the manifest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from calib.errors import shown
from lsq_export.kernels import build_line

from .faces import all_inputs, in_words
from .layout import KERNELS, LOOKUP

SHOWN = 20  # names of classes in the text; manifest.json has all


def render_readme(manifest: Mapping[str, Any]) -> str:
    """Markdown."""
    shape = manifest["input"]["shape"][1:]
    return _template().render(
        manifest={"advice": "", **manifest},
        network=_network(manifest["source"]),
        inputs=in_words(all_inputs(manifest)),
        layout=", ".join(("channels", "rows", "columns")) if len(shape) == 3 and "inputs" not in manifest else None,
        suffix="npz" if "inputs" in manifest else "npy",
        steps=list(steps_of(manifest["preprocessing"], shape)),
        classes=_classes(manifest["classes"]),
        range=" to ".join(f"{bound:g}" for bound in manifest["sample"]["range"]),
        called=lambda number: called(number, manifest["classes"]),
        exact=not manifest["islands"],
        unoptimized=_unoptimized(manifest["formats"]),
        build_line=build_line(Path(LOOKUP, KERNELS)),
    )


@cache
def _template() -> jinja2.Template:
    text = resources.files(__package__).joinpath("README.md.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: shown(value) if isinstance(value, str) else value,
    )
    return environment.from_string(text)


def steps_of(how: Mapping[str, Any] | None, shape: Sequence[int]) -> Iterator[str]:
    """The preprocessing, one sentence a step; none where nobody said it. shape: of the input, without the batch."""
    if how is None:
        return
    step = {key: value for key, value in how.items() if value is not None}
    if set(step) <= {"data", "classes", "divide_by"} and step.get("divide_by", 1) == 1:
        return
    if len(shape) == 3 and shape[0] in (1, 3):
        yield "Take gray pixels." if shape[0] == 1 else "Take RGB pixels. Gray ones count as three equal channels."
    if "resize" in step:
        size, how_to = step["resize"], step.get("interpolation", "bilinear")
        to = f"the shorter side to {size} pixels" if isinstance(size, int) else f"to {size}, rows and columns"
        yield f"Resize {to}: {how_to}, 8-bit pixels as Pillow does it (with antialiasing), other arrays without."
    if "crop" in step:
        yield f"Cut out the center, {step['crop']} pixels high and wide; where one pixel is left over, it is the last."
    if step.get("divide_by", 1) != 1:
        yield f"Divide by {step['divide_by']}, in float32."
    for key, verb in (("mean", "Subtract"), ("std", "Divide by")):
        if key in step:
            yield f"{verb} {step[key]}, one number for each channel."
    if len(shape) == 3:
        yield "Put the channels first: [channels, rows, columns]."
    others = set(step) - {"data", "classes", "resize", "interpolation", "crop", "divide_by", "mean", "std"}
    for key in sorted(others):
        yield f"{key}: {step[key]} (as whoever exported it wrote; `run.py` does not know it)."


def _unoptimized(formats: Mapping[str, Any]) -> str:
    """What the examples have to be told of files that ONNX Runtime must not optimize; "" where there are none."""
    names = [name for name, entry in formats.items() if entry["optimization"] == "disabled"]
    return f" Both need `--unoptimized` for {' and '.join(names)}." if names else ""


def _network(source: Any) -> str | None:
    """The name of the network, as far as it is known."""
    model = source.get("model") if isinstance(source, Mapping) else None
    name = model.get("name") if isinstance(model, Mapping) else None
    return str(name) if name else None


def called(number: int, names: Sequence[str] | None) -> str:
    """A class by number and, where it has another, by name."""
    return f"{number} ({names[number]})" if names and names[number] != str(number) else str(number)


def _classes(names: Sequence[str] | None) -> str | None:
    if names is None:
        return None
    shown = ", ".join(called(number, names) for number in range(min(len(names), SHOWN)))
    return shown if len(names) <= SHOWN else f"{shown}, … (all {len(names)}: `classes` in `manifest.json`)"
