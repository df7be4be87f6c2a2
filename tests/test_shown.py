"""What users see of an object in a few lines, and as a table in a notebook, with all names escaped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import lsq_export
from lsq_export import data
from lsq_export.data.imagefolder import ImageSplit
from lsq_export.training import checkpoint
from lsq_export.training.recipe import PRETRAIN, Epoch, TrainResult
from lsq_export.verification.layer_parity import LayerParity
from support.exported import Exported
from support.parities import format_parity, layer, parity_of

LINES, COLUMNS = 14, 120  # that fit into anybody's terminal
EPOCHS = tuple(Epoch(n, 1 / n, 0.5, 0.25 * n, 1.0, 0.1) for n in (1, 2, 3))
RESULT = TrainResult(EPOCHS, True, "cpu", PRETRAIN)
Shown = Callable[[Exported], Any]

TABLES: dict[str, Shown] = {
    "bundle": lambda it: it.bundle,
    "opened bundle": lambda it: lsq_export.open_bundle(it.bundle.directory),
    "parity": lambda it: it.bundle.parity,
    "format": lambda it: it.bundle.parity.formats["qoperator"],  # type: ignore[union-attr]
    "layers": lambda it: it.bundle.parity.trained_layers,  # type: ignore[union-attr]
    "quantizers": lambda it: lsq_export.quantizers(it.model),
    "training": lambda it: RESULT,
}
LINE: dict[str, Shown] = {
    "data": lambda it: data.load(it.data),
    "split": lambda it: data.load(it.data).train,
    "images": lambda it: ImageSplit(((Path("a.png"), 0),) * 1000, 256, 224, (0.5,) * 3, (0.5,) * 3),
    "checkpoint": lambda it: checkpoint.load(it.checkpoint),
}


@pytest.mark.parametrize("shown", [*TABLES.values(), *LINE.values()], ids=[*TABLES, *LINE])
def test_all_are_a_few_lines(shown: Shown, exported: Exported) -> None:
    lines = repr(shown(exported)).replace(str(exported.bundle.directory.parent), "").splitlines()
    assert 1 <= len(lines) <= LINES and max(map(len, lines)) <= COLUMNS, "\n".join(lines)


@pytest.mark.parametrize("shown", TABLES.values(), ids=TABLES)
def test_tables_are_shown_in_notebooks(shown: Shown, exported: Exported) -> None:
    html = shown(exported)._repr_html_()
    assert html.startswith("<div><strong>") and html.count("<table>") <= 1


@pytest.mark.parametrize("shown", LINE.values(), ids=LINE)
def test_the_others_are_one_line(shown: Shown, exported: Exported) -> None:
    assert "\n" not in repr(shown(exported))


def test_what_they_say(exported: Exported) -> None:
    bundle, parity = repr(exported.bundle), repr(exported.bundle.parity)
    assert bundle.startswith(f"Bundle {exported.bundle.directory} for ort-cpu, fold strided\n")
    assert "takes float32 [N, 1, 16, 16]" in bundle and "\nall promises hold" in bundle
    assert "qoperator/model.onnx" in bundle and "top-1 agreement" in bundle
    assert parity.startswith("Parity with the trained model, 24 images\n") and "folded (float64)" in parity
    assert repr(lsq_export.open_bundle(exported.bundle.directory)).endswith("lsq_export.verify runs it again")
    assert repr(data.load(exported.data)).endswith("24 samples to train, 24 to test, 5 classes, inputs [1, 16, 16]")
    assert "tiny W4A4, inputs [1, 16, 16], 95 tensors" in repr(checkpoint.load(exported.checkpoint))
    assert repr(RESULT).splitlines()[0] == f"3 of {PRETRAIN.epochs} epochs on cpu, test accuracy 75.00%, interrupted"


def test_broken_promises_are_shown() -> None:
    broken = parity_of(format_parity(reference_mismatch=7, first_mismatch="<conv>", layers=(layer(5000, 3),)))
    assert "FAILED: qoperator: 7 elements differ from the integer reference, first in <conv>" in repr(broken)
    assert "first in &lt;conv&gt;" in broken._repr_html_() and "<conv>" not in broken._repr_html_()
    assert "1 of 1 tensors differ from the folded model" in repr(broken.formats["qoperator"])


def test_layers_are_a_tuple_still() -> None:
    layers = parity_of(format_parity(layers=(layer(0, 0), layer(3, 1)))).formats["qoperator"].layers
    assert isinstance(layers, tuple) and isinstance(layers[1], LayerParity) and layers[:1] == (layer(0, 0),)
    assert repr(layers).splitlines()[0] == "1 of 2 tensors differ"


def test_quantizers_are_a_dict_still() -> None:
    model = lsq_export.prepare(nn.Sequential(nn.Linear(2, 2)), {"weight_granularity": "channel"})
    found = lsq_export.quantizers(model)
    assert isinstance(found, dict) and list(found) == ["0.input", "0.weight"]
    assert repr(found).count(" no grid\n") == 2 and "2 have no grid yet" in repr(found)
    found["0.weight"].set_grid(torch.tensor([0.5, 0.25]))
    assert "0.25 … 0.5 (2)" in repr(found) and "1 have no grid yet" in repr(found)
