"""The table of the zoo for the documentation."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path

import onnxruntime
import torch

from .registry import NETWORKS
from .run import Result

WORDS = {
    "good": "good",
    "crash": "**crash**",
    "refused": "**refused**",
    "promise": "**a promise is broken**",
    "far": "further than 3 dB",
    "float": "more float than wanted",
}
HEAD = """# Zoo

Small networks of our own, wired like published architectures (`tests/zoo/`), untrained, calibrated on seeded data and
exported as `qdq` and `qoperator`, with trained edges: `prepare` gets an example, for those that torch.fx cannot trace.
`make zoo` writes this page and [zoo.json](zoo.json).

- *SQNR*: the `qoperator` file in ONNX Runtime against the fake-quant model, of the worst output; *yardstick*: the
  fake-quant model against itself on inputs × 1.0001, of the same output, over six draws of noise of half a step of 8
  bits on the inputs; of networks of tokens, with embeddings whose numbers are 0.01 % larger or smaller. Good is 3 dB
  below the yardstick, or 57 dB.
- *integer*: the share of all multiplications; wanted are 95 %, and 80 % with attention (*), nothing of recurrent
  networks (†).
- *islands*: operators that stay float, by kind. *seconds*: to prepare, to calibrate, and to export with verification,
  on one core.
"""

# Of the run at once after they were written, on the product as it was (9eb6316), before anything was mended.
FIRST_RUN = """**First run of the 25 networks that were written last** (deeplab, bisenet, enet, ssd, centernet,
efficientdet, ghostnet, eca, mobileone, shufflenet, convnext, video, dcgan, vit_class, swin, levit, conformer, coatnet,
lstm_tagger, recommender, siamese, espcn, nafnet, ecg, autoencoder), without a look at how lsq-export treats them: of 48
runs (all but coatnet) 26 good, 14 further than 3 dB, 2 with a broken promise, 4 refused, 2 crashed. The yardstick was
that of the inputs alone then, without noise.
"""


def write_docs(results: Sequence[Result], directory: Path) -> None:
    """zoo.md and zoo.json."""
    (directory / "zoo.json").write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n")
    (directory / "zoo.md").write_text(page(results))


def page(results: Sequence[Result]) -> str:
    """The page, with one row for each network and width."""
    good = sum(result.kind == "good" for result in results)
    kinds = {kind: sum(result.kind == kind for result in results) for kind in WORDS if kind != "good"}
    others = ", ".join(f"{count} {WORDS[kind].strip('*')}" for kind, count in kinds.items() if count)
    where = f"torch {torch.__version__}, ONNX Runtime {onnxruntime.__version__}, {platform.machine()}, {date.today()}"
    commits = ", ".join(
        f"{name} ({count} runs)" for name, count in Counter(result.commit for result in results).items()
    )
    where += f", commits {commits}"
    lines = [HEAD, FIRST_RUN, f"{good} of {len(results)} are good{f'; {others}' if others else ''}. {where}.", ""]
    lines += [
        "| network | bits | result | SQNR | yardstick | integer | islands | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *map(_row, results)]) + "\n"


def _row(result: Result) -> str:
    network = NETWORKS.get(result.name)
    mark = "" if network is None else "†" if network.recurrent else "*" if network.attention else ""
    said = WORDS[result.kind]
    if result.refusal or result.crash:
        said += f": {(result.refusal or result.crash).splitlines()[0][:100]}".replace("|", "\\|")
    numbers = ["", "", "", ""]
    if result.sqnr is not None and result.yardstick is not None and result.integer is not None:
        islands = ", ".join(f"{count} {kind}" if count > 1 else kind for kind, count in result.islands.items())
        numbers = [_decibel(result.sqnr), _decibel(result.yardstick), f"{result.integer:.1%}", islands]
    return f"| {result.name}{mark} | {result.bits} | {said} | {' | '.join(numbers)} | {result.total:.1f} |"


def _decibel(value: float) -> str:
    return "exact" if value >= 200 else f"{value:.1f}"
