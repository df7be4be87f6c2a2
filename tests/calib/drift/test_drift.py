"""drift on a trained network: what leaves its range, monitoring, re-initialization, the command."""

from __future__ import annotations

import inspect
import json
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from torch import nn

import calib
import lsq_export
from calib import drift
from calib.drift import DriftMonitor, compare, measure, reinitialize
from calib.drift.range_use import RangeCounter, RangeUse
from calib.errors import QuantizationError
from lsq_export import models
from lsq_export.data import loading as data
from lsq_export.qat.prepare_model import quantizers
from lsq_export.training import checkpoint, job
from lsq_export.training import fit as train
from support.commands import invoke
from support.published import published
from support.range_oracle import agree, oracle

FIRST, LAST = "conv1.input", "fc.input"
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def digits() -> data.Dataset:
    return data.load("digits", image_size=16, channels=1)


@pytest.fixture(scope="module")
def trained_file(digits: data.Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny`, W4A4, trained for a few epochs by the job, which records what calibration saw."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    directory = tmp_path_factory.mktemp("drift")
    splits = {
        f"{what}_{name}": getattr(split, what).numpy()
        for name, split in (("train", digits.train), ("test", digits.test))
        for what in "xy"
    }
    np.savez(directory / "digits.npz", **splits)
    recipes = {"float_recipe": replace(train.PRETRAIN, epochs=3), "recipe": replace(train.FINETUNE, epochs=1)}
    task = job.Job("tiny", f"npz:{directory / 'digits.npz'}", device="cpu", config=published(), **recipes)
    loaded = task.load_data()
    job.train_low_bit(task, loaded, job.train_float(task, loaded).model, out=directory / "tiny.safetensors")
    torch.set_num_threads(threads)
    return directory / "tiny.safetensors"


@pytest.fixture
def trained(trained_file: Path) -> tuple[nn.Module, dict[str, RangeUse]]:
    model, found = checkpoint.restore(trained_file)
    return model, drift.from_record(found.extra[drift.RECORD])


def changed(digits: data.Dataset, change: Any, split: str = "test") -> list[torch.Tensor]:
    return [change(x) for x, _ in digits.batches(split, 64)]


def darkened(digits: data.Dataset, by: float) -> Any:
    mean, std = digits.preprocessing["mean"][0], digits.preprocessing["std"][0]
    return lambda x: ((x * std + mean) * by - mean) / std


def left(found: tuple[drift.Drift, ...]) -> list[str]:
    return [d.name for d in found if d.reasons]


def quantizer_inputs(model: nn.Module, batches: list[torch.Tensor]) -> dict[str, np.ndarray]:
    """Every sample that enters each activation quantizer, all kept."""
    kept: dict[str, list[np.ndarray]] = {}
    found = {name: q for name, q in quantizers(model).items() if q.kind == "activation"}
    hooks = [
        q.register_forward_pre_hook(lambda q, args, name=name: kept.setdefault(name, []).append(args[0].numpy().copy()))
        for name, q in found.items()
    ]
    with torch.no_grad():
        for x in batches:
            model(x)
    for hook in hooks:
        hook.remove()
    return {name: np.concatenate([a.ravel() for a in arrays]) for name, arrays in kept.items()}


def test_measure_is_numpy_on_all_samples(trained: Any, digits: data.Dataset) -> None:
    model, _ = trained
    batches = changed(digits, lambda x: 2 * x)
    steps: list[str] = []
    found = measure(model, batches, steps.append)
    assert steps[-1] == f"{len(digits.test)} images" and len(steps) == len(batches)
    kept = quantizer_inputs(model, batches)
    assert list(found) == list(kept)
    for name, x in kept.items():
        q = quantizers(model)[name]
        agree(found[name], oracle(x, float(q.scale.detach()), float(q.effective_offset.detach()), q.qmin, q.qmax))


def test_the_checkpoint_has_the_record_of_its_own_grids(trained: Any, digits: data.Dataset) -> None:
    model, record = trained
    assert measure(model, digits.batches("train", 64, shuffle=0, limit=job.RECORDED)) == record


def test_no_drift_on_held_out_data(trained: Any, digits: data.Dataset) -> None:
    model, record = trained
    assert left(compare(record, measure(model, changed(digits, lambda x: x)))) == []
    assert left(compare(record, measure(model, list(digits.batches("train", 64, shuffle=0))[job.RECORDED :]))) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [(lambda x: 2 * x, "clips"), (lambda x: x + 1, "clips"), ("dark", "uses")],
    ids=["scaled", "shifted", "darkened"],
)
def test_exactly_the_affected_quantizers_are_named(
    trained: Any, digits: data.Dataset, change: Any, reason: str
) -> None:
    """The first always is; of the others those, and only those, of which numpy says so."""
    model, record = trained
    change = darkened(digits, 0.25) if change == "dark" else change
    batches = changed(digits, change)
    found = compare(record, measure(model, batches))
    before = quantizer_inputs(model, [x for x, _ in digits.batches("train", 64, shuffle=0, limit=job.RECORDED)])
    now = quantizer_inputs(model, batches)
    expected = []
    for name in now:
        q = quantizers(model)[name]
        a, b = (
            oracle(x[name], float(q.scale.detach()), float(q.effective_offset.detach()), q.qmin, q.qmax)
            for x in (before, now)
        )
        clips = any(b[side] - a[side] > max(0.01, a[side] / 2) for side in ("below", "above"))
        counted = b["mse"] - sum(b[f"mse_{side}"] for side in ("below", "above") if b[side] <= 0.001)
        if clips or b["codes"] <= a["codes"] / 2 or counted / b["std"] ** 2 > 4 * a["mse"] / a["std"] ** 2:
            expected.append(name)
    assert left(found) == expected and expected[0] == FIRST and len(expected) < len(now)
    assert found[0].reasons[0].startswith(reason)


def test_drift_in_the_middle_names_that_quantizer_and_none_before_it(trained: Any, digits: data.Dataset) -> None:
    """Batch norm 4 (before pointwise) gives four times as much."""
    model, record = trained
    with torch.no_grad():
        model.bn4.weight.mul_(4)
        model.bn4.bias.mul_(4)
    names = left(compare(record, measure(model, changed(digits, lambda x: x))))
    order = list(record)
    assert names[0] == "pointwise.input" and order.index("pointwise.input") == 4


def test_a_monitor_that_counts_nothing_fails(
    trained: Any, digits: data.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, record = trained
    with DriftMonitor(model, record) as monitor, pytest.raises(QuantizationError, match=r"conv1\.input: no data"):
        monitor.report()
    monkeypatch.setattr(RangeCounter, "update", lambda self, x: None)
    with pytest.raises(QuantizationError, match="no data"):
        measure(model, changed(digits, lambda x: x))


def test_monitor_counts_what_measure_counts_and_leaves_no_hook(trained: Any, digits: data.Dataset) -> None:
    model, record = trained
    batches = changed(digits, lambda x: 2 * x)
    with torch.no_grad():
        expected = [model(x) for x in batches]
        with DriftMonitor(model, record) as monitor:
            assert all(torch.equal(model(x), y) for x, y in zip(batches, expected, strict=True))
            assert monitor.uses() == measure(model, batches)  # measure has a monitor of its own; this one now has both
            monitor.reset()
            for x in batches:
                model(x)
            assert monitor.report() == compare(record, measure_without(monitor, model, batches))
        assert not any(q._forward_hooks for q in quantizers(model).values())
        with DriftMonitor(model) as nothing, pytest.raises(QuantizationError, match="no reference"):
            nothing.report()


def measure_without(monitor: DriftMonitor, model: nn.Module, batches: list[torch.Tensor]) -> dict[str, RangeUse]:
    monitor.close()
    return measure(model, batches)


def test_the_example_in_the_docstring_runs(trained: Any, digits: data.Dataset) -> None:
    model, _ = trained
    text = inspect.getdoc(DriftMonitor)
    assert text is not None
    code = textwrap.dedent(text[text.index("    from calib import drift") :])
    history: list[list[str]] = []
    state: dict[str, Any] = {"model": model, "data": digits, "train": train, "history": history}
    exec(compile(code, "DriftMonitor", "exec"), state)
    assert len(history) == 2
    uses = state["monitor"]._counters  # reset in the last epoch, closed since
    assert all(counter._bins.sum() == 0 for counter in uses.values())


def test_in_training_mode_only_what_training_sees_counts(trained: Any, digits: data.Dataset) -> None:
    model, _ = trained
    x = next(iter(changed(digits, lambda x: x)))
    with DriftMonitor(model, training=True) as monitor:
        model.eval()(x)
        with pytest.raises(QuantizationError, match="no data"):
            monitor.uses()
        model.train()(x).sum().backward()
        kept = quantizer_inputs(model.train(), [x])
        assert monitor.uses()[FIRST].elements == 2 * kept[FIRST].size
    assert quantizers(model)[FIRST].scale.grad is not None


def test_a_bypassed_quantizer_counts_nothing(trained: Any, digits: data.Dataset) -> None:
    from calib.quantized import bypassed

    model, _ = trained
    with DriftMonitor(model) as monitor:
        with bypassed(model):
            model(changed(digits, lambda x: x)[0])
        with pytest.raises(QuantizationError, match="no data"):
            monitor.uses()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's compiler about torch
def test_compiled_models_count_too(trained: Any, digits: data.Dataset) -> None:
    model, _ = trained
    x = changed(digits, lambda x: x)[0]
    expected = measure(model, [x])
    with DriftMonitor(model) as monitor, torch.no_grad():
        torch.compile(model, backend="eager")(x)
        assert monitor.uses() == expected


# Re-initialization.


def test_reinitialization_lowers_the_error_and_touches_no_other(trained: Any, digits: data.Dataset) -> None:
    model, _ = trained
    batches = changed(digits, lambda x: 2 * x)
    now = measure(model, batches)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    reinitialize(model, batches, [FIRST])
    after = measure(model, batches)
    assert after[FIRST].mse < now[FIRST].mse / 100 and after[FIRST].above + after[FIRST].below < 0.01
    touched = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert touched == {f"conv1.input_quantizer.{what}" for what in ("scale", "offset", "floor")}
    assert not model.training and not any(q._forward_pre_hooks or q.bypass for q in quantizers(model).values())


def test_reinitialization_brings_a_network_back_whose_float_function_did_not_change(
    trained: Any, digits: data.Dataset
) -> None:
    """Eight times as much before a grid and an eighth after it is the same float network; only the grid does not fit.

    A ReLU lies between the two.
    """
    model, record = trained
    test = digits.batches("test", 256)
    good = train.evaluate(model, test)
    with torch.no_grad():
        for tensor in (model.bn5.weight, model.bn5.bias):
            tensor.mul_(8)
        for tensor in (model.grouped.parametrizations.weight.original, quantizers(model)["grouped.weight"].scale):
            tensor.div_(8)
    names = left(compare(record, measure(model, test)))
    assert names[0] == "grouped.input" and set(names) <= {"grouped.input", LAST}
    spoiled = train.evaluate(model, test)
    reinitialize(model, test, names[:1])
    after = measure(model, test)
    assert left(compare({**record, names[0]: after[names[0]]}, after)) == []
    assert train.evaluate(model, test) > good - 0.02 > spoiled


def test_reinitialization_is_that_of_calib_initialize_when_nothing_stands_before(
    trained: Any, digits: data.Dataset
) -> None:
    """The first quantizer sees the images themselves: the grid must be the one that a fresh model gets."""
    model, _ = trained
    batches = changed(digits, lambda x: x + 1)
    reinitialize(model, batches, [FIRST], "minmax")
    x = torch.cat(batches).double()
    q = quantizers(model)[FIRST]
    assert float(q.scale.detach()) == pytest.approx((x.max() - x.min()).item() / 255, rel=1e-6)
    assert float(q.offset.detach()) == pytest.approx(x.min().item(), rel=1e-6)


def test_several_are_reinitialized_as_if_those_in_front_lost_nothing(trained: Any, digits: data.Dataset) -> None:
    from calib.quantized import bypassed

    model, _ = trained
    batches = changed(digits, lambda x: 2 * x)
    clipped = quantizer_inputs(model, batches)["conv2.input"]
    with bypassed(quantizers(model)[FIRST]):
        x = quantizer_inputs(model, batches)["conv2.input"].astype(np.float64)
    reinitialize(model, batches, ["conv2.input", FIRST], "minmax")
    scale = float(quantizers(model)["conv2.input"].scale.detach())
    assert scale == pytest.approx((x.max() - x.min()) / 15, rel=1e-6)
    assert scale > 1.05 * (clipped.max() - clipped.min()) / 15  # after the old grid it would be another one


def test_bad_calls(trained: Any, digits: data.Dataset) -> None:
    model, record = trained
    x = changed(digits, lambda x: x)[:1]
    for call, says in (
        (lambda: reinitialize(model, x, []), "no names: name quantizers"),
        (lambda: reinitialize(model, x, ["conv1.weight"]), "'conv1.weight' is no activation quantizer"),
        (lambda: reinitialize(model, x, [FIRST], "best"), "method='best'"),  # type: ignore[arg-type]
        (lambda: reinitialize(model, [], [FIRST]), "iterable is empty"),
        (lambda: reinitialize(model, [x[0] * float("nan")], [FIRST]), r"batch 0 holds NaN or infinity"),
        (lambda: measure(model, [torch.zeros(1, 7, 16, 16)]), r"the model fails on an input of shape \[1, 7, 16, 16\]"),
        (lambda: measure(model, ["x"]), "batch 0 is str"),
        (lambda: measure(nn.Linear(2, 2), x), "has no quantizers"),
        (
            lambda: measure(lsq_export.prepare(models.build("tiny", num_classes=2)), [torch.zeros(1, 3, 16, 16)]),
            "has no grid yet",
        ),
        (lambda: compare({}, record), "another network"),
    ):
        with pytest.raises(QuantizationError, match=says) as error:
            call()
        assert "\n" not in str(error.value)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(QuantizationError):
        reinitialize(model, [x[0], x[0] * float("inf")], [FIRST, LAST])
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


# The command.


@pytest.fixture(scope="module")
def drifted(digits: data.Dataset, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The test images, twice as bright and as dark."""
    directory = tmp_path_factory.mktemp("drifted")
    np.savez(directory / "x2.npz", x=2 * digits.test.x.numpy(), y=digits.test.y.numpy())
    return f"npz:{directory / 'x2.npz'}"


run = partial(invoke, "drift")


def refused(result: Result, says: str) -> None:
    assert result.exit_code == 2 and says in result.stderr and result.stderr.count("\n") == 1 and result.stdout == "", (
        result.output
    )


def test_command_on_held_out_data(trained_file: Path) -> None:
    spec = checkpoint.load(trained_file).extra["data"]
    result = run(trained_file, "--data", spec)
    assert (
        result.exit_code == 0
        and "359 images" in result.stdout
        and result.stdout.endswith("all quantizers keep their range\n")
    )
    against = run(trained_file, "--data", spec, "--against", spec, "--batches", 2, "--batch-size", 50, "--json")
    found = json.loads(against.stdout)
    assert against.exit_code == 0 and found["images"] == 100 and found["reinitialized"] is None
    assert (
        found["quantizers"][0]["before"]["elements"] == 1438 * 256
        and found["quantizers"][0]["now"]["elements"] == 100 * 256
    )
    every = json.loads(run(trained_file, "--data", spec, "--split", "all", "--json").stdout)
    assert every["images"] == 1797 and every["quantizers"][0]["now"]["elements"] == 1797 * 256


def test_command_finds_drift_and_reinitializes(trained_file: Path, drifted: str, tmp_path: Path) -> None:
    out = tmp_path / "new.safetensors"
    result = run(trained_file, "--data", drifted, "--split", "all")
    assert result.exit_code == 1 and f"FAILED: {FIRST} clips" in result.stderr and FIRST in result.stdout
    assert (
        run(
            trained_file, "--data", drifted, "--split", "all", "--max-clipped", 1, "--max-error", 1e9, "--min-codes", 0
        ).exit_code
        == 0
    )
    result = run(trained_file, "--data", drifted, "--split", "all", "--reinit", out, "--json")
    summary = json.loads(result.stdout)
    renewed = summary["reinitialized"]
    assert (
        result.exit_code == 0
        and FIRST in renewed["names"]
        and renewed["rounds"] >= 1
        and set(renewed["accuracy"]) == {"before", "after", "float"}
    )
    old, new = checkpoint.load(trained_file), checkpoint.load(out)
    touched = {
        name.split("_quantizer")[0] for name, tensor in new.state.items() if not torch.equal(tensor, old.state[name])
    }
    assert touched == set(renewed["names"])  # "conv1.input" of "conv1.input_quantizer.scale"
    assert (new.config, new.input_shape, new.preprocessing, new.model_spec) == (
        old.config,
        old.input_shape,
        old.preprocessing,
        old.model_spec,
    )
    before, after = drift.from_record(old.extra[drift.RECORD]), drift.from_record(new.extra[drift.RECORD])
    assert new.extra["accuracy"] == {**old.extra["accuracy"], "trained_accuracy": None}  # it was of other grids
    assert {name for name in before if before[name] != after[name]} == set(renewed["names"])
    again = run(out, "--data", drifted, "--split", "all")
    assert again.exit_code == 0 and again.stdout.endswith("all quantizers keep their range\n")


def test_one_round_says_what_is_left_and_accuracy_that_fell(trained_file: Path, drifted: str, tmp_path: Path) -> None:
    result = run(
        trained_file,
        "--data",
        drifted,
        "--split",
        "all",
        "--reinit",
        tmp_path / "a.safetensors",
        "--rounds",
        1,
        "--method",
        "minmax",
    )
    assert result.exit_code == 1 and "top-1 accuracy on them" in result.stdout and "FAILED: " in result.stderr
    assert ("the accuracy fell" in result.stderr) == (accuracy(result, "before") > accuracy(result, "after"))
    remaining = run(tmp_path / "a.safetensors", "--data", drifted, "--split", "all")
    assert remaining.exit_code == 1  # a record must not hide what is still out of range


def accuracy(result: Result, when: str) -> float:
    line = next(line for line in result.stdout.splitlines() if line.startswith("top-1 accuracy"))
    return float(line.split(f"% {when}")[0].split()[-1])


def test_nothing_is_written_unasked(trained_file: Path, drifted: str, tmp_path: Path) -> None:
    spec = checkpoint.load(trained_file).extra["data"]
    assert run(trained_file, "--data", spec, "--reinit", tmp_path / "none.safetensors").exit_code == 0
    assert list(tmp_path.iterdir()) == []
    out = tmp_path / "mine.safetensors"
    out.write_bytes(b"mine")
    refused(run(trained_file, "--data", drifted, "--reinit", out), "--force to overwrite it")
    refused(run(trained_file, "--data", drifted, "--reinit", out, "--force"), "is no checkpoint: give another name")
    assert out.read_bytes() == b"mine"
    content = trained_file.read_bytes()
    refused(run(trained_file, "--data", drifted, "--reinit", trained_file, "--force"), "that is the checkpoint itself")
    assert trained_file.read_bytes() == content
    refused(
        run(trained_file, "--data", drifted, "--reinit", tmp_path / "nowhere" / "a"), "does not exist; create it first"
    )


@pytest.fixture
def damaged(trained_file: Path, tmp_path: Path) -> Iterator[Any]:
    """A function that writes the checkpoint with another record."""

    def write(record: Any, **state: float) -> Path:
        model, found = checkpoint.restore(trained_file)
        with torch.no_grad():
            for name, value in state.items():
                getattr(quantizers(model)[FIRST], name).fill_(value)
        extra = {**found.extra, drift.RECORD: found.extra[drift.RECORD] if record is None else record}
        if record == "none":
            del extra[drift.RECORD]
        spec, config = found.model_spec, found.config
        shape, preprocessing = found.input_shape, found.preprocessing
        path = tmp_path / "damaged.safetensors"
        return checkpoint.save(
            path, model, model_spec=spec, config=config, input_shape=shape, preprocessing=preprocessing, extra=extra
        )

    yield write


def test_records_that_cannot_be_used(damaged: Any, drifted: str) -> None:
    refused(
        run(damaged("none"), "--data", drifted),
        "has no record of what calibration saw: give the data that it was trained on, --against npz:",
    )
    refused(run(damaged([{"name": 3}]), "--data", drifted), "a record of a quantizer's range has name: it must have")
    refused(run(damaged(None, scale=0.5), "--data", drifted), "the record of conv1.input is of another grid")
    refused(run(damaged([]), "--data", drifted), "is of another network")


def test_bad_options(trained_file: Path, drifted: str, tmp_path: Path) -> None:
    refused(run(tmp_path / "no.safetensors", "--data", drifted), "does not exist")
    refused(run(trained_file, "--data", "nothing"), "data 'nothing' is unknown")
    refused(run(trained_file, "--data", drifted, "--image-size", 8), "has inputs of shape")
    refused(run(trained_file, "--data", drifted, "--max-error", 0.5), "--max-error")
    model, found = models.build("tiny", num_classes=10, in_channels=1), checkpoint.load(trained_file)
    path = tmp_path / "float.safetensors"
    checkpoint.save(
        path, model, model_spec=found.model_spec, config=None, input_shape=found.input_shape, preprocessing={}
    )
    refused(run(path, "--data", drifted), "is of a float model")


def test_initialized_models_can_be_measured_before_any_training(digits: data.Dataset) -> None:
    """Drift during training starts from what `calib.initialize` saw.

    Edges that training learns are quantizers like any other.
    """
    torch.manual_seed(0)
    model = lsq_export.prepare(
        models.build("tiny", num_classes=10, in_channels=1), lsq_export.QATConfig(edges="trained", offset="container")
    )
    batches = changed(digits, lambda x: x, "train")[:2]
    calib.initialize(model, batches, "minmax")
    found = measure(model, batches)
    assert any(name.startswith("edges.") for name in found) and left(compare(found, found)) == []
    edges = [name for name in found if name.startswith("edges.")]
    reinitialize(model, [2 * x for x in batches], edges, "minmax")  # on their steps, with zero on the grid
    for name in edges:
        q = quantizers(model)[name]
        offset, scale = float(q.effective_offset.detach()), float(q.scale.detach())
        assert scale * q.qmin + offset <= 0 <= scale * q.qmax + offset
