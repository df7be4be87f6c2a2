"""Whatever has no integer form is a float island, by name, whatever the operator: nothing is refused for it.

Each network is exported, and every promise holds for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from calib import QuantizationError
from lsq_export.graph.islands import islands, refuse
from lsq_export.graph.kept_float import of_shapes
from lsq_export.rewrite.emit import emit
from lsq_export.rewrite.fold import Folded, fold
from lsq_export.rewrite.folding import keep_float
from lsq_export.targets import ORT_CPU
from lsq_export.verification.runtime import Session
from support import networks
from support.networks import Case, Wired, inputs, verified

LOW: dict[str, Any] = {"weight_bits": 4, "activation_bits": 4, "edges": "calibrated"}
Function = Callable[[Any, torch.Tensor], torch.Tensor]


def made(function: Function, layers: dict[str, Any] | None = None, **parts: Any) -> tuple[nn.Module, Folded]:
    """conv, function, conv. parts: modules and buffers that the function finds in its first argument.

    layers: of the configuration.
    """

    def build() -> nn.Module:
        modules = {name: part for name, part in parts.items() if isinstance(part, nn.Module)}
        net = Wired(
            lambda s, x: s.b(function(s, torch.relu(s.a(x)))),
            a=nn.Conv2d(3, 4, 3, padding=1),
            b=nn.Conv2d(4, 3, 1),
            **modules,
        )
        for name in parts.keys() - modules.keys():
            net.register_buffer(name, parts[name])
        return net

    torch.manual_seed(0)
    model = networks.train(Case(build, {**LOW, "layers": layers or {}}))
    return model, fold(networks.quick_capture(model), [inputs(16, 1)])


def by_hand(s: Any, y: torch.Tensor) -> torch.Tensor:
    """A layer norm of channels as many networks write it."""
    mean = y.mean(1, keepdim=True)
    variance = (y - mean).pow(2).mean(1, keepdim=True)
    return (y - mean) / torch.sqrt(variance + 1e-6) * s.gain + s.shift


def own_norm(s: Any, y: torch.Tensor) -> torch.Tensor:
    """By the root of the mean square, with the small number outside of the root: no norm that ONNX has."""
    return y / (y.pow(2).mean(1, keepdim=True).sqrt() + 0.1)


def recurrent(s: Any, y: torch.Tensor) -> torch.Tensor:
    rows = s.rnn(y.mean(2).transpose(1, 2))[0]
    return y + rows.transpose(1, 2).unsqueeze(2)


GAIN, SHIFT = torch.rand(4, 1, 1) + 0.5, torch.randn(4, 1, 1)
CASES: dict[str, tuple[Function, dict[str, Any], list[str]]] = {
    "unary": (lambda s, y: torch.floor(y * 2), {}, ["Floor"]),
    "bicubic": (lambda s, y: F.interpolate(y, size=(13, 11), mode="bicubic"), {}, ["Resize"]),
    "layer norm by hand": (
        by_hand,
        {"gain": GAIN, "shift": SHIFT},
        ["LayerNormalization"],
    ),
    "a norm of their own": (own_norm, {}, ["Pow", "ReduceMean", "Sqrt", "Add", "Div"]),
    "several outputs": (lambda s, y: y.topk(3, 1)[0].repeat_interleave(2, 1)[:, :4], {}, ["TopK"]),
    "a mask": (lambda s, y: torch.where(y > 0.5, y, torch.zeros(())), {}, ["Greater", "Where"]),
    "sampling": (
        lambda s, y: F.grid_sample(y, torch.tanh(s.g(y)).permute(0, 2, 3, 1), align_corners=False),
        {"g": nn.Conv2d(4, 2, 1)},
        ["GridSample"],
    ),
    "recurrent": (recurrent, {"rnn": nn.GRU(4, 4, batch_first=True)}, ["GRU"]),
}


@pytest.mark.filterwarnings("ignore:layers that stay float")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name == "recurrent" else []) for name in CASES]
)
def test_any_operator_is_an_island(name: str) -> None:
    function, parts, expected = CASES[name]
    model, folded = made(function, **parts)
    parity, files = verified(model, folded)
    assert parity.ok, parity.failures
    found = [island.operator for island in islands(folded.model.graph)]
    assert set(expected) <= set(found) and len(found) <= len(expected) + 4  # what lies between them is drawn in
    exact = parity.formats["qoperator"]
    assert exact.reference_mismatch == 0 and exact.islands  # around the islands, not a bit
    assert parity.capture_error is not None and parity.capture_error < 1e-4
    onnx.checker.check_model(files["qoperator"], full_check=True)
    with pytest.raises(QuantizationError, match="strict_integer=True allows no float between integers"):
        refuse(islands(folded.model.graph))


def test_no_grid_cuts_an_island_into_pieces() -> None:
    _, folded = made(own_norm)
    after = {island.codes for island in islands(folded.model.graph)}
    assert len(after) == 1  # the codes of the one grid after the whole norm


def test_a_norm_by_hand_leaves_the_layer_before_it_its_bias_and_its_clamp() -> None:
    def tokens(s: Any, y: torch.Tensor) -> torch.Tensor:
        t = torch.relu(s.linear(y.flatten(2).transpose(1, 2)))
        t = t / ((t**2).mean(-1, keepdim=True).sqrt() + 1e-3)
        return t.transpose(1, 2).unflatten(2, (9, 9))

    _, folded = made(tokens, linear=nn.Linear(4, 4))
    operators = [island.operator for island in islands(folded.model.graph)]
    assert operators.count("Add") == 1 and "Relu" not in operators  # the small number alone


def test_shapes_are_no_islands() -> None:
    """The token that every vision transformer puts before the others: the batch alone is computed."""
    token = torch.randn(1, 4, 1, 9)
    model, folded = made(lambda s, y: torch.cat([s.token.expand(y.shape[0], -1, -1, -1), y], 2), token=token)
    parity, _ = verified(model, folded)
    assert parity.ok, parity.failures
    assert islands(folded.model.graph) == ()
    assert not any(
        node.op_type == "Shape" and node.inputs[0] not in folded.model.graph.inputs for node in folded.model.graph
    )


def test_computed_shapes_become_constants() -> None:
    """torch's attention asks a tensor for sizes that never change."""
    attention = lambda s, y: F.scaled_dot_product_attention(y, y, y)  # noqa: E731
    _, folded = made(attention)
    assert [island.operator for island in islands(folded.model.graph)] == ["Softmax"]
    assert not any(map(of_shapes, folded.model.graph))


def inside(proto: onnx.ModelProto, level: str, op_type: str, x: np.ndarray) -> np.ndarray:
    """What the float operator makes in ONNX Runtime, where everything before it is the same."""
    name = next(node.output[0] for node in proto.graph.node if node.op_type == op_type and node.doc_string)
    quantize = next(node for node in proto.graph.node if node.input[0] in (name, f"{name}_kept"))
    while quantize.op_type != "QuantizeLinear":
        quantize = next(node for node in proto.graph.node if node.input[0] == quantize.output[0])
    return Session(proto, level, [quantize.output[0]]).run(x)[quantize.output[0]].astype(np.int64)


@pytest.mark.parametrize("file", ["qdq", "qoperator"])
def test_a_float_layer_gives_float_results_at_the_default_level(file: str) -> None:
    """ONNX Runtime's WeightBiasQuantization would make INT8 of weights of channels a thousand times as large as
    others, and int32 of biases.
    """
    torch.manual_seed(3)
    kept = nn.Conv2d(4, 4, 1)
    kept.weight.data = torch.randn(4, 4, 1, 1) * torch.tensor([1.0, 1e-3, 1.0, 1e-3]).reshape(4, 1, 1, 1)
    kept.bias.data = torch.randn(4)
    _, folded = made(lambda s, y: s.kept(y), {"kept": "float"}, kept=kept)
    x = inputs(8, 2).numpy()
    proto = emit(folded.model, file, ORT_CPU)
    default, plain = (inside(proto, level, "Conv", x) for level in ("default", "disabled"))
    assert np.abs(default - plain).max() <= 1 and (default != plain).mean() < 1e-3


def test_without_what_keeps_it_apart_a_float_layer_is_quantized(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keep_float, "_looks_quantized", lambda node: False)
    with pytest.raises(AssertionError):
        test_a_float_layer_gives_float_results_at_the_default_level("qdq")
