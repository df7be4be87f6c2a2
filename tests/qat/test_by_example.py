"""qat.by_example: what torch.fx cannot trace gets trained edges along an example, and computes what it did."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import calib
import lsq_export
from calib import QuantizationError, QuantizationWarning
from lsq_export.qat.prepare_model import config_of

TRAINED = lsq_export.QATConfig(weight_bits=8, activation_bits=8, edges="trained")


class Net(nn.Module):
    """Two convolutions of which the second reads a sum, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1), nn.Conv2d(3, 4, 1)
        self.head, self.drop = nn.Linear(4, 5), nn.Dropout(0.1)

    def body(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.b(F.relu(self.a(x)) + self.c(x)))


class SizesDecide(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.body(x)
        if x.shape[0] > 1 and x.size(2) != 1:
            y = y.view(y.shape[0], y.shape[1], -1, 1)
        y = y.mean((2, 3))
        return self.head(y)


class Loops(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = [self.head(row.flatten(2).mean(2)) for row in self.body(x).split(3, dim=2)]
        total = rows[0]
        for row in rows[1:]:
            total = total + row
        for part in self.body(x).unbind(1):
            total = total + part.mean((1, 2))[:, None]
        return total


class Asks(Net):
    def forward(self, x: torch.Tensor | list[torch.Tensor]) -> torch.Tensor:
        if not isinstance(x, torch.Tensor):
            x = torch.stack(x)
        assert torch.isfinite(x).all(), "bad input"
        if x.abs().max() > 1e6:
            raise ValueError(x)
        torch._assert(x.min() > -1e6, "bad input")
        return self.head(self.body(x).mean((2, 3)))


@dataclass
class Output:
    logits: torch.Tensor
    features: torch.Tensor | None = None


class Keywords(Net):
    def forward(self, *, image: torch.Tensor, scale: torch.Tensor, **options: Any) -> Output:
        y = self.body(image)
        if options.get("square"):
            y = y * y
        return Output(logits=self.head(y.mean((2, 3)) * scale), features=y)


class InPlace(Net):
    def forward(self, x: torch.Tensor) -> dict[str, Any]:
        y, (n, *_) = self.body(x), x.shape
        y += torch.arange(int(x.shape[-1]), device=x.device) / 10
        y[:, 0] = 2 * y[:, 1]
        z = torch.zeros(n, 4, device=x.device)
        for index in range(2):
            z = z + y[..., index].mean(-1)
        z = F.dropout(z, 0.5, self.training)
        return {"out": [self.head(z), (z, 2.0 - z)]}


class Inner(nn.Module):
    """A layer of torch's with layers in it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(6, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[1] > 3:
            x = x * 1.5
        return self.head(self.block(self.stem(x))[:, 0])


def image(n: int = 4) -> torch.Tensor:
    return torch.randn(n, 3, 9, 9, generator=torch.Generator().manual_seed(n))


class NormAct(nn.BatchNorm2d):
    """As in timm: a batch norm by the function, and what comes after it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        by_batch = True if self.training else self.running_mean is None
        y = F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, by_batch, 0.1, self.eps)
        return F.relu(y)


class Normed(Net):
    def __init__(self) -> None:
        super().__init__()
        self.norm = NormAct(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.a(x)) if x.shape[0] > 0 else x
        return self.head((self.b(y) + self.c(x)).mean((2, 3)))


class KnowsExport(Net):
    """As masks in transformers: a shortcut by values, which it does not take when it is exported."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask = (x.abs().sum(1, keepdim=True) > 0).to(x.dtype)
        y = self.body(x)
        if torch.compiler.is_exporting() or not mask.all():
            y = y * mask
        return self.head(y.mean((2, 3)))


CASES: dict[str, tuple[Callable[[], nn.Module], Any]] = {
    "sizes decide": (SizesDecide, image()),
    "loops": (Loops, image()),
    "isinstance and assertions": (Asks, image()),
    "keyword-only, options, dataclass": (Keywords, {"image": image(), "scale": 1 + image()[:, :1, 0, 0].abs()}),
    "in place": (InPlace, image()),
    "a norm by a function": (Normed, image()),
    "another way for export": (KnowsExport, image()),
    "a block of torch's": (Inner, torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(1))),
}


def made(name: str) -> tuple[nn.Module, Any]:
    torch.manual_seed(3)
    build, example = CASES[name]
    return build().eval(), example


def run(model: nn.Module, x: Any) -> list[torch.Tensor]:
    result = model(**x) if isinstance(x, dict) else model(x)
    return flat(result)


def flat(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, Output):
        value = (value.logits, value.features)
    return [tensor for part in (value.values() if isinstance(value, dict) else value) for tensor in flat(part)]


FAST = ("in place",)


@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name in FAST else pytest.mark.slow) for name in CASES])
def test_trained_edges_without_a_trace(name: str, tmp_path: Path) -> None:
    """In float the copy is the network; exported, its promises hold, and sums have trained grids."""
    net, example = made(name)
    before = copy.deepcopy(net.state_dict())
    model = lsq_export.prepare(net, TRAINED, example=example)
    assert all(torch.equal(net.state_dict()[key], value) for key, value in before.items())
    assert config_of(model) == TRAINED and "_dropout" not in str(net)
    edges = [key for key in lsq_export.quantizers(model) if key.startswith("edges.")]
    assert len(edges) >= 2
    with torch.no_grad():
        for n in (1, 3):
            x = {key: value[:n] for key, value in example.items()} if isinstance(example, dict) else example[:n]
            for quantizer in lsq_export.quantizers(model).values():
                quantizer.bypass = True
            for mine, theirs in zip(run(model, x), run(net, x), strict=True):
                torch.testing.assert_close(mine, theirs)
            for quantizer in lsq_export.quantizers(model).values():
                quantizer.bypass = False
    calib.initialize(model, [example])
    bundle = lsq_export.export(model, example, tmp_path / "out", calibration=[example], formats=["qoperator"])
    parity = lsq_export.verify(model, bundle, [example])
    assert parity.ok, parity.failures
    assert parity.formats["qoperator"].sqnr_db > 30
    placed = {t["name"] for t in bundle.manifest["tensors"]}
    assert set(edges) <= placed


def test_a_symbolic_trace_is_taken_where_there_is_one() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.MaxPool2d(2), nn.Conv2d(4, 4, 1)).eval()
    names = [list(lsq_export.quantizers(lsq_export.prepare(net, TRAINED, example=x))) for x in (None, image())]
    assert names[0] == names[1]


def test_dropout_of_a_function_follows_the_mode() -> None:
    net, example = made("in place")
    model = lsq_export.prepare(net, TRAINED, example=example)
    calib.initialize(model, [example])
    with torch.no_grad():
        torch.manual_seed(0)
        still, moving = run(model.eval(), example), [run(model.train(), example) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(still, run(model.eval(), example), strict=True))
    assert not torch.equal(moving[0][0], moving[1][0])


class OnValues(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.body(x)
        if y.sum() > 0:
            y = y * 2
        return self.head(y.mean((2, 3)))


class OnBatch(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.body(x)
        return self.head(y.mean((2, 3))) * x.__len__()


class Numpy(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.body(x) + torch.from_numpy(x.detach().clone().data.cpu().__array__()).mean()
        return self.head(y.mean((2, 3)))


class Mode(Net):
    def forward(self, x: torch.Tensor) -> Any:
        y = self.head(self.body(x).mean((2, 3)))
        if self.training:
            return y, x
        return y if x.shape[0] > 0 else x


@pytest.mark.parametrize(
    ("build", "why"),
    [
        (OnValues, r"values of a tensor, of which a graph knows nothing at test_by_example\.py:\d+; change its"),
        (OnBatch, "something else with another batch"),
        (Numpy, "values of a tensor|something else with other numbers"),
    ],
)
def test_what_depends_on_the_example_is_refused(build: Callable[[], nn.Module], why: str) -> None:
    net = build().eval()
    with pytest.raises(QuantizationError, match=why):
        lsq_export.prepare(net, TRAINED, example=image())
    auto = lsq_export.QATConfig(weight_bits=8, activation_bits=8)
    with pytest.warns(QuantizationWarning, match=why.partition(";")[0]):
        model = lsq_export.prepare(net, auto, example=image())
    found = config_of(model)
    assert found is not None and found.edges == "calibrated"


def test_without_an_example_the_way_out_is_named() -> None:
    with pytest.raises(QuantizationError, match=r"example=x"):
        lsq_export.prepare(SizesDecide(), TRAINED)


def test_a_branch_on_the_mode_is_told() -> None:
    with pytest.warns(QuantizationWarning, match=r"branches on self\.training \(test_by_example\.py:\d+\)"):
        lsq_export.prepare(Mode().eval(), TRAINED, example=image())


def test_a_norm_by_a_function_learns_its_statistics_in_training() -> None:
    net, example = made("a norm by a function")
    model = lsq_export.prepare(net, TRAINED, example=example)
    assert not any("norm" in key or key == "edges.a" for key in lsq_export.quantizers(model))
    calib.initialize(model, [example])
    mean = model.get_buffer("norm.running_mean").clone()
    model.eval()(example)
    assert torch.equal(model.get_buffer("norm.running_mean"), mean)
    model.train()(example)
    assert not torch.equal(model.get_buffer("norm.running_mean"), mean)


def test_the_mode_of_modules_is_kept() -> None:
    net = SizesDecide().train()
    net.drop.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = lsq_export.prepare(net, TRAINED, example=image())
    assert net.training and not net.drop.training and type(net.training) is bool
    assert model.training and model.get_submodule("a").training


class Dropping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.layer(F.dropout(x, 0.25, self.training)))


def test_dropouts_of_functions_inside_a_sequential() -> None:
    """Its forward goes through the modules to which those of the dropouts are added."""
    net = nn.Sequential(Dropping(), Dropping(), nn.Linear(6, 2)).eval()
    model = lsq_export.prepare(net, TRAINED, example=torch.randn(4, 6))
    assert config_of(model) == TRAINED
    dropouts = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    assert [module.p for module in dropouts] == [0.25, 0.25] and not any(module.training for module in dropouts)
    assert all(module.training for module in model.train().modules() if isinstance(module, nn.Dropout))
