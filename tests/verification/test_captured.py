"""lsq_export/verification/captured.py: the captured graph is the PyTorch model, or a failure says where it is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import lsq_export
from calib.errors import QuantizationError
from lsq_export.bundle.directory import TRAINED
from lsq_export.rewrite.fold import Folded
from lsq_export.verification.captured import CaptureCheck
from lsq_export.verification.layer_parity import QDQ_TIES
from support.exported import CLASSES, Exported, prepared
from support.verified import FORMATS, run_check


def test_outputs_that_part_for_flipped_codes_are_no_failure_of_the_capture(exported: Exported) -> None:
    """Outputs may part on the way, as in a chaotic network, while each layer is the trained one on the same inputs.

    A layer that is another one is named.
    """
    x = torch.cat([b[0] for b in exported.batches])
    for weight, broken_layer in (("pointwise", "grouped.input"), ("fc", "output 0"), (None, None)):
        model = prepared(seed=0)
        if weight:
            with torch.no_grad():
                model.get_submodule(weight).parametrizations.weight.original[:2] *= -1
        seen = CaptureCheck(exported.graph(TRAINED).graph, model)
        outputs = seen.outputs(x)
        seen.add(x, [v + 0.1 * np.abs(v).max() for v in outputs], outputs)  # as if codes had flipped
        layers = seen.layers()
        assert seen.error > 0.05 and {"conv1.input", "grouped.input", "output 0"} <= {layer.name for layer in layers}
        assert next((layer.name for layer in layers if not layer.within(QDQ_TIES)), None) == broken_layer


def test_a_trained_model_of_other_weights_is_noticed(exported: Exported, other: Folded) -> None:
    """The captured graph against the PyTorch model, both ways round."""
    files = {name: exported.file(name) for name in FORMATS}
    for changes in ({"trained": other.trained}, {"model": prepared(seed=1)}):
        parity = run_check(exported, files, **changes)
        assert parity.capture_error is not None and parity.capture_error > 0.01 and not parity.ok
        assert any("the captured graph is not the trained model" in line for line in parity.failures)


def test_a_trained_model_with_one_scale_changed_is_noticed(exported: Exported) -> None:
    model = prepared(seed=0)
    with torch.no_grad():
        lsq_export.quantizers(model)["pointwise.input"].scale *= 1.1
    assert not lsq_export.verify(model, exported.bundle, exported.batches).ok


def test_outputs_of_another_shape_are_an_error(exported: Exported) -> None:
    model = prepared(seed=0)
    model.fc = nn.Linear(48, CLASSES + 1)
    with pytest.raises(QuantizationError, match="is it another model's bundle"):
        lsq_export.verify(model, exported.bundle, exported.batches)


class Dropping(nn.Module):
    """With a dropout that is not switched off in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 32), nn.Linear(32, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(nn.functional.dropout(torch.relu(self.a(x))))


def test_a_model_of_random_answers_is_named_as_such(tmp_path: Path) -> None:
    torch.manual_seed(0)
    batches = [torch.randn(8, 8) for _ in range(2)]
    model = lsq_export.calibrate(Dropping().eval(), batches)
    bundle = lsq_export.export(model, batches[0], tmp_path / "out", calibration=batches)
    assert bundle.parity is not None and any("random numbers (F.dropout" in line for line in bundle.parity.failures)
