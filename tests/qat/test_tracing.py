"""qat.tracing: edges="auto" is trained where torch.fx can trace the model, else calibrated, and everybody is told."""

from __future__ import annotations

import copy
import inspect
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import calib
import lsq_export
from calib import QuantizationError, QuantizationWarning
from calib.quantized import bypassed
from lsq_export.qat.prepare_model import config_of
from lsq_export.training import checkpoint
from support import networks
from support.commands import invoke
from support.exported import Exported
from support.networks import Conv, Wired, inputs

AUTO = lsq_export.QATConfig(weight_bits=3, activation_bits=3, edges="auto")


class Branch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = Conv(4, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.sum() > 0:  # this line is what the warning names
            return self.conv(x)
        return self.conv(-x)


def branching() -> nn.Module:
    return nn.Sequential(Conv(3, 4, 1), Branch()).eval()


def edges_of(model: nn.Module) -> list[str]:
    return [name for name in lsq_export.quantizers(model) if name.startswith("edges.")]


def test_what_can_be_traced_is_trained() -> None:
    net = networks.residual().eval()
    model = lsq_export.prepare(net, AUTO)
    same = lsq_export.prepare(net, lsq_export.QATConfig(3, 3, edges="trained"))
    assert edges_of(model) and edges_of(model) == edges_of(same)
    for copied in (model, copy.deepcopy(model), copy.deepcopy(copy.deepcopy(model)).train()):
        config = config_of(copied)
        assert config is not None and config.edges == "trained" and config == config_of(same)
    assert config_of(net) is None


def test_what_cannot_be_traced_is_calibrated_and_a_line_says_why_and_where() -> None:
    line = 1 + next(
        i + inspect.getsourcelines(Branch)[1] - 1
        for i, text in enumerate(inspect.getsourcelines(Branch)[0])
        if "this line" in text
    )
    where = rf"in 1 \(Branch\), test_tracing\.py:{line} \(symbolically traced"
    net = branching()
    with pytest.warns(QuantizationWarning, match=where) as caught:
        model = lsq_export.prepare(net, AUTO)
    assert [Path(found.filename).name for found in caught] == ["test_tracing.py"]  # the line of the caller
    assert "\n" not in str(caught[0].message)
    config = config_of(copy.deepcopy(model))
    assert not edges_of(model) and config is not None and config.edges == "calibrated"
    with pytest.raises(QuantizationError, match=where):
        lsq_export.prepare(net, lsq_export.QATConfig(edges="trained"))


class Remembers(nn.Module):
    """Tracing leaves a symbolic value in it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = Conv(3, 4, 1), torch.zeros(())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.last = x
        return F.dropout(self.conv(x), training=self.training)


def test_a_failed_trace_leaves_nothing_behind() -> None:
    net = Remembers().eval()
    with pytest.warns(QuantizationWarning, match="dropout"):
        model = lsq_export.prepare(net, AUTO)
    assert torch.is_tensor(model.last) and torch.is_tensor(net.last)


def test_an_unused_layer_is_named() -> None:
    net = Wired(lambda s, x: s.a(x), a=Conv(3, 4, 1), b=Conv(4, 4, 1))
    with pytest.warns(QuantizationWarning, match="layer b is not used by the model's forward"):
        assert config_of(lsq_export.prepare(net, AUTO)) is not None


@pytest.mark.parametrize("build", [networks.residual, branching])
def test_checkpoint_and_manifest_keep_what_auto_became(build: object, tmp_path: Path) -> None:
    """A checkpoint that was written with "auto" would be read by a trace, which may have changed by then."""
    assert callable(build)
    net = build().eval()
    traced = build is networks.residual
    if traced:
        model = lsq_export.prepare(net, AUTO)
    else:
        with pytest.warns(QuantizationWarning):
            model = lsq_export.prepare(net, AUTO)
    became = "trained" if traced else "calibrated"
    path = tmp_path / "t.safetensors"
    checkpoint.save(
        path, model, model_spec={"name": "tiny"}, config=AUTO.to_dict(), input_shape=(3, 9, 9), preprocessing={}
    )
    assert checkpoint.load(path).config == {**AUTO.to_dict(), "edges": became}
    if traced:
        x = inputs(4, 1)
        calib.initialize(model, [x], "minmax")
        bundle = lsq_export.export(model, x, tmp_path / "out", calibration=[x], formats=["qdq"])
        assert bundle.manifest["source"] == {"config": {**AUTO.to_dict(), "edges": "trained"}}


def test_train_prints_one_line_and_goes_on(exported: Exported, tmp_path: Path) -> None:
    out = tmp_path / "t.safetensors"
    short = [
        "--data",
        exported.data,
        "--epochs",
        "0",
        "--float-epochs",
        "0",
        "--init-batches",
        "1",
        "--edges",
        "auto",
        "--json",
        "--out",
    ]
    result = invoke("train", "--model", "support.badnets:branch_on_values", *short, out)
    assert result.exit_code == 0, result.output
    said = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    assert len(said) == 1 and "badnets.py:" in said[0], result.stderr
    assert json.loads(result.stdout)["config"]["edges"] == "calibrated"
    restored, found = checkpoint.restore(out, model="support.badnets:branch_on_values")  # without another warning
    assert found.config is not None and found.config["edges"] == "calibrated" and not edges_of(restored)
    result = invoke("train", "--model", "tiny", *short, tmp_path / "u.safetensors")
    assert "warning" not in result.stderr and json.loads(result.stdout)["config"]["edges"] == "trained"


class Encoded(nn.Module):
    """torch's own encoder, which torch.fx takes as a whole."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.first = nn.Linear(4, 8)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.head(self.encoder(self.first(x)).mean(1))
        return y


def test_modules_of_torch_with_layers_inside_have_edges_inside() -> None:
    torch.manual_seed(0)
    net, x = Encoded().eval(), torch.randn(8, 5, 4)
    config = lsq_export.QATConfig(weight_bits=8, activation_bits=8)
    inside = lsq_export.prepare(net, config, example=x)
    edges = {name for name in lsq_export.quantizers(inside) if name.startswith("edges.")}
    assert sum("encoder_layers_0" in name for name in edges) >= 3
    with bypassed(inside), torch.no_grad():
        torch.testing.assert_close(inside(x), net(x), rtol=1e-5, atol=1e-5)
    whole = lsq_export.prepare(net, config)
    assert config_of(whole).edges == "trained"  # type: ignore[union-attr]
    assert not any("encoder_layers_0" in name for name in lsq_export.quantizers(whole) if name.startswith("edges."))
