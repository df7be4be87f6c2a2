"""Operators end to end:

which integer operators they become, and that every promise holds; float islands are named, and refused on request.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lsq_export
from calib import QuantizationError
from lsq_export.graph.evaluate import evaluate
from lsq_export.graph.islands import islands
from lsq_export.rewrite.emit import emit_all
from lsq_export.rewrite.fold import Folded, fold
from lsq_export.targets import get
from lsq_export.verification.checking import Subject, check
from lsq_export.verification.layer_parity import ISLAND_TIES, TIES, IslandParity, LayerParity
from lsq_export.verification.parity import Parity
from support import networks
from support.networks import inputs

SPREAD = ["QLinearAdd"]  # of E5: codes of a 4-bit grid over the container
SHIFT = ["QLinearAdd"]  # a learned offset behind an edge (E3)
LOW: dict[str, Any] = {"weight_bits": 4, "activation_bits": 4, "first_last_bits": None}


def network(function: Callable[[torch.Tensor], torch.Tensor], *, of_a_sum: bool = False) -> nn.Module:
    """conv, function, conv or Linear; of_a_sum: the function reads what no bias can carry anything for."""
    y = function(torch.zeros(2, 4, 9, 9))
    flat = y.dim() != 4 or y.shape[2] < 3
    last: nn.Module = nn.Linear(y[0].numel(), 5) if flat else nn.Conv2d(y.shape[1], 4, 3, padding=1)

    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        h = s.a(x) + s.c(x) if of_a_sum else s.a(x)
        h = function(h)
        return s.b(h.flatten(1) if flat else h)

    extra = {"c": nn.Conv2d(3, 4, 1)} if of_a_sum else {}
    return networks.Wired(forward, a=nn.Conv2d(3, 4, 3, padding=1), b=last, **extra)


@cache
def case_of(function: Callable[[torch.Tensor], torch.Tensor], of_a_sum: bool) -> networks.Case:
    return networks.Case(lambda: network(function, of_a_sum=of_a_sum), LOW)


def folded(
    function: Callable[[torch.Tensor], torch.Tensor], *, of_a_sum: bool = False, how: str = "strided"
) -> tuple[nn.Module, Folded]:
    case = case_of(function, of_a_sum)
    return networks.trained(case), fold(networks.captured(case), [inputs(16, 1)], how)


def verified(model: nn.Module, made: Folded) -> tuple[Parity, onnx.ModelProto]:
    files = emit_all(made, ("qdq", "qoperator"), get("ort-cpu"))
    parity = check(Subject.of(made, files, "ort-cpu"), [inputs(16, 2, spread=3.0)], model=model)
    return parity, files["qoperator"]


def between(file: onnx.ModelProto) -> list[str]:
    """The operators between the first convolution and the last layer."""
    ops = [node.op_type for node in file.graph.node]
    last = ops.index("MatMulInteger") if "MatMulInteger" in ops else len(ops) - 1 - ops[::-1].index("QLinearConv")
    return ops[ops.index("QLinearConv") + 1 : last]


def ramp(*shape: int) -> torch.Tensor:
    return torch.linspace(-1, 1, int(np.prod(shape))).reshape(shape)


Case = tuple[Callable[[torch.Tensor], torch.Tensor], list[str]]
CODES = [*SPREAD]  # the learned grid moves in front of operators that keep codes
TABLE = [*SHIFT, *SPREAD]
INTEGER: dict[str, Case] = {
    "hardsigmoid": (F.hardsigmoid, ["QLinearAdd"]),
    "hardswish": (F.hardswish, ["QLinearAdd", "QLinearMul", *TABLE]),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.1), ["QLinearLeakyRelu", *TABLE]),
    "abs": (torch.abs, ["QLinearLeakyRelu", *TABLE]),
    "tanh": (torch.tanh, ["QLinearSigmoid", *TABLE]),
    "silu": (F.silu, ["QLinearSigmoid", "QLinearMul", *TABLE]),
    "square": (lambda x: x**2, ["QLinearMul", *TABLE]),
    "constants": (lambda x: 1 - x / 3 * 0.7 + 0.2, CODES),
    "constants a channel": (lambda x: x * ramp(4, 1, 1) + ramp(1, 4, 1, 1), CODES),
    "positions": (lambda x: x + ramp(9, 9), ["QLinearAdd", *TABLE]),
    "difference": (lambda x: x.flip(3) - x, ["Slice", "QLinearMul", "QLinearAdd", *TABLE]),
    "pad": (lambda x: F.pad(x, (1, 2, 0, 1)), [*CODES, "Pad"]),
    "pad value": (lambda x: F.pad(x, (1, 2, 0, 1), value=0.5), [*CODES, "Pad"]),
    "pad channels": (lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 1)), [*CODES, "Slice", "Slice", "Pad"]),
    "pad reflect": (lambda x: F.pad(x, (1, 1, 2, 1), mode="reflect"), [*CODES, "Pad"]),
    "pad edge": (lambda x: F.pad(x, (1, 1, 2, 1), mode="replicate"), [*CODES, "Pad"]),
    "pad relu": (lambda x: F.relu(F.pad(F.relu(x), (1, 1, 1, 1))), [*CODES, "Pad"]),
    "resize": (lambda x: F.interpolate(x, scale_factor=2), [*CODES, "Resize"]),
    "resize to": (lambda x: F.interpolate(x, size=(13, 17)), [*CODES, "Resize"]),
    "slice": (lambda x: x[:, 1:3, ::2, 1:], [*CODES, "Slice", "Slice", "Slice"]),
    "slices": (lambda x: torch.cat([x[:, 2:], x[:, :2]], 1), ["Slice", "Slice", "QLinearConcat", *TABLE]),
    "flip": (lambda x: x.flip(3), [*CODES, "Slice"]),
    "pixel shuffle": (lambda x: F.pixel_shuffle(x, 2), [*CODES, "DepthToSpace"]),
    "channel shuffle": (lambda x: F.channel_shuffle(x, 2), [*CODES, "Reshape", "Transpose", "Reshape"]),
    "select": (lambda x: x[:, 1], [*CODES, "Gather", "Reshape"]),
    "squeeze": (lambda x: x.unsqueeze(1).squeeze(1), [*CODES, "Unsqueeze", "Squeeze"]),
    "slopes": (
        lambda x: F.prelu(x, torch.linspace(-0.5, 0.5, 4)),
        ["QLinearAdd", "QLinearConv", "QLinearAdd", "QLinearAdd", *TABLE],
    ),
    "constant matrix": (lambda x: x @ ramp(9, 9), ["QLinearMatMul", *TABLE]),
    "matmul": (lambda x: x @ x.transpose(2, 3), ["Transpose", "QLinearMatMul", *TABLE]),
}


@pytest.mark.parametrize("name", INTEGER)
def test_integer_forms(name: str):
    function, expected = INTEGER[name]
    parity, file = verified(*folded(function))
    assert parity.ok, parity.failures
    assert between(file) == expected
    exact = parity.formats["qoperator"]
    assert exact.reference_mismatch == exact.accumulator_mismatch == 0 and not exact.islands
    assert parity.capture_error is not None and parity.capture_error < 1e-5  # evaluate's float meaning, against torch
    assert parity.folded_sqnr_db > 12  # 4 bits


class Tokens(nn.Module):
    """An image as tokens, one attention block with GELU, a head: the operators of a vision transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.head = nn.Conv2d(3, 8, 3, stride=3), nn.Linear(8, 5)
        self.q, self.k, self.v, self.up, self.down = (nn.Linear(*size, bias=bias) for size, bias in TOKENS)
        self.position = nn.Parameter(torch.randn(1, 9, 8) * 0.1)
        self.norm = nn.LayerNorm(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        t = self.patch(x).flatten(2).transpose(1, 2) + self.position
        weights = F.softmax(self.q(t) @ self.k(t).transpose(1, 2) / 8**0.5, -1)
        t = t + weights @ self.v(t)
        t = t + self.down(F.gelu(self.up(self.norm(t))))
        return self.head(t[:, 0])


TOKENS = [((8, 8), True), ((8, 8), False), ((8, 8), True), ((8, 16), True), ((16, 8), True)]


def test_a_transformer_block():
    torch.manual_seed(5)
    model = networks.train(networks.Case(Tokens, {"weight_bits": 8, "activation_bits": 8}, shift=0.0))
    made = fold(networks.quick_capture(model), [inputs(16, 1)])
    parity, file = verified(model, made)
    assert parity.ok, parity.failures
    left = sorted(i.operator for i in islands(made.model.graph))
    assert left == ["Gelu", "LayerNormalization", "Reshape", "Softmax"]  # what GELU reads is moved, on no grid
    ops = [node.op_type for node in file.graph.node]
    assert ops.count("QGemm") == 4 and ops.count("QLinearMatMul") == 2 and ops.count("MatMulInteger") == 2
    assert parity.capture_error is not None and parity.capture_error < 1e-5 and parity.folded_sqnr_db > 20


SUMS = [
    "hardswish",
    "leaky_relu",
    "tanh",
    "constants",
    "constants a channel",
    "difference",
    "pad",
    "resize",
    "slices",
    "matmul",
    "square",
]


@pytest.mark.parametrize("name", SUMS)
def test_integer_forms_behind_a_sum(name: str):
    """No bias in front can carry anything."""
    parity, _ = verified(*folded(INTEGER[name][0], of_a_sum=True))
    assert parity.ok and parity.formats["qoperator"].reference_mismatch == 0, parity.failures
    assert parity.folded_sqnr_db > 12


@pytest.mark.parametrize("how", ["integer", "naive"])
@pytest.mark.parametrize("name", ["tanh", "pad value", "slices", "hardswish"])
def test_the_other_folds(name: str, how: str):
    parity, _ = verified(*folded(INTEGER[name][0], how=how))
    assert parity.ok and parity.formats["qoperator"].reference_mismatch == 0, parity.failures


def test_a_positive_constant_costs_nothing():
    """It relabels the grid of the sum."""
    _, file = verified(*folded(lambda x: x * 0.3, of_a_sum=True))
    _, without = verified(*folded(lambda x: x, of_a_sum=True))
    assert [n.op_type for n in file.graph.node] == [n.op_type for n in without.graph.node]


def test_a_negative_constant_is_a_product():
    _, file = verified(*folded(lambda x: x * -0.3, of_a_sum=True))
    product = next(node for node in file.graph.node if node.op_type == "QLinearMul")
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in file.graph.initializer}
    code, scale, zero = (constants[name] for name in product.input[3:6])
    assert (float(code.item()) - float(zero)) * float(scale) == pytest.approx(-0.3, rel=1e-6)


def test_the_codes_of_tanh_are_symmetric():
    _, made = folded(torch.tanh)
    (edge,) = (d for d in made.tensors if d.name.startswith("Tanh") or (d.kind == "edge" and d.zero_point == 127))
    assert (
        edge.container_scale == pytest.approx(1 / 127, rel=1e-4) and edge.offset_carried == -127 * edge.container_scale
    )


def test_padding_adds_the_code_of_its_value():
    """Real zero is on no trained grid: FakeQuantize(0) is what pads, and the fold keeps it to the code."""
    model, made = folded(lambda x: F.pad(x, (1, 1, 1, 1)))
    quantizer = lsq_export.quantizers(model)["b.input"]
    padded = float(quantizer(torch.zeros(1)).detach())
    decision = next(d for d in made.tensors if d.name == "b.input")
    _, file = verified(model, made)
    pad = next(node for node in file.graph.node if node.op_type == "Pad")
    code = next(onnx.numpy_helper.to_array(t) for t in file.graph.initializer if t.name == pad.input[2])
    assert (int(code) - decision.origin) / decision.stride == round((padded - decision.offset) / decision.scale)


def test_a_pad_outside_of_a_clamp_in_front_is_refused():
    with pytest.raises(
        QuantizationError, match=r"Pad: a Pad with -1\.\d+ after a clamp to 0 … inf has no exact form; pad first"
    ):
        folded(lambda x: F.pad(F.relu(x), (1, 1, 1, 1), value=-1.0))


# ---- islands

ISLANDS: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], list[str]]] = {
    "gelu": (F.gelu, ["Gelu"]),
    "gelu tanh": (lambda x: F.gelu(x, approximate="tanh"), ["Gelu"]),
    "sin": (torch.sin, ["Sin"]),
    "erf": (torch.erf, ["Erf"]),
    "softmax": (lambda x: F.softmax(x, 1), ["Softmax"]),
    "softmax, little": (lambda x: F.softmax(x / 100, -1), ["Softmax"]),
    "attention": (lambda x: F.softmax(x @ x.transpose(2, 3) / 3, -1) @ x, ["Softmax"]),
    "elu": (F.elu, ["Elu"]),
    "mish": (F.mish, ["Mish"]),
    "softplus": (F.softplus, ["Softplus"]),
    "softplus, steeper": (lambda x: F.softplus(x, 2.0), ["Softplus"]),
    "norm": (lambda x: F.layer_norm(x, x.shape[1:]), ["LayerNormalization"]),
    "division": (lambda x: x / (1 + x.abs()), ["Div"]),
    "in a row": (lambda x: (x * x + 1).rsqrt(), ["Sqrt", "Reciprocal"]),
    "two": (lambda x: torch.sin(x) + torch.cos(x), ["Sin", "Cos"]),
    "cumsum": (lambda x: x.cumsum(1), ["CumSum"]),
    "where": (lambda x: torch.where(x > 0, x, x * 0.1), ["Greater", "Where"]),
    "circular": (lambda x: F.pad(x, (1, 1, 1, 1), mode="circular"), ["Pad"]),
    "softplus with a step": (lambda x: F.softplus(x, 1.0, 5.0), ["Greater", "Softplus", "Where"]),
}


@pytest.mark.parametrize("name", ISLANDS)
def test_islands_are_named_and_held_to_float32_rounding(name: str):
    function, operators = ISLANDS[name]
    model, made = folded(function)
    parity, file = verified(model, made)
    assert parity.ok, parity.failures
    assert sorted(i.operator for i in islands(made.model.graph)) == sorted(operators)
    assert all(i.codes and i.name for i in islands(made.model.graph))
    exact = parity.formats["qoperator"]
    assert exact.reference_mismatch == 0  # around the islands
    assert {f"{i.name} ({i.operator})" for i in islands(made.model.graph)} == {
        o for i in exact.islands for o in i.operators
    }
    assert parity.capture_error is not None and parity.capture_error < 1e-5
    floats = [n.op_type for n in file.graph.node if n.op_type in operators]
    assert sorted(floats) == sorted(operators)
    onnx.checker.check_model(file, full_check=True)


def test_a_newer_operator_raises_the_operator_set_and_others_do_not():
    opsets = {name: verified(*folded(ISLANDS[name][0]))[1].opset_import[0].version for name in ("gelu", "mish", "sin")}
    assert opsets == {"gelu": 20, "mish": 18, "sin": 17}


def test_an_island_that_computes_something_else_fails():
    """Of the same values, one code more at every place."""
    model, made = folded(torch.sin)
    files = emit_all(made, ("qoperator",), get("ort-cpu"))
    wrong = onnx.ModelProto()
    wrong.CopyFrom(files["qoperator"])
    next(node for node in wrong.graph.node if node.op_type == "Sin").op_type = "Cos"
    parity = check(Subject.of(made, {"qoperator": wrong}, "ort-cpu"), [inputs(16, 2)], model=model)
    assert any("is not as the fold prescribes" in line for line in parity.failures)
    assert any(" from the folded model by more than ties" in line for line in parity.failures)


def test_the_tolerance_is_the_islands_alone():
    layer = LayerParity(name="x", elements=100_000, differing=5e-4, largest=1, histogram={1: 50})
    assert layer.within(ISLAND_TIES) and not layer.within(TIES)
    good = IslandParity(codes="x", operators=("sin (Sin)",), elements=100_000, differing=50, largest=1)
    assert good.ok and not replace(good, largest=2).ok and not replace(good, differing=101).ok
    model, made = folded(torch.sin)
    exact = verified(model, made)[0].formats["qoperator"]
    codes = exact.islands[0].codes
    for name, ok in ((codes, True), (next(p.name for p in exact.layers if p.name != codes), False)):
        layers = tuple(
            replace(p, elements=100_000, differing=5e-4, largest=1, histogram={1: 50}) if p.name == name else p
            for p in exact.layers
        )
        assert replace(exact, layers=layers).ok == ok
    assert not replace(exact, islands=(replace(exact.islands[0], largest=2),)).ok


def test_export_names_islands_and_refuses_them_on_request(tmp_path: Path):
    torch.manual_seed(5)
    model = networks.train(networks.Case(lambda: network(lambda x: torch.sin(F.gelu(x))), LOW))
    options: dict[str, Any] = {"calibration": [inputs(16, 1)]}
    with pytest.raises(
        QuantizationError, match=r"^Gelu \(Gelu\), Sin \(Sin\): no integer form; strict_integer=True allows no float"
    ) as error:
        lsq_export.export(model, inputs(1, 1), tmp_path / "strict", strict_integer=True, **options)
    assert "\n" not in str(error.value) and not (tmp_path / "strict").exists()
    bundle = lsq_export.export(model, inputs(1, 1), tmp_path / "out", **options)
    assert [(i["name"], i["operator"]) for i in bundle.manifest["islands"]] == [("Gelu", "Gelu"), ("Sin", "Sin")]
    assert "float islands" in (bundle.directory / "report.html").read_text(encoding="utf-8")
    parity = lsq_export.verify(model, bundle, [inputs(8, 3)])
    assert parity.ok and parity.formats["qoperator"].reference_mismatch == 0


def test_without_islands_strict_integer_changes_nothing(tmp_path: Path):
    torch.manual_seed(5)
    model = networks.train(networks.Case(lambda: network(F.hardswish), LOW))
    bundle = lsq_export.export(model, inputs(1, 1), tmp_path / "out", strict_integer=True, calibration=[inputs(16, 1)])
    assert bundle.manifest["islands"] == []


def test_the_folded_graph_means_what_torch_means():
    """At 8 bits, function by function: the fold's forms against torch's own functions of what the edges hold."""
    for name in ("hardswish", "tanh", "leaky_relu", "constants"):
        function = INTEGER[name][0]
        torch.manual_seed(5)
        config = {"weight_bits": 8, "activation_bits": 8}
        model = networks.train(networks.Case(lambda f=function: network(f, of_a_sum=True), config, shift=0.0))
        made = fold(networks.quick_capture(model), [inputs(16, 1)])
        x = inputs(8, 1)
        with torch.no_grad():
            expected = model(x).numpy()
        found = evaluate(made.model.graph, x)[0].numpy()
        assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max(), name


def test_the_command_line_names_islands_and_says_what_they_cost(capsys: pytest.CaptureFixture[str]):
    from lsq_export.cli.parity_table import print_islands

    print_islands(verified(*folded(torch.sin))[0])
    printed = capsys.readouterr().out
    assert (
        "Float islands: 1 operator has" in printed
        and "Sin (Sin)" in printed
        and "may round a tie the other way, by one code" in printed
    )
    print_islands(verified(*folded(F.leaky_relu))[0])
    assert capsys.readouterr().out == ""
