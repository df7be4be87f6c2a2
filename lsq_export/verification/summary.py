"""The answer in at most twelve lines: what quantization cost, and which promises hold.

for label, text in summary(manifest, parity): ...
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from calib.words import counted
from lsq_export.data.guessing import guessing_limit
from lsq_export.qat.bit_widths import widths_of
from lsq_export.qat.origins import CALIBRATED, TRAINED, grids_called, origin_of

from .answers import answers_otherwise, main_format, same_class
from .bits import bits
from .far import FAR, LIMIT, is_small
from .in_training import KEY, InTraining
from .nearer import NEAR, as_good_as_exact, behind, nearer
from .numbers import by_output, codes_differ, decibel, megabytes, percent
from .parity import NUDGE
from .reasons import Reason, in_short

Values = Mapping[str, Any]
Lines = list[tuple[str, str]]

WORST = 5


def summary(
    manifest: Values,
    parity: Values,
    *,
    speed: str | None = None,
    measured: str | None = None,
    beside_float: bool = False,
) -> Lines:
    """(label, text) of each line. manifest, parity: as their files have them. speed: of the integer file, in words.

    measured: accuracies that are known otherwise, in words; "" where there are no classes. beside_float: another line
    says what the float network makes of data.
    """
    known = accuracy(parity, beside_float) if measured is None else measured
    found = [
        ("integers", _integers(manifest)),
        ("accuracy", "; ".join(filter(None, (known, _agreement(manifest, parity)))) + _guessing(manifest, parity)),
        ("fold", fold(parity)),
        ("bits", bits(manifest)),
        ("size, speed" if speed else "size", "; ".join(part for part in (_size(manifest), speed) if part)),
        ("worst tensor", _worst(manifest, parity)),
        ("nearer", nearer(manifest, parity) or ""),
        *((p["name"], f"{p['statement']}: {verdict(p)}") for p in parity.get("promises") or ()),
    ]
    return [(label, text) for label, text in found if text]


def _integers(manifest: Values) -> str:
    """97.3% of the multiplications, where some are float."""
    counts = _table(manifest.get("multiplications"))
    return f"{percent(counts['integer'] / counts['all'])} of the multiplications" if counts.get("all") else ""


def title(manifest: Values, parity: Values) -> str:
    """tiny W4A4 on 359 test images of digits."""
    split = {"calibration": "calibration ", "test": "test "}.get(parity.get("split") or "", "")
    of = f" of {parity['data']}" if parity.get("data") else ""
    return f"{network(manifest)} on {counted(parity['images'], f'{split}image')}{of}"


def network(manifest: Values) -> str:
    """tiny W4A4, as far as the manifest knows; else the name of the file that it was made from."""
    source = _table(manifest.get("source"))
    model, config = _table(source.get("model")), _table(source.get("config"))
    bits = ""
    if {"weight_bits", "activation_bits"} <= config.keys():
        bits = widths_of(config)
    return f"{model.get('name') or source.get('file') or 'network'} {bits}".strip()


def verdict(promise: Values) -> str:
    """holds (0 of 12 integers of 3 images differ)."""
    return f"{ {True: 'holds', False: 'BROKEN', None: 'no promise'}[promise['holds']] } ({promise['detail']})"


def float_accuracy(parity: Values) -> tuple[float | None, str]:
    """(accuracy of the float network, where it was measured if that is elsewhere)."""
    known = parity.get("in_training") or {}
    value = known.get("float_accuracy")
    same = (known.get("data"), known.get("images")) == (parity.get("data"), parity["images"])
    elsewhere = "" if same and parity.get("split") == "test" else _where(known)
    return value, elsewhere if value is not None else ""


def accuracy(parity: Values, beside_float: bool = False) -> str:
    """float -> trained -> integer; in an export, whose images are calibration images, what is known of these.

    beside_float: nothing is said of a float network that was not measured here.
    """
    value, elsewhere = float_accuracy(parity)
    first = f"float {percent(value)}" if value is not None else "" if beside_float else "float not measured"
    trained, integer = parity["trained_accuracy"], parity["formats"][main_format(parity)]["accuracy"]
    if trained is not None:
        parts = (f"{first}{elsewhere}", f"{origin_of(parity)} {percent(trained)}", f"integer {percent(integer)}")
        return " -> ".join(filter(None, parts))
    if not first:
        return ""
    known = parity.get("in_training") or {}
    if known.get("trained_accuracy") is None:
        if parity.get("split") == "calibration":
            return f"{first}{elsewhere}; verify measures the others, on test images with classes"
        return f"{first}{elsewhere}; these images have no classes to measure it"
    return (
        f"{first} -> trained {percent(known['trained_accuracy'])}{_where(known)}; verify measures the integer network's"
    )


def fold(parity: Values) -> str:
    """What the fold cost against the yardstick, in words."""
    ours, noise = parity["folded_sqnr_db"], parity.get("nudged_sqnr_db")
    if ours is None:
        model = f"the {origin_of(parity)} model's"
        return f"costs nothing: the outputs are {model}" if parity["ok"] else "SQNR is no finite number"
    cost = f"error {decibel(ours)} below the outputs{by_output(parity.get('folded_outputs_sqnr_db') or {})}"
    if "nudged_sqnr_db" not in parity:
        return cost
    change = f"changing inputs by {100 * NUDGE:g} %"
    if noise is None or noise > LIMIT:
        return f"{cost}; no yardstick: {change} flips no code of these images"
    gap = behind(parity)
    if as_good_as_exact(parity):
        much = "more" if ours - noise > NEAR else "as much"
        return f"{cost}; {change} costs {much} ({decibel(noise)}): as good as exact"
    near = "nearly exact" if gap <= FAR else "a small error" if is_small(float(ours)) else "far from exact"
    return f"{cost}; {change} leaves {decibel(noise)}: {near}, {gap:.1f} dB worse"


def worst_layers(parity: Values, count: int = WORST) -> list[Values]:
    """Tensors of which most codes differ from the trained ones on the same inputs, the worst first."""
    differing = [layer for layer in parity["trained_layers"] if layer["differing"] > 0]
    return sorted(differing, key=lambda layer: -layer["differing"])[:count]


def reason_of(layer: Values, origin: str = TRAINED) -> str:
    """The reason of most of its codes, in words."""
    reasons, words = layer["reasons"], in_short(origin)
    return words[Reason(max(reasons, key=reasons.get))] if reasons else words[Reason.UNKNOWN]


def place(manifest: Values, name: str) -> str:
    """A tensor by name and, where the name does not say it, by what makes it in the user's model."""
    found = next((t.get("place") for t in manifest.get("tensors") or () if t["name"] == name), None)
    return f"{name}, {found}" if found else name


def _worst(manifest: Values, parity: Values) -> str:
    worst = worst_layers(parity, 1)
    if worst:
        where = place(manifest, worst[0]["name"])
        codes = codes_differ(worst[0]["differing"], worst[0]["largest"])
        return f"{where}: {codes}; {reason_of(worst[0], origin_of(parity))}"
    if not parity["trained_layers"]:
        return ""
    origin = origin_of(parity)
    return f"none: all codes of {grids_called(origin)} grids are the {origin} ones"


def _agreement(manifest: Values, parity: Values) -> str:
    same, outputs = same_class(parity), list(manifest.get("outputs") or ())
    of = f" (output {outputs[0]})" if len(outputs) > 1 else ""
    if same is None:
        return f"no classes: one number for each place{of}"
    return f"same class as {origin_of(parity)}{of}: {'ONLY ' if answers_otherwise(parity) else ''}{percent(same)}"


def _guessing(manifest: Values, parity: Values) -> str:
    """That the trained accuracy is no better than chance, where it is not."""
    known = _table(_table(manifest.get("source")).get("model")).get("num_classes")
    classes, found = len(manifest.get("classes") or ()) or known, parity["trained_accuracy"]
    if (
        not isinstance(classes, int)
        or classes < 2
        or found is None
        or found > guessing_limit(classes, parity["images"])
    ):
        return ""
    origin = origin_of(parity)
    check = "training" if origin == TRAINED else "float network" if origin == CALIBRATED else "network"
    return f". The {origin} network is HARDLY BETTER THAN GUESSING (1 in {classes}): check data and {check}"


def _size(manifest: Values) -> str:
    sizes = {name: entry["bytes"] for name, entry in manifest["formats"].items()}
    texts = ", ".join(f"{name} {megabytes(size)}" for name, size in sizes.items())
    base = manifest.get("float_parameter_bytes")
    return f"{texts}; float weights {megabytes(base)}" if base else texts


def _where(known: Values) -> str:
    found = InTraining.from_source({KEY: known})
    return f" ({found.place})" if found is not None and found.place else ""


def _table(value: object) -> Values:
    return value if isinstance(value, Mapping) else {}
