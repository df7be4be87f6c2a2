"""Forwards as people write them: lengths by len, optional labels, numbers among outputs, places of maxima, and rows
that the data choose. Each is exported, and ONNX Runtime's file gives what the prepared model gives, in any batch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import calib
import lsq_export
from lsq_export.rewrite.normalizing import decompose

CALIBRATED = lsq_export.QATConfig(weight_bits=8, activation_bits=8, edges="calibrated")
TRAINED = lsq_export.QATConfig(weight_bits=8, activation_bits=8, edges="trained")


class Length(nn.Module):
    """The batch by len, as in torch's tutorials."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(64, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.conv(x).relu().reshape(len(x), -1))


class Labels(nn.Module):
    """With a loss where there are labels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1)

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None, *, mask: torch.Tensor | None = None) -> Any:
        y = self.head(self.conv(x).relu()).mean((2, 3))
        if mask is not None:
            y = y * mask
        loss = F.cross_entropy(y, labels.flatten()) if labels is not None else None
        return {"loss": loss, "logits": y}


class Pair(NamedTuple):
    y: torch.Tensor
    again: torch.Tensor
    count: int
    nothing: None


class Numbers(Labels):
    """Numbers, sizes and None among what it returns, and one tensor twice."""

    def forward(self, x: torch.Tensor) -> Any:  # type: ignore[override]
        y = self.head(self.conv(x).relu())
        sizes = {"batch": x.shape[0], "height": y.size(2), "shape": y.shape}
        return Pair(y, y, 3, None), {"mean": y.mean((2, 3)), "text": "text"}, sizes


class Places(nn.Module):
    """SegNet's pools: their maxima go back where they came from."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.pool = nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(2, return_indices=True)
        self.middle, self.back, self.last = nn.Conv2d(4, 4, 3, padding=1), nn.MaxUnpool2d(2), nn.Conv2d(4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, places = self.pool(self.first(x).relu())
        return self.last(self.back(self.middle(y), places))


class Routed(nn.Module):
    """Experts that get the rows which a gate chose, as many as these are."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.head = nn.Linear(6, 2), nn.Linear(6, 3)
        self.experts = nn.ModuleList(nn.Linear(6, 6) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        best = self.gate(x).argmax(-1)
        out = torch.zeros_like(x)
        for index, expert in enumerate(self.experts):
            rows = torch.where(best == index)[0]
            out.index_add_(0, rows, expert(x[rows]))
        return self.head(x + out)


class Statistics(nn.Module):
    """A norm without running statistics, and a gate of one number for each image."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)
        self.last = nn.Conv2d(4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.first(x)).relu()
        return self.last(y * y.mean((1, 2, 3), keepdim=True).sigmoid())


IMAGES = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))
ROWS = torch.randn(12, 6, generator=torch.Generator().manual_seed(0))
CASES: dict[str, tuple[type[nn.Module], torch.Tensor]] = {
    "length": (Length, IMAGES),
    "labels": (Labels, IMAGES),
    "numbers": (Numbers, IMAGES),
    "places": (Places, IMAGES),
    "routed": (Routed, ROWS),
    "statistics": (Statistics, IMAGES),
}


def tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else ()
    return [tensor for part in parts for tensor in tensors(part)]


def made(name: str, config: lsq_export.QATConfig) -> tuple[nn.Module, torch.Tensor]:
    build, x = CASES[name]
    torch.manual_seed(3)
    model = lsq_export.prepare(build().eval(), config, example=x)
    calib.initialize(model, [x])
    return model, x


@pytest.mark.parametrize("config", [CALIBRATED, TRAINED], ids=lambda config: config.edges)
@pytest.mark.parametrize("name", CASES)
def test_a_forward_is_exported(
    name: str, config: lsq_export.QATConfig, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither torch.fx nor ONNX Runtime, whose warnings of wrong shapes go to stderr itself, has anything to say."""
    model, x = made(name, config)
    bundle = lsq_export.export(model, x[:1], tmp_path / "out", calibration=[x], formats=["qoperator"])
    parity = lsq_export.verify(model, bundle, [x])
    assert parity.ok, parity.failures
    session = ort.InferenceSession(str(bundle.models["qoperator"]))
    for batch in (x, x[:3]):
        found = session.run(None, {session.get_inputs()[0].name: batch.numpy()})
        with torch.no_grad():
            wanted = [tensor.numpy() for tensor in tensors(model(batch))]
        assert [array.shape for array in found] == [array.shape for array in wanted]
        for mine, theirs in zip(found, wanted, strict=True):
            # in the mean: a place or a choice of rows that a rounding changes moves whole values
            assert np.abs(mine - theirs).mean() <= 0.02 * np.abs(theirs).max()
    assert capfd.readouterr().err == ""


def test_a_model_prepared_without_labels_takes_none() -> None:
    """It would leave them out of account in silence."""
    model, x = made("labels", TRAINED)
    with pytest.raises(AssertionError, match="prepared without labels: prepare it with an example that has it"):
        model(x, torch.zeros(4, dtype=torch.long))


def test_labels_that_the_example_has_are_taken() -> None:
    torch.manual_seed(3)
    labels = torch.zeros(4, 1, dtype=torch.long)
    model = lsq_export.prepare(Labels(), TRAINED, example={"x": IMAGES, "labels": labels})
    calib.initialize(model, [{"x": IMAGES, "labels": labels}])
    assert model(IMAGES, labels)["loss"] > 0


def test_a_graph_that_fails_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    model, x = made("labels", TRAINED)
    with pytest.raises(RuntimeError):
        model(x[:, :2])
    assert capsys.readouterr().err == ""


class LastToken(nn.Module):
    """Places are computed: lengths - 1 and such are integers, and stay integers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(20, 8), nn.Linear(8, 3)

    def forward(self, tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        y = self.head(self.embed(tokens))
        return y[torch.arange(tokens.shape[0]), (-lengths).abs() - 1]


@pytest.mark.filterwarnings("ignore:layers that stay float")
def test_places_stay_integers(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 20, (4, 6), generator=generator)
    lengths = torch.randint(1, 7, (4,), generator=generator)
    torch.manual_seed(3)
    model = lsq_export.prepare(LastToken(), CALIBRATED)
    calib.initialize(model, [(tokens, lengths)])
    bundle = lsq_export.export(
        model, (tokens, lengths), tmp_path / "out", calibration=[(tokens, lengths)], formats=["qoperator"]
    )
    assert lsq_export.verify(model, bundle, [(tokens, lengths)]).ok


@pytest.mark.parametrize(("old", "new"), [(12, 7), (12, 13), (7, 3), (14, 9), (10, 7), (49, 24)])
def test_scales_give_their_sizes_in_float32_and_float64(old: int, new: int) -> None:
    """ONNX's inference of shapes takes the one, kernels the other: 12 · float32(7/12) is 7 in float32 and below it in
    float64.
    """
    for scale in decompose._scales([old], [new])[2:]:
        assert int(np.float32(old) * scale) == int(old * float(scale)) == new


def test_a_fixed_size_has_no_other_in_the_file(tmp_path: Path) -> None:
    class Resized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(F.interpolate(self.first(x), size=(7, 13)))

    torch.manual_seed(3)
    x = torch.randn(2, 3, 12, 12)
    model = lsq_export.prepare(Resized(), CALIBRATED)
    calib.initialize(model, [x])
    bundle = lsq_export.export(model, x, tmp_path / "out", calibration=[x], formats=["qdq"])
    inferred = onnx.shape_inference.infer_shapes(onnx.load(bundle.models["qdq"]), strict_mode=True)
    assert [d.dim_value for d in inferred.graph.output[0].type.tensor_type.shape.dim[1:]] == [2, 7, 13]


def test_check_names_the_line_of_what_was_rewritten() -> None:
    """x / 3 becomes a product, which comes from the line of the division."""

    class Divided(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cumsum(x.exp() / 3, 1).sin() + self.conv(x).mean(1, keepdim=True)

    outlook = lsq_export.check(Divided(), torch.randn(2, 3, 6, 6))
    assert all(Path(__file__).name in entry.source for entry in outlook.of_kind("float"))


class Warped(nn.Module):
    """A spatial transformer: what a layer gives turns into the places of all pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.where, self.last = nn.Linear(8, 6), nn.Conv2d(3, 4, 1)
        with torch.no_grad():
            self.where.weight.mul_(0.2)
            self.where.bias.copy_(torch.tensor([1.0, 0, 0, 0, 1.0, 0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        turn = self.where(x[:, 0, :1, :8].flatten(1)).view(-1, 2, 3)
        return self.last(F.grid_sample(x, F.affine_grid(turn, list(x.shape), align_corners=False)))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Default grid_sample")
def test_coordinates_are_no_8_bit_integers(tmp_path: Path) -> None:
    """On 64 pixels a step of 8 bits between -1.2 and 1.2 is a third of a pixel, which training does not have."""
    torch.manual_seed(3)
    x = torch.randn(8, 3, 64, 64)
    model = lsq_export.prepare(Warped().eval(), TRAINED, example=x)
    calib.initialize(model, [x])
    bundle = lsq_export.export(model, x[:1], tmp_path / "out", calibration=[x], formats=["qoperator"])
    parity = lsq_export.verify(model, bundle, [x])
    assert parity.ok, parity.failures
    assert parity.formats["qoperator"].sqnr_db > 60
