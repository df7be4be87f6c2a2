"""What the report shows, made of what manifest.json, parity.json and bench.json hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from calib.words import counted
from lsq_export.bundle.faces import all_inputs
from lsq_export.qat.origins import grids_called, origin_of
from lsq_export.verification.against_float import LABEL, AgainstFloat
from lsq_export.verification.answers import main_format
from lsq_export.verification.numbers import ABSENT, decibel, megabytes, percent, share
from lsq_export.verification.parity import nudged_row
from lsq_export.verification.reasons import explained
from lsq_export.verification.summary import (
    float_accuracy,
    network,
    reason_of,
    summary,
    title,
    worst_layers,
)

from .chart import depth_chart
from .histogram import Histogram, histogram_of, histogram_of_codes
from .matrix import matrix

Values = Mapping[str, Any]

MODEL_COLUMNS = ("model", "accuracy", "same class", "SQNR", "≠ integer reference", "codes ≠ folded", "size", "latency")
HALF_A_STEP = 0.5  # the most that rounding an offset to a zero point moves it by
STEPS = ("resize", "interpolation", "crop", "divide_by", "mean", "std")


def contents(
    manifest: Values, parity: Values, bench: Values | None, replay: Values | None, against_float: Values | None
) -> dict[str, Any]:
    """The variables of the template. Errors (KeyError, TypeError, AttributeError): something is missing."""
    origin, is_known = origin_of(parity), against_float is not None
    lines = summary(manifest, parity, speed=_speed(parity, bench), beside_float=is_known)
    return {
        "origin": origin,
        "quantizers": f"{grids_called(origin)} quantizers",
        "network": network(manifest),
        "title": title(manifest, parity),
        "lines": [*lines, *_against_float(against_float)],
        "model_columns": MODEL_COLUMNS,
        "models": list(_models(manifest, parity, bench, against_float)),
        "output_columns": ("output", nudged_row(origin), "folded (float64)", *parity["formats"]),
        "outputs": list(_outputs(parity)),
        "worst": [_worst(layer, origin) for layer in worst_layers(parity)],
        "explained": {str(reason): text for reason, text in explained(origin).items()},
        "grids": list(_grids(manifest, parity)),
        "layers": [{"layer": layer, "histogram": _weights(layer)} for layer in manifest["layers"]],
        "matrix": matrix(replay["runs"]) if replay else None,
        "times": _times(parity, bench),
        "chart": depth_chart(parity["trained_layers"]) if parity["trained_layers"] else None,
        "code": example(manifest, main_format(parity)),
        "has_classes": bool(manifest.get("classes")),
        "preprocessing": _preprocessing(manifest),
        "full_bar": max([HALF_A_STEP, *(abs(t["error_steps"]) for t in manifest["tensors"])]),
    }


UNOPTIMIZED = (  # what a file is computed wrong without
    "options = ort.SessionOptions()",
    "options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL",
)


def example(manifest: Values, name: str) -> str:
    """Some lines that run a format in ONNX Runtime."""
    given = all_inputs(manifest)
    arrays = [f"np.zeros({(1, *entry['shape'][1:])!r}, np.{entry.get('type', 'float32')})" for entry in given]
    feeds = [
        f"{entry['name']!r}: {'x' if len(given) == 1 else array}" for entry, array in zip(given, arrays, strict=True)
    ]
    what = "an image after the preprocessing" if manifest.get("classes") else "an input as the network takes it"
    x = f"x = {arrays[0]}  # {what}" if len(given) == 1 else "# each input by its name"
    given_options = "options, " if manifest["formats"][name].get("optimization") == "disabled" else ""
    shown = "outputs[0].argmax(axis=1)" if manifest.get("classes") else "[output.shape for output in outputs]"
    return "\n".join(
        (
            "import numpy as np, onnxruntime as ort",
            *(UNOPTIMIZED if given_options else ()),
            f"session = ort.InferenceSession({name + '/model.onnx'!r}, {given_options}"
            "providers=['CPUExecutionProvider'])",
            x,
            f"outputs = session.run({manifest['outputs']!r}, {{{', '.join(feeds)}}})",
            f"print({shown})",
        )
    )


def _models(
    manifest: Values, parity: Values, bench: Values | None, against_float: Values | None
) -> Iterator[tuple[str, ...]]:
    """The cells of MODEL_COLUMNS, from the float network to the files."""
    value, where = float_accuracy(parity)
    if value is None and against_float is not None and against_float["float_accuracy"] is not None:
        value, where = against_float["float_accuracy"], f" ({counted(against_float['images'], 'test image')})"
    base = manifest.get("float_parameter_bytes")
    size = megabytes(base) if base else ""
    accuracy = percent(value) if value is not None else "not measured"
    yield (f"float{where}", accuracy, "", "", "", "", size, _latency(bench, "float"))
    origin = origin_of(parity)
    yield (origin, percent(parity["trained_accuracy"]), *[""] * 6)
    if "nudged_sqnr_db" in parity:
        noise = (percent(parity["nudged_top1_agreement"]), _decibel(parity["nudged_sqnr_db"]))
        yield (nudged_row(origin), "", *noise, *[""] * 4)
    folded = (parity["folded_top1_agreement"], parity["folded_sqnr_db"])
    yield ("folded (float64)", percent(parity["folded_accuracy"]), percent(folded[0]), _decibel(folded[1]), *[""] * 4)
    for name, f in parity["formats"].items():
        codes = sum(layer["elements"] for layer in f["layers"])
        differing = sum(sum(layer["histogram"].values()) for layer in f["layers"])
        yield (
            f"{name} (ONNX Runtime)",
            percent(f["accuracy"]),
            percent(f["top1_agreement"]),
            _decibel(f["sqnr_db"]),
            f"{f['reference_mismatch']:,}",
            f"{differing:,} of {codes:,}",
            megabytes(manifest["formats"][name]["bytes"]),
            _latency(bench, name),
        )


def _against_float(found: Values | None) -> Iterator[tuple[str, str]]:
    """The line of what quantization cost, where it was measured."""
    if found is not None:
        yield LABEL, AgainstFloat.from_dict(found).sentence


def _outputs(parity: Values) -> Iterator[tuple[str, ...]]:
    """The SQNR of each output, where there are several of floats; parities of older versions have none."""
    found = [parity.get("nudged_outputs_sqnr_db") or {}, parity.get("folded_outputs_sqnr_db") or {}]
    found += [f.get("outputs_sqnr_db") or {} for f in parity["formats"].values()]
    for output in found[1]:
        yield (output, *(_decibel(values.get(output)) for values in found))


def _decibel(value: float | None) -> str:
    """A dash for null, which JSON has for no noise at all and for nothing but noise."""
    return ABSENT if value is None else decibel(value)


def _worst(layer: Values, origin: str) -> dict[str, Any]:
    return {
        "name": layer["name"],
        "share": share(layer["differing"]),
        "count": f"{round(layer['differing'] * layer['elements']):,} of {layer['elements']:,}",
        "why": reason_of(layer, origin),
    }


def _grids(manifest: Values, parity: Values) -> Iterator[dict[str, Any]]:
    """A tensor of the manifest, with what verification measured of its learned grid; edges have no such."""
    measured = {layer["name"]: layer for layer in reversed(parity["trained_layers"])}  # the first use of each
    for tensor in manifest["tensors"]:
        layer = measured.get(tensor["name"])
        data = (layer or {}).get("data")  # reports of older versions have none
        yield {
            "tensor": tensor,
            "histogram": histogram_of(data, tensor["levels"], tensor["scale"], tensor["offset"]) if data else None,
            "sqnr": "∞" if data and data["sqnr_db"] is None else f"{data['sqnr_db']:.1f}" if data else ABSENT,
            "clipped": share((data["clipped_below"] + data["clipped_above"]) / layer["elements"])
            if data and layer
            else ABSENT,
            "differing": share(layer["differing"]) if layer else ABSENT,
        }


def _weights(layer: Values) -> Histogram | None:
    """Bundles of older versions have no codes."""
    return histogram_of_codes(layer["codes"]) if layer.get("codes") else None


def _times(parity: Values, bench: Values | None) -> dict[str, Any] | None:
    """The operators of the main format by their share of the time; None where `bench` did not look at them."""
    name = main_format(parity)
    found = (bench or {}).get("operators", {}).get(name)
    if not found:
        return None
    rows = [{"operator": operator, **cost} for operator, cost in found.items()]
    return {"name": name, "rows": sorted(rows, key=lambda row: -row["share"])}


def _row(bench: Values | None, name: str) -> Values | None:
    return next((row for row in (bench or {}).get("rows", ()) if row.get("name") == name), None)


def _latency(bench: Values | None, name: str) -> str:
    row = _row(bench, name)
    if row is None:
        return ABSENT
    return f"{row['median_ms']:.3g} ms"


def _speed(parity: Values, bench: Values | None) -> str | None:
    ours, base = _row(bench, main_format(parity)), _row(bench, "float")
    if ours is None or base is None:
        return None
    return f"{ours['median_ms']:.2f} ms, float {base['median_ms']:.2f} ms"


def _preprocessing(manifest: Values) -> str:
    """In one line, steps that are left out not named."""
    steps = manifest.get("preprocessing")
    known = [(step, steps[step]) for step in STEPS if steps.get(step) is not None] if isinstance(steps, dict) else []
    return "; ".join(f"{step} {value}" for step, value in known)
