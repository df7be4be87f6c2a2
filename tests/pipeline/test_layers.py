"""Layers with wishes, from the configuration to the files: mixed widths, and layers that are float to the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import calib
import lsq_export
from calib import QuantizationError
from lsq_export import integer
from lsq_export.graph.evaluate import evaluate
from lsq_export.graph.islands import islands
from lsq_export.rewrite.emit import emit_all
from lsq_export.rewrite.fold import Folded, fold
from lsq_export.rewrite.folding import keep_float
from lsq_export.targets import ORT_CPU
from lsq_export.verification.checking import Subject, check
from lsq_export.verification.parity import Parity
from support import networks
from support.networks import inputs
from support.published import published


class Net(nn.Module):
    """Batch norms, a residual sum, a SiLU, groups, a stride and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.na = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.b, self.nb = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.c, self.d = nn.Conv2d(8, 8, 3, padding=1, groups=2), nn.Conv2d(8, 8, 1)
        self.e, self.head = nn.Conv2d(8, 12, 3, stride=2, padding=1), nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.nb(self.b(F.relu(self.na(self.a(x))))))
        x = F.relu(self.e(F.relu(self.d(x + F.silu(self.c(x))))))
        y: torch.Tensor = self.head(x.mean((2, 3)))
        return y


class Tokens(nn.Module):
    """Linear layers on more than [N, C]."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 1), nn.Linear(8, 8), nn.Linear(8, 4, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.a(x).flatten(2).transpose(1, 2)  # [N, H·W, 8]
        y: torch.Tensor = self.c(F.relu(self.b(tokens)))
        return y


def prepared(layers: dict[str, Any], build: type[nn.Module] = Net, **config: Any) -> nn.Module:
    """With offsets moved as by training, and weights whose channels differ by a thousand."""
    torch.manual_seed(0)
    net = build()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean):
                assert tensor is not None
                nn.init.normal_(tensor)
    with torch.no_grad():
        net.a.weight *= torch.logspace(-3, 0, 8).reshape(-1, 1, 1, 1)  # type: ignore[union-attr, operator]
    model = lsq_export.prepare(net.eval(), published(layers=layers, **config))
    calib.initialize(model, [inputs(16, 1)], "minmax")
    for quantizer in lsq_export.quantizers(model).values():
        if (
            quantizer.kind == "activation"
            and quantizer.bits < 8
            and not (quantizer.symmetric or quantizer.integer_offset)
        ):
            quantizer.set_grid(quantizer.scale.detach(), quantizer.offset.detach() - 0.137 * quantizer.scale.detach())
    return model.eval()


def exported(model: nn.Module, how: str = "strided") -> tuple[Folded, dict[str, onnx.ModelProto], Parity]:
    made = fold(networks.quick_capture(model), [inputs(16, 1)], how)
    files = emit_all(made, ("qdq", "qoperator"), ORT_CPU)
    return made, files, check(Subject.of(made, files, ORT_CPU.name), [inputs(8, 2)], model=model)


MIXED = {
    "b": {"activation_bits": 8},
    "c": {"activation_grid": "signed-asymmetric", "weight_bits": 2},
    "d": {"weight_granularity": "channel", "activation_bits": 3},
    "e": {"activation_grid": "unsigned-symmetric", "offset": "container"},
    "head": {"weight_bits": 4},
}
FLOAT_WISHES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "the first": ({"a": "float"}, {}),
    "the last": ({"head": "float"}, {"edges": "trained"}),
    "a low-bit grid after it": ({"d": "float"}, {"edges": "trained"}),
    "a sum after it": ({"c": "float", "b": {"weight_bits": 2}}, {}),
    "two in a row": ({"a": "float", "b": "float"}, {"edges": "trained"}),
    "all but one": ({"*": "float", "c": {"weight_bits": 3}}, {}),
}


@pytest.mark.parametrize("how", ["strided", "integer"])
def test_mixed_settings_keep_all_promises(how: str) -> None:
    made, _, parity = exported(prepared(MIXED), how)
    assert parity.ok, parity.failures
    assert {name: f.reference_mismatch for name, f in parity.formats.items()} == {"qdq": 0, "qoperator": 0}
    assert {d.name: d.bits for d in made.layers} == {"a": 8, "b": 4, "c": 2, "d": 4, "e": 4, "head": 4}


@pytest.mark.parametrize("name", FLOAT_WISHES)
def test_float_layers_are_islands_and_all_promises_hold(name: str) -> None:
    layers, config = FLOAT_WISHES[name]
    model = prepared(layers, **config)
    made, _, parity = exported(model)
    assert parity.ok, parity.failures
    assert parity.formats["qoperator"].reference_mismatch == parity.formats["qoperator"].output_mismatch == 0
    quantized = {quantizer.rpartition(".")[0] for quantizer in lsq_export.quantizers(model)}
    found = islands(made.model.graph)
    assert {i.name for i in found if i.operator != "Relu"} == {"a", "b", "c", "d", "e", "head"} - quantized
    assert all(i.codes and (i.wished or i.operator == "Relu") for i in found)  # a Relu between two of them
    assert sum(len(i.operators) for i in parity.formats["qoperator"].islands) == len(found)


@pytest.mark.parametrize("how", ["integer", "naive"])
def test_every_fold_takes_float_layers(how: str) -> None:
    _, _, parity = exported(prepared({"b": "float", "head": "float"}, offset="integer"), how)
    assert parity.ok, parity.failures


def test_ends_of_the_network_have_no_grid_and_a_row_of_float_layers_none_between() -> None:
    made, files, _ = exported(prepared({"a": "float", "b": "float", "head": "float"}))
    graph = files["qoperator"].graph
    kinds = [node.op_type for node in graph.node]
    assert kinds[:4] == ["Conv", "Relu", "Conv", "QuantizeLinear"] and kinds[-2:] == ["DequantizeLinear", "Gemm"]
    assert graph.node[0].input[0] == graph.input[0].name and graph.node[-1].output[0] == graph.output[0].name
    assert {d.name for d in made.layers} == {"c", "d", "e"}
    graph.node[0].doc_string = ""  # the file does not say any more that this is on purpose
    with pytest.raises(QuantizationError, match=r"node a \(Conv\): .*only integer operators belong"):
        integer.run(files["qoperator"], {graph.input[0].name: inputs(2, 1).numpy()})


@pytest.mark.parametrize("layers", [{"b": "float", "c": "float"}, {"b": "float"}, {"c": "float"}])
def test_linear_layers_on_tokens(layers: dict[str, Any]) -> None:
    made, _, parity = exported(prepared(layers, Tokens))
    assert parity.ok, parity.failures
    assert {i.name for i in islands(made.model.graph)} >= set(layers)


def optimized(file: onnx.ModelProto, x: torch.Tensor, path: Path) -> tuple[np.ndarray, list[str]]:
    """The output at ONNX Runtime's default level, and the operators that it ran."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(path)
    session = ort.InferenceSession(file.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    return y, [node.op_type for node in onnx.load(path).graph.node]


class Small(nn.Module):
    """A float layer, whose channels differ by a thousand, between two quantized ones."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.a, self.last = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 8, 3), nn.Conv2d(8, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.last(self.a(self.first(x)))
        return y


@pytest.mark.parametrize("format_name", ["qdq", "qoperator"])
def test_onnx_runtime_computes_a_float_layer_in_float(
    format_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its optimizer would make INT8 of the weights: the folded model in float64 shows that it does not.

    A few codes of the 8-bit grid after it may be ties; nothing else differs. Without the Sum, most do.
    """
    model, x = prepared({"a": "float"}, Small, edges="trained"), inputs(8, 2)
    made, files, _ = exported(model)
    expected = evaluate(made.model.graph, x)[0].numpy()
    y, operators = optimized(files[format_name], x, tmp_path / "kept.onnx")
    assert np.mean(np.abs(y - expected) > 1e-5 * np.abs(expected).max()) < 1e-3
    assert {"Conv", "FusedConv"} & set(operators)

    monkeypatch.setattr(keep_float, "_looks_quantized", lambda node: False)
    _, files, parity = exported(model)
    y, operators = optimized(files[format_name], x, tmp_path / "unkept.onnx")
    assert np.mean(np.abs(y - expected) > 1e-5 * np.abs(expected).max()) > 0.1
    assert not {"Conv", "FusedConv"} & set(operators)
    assert not parity.ok, "verify sees it"


def test_strict_integer_refuses_a_float_layer_by_name(tmp_path: Path) -> None:
    x = inputs(8, 1)
    model = prepared({"b": "float"})
    with pytest.raises(QuantizationError, match=r"b \(Conv\): kept float by the settings of single layers"):
        lsq_export.export(model, x, tmp_path / "out", calibration=[x], strict_integer=True)
    assert not (tmp_path / "out").exists()


def test_the_bundle_says_it_and_is_verified_without_the_model(tmp_path: Path) -> None:
    x = inputs(8, 1)
    layers = {"head": "float", "c": {"weight_bits": 2}}
    bundle = lsq_export.export(prepared(layers), x, tmp_path / "out", calibration=[x])
    assert bundle.manifest["source"]["config"]["layers"] == layers
    (island,) = bundle.manifest["islands"]
    assert island == {"name": "head", "operator": "Gemm", "codes": ["output"], "wished": True, "why": ""}
    assert bundle.parity is not None and bundle.parity.ok
    parity = lsq_export.verify(None, bundle, [x])
    assert parity.ok, parity.failures
    report = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "W4A4 (otherwise: head, c)" in report and "head (Gemm, kept float)" in report


def test_a_float_layer_trains() -> None:
    model = prepared({"b": "float", "head": "float"}, edges="trained").train()
    model(inputs(8, 3)).square().sum().backward()
    for name in ("b", "head"):
        gradient = model.get_submodule(name).weight.grad
        assert isinstance(gradient, torch.Tensor) and gradient.abs().max() > 0
