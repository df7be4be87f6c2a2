"""Networks with several inputs, named and nested outputs, wrappers and fixed batches, from prepare to run.py."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import calib
import lsq_export
from calib.errors import QuantizationError, QuantizationWarning
from lsq_export.graph.results import named_outputs
from support.networks import Wired

N = 12


class Pair(nn.Module):
    """Two float inputs of other sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(8, 8), nn.Linear(6, 8), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor, side: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.c(torch.relu(self.a(x) - self.b(side)))
        return y


def pairs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(N, 8, generator=generator), torch.randn(N, 6, generator=generator)


def ready(net: nn.Module, batches: Any, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    model = lsq_export.prepare(net, lsq_export.QATConfig(8, 8, **options))
    calib.initialize(model, batches, method="minmax")
    return model.eval()


def session(bundle: lsq_export.Bundle, name: str = "qoperator") -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(bundle.models[name]), providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, lsq_export.Bundle]:
    torch.manual_seed(0)
    x, side = pairs()
    model = ready(Pair(), [(x, side)])
    out = tmp_path_factory.mktemp("two") / "out"
    return model, lsq_export.export(model, (x[:1], side[:1]), out, calibration=[(x, side)])


# ---- several inputs


@pytest.mark.parametrize("own", [True, False])
def test_batches_of_several_inputs_have_many_forms(own: bool, two: tuple[nn.Module, lsq_export.Bundle]) -> None:
    model, bundle = two
    x, side = pairs()
    target = torch.arange(N) % 4
    forms: list[Any] = [
        (x, side),
        (x, side, target),
        [(x, side), target],
        {"side": side, "x": x, "labels": target},
        ({"x": x, "side": side}, target),
    ]
    found = [lsq_export.verify(model if own else None, bundle, [form]) for form in forms]
    assert all(parity.ok and parity.images == N for parity in found), [parity.failures for parity in found]
    assert {parity.folded_sqnr_db for parity in found} == {found[0].folded_sqnr_db}
    assert [parity.trained_accuracy is not None for parity in found] == [False, True, True, True, True]


def test_inputs_have_the_names_of_forward(two: tuple[nn.Module, lsq_export.Bundle]) -> None:
    _, bundle = two
    for name in bundle.models:
        assert [value.name for value in session(bundle, name).get_inputs()] == ["x", "side"]
    assert [entry["name"] for entry in bundle.manifest["inputs"]] == ["x", "side"]
    assert bundle.manifest["input"] == {"name": "x", "type": "float32", "shape": ["batch", 8]}
    assert "2 tensors: `x`, float32 [batch, 8]; `side`, float32 [batch, 6]" in (
        bundle.directory / "README.md"
    ).read_text(encoding="utf-8")
    assert "x float32 [N, 8] and side float32 [N, 6]" in repr(bundle)
    assert "each input by its name" in (bundle.directory / "report.html").read_text(encoding="utf-8")


def test_golden_vectors_and_run_py_take_several_inputs(
    two: tuple[nn.Module, lsq_export.Bundle], tmp_path: Path
) -> None:
    _, bundle = two
    vectors = sorted(path.name for path in (bundle.directory / "qoperator" / "test_data_set_0").iterdir())
    assert vectors == ["input_0.pb", "input_1.pb", "output_0.pb"]

    def run(*arguments: str) -> Any:
        command = [sys.executable, str(bundle.directory / "run.py"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    alone = run()
    assert alone.returncode == 0 and "0 of 4 outputs differ from the integer reference" in alone.stdout, alone.stderr
    x, side = (tensor[3].numpy() for tensor in pairs())
    np.savez(tmp_path / "one.npz", x=x, side=side)
    np.savez(tmp_path / "half.npz", x=x)
    np.savez(tmp_path / "wrong.npz", x=x, side=x)
    given = run(str(tmp_path / "one.npz"), "--prepared")
    expected = session(bundle).run(None, {"x": x[None], "side": side[None]})[0]
    assert given.returncode == 0 and f"{expected.max():.4f}" in given.stdout
    for file, says in (("half", "lacks the input side; it has x"), ("wrong", "side is [8], but the input is [6]")):
        failed = run(str(tmp_path / f"{file}.npz"), "--prepared")
        assert failed.returncode == 2 and says in failed.stderr and failed.stderr.count("\n") == 1


class Encoder(nn.Module):
    """Tokens that are looked up, a mask that is read twice, and one number for each sample."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 16)
        self.q, self.k, self.v, self.out = (nn.Linear(16, 16) for _ in range(4))
        self.head = nn.Linear(16, 3)

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor, scale: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.table(tokens)
        scores = (self.q(x) @ self.k(x).transpose(1, 2) / 4).masked_fill(~mask[:, None, :], -1e9)
        x = x + self.out(scores.softmax(-1) @ self.v(x))
        weights = mask[:, :, None].float()
        pooled = (x * weights).sum(1) / weights.sum(1) * scale[:, None]
        return {"logits": self.head(pooled), "class": self.head(x[:, 0]).argmax(-1)}


def test_tokens_masks_and_numbers_are_inputs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    batch = {"tokens": torch.randint(0, 50, (N, 5)), "mask": torch.rand(N, 5) > 0.3, "scale": torch.rand(N) + 0.5}
    batch["mask"][:, 0] = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", QuantizationWarning)  # the table stays float
        model = ready(Encoder(), [batch])
    bundle = lsq_export.export(model, {k: v[:1] for k, v in batch.items()}, tmp_path / "out", calibration=[batch])
    assert [entry["type"] for entry in bundle.manifest["inputs"]] == ["int64", "bool", "float32"]
    parity = lsq_export.verify(model, bundle, [{**batch, "labels": torch.arange(N) % 3}])
    assert parity.ok and parity.folded_sqnr_db > 25, parity.failures
    done = subprocess.run(
        [sys.executable, str(bundle.directory / "run.py")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_swapped_inputs_are_noticed(two: tuple[nn.Module, lsq_export.Bundle]) -> None:
    """A model whose inputs have one shape, in another order, is another model."""

    class Difference(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 4)

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            z: torch.Tensor = self.b(self.a(x) - y)
            return z

    class Swapped(Difference):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return super().forward(y, x)

    x, y = torch.randn(N, 8), torch.randn(N, 8)
    torch.manual_seed(0)
    model, other = (ready(kind(), [(x, y)], edges="calibrated") for kind in (Difference, Swapped))
    other.load_state_dict(model.state_dict())
    out = two[1].directory.parent / "difference"
    bundle = lsq_export.export(model, (x[:1], y[:1]), out, calibration=[(x, y)])
    assert lsq_export.verify(model, bundle, [(x, y)]).ok
    assert not lsq_export.verify(other, bundle, [(x, y)]).ok


def test_a_mapping_is_an_example_and_noise_tells_nothing(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x, side = pairs()
    model = ready(Pair(), [{"x": x, "side": side}])
    batch = {"side": side, "x": x}
    bundle = lsq_export.export(
        model, {name: tensor[:1] for name, tensor in batch.items()}, tmp_path / "out", calibration=[batch], sample=False
    )
    assert lsq_export.verify(model, bundle, [batch]).ok
    with np.load(bundle.directory / "sample" / "input.npz") as arrays:
        assert not any(np.array_equal(arrays["x"], sample) for sample in x.numpy())


@pytest.mark.parametrize(
    ("example", "calibration", "says"),
    [
        (lambda x, s: x[:1], None, "the model takes 2 inputs (x, side), example_input is one tensor: give a tuple"),
        (lambda x, s: (x[:1],), None, "the model takes 2 inputs (x, side), example_input has 1"),
        (lambda x, s: (x[:1], s[:1], s[:1]), None, "the model takes 2 inputs (x, side), example_input has 3"),
        (lambda x, s: {"x": x[:1], "y": s[:1]}, None, "example_input has 'y': the model's forward takes x, side"),
        (lambda x, s: {"x": x[:1]}, None, "example_input lacks 'side'"),
        (lambda x, s: (x[:1], s[:2]), None, "other numbers of samples in their first dimension (x 1, side 2)"),
        (lambda x, s: (x[:1], 3), None, "the input side is a int: give tensors"),
        (lambda x, s: (x[:1], torch.tensor(3.0)), None, "the input side is a single number: every input is [N, …]"),
        (lambda x, s: (x[:1], s[:1]), lambda x, s: [x], "batch 0 is one Tensor, the model takes 2 inputs (x, side)"),
        (lambda x, s: (x[:1], s[:1]), lambda x, s: [(x,)], "calibration batch 0 has 1 parts, the model takes 2"),
        (lambda x, s: (x[:1], s[:1]), lambda x, s: [{"x": x}], "has no 'side', its keys are x"),
        (lambda x, s: (x[:1], s[:1]), lambda x, s: [(s, x)], "x [6] and side [8], the example input has x [8] and"),
        (lambda x, s: (x[:1], s[:1]), lambda x, s: [(x, s * torch.nan)], "batch 0: side holds NaN or infinity in 12"),
    ],
)
def test_inputs_that_do_not_fit_are_named(
    example: Any, calibration: Any, says: str, two: tuple[nn.Module, lsq_export.Bundle], tmp_path: Path
) -> None:
    model, _ = two
    x, side = pairs()
    batches = [(x, side)] if calibration is None else calibration(x, side)
    with pytest.raises(QuantizationError) as error:
        lsq_export.export(model, example(x, side), tmp_path / "out", calibration=batches)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_a_bundle_names_an_input_that_does_not_fit(two: tuple[nn.Module, lsq_export.Bundle]) -> None:
    model, bundle = two
    x, side = pairs()
    for batch, says in (
        ((x, x), "batch 0 has side of shape [8]: the bundle takes [6] (without the batch)"),
        ({"x": x}, "batch 0 has no 'side'"),
        ((x.long(), side), "x is torch.int64, the network was exported with torch.float32"),
    ):
        with pytest.raises(QuantizationError) as error:
            lsq_export.verify(model, bundle, [batch])
        assert says in str(error.value)


# ---- outputs


Corner = namedtuple("Corner", "low high")


@dataclass
class Found:
    boxes: Any
    score: Any = None


OUTPUTS: dict[str, tuple[Callable[[torch.Tensor, torch.Tensor], Any], list[str]]] = {
    "one": (lambda y, z: y, ["output"]),
    "alone in a tuple": (lambda y, z: (y,), ["output"]),
    "tuple": (lambda y, z: (y, z), ["output_0", "output_1"]),
    "nested": (lambda y, z: (y, [z, (y * 2,)]), ["output_0", "output_1.0", "output_1.1.0"]),
    "mapping": (lambda y, z: {"out": y, "aux": {"low": z}}, ["out", "aux.low"]),
    "mapping of one": (lambda y, z: {"out": y}, ["out"]),
    "dataclass": (lambda y, z: Found(y, score=z), ["boxes", "score"]),
    "without some": (lambda y, z: Found(y), ["boxes"]),
    "named tuple": (lambda y, z: {"corner": Corner(y, z), "count": 3, "kind": "x"}, ["corner.low", "corner.high"]),
    "scalar": (lambda y, z: y[:, 0], ["output"]),
}


@pytest.mark.parametrize(("make", "names"), OUTPUTS.values(), ids=OUTPUTS)
def test_outputs_have_the_names_of_the_model(
    make: Callable[[torch.Tensor, torch.Tensor], Any], names: list[str], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    layers = {"a": nn.Linear(8, 6), "b": nn.Linear(6, 4), "c": nn.Linear(8, 3)}
    net = Wired(lambda s, x: make(s.b(torch.relu(s.a(x))), s.c(x)), **layers)
    x, _ = pairs()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", QuantizationWarning)  # a layer that nobody reads
        model = ready(net, [x], edges="calibrated")
    bundle = lsq_export.export(model, x[:1], tmp_path / "out", calibration=[x])
    parity = lsq_export.verify(model, bundle, [(x, torch.arange(N) % 4)])
    assert parity.ok, parity.failures
    assert [value.name for value in session(bundle).get_outputs()] == bundle.manifest["outputs"] == names


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda y, z: Found(y, score=z), ["boxes", "score"]),
        (lambda y, z: Found(score=y, boxes=Corner(z, y * 2)), ["boxes.low", "boxes.high", "score"]),
        (lambda y, z: {"found": Found(y), "z": z}, ["found.boxes", "z"]),
    ],
)
def test_dataclasses_of_networks_with_trained_edges(
    make: Callable[[torch.Tensor, torch.Tensor], Any], names: list[str], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    layers = {"a": nn.Linear(8, 6), "b": nn.Linear(6, 4), "c": nn.Linear(8, 3)}
    net = Wired(lambda s, x: make(s.b(torch.relu(s.a(x))), s.c(x)), **layers)
    x, _ = pairs()
    model = ready(net, [x], edges="trained")
    code = model.code
    bundle = lsq_export.export(model, x[:1], tmp_path / "out", calibration=[x])
    assert bundle.manifest["outputs"] == names and model.code == code
    assert bundle.parity is not None and bundle.parity.ok
    ours = session(bundle).run(None, {"input": x.numpy()})
    theirs = named_outputs(model(x))
    for name, value in zip(names, ours, strict=True):
        assert np.abs(value - theirs[name].detach().numpy()).max() < 0.1


def test_a_network_of_float64_is_said_at_once() -> None:
    with pytest.warns(QuantizationWarning, match=r"^the model is float64 \(0.weight\): .*model.float\(\), now"):
        lsq_export.prepare(nn.Sequential(nn.Linear(8, 4)).double(), lsq_export.QATConfig(8, 8))


def test_inputs_constants_and_outputs_can_be_outputs_as_they_are(tmp_path: Path) -> None:
    class HandsOn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(8, 6), nn.Linear(6, 4)
            self.register_buffer("anchors", torch.arange(6.0).reshape(3, 2))
            self.register_buffer("mask", torch.tensor([True, False]))

        def forward(self, x: torch.Tensor, ids: torch.Tensor) -> Any:
            y = self.b(torch.relu(self.a(x)))
            own = {"anchors": self.anchors, "mask": self.mask, "ones": torch.ones(3)}
            return {"y": y, "x": x, "ids": ids, **own, "again": y}

    torch.manual_seed(0)
    x, ids = pairs()[0], torch.arange(N)
    model = ready(HandsOn(), [(x, ids)], edges="calibrated")
    bundle = lsq_export.export(model, (x[:1], ids[:1]), tmp_path / "out", calibration=[(x, ids)])
    assert lsq_export.verify(model, bundle, [(x, ids)]).ok and bundle.manifest["islands"] == []
    assert [entry["type"] for entry in bundle.manifest["inputs"]] == ["float32", "int64"]
    for name in bundle.models:
        run = session(bundle, name)
        names = [value.name for value in run.get_outputs()]
        assert names == ["y", "x_output", "ids_output", "anchors", "mask", "ones", "again"]
        found = dict(zip(names, run.run(None, {"x": x.numpy(), "ids": ids.numpy()}), strict=True))
        assert np.array_equal(found["x_output"], x) and np.array_equal(found["ids_output"], ids)
        assert np.array_equal(found["anchors"], np.arange(6.0).reshape(3, 2)) and found["mask"].tolist() == [
            True,
            False,
        ]
        assert np.array_equal(found["again"], found["y"]) and found["ones"].tolist() == [1, 1, 1]


def test_a_number_for_each_sample_has_no_class(tmp_path: Path) -> None:
    """Regression, or a binary classifier: [N]."""
    torch.manual_seed(0)
    x, _ = pairs()
    net = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 1), nn.Flatten(0))
    model = ready(net, [x])
    bundle = lsq_export.export(model, x[:1], tmp_path / "out", calibration=[x])
    parity = lsq_export.verify(model, bundle, [(x, torch.zeros(N))])
    assert parity.ok and parity.images == N and parity.trained_accuracy is None and parity.folded_sqnr_db > 30
    assert bundle.manifest["sample"]["class"] is None


def test_what_is_no_output_is_said() -> None:
    x, _ = pairs()
    for make, says in (
        (lambda y: None, "the model returns nothing without a tensor"),
        (lambda y: {"n": 3}, "the model returns a dict without a tensor"),
        (lambda y: {"y": object()}, "the model returns a object in y: it must return tensors"),
        (lambda y: {"a.0": y, "a": [y]}, "two outputs that are called a.0"),
    ):
        model = ready(Wired(lambda s, x, make=make: make(s.a(x)), a=nn.Linear(8, 6)), [x], edges="calibrated")
        with pytest.raises(QuantizationError, match=says):
            lsq_export.export(model, x[:1], "never", calibration=[x])


# ---- batches of one, 16 bits, wrappers, heads


ALONE: dict[str, Callable[[Any, torch.Tensor], torch.Tensor]] = {
    "view": lambda s, x: s.b(torch.relu(s.a(x)).view(1, 6)),
    "squeeze": lambda s, x: s.b(torch.relu(s.a(x))).squeeze(0),
    "squeeze all": lambda s, x: s.b(torch.relu(s.a(x))).squeeze(),
}


@pytest.mark.parametrize("forward", ALONE.values(), ids=ALONE)
@pytest.mark.parametrize("together", [True, False])
def test_a_network_of_single_samples_has_a_fixed_batch(
    forward: Callable[[Any, torch.Tensor], torch.Tensor], together: bool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    x, _ = pairs()
    model = ready(Wired(forward, a=nn.Linear(8, 6), b=nn.Linear(6, 4)), list(x.split(1)), edges="calibrated")
    batches = [x] if together and forward is not ALONE["view"] else list(x.split(1))
    with pytest.warns(QuantizationWarning, match="one sample at a time .*: the files have the fixed batch 1"):
        bundle = lsq_export.export(model, x[:1], tmp_path / "out", calibration=batches)
    assert session(bundle).get_inputs()[0].shape == [1, 8] == bundle.manifest["input"]["shape"]
    parity = lsq_export.verify(model, bundle, batches)
    assert parity.ok and parity.images == N, parity.failures
    assert "one sample at a time" in (bundle.directory / "README.md").read_text(encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(bundle.directory / "run.py")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_others_have_any_batch(two: tuple[nn.Module, lsq_export.Bundle]) -> None:
    assert isinstance(session(two[1]).get_inputs()[0].shape[0], str)


class Varying(nn.Module):
    """Fully convolutional, with everything that could depend on a size."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, stride=2)
        self.c, self.d, self.e = nn.Conv2d(16, 8, 3, padding=1), nn.Conv2d(8, 2, 1), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> Any:
        a = torch.relu(self.a(x))
        b = nn.functional.silu(self.b(a))
        up, pooled = nn.functional.interpolate(b, scale_factor=2), nn.functional.max_pool2d(a, 3, 1, 1)
        return self.d(torch.relu(self.c(torch.cat([pooled, up], 1)))), self.e(b.mean((2, 3)))


@pytest.mark.slow
def test_height_and_width_can_vary(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = ((16, 24), (32, 8), (24, 40))
    small, wide, other = (torch.randn(3, 3, *size) for size in sizes)
    model = ready(Varying(), [small, wide])
    options: dict[str, Any] = {"calibration": [small, wide], "dynamic": {2: "height", 3: "width"}}
    formats = ("qdq", "qoperator", "lookup")
    bundle = lsq_export.export(model, small[:1], tmp_path / "out", formats=formats, **options)
    parity = lsq_export.verify(model, bundle, [small, wide, other])
    assert parity.ok and parity.images == 9, parity.failures
    assert bundle.manifest["input"]["shape"] == ["batch", 3, "height", "width"]
    for name in ("qdq", "qoperator"):
        outputs = session(bundle, name).run(None, {"input": other.numpy()})
        assert outputs[0].shape == (3, 2, 24, 40)
    np.save(tmp_path / "other.npy", other[0].numpy())
    command = [sys.executable, str(bundle.directory / "run.py"), str(tmp_path / "other.npy"), "--prepared"]
    assert "output [1, 2, 24, 40]" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
    fixed = lsq_export.export(model, small[:1], tmp_path / "fixed", calibration=[small])
    with pytest.raises(QuantizationError, match=r"batch 0 has inputs of shape \[3, 32, 8\]"):
        lsq_export.verify(model, fixed, [wide])


@pytest.mark.parametrize(
    ("dynamic", "says"),
    [
        ({0: "many"}, "input has no axis 0 beside its batch, which varies anyway: it has the axes 1 to 3"),
        ({4: "depth"}, "input has no axis 4"),
        ({2: "batch"}, "'batch' is no name of an axis"),
        ({2: 3}, "3 is no name of an axis"),
        ({"image": {2: "height"}}, "'image' is no input"),
        ({"input": 2}, "'input' is no input"),
    ],
)
def test_axes_that_cannot_vary_are_named(dynamic: Any, says: str) -> None:
    x = torch.randn(2, 3, 16, 16)
    model = ready(Varying(), [x])
    with pytest.raises(QuantizationError) as error:
        lsq_export.export(model, x[:1], "never", calibration=[x], dynamic=dynamic)
    assert says in str(error.value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_network_of_16_bits_becomes_one_of_32(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 4)).to(dtype)
    x, _ = pairs()
    with pytest.warns(QuantizationWarning, match=r"the model is b?float16 \(0.weight\): the prepared copy computes"):
        model = lsq_export.prepare(net)
    assert {p.dtype for p in model.parameters()} == {torch.float32} and net[0].weight.dtype == dtype
    calib.initialize(model, [x.to(dtype)])
    assert model.eval()(x).dtype == torch.float32


def compiled(net: nn.Module) -> Any:
    return torch.compile(net, backend="eager")


@pytest.mark.parametrize("wrap", [nn.DataParallel, compiled, lambda net: nn.DataParallel(compiled(net))])
def test_wrappers_are_looked_through(wrap: Callable[[nn.Module], Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    x, _ = pairs()
    net = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4)).eval()
    plain = ready(net, [x])
    model = ready(wrap(net), [x])
    assert list(lsq_export.quantizers(model)) == list(lsq_export.quantizers(plain))
    assert lsq_export.layer_names(wrap(net)) == ["0", "2"]
    calib.initialize(wrap(plain), [x], method="minmax")
    bundle = lsq_export.export(wrap(model), x[:1], tmp_path / "out", calibration=[x])
    assert lsq_export.verify(wrap(model), bundle, [x]).ok
    assert bundle.manifest["source"]["config"]["weight_bits"] == 8


def test_a_compiled_part_is_looked_through() -> None:
    net = nn.Sequential(nn.Linear(8, 6), compiled(nn.Sequential(nn.ReLU(), nn.Linear(6, 4))))
    model = lsq_export.prepare(net)
    assert lsq_export.layer_names(net) == ["0", "1.1"] and "1.1.weight" in lsq_export.quantizers(model)
    assert hasattr(net[1], "_orig_mod")  # the user's own is as it was


class WithAux(nn.Module):
    """A head that only training uses."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.aux = nn.Linear(8, 6), nn.Linear(6, 4), nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> Any:
        y = torch.relu(self.a(x))
        return (self.b(y), self.aux(y)) if self.training else self.b(y)


def test_a_head_of_training_is_left_out_with_a_note(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x, _ = pairs()
    model = lsq_export.prepare(WithAux(), lsq_export.QATConfig(8, 8, edges="calibrated"))
    with pytest.warns(QuantizationWarning, match="no data reach aux in eval mode: left out"):
        calib.initialize(model, [x])
    main, aux = model.train()(x)
    (main.sum() + aux.sum()).backward()
    assert torch.equal(aux, nn.functional.linear(torch.relu(model.a(x)), model.aux.weight, model.aux.bias))
    bundle = lsq_export.export(model.eval(), x[:1], tmp_path / "out", calibration=[x])
    assert lsq_export.verify(model, bundle, [x]).ok
    assert [layer["name"] for layer in bundle.manifest["layers"]] == ["a", "b"]
    fresh = lsq_export.prepare(WithAux(), lsq_export.QATConfig(8, 8, edges="calibrated"))
    fresh.load_state_dict(model.state_dict())
    assert lsq_export.verify(fresh.eval(), bundle, [x]).ok
    assert "aux" not in json.dumps(bundle.manifest["tensors"])


class OneTuple(nn.Module):
    """Takes its tensors as one argument."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 4), nn.Linear(8, 4)

    def forward(self, both: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        y: torch.Tensor = self.a(both[0]) + self.b(both[1])
        return y


def test_tensors_in_one_argument_are_named() -> None:
    x = torch.randn(N, 8)
    model = lsq_export.prepare(OneTuple(), lsq_export.QATConfig(8, 8, edges="calibrated"))
    says = (
        r"2 tensors come as one tuple, and the model's forward takes 1 \(both\): give it one argument for each tensor"
    )
    with pytest.raises(QuantizationError, match=says):
        calib.initialize(model, [((x, x),)])


def test_features_that_vary_with_the_image_are_said_of_the_layer() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 5))
    x = torch.randn(N, 3, 8, 8)
    says = r"^3 \(Linear\) takes a fixed number of features, and gets one that varies: leave dynamic out"
    with pytest.raises(QuantizationError, match=says):
        lsq_export.export(ready(net, [x]), x[:1], "never", calibration=[x], dynamic={2: "height", 3: "width"})


class Ranked(nn.Module):
    """The two largest scores, their places, and the largest one's place again."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 6)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        scores = self.b(torch.relu(self.a(x)))
        largest, places = scores.topk(2, dim=-1)
        return largest, places, scores.argmax(-1)


def test_places_of_the_largest_are_outputs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(N, 8)
    model = ready(Ranked(), [x])
    bundle = lsq_export.export(model, x[:1], tmp_path / "out", calibration=[x])
    assert bundle.parity is not None and bundle.parity.ok, bundle.parity
    for name in ("qdq", "qoperator"):
        largest, places, first = session(bundle, name).run(None, {"input": x.numpy()})
        assert places.dtype == first.dtype == np.int64 and (places[:, 0] == first).all()
        theirs = model(x)
        assert (places == theirs[1].numpy()).mean() > 0.8 and np.abs(largest - theirs[0].detach().numpy()).max() < 0.1
