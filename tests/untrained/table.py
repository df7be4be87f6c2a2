"""The page docs/benchmarks/ptq.md, from records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from lsq_export.bench.machine import this_machine

from .run import EPOCHS, IMAGES, SEED

HEAD = f"""# Without training beside training

One float network, quantized by the methods of `lsq-export calibrate` on {IMAGES} training images without their
classes, and by {EPOCHS} epochs of `lsq-export train` on all 1,438 with them (`make bench-ptq`). Accuracy on the 359
test images of digits, where one image is 0.28 points; each cell is one run with seed {SEED}. Seconds: of the
processor, one thread, for the whole call. Weights have a scale for each channel where nothing is trained, one for each
tensor in QAT, as is the default there; the small variant of EfficientNet-B0. [ptq.json](ptq.json) has all figures.

"""


METHODS = ("minmax", "percentile", "mse", "reconstruction", "QAT")


def write_docs(runs: Sequence[dict[str, Any]], directory: Path) -> None:
    """ptq.md and ptq.json."""
    names = list(dict.fromkeys(run["network"] for run in runs))
    found = {(run["network"], run["bits"], run["way"]): run for run in runs}
    ways = [(bits, way) for bits in (8, 4) for way in METHODS if any((name, bits, way) in found for name in names)]
    lines = [["", *(cell for name in names for cell in (name, "seconds"))], ["---"] * (1 + 2 * len(names))]
    lines.append(["float", *(cell for name in names for cell in (_accuracy(found, name, 32, "float"), ""))])
    for bits, way in ways:
        cells = [(_accuracy(found, name, bits, way), _seconds(found, name, bits, way)) for name in names]
        label = way if way == "QAT" else f"`{way}`"
        lines.append([f"W{bits}A{bits} {label}", *(cell for pair in cells for cell in pair)])
    page = HEAD + "".join(f"| {' | '.join(line)} |\n" for line in lines)
    page += "".join(_in_words(found, name) for name in names)
    page += f"\nMeasured on {date.today().isoformat()}, {this_machine()}.\n"
    (directory / "ptq.md").write_text(page)
    (directory / "ptq.json").write_text(json.dumps(list(runs), indent=1) + "\n")


def _in_words(found: dict[Any, dict[str, Any]], name: str) -> str:
    """How far reconstruction goes from mse to QAT, and in what share of its time."""
    try:
        first, learned, trained = (found[name, 4, way] for way in ("mse", "reconstruction", "QAT"))
    except KeyError:
        return ""
    way = (learned["accuracy"] - first["accuracy"]) / (trained["accuracy"] - first["accuracy"])
    share = learned["seconds"] / trained["seconds"]
    return f"\n{name}: reconstruction goes {way:.0%} of the way from `mse` to QAT, in {share:.0%} of the time of QAT.\n"


def _accuracy(found: dict[Any, dict[str, Any]], *key: Any) -> str:
    return f"{found[key]['accuracy']:.2%}" if key in found else ""


def _seconds(found: dict[Any, dict[str, Any]], *key: Any) -> str:
    return f"{found[key]['seconds']:.0f}" if key in found else ""
