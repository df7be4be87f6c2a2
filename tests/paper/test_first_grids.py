"""The first grids: what is measured against numbers made by hand, its file, its table, and the command."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

import models.paper.grids_file
from calib.errors import QuantizationError
from calib.quantized import quantized_modules
from lsq_export.qat.quantizer import ActivationGrid, Quantizer
from models.first_grids import command
from models.paper.first_grids import LayerUse, look, measure, measure_all
from models.paper.grids_file import NAME, FirstGrids, GridsFile, read
from models.paper.plan import Run, starts
from models.paper.render import markdown, write
from models.paper.runs import first_model, load_data, make_float
from support.commands import invoke
from support.made_up_runs import ONE, SMALL, help_of, recorded, result

ROW = FirstGrids(
    network="tiny", bits=3, configuration="4", init="mse", layers=7, step=1.5, error=0.0941, constant=0.1234
)
FILE = GridsFile((ROW, replace(ROW, init="minmax", step=0.25)), {"tiny": SMALL}, "abc", {"torch": "2"})


def quantizer(scale: float, offset: float = 0.0, grid: ActivationGrid = "unsigned-asymmetric") -> Quantizer:
    """Of 3 bits."""
    made = Quantizer.activation("x", 3, grid=grid)
    made.set_grid(scale, offset)
    return made


def use_of(quantized: Quantizer, *batches: torch.Tensor) -> LayerUse:
    """What it says of these batches."""
    use = LayerUse(quantized)
    for x in batches:
        use.update(x)
    return use


@pytest.fixture(scope="module")
def float_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the float model of `tiny`."""
    directory = tmp_path_factory.mktemp("float")
    make_float("tiny", SMALL, directory)
    return directory


# one layer


def images(*channels: tuple[float, float]) -> torch.Tensor:
    """[8, C, 3, 3]: uniform values between the two numbers of each channel."""
    generator = torch.Generator().manual_seed(0)
    return torch.stack([low + (high - low) * torch.rand(8, 3, 3, generator=generator) for low, high in channels], 1)


@pytest.mark.parametrize("offset", [0.0, -0.3])
def test_a_channel_that_is_made_constant_is_counted(offset: float) -> None:
    # Codes of s = 1: 0 … 7, 1, 0 and 1.
    large, lost, visible = (-1.0, 7.0), (0.8 + offset, 1.2 + offset), (0.3 + offset, 0.8 + offset)
    assert use_of(quantizer(1.0, offset), images(large, visible)).constant == 0
    assert use_of(quantizer(1.0, offset), images(large, lost)).constant == 0.5
    assert use_of(quantizer(0.2, offset), images(large, lost)).constant == 0  # finer steps see it
    # Clipped below: code 0 alone.
    assert use_of(quantizer(1.0, offset), images(large, large, visible, (-9.0, offset))).constant == 0.25


def test_a_channel_that_is_constant_in_float_is_not_blamed_on_the_grid() -> None:
    assert use_of(quantizer(1.0), images((-1.0, 7.0), (0.0, 0.0), (3.3, 3.3))).constant == 0
    assert use_of(quantizer(1.0), images((-1.0, 7.0), (0.0, 0.0), (0.0, 0.4))).constant == pytest.approx(1 / 3)


def test_a_channel_with_another_code_in_another_batch_is_not_constant() -> None:
    first, second = images((0.8, 1.2), (0.8, 1.2)), images((1.8, 2.2), (0.8, 1.2))
    assert use_of(quantizer(1.0), first).constant == 1
    assert use_of(quantizer(1.0), first, second).constant == 0.5
    # Varies between batches only.
    assert use_of(quantizer(1.0), first[:, :, :1, :1] * 0 + 1, first[:, :, :1, :1] * 0 + 1.1).constant == 1


@pytest.mark.parametrize(
    ("grid", "offset", "codes"), [("signed-symmetric", 0.0, (-4, 3)), ("unsigned-asymmetric", -0.7, (0, 7))]
)
def test_step_and_error_are_those_of_a_loop(grid: ActivationGrid, offset: float, codes: tuple[int, int]) -> None:
    batches = images((-1.0, 1.0), (-3.0, 5.0)), images((-2.0, 0.5), (0.0, 0.1)) * 1.5
    numbers = use_of(quantizer(0.6, offset, grid), *batches).step_and_error
    values = torch.cat(batches).double().flatten().tolist()
    mean = sum(values) / len(values)
    variance = sum((v - mean) ** 2 for v in values) / len(values)
    error = sum(
        (min(max(round((v - offset) / 0.6), codes[0]), codes[1]) * 0.6 + offset - v) ** 2 for v in values
    ) / len(values)
    # scale and offset are float32: a relative 1e-7 each, many times that where the error of an element is a small
    # difference
    assert numbers == pytest.approx((0.6 / math.sqrt(variance), error / variance), rel=1e-5)
    # A scale doubled is seen.
    assert use_of(quantizer(1.2, offset, grid), *batches).step_and_error != pytest.approx(numbers, rel=0.1)


def test_a_tensor_that_does_not_vary_has_no_figures() -> None:
    assert use_of(quantizer(1.0), torch.full((2, 3, 1, 1), 1.5)).step_and_error is None


# a network


def test_the_network_runs_in_float(float_models: Path) -> None:
    model, calibration = first_model(ONE, SMALL, float_models)
    before = {name: use.step_and_error for name, use in look(model, calibration).items()}
    quantizers = quantized_modules(model)
    # [N, 48] is no image.
    assert list(before) == [name for name, q in quantizers.items() if q.kind == "activation" and name != "fc.input"]
    quantizers["conv1.input"].set_grid(1000.0)  # all zeros, if it quantized
    after = {name: use.step_and_error for name, use in look(model, calibration).items()}
    assert [name for name in before if before[name] != after[name]] == ["conv1.input"]
    assert not any(q.bypass or q._forward_pre_hooks for q in quantizers.values())


def test_figures_are_means_over_layers(float_models: Path) -> None:
    run = Run("tiny", 3, "2", "lsq", 0)
    found = measure(run, SMALL, float_models)
    # by hand: LSQ's rule on what the layers of the float network receive
    model, calibration = first_model(run, SMALL, float_models)
    (x, _), *_ = load_data(SMALL.data, SMALL.hard, None).batches("train", 16, shuffle=0, limit=1)
    assert torch.equal(next(iter(calibration))[0], x)
    seen: dict[str, torch.Tensor] = {}
    quantizers = {name: q for name, q in quantized_modules(model).items() if q.kind == "activation"}
    for q in quantized_modules(model).values():
        q.bypass = True
    for name, q in quantizers.items():
        q.register_forward_pre_hook(lambda module, args, name=name: seen.update({name: args[0].detach()}))
    with torch.no_grad():
        model.eval()(x)
    rows = []
    for name, value in seen.items():
        if value.dim() == 4:
            q = quantizers[name]
            step = 2 * float(value.abs().mean()) / math.sqrt(q.qmax)
            rounded = (value / step).round().clamp(q.qmin, q.qmax) * step
            channels = value.transpose(0, 1).flatten(1), rounded.transpose(0, 1).flatten(1)
            lost = (channels[0].std(1) > 0) & (channels[1].std(1) < 1e-6 * rounded.abs().max())
            variance = float(value.var(correction=0))
            rows.append(
                (
                    step / math.sqrt(variance),
                    float((rounded - value).square().mean()) / variance,
                    float(lost.float().mean()),
                )
            )
    # the mean of |x| is summed in another order: a step that differs in the last digit may move an element that lies on
    # a tie
    assert found.layers == len(rows) == 6
    assert (found.step, found.error, found.constant) == pytest.approx(
        [sum(column) / len(rows) for column in zip(*rows, strict=True)], rel=1e-3
    )


def test_mse_has_the_least_error_and_1s_is_for_swish_networks(float_models: Path) -> None:
    shown: list[str] = []
    found = measure_all(["tiny"], 3, {"tiny": SMALL}, float_models, shown.append)
    errors = {(row.configuration, row.init): row.error for row in found.rows}
    assert (
        list(errors) == list(starts("tiny")) == [*((c, i) for c in "234" for i in ("lsq", "mse")), ("4", "minmax")]
        and len(shown) == 7
    )
    assert (
        errors["4", "mse"] < min(errors["4", "lsq"], errors["4", "minmax"]) and errors["2", "mse"] < errors["2", "lsq"]
    )
    assert starts("efficientnet_b0")[:2] == (("1s", "lsq"), ("1s", "mse")) and starts("efficientnet_b0")[2:] == starts(
        "resnet18"
    )
    assert found.settings == {"tiny": SMALL}


# the file and its table


def test_the_file_comes_back(tmp_path: Path) -> None:
    FILE.write(tmp_path / "new" / NAME)
    assert read(tmp_path / "new" / NAME) == FILE and [p.name for p in (tmp_path / "new").iterdir()] == [NAME]


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FILE.write(tmp_path / NAME)

    def killed(*args: object, **options: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(models.paper.grids_file.json, "dumps", killed)
    with pytest.raises(KeyboardInterrupt):
        replace(FILE, commit="other").write(tmp_path / NAME)
    assert read(tmp_path / NAME) == FILE and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    "change", [{"rows": [{"network": "tiny"}]}, {"settings": {"tiny": {}}}, {"more": 1}, {"rows": 3}]
)
def test_another_file_is_refused(change: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / NAME
    path.write_text(json.dumps({**FILE.to_dict(), **change}))
    with pytest.raises(QuantizationError, match=f"{NAME} holds no first grids"):
        read(path)


@pytest.mark.parametrize("text", ["[]", "no json", ""])
def test_another_text_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / NAME).write_text(text)
    with pytest.raises(QuantizationError, match="holds no first grids"):
        read(tmp_path / NAME)


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text(json.dumps(FILE.to_dict()).replace("0.0941", "NaN"))
    with pytest.raises(QuantizationError, match="not finite"):
        read(tmp_path / NAME)


def test_results_show_the_file_beside_the_record(tmp_path: Path) -> None:
    record = recorded(tmp_path / "runs.jsonl", [result(ONE, 0.5)])
    row = "| tiny | 3 | 4 | LSQ+ | 1.50 | 0.094 | 12.3 % | 7 |"
    write(record, tmp_path / "out")
    without = (tmp_path / "out" / "RESULTS.md").read_text()
    assert "constant channels" not in without and without == markdown(record)
    FILE.write(tmp_path / "out" / "results" / NAME)
    write(record, tmp_path / "out")
    text = (tmp_path / "out" / "RESULTS.md").read_text()
    assert (
        row in text
        and text == markdown(record, FILE)
        and text.index("## Table 3") < text.index(row) < text.index("## How it was made")
    )


def test_first_grids_of_other_settings_are_refused(tmp_path: Path) -> None:
    record = recorded(tmp_path / "runs.jsonl", [result(ONE, 0.5)])
    other = replace(FILE, settings={"tiny": replace(SMALL, init_batches=2)})
    with pytest.raises(QuantizationError, match="first grids of tiny were measured with other settings"):
        markdown(record, other)
    assert "| resnet18 | 3 |" in markdown(
        record, replace(FILE, rows=(replace(ROW, network="resnet18"),), settings={"resnet18": SMALL})
    )


# the command


call = partial(invoke, command=command)


@pytest.mark.slow
def test_the_command_takes_settings_and_float_model_from_the_record(tmp_path: Path) -> None:
    recorded(tmp_path / "runs.jsonl", [result(ONE, 0.5)])
    record = "--record", str(tmp_path / "runs.jsonl")
    out = tmp_path / "results" / NAME
    done = call("--network", "tiny", "--bits", "2", *record, "--out", str(out), "--json")
    assert done.exit_code == 0, done.output
    found = read(out)
    assert (
        json.loads(done.stdout) == json.loads(out.read_text())
        and found.settings == {"tiny": SMALL}
        and {row.bits for row in found.rows} == {2}
    )
    (model,) = (tmp_path / "float").iterdir()
    before = model.stat().st_mtime_ns
    again = call("--network", "tiny", "--bits", "2", *record)
    assert again.exit_code == 0 and "tiny, A2: first grids, means over 6 layers" in again.stdout
    assert f"{found.rows[0].constant:.1%}" in again.stdout and model.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--network", "resnet19"], "'resnet19' is unknown: use efficientnet_b0, mixnet_s, resnet18, tiny"),
        (["--bits", "1"], "--bits"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = call(*arguments)
    assert (
        done.exit_code == 2
        and message in done.stderr
        and len(done.stderr.splitlines()) == 1
        and list(tmp_path.iterdir()) == []
    )


def test_help_is_there_at_once() -> None:
    assert "--network" in help_of("models.first_grids")
