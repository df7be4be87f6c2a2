"""Bias correction: calib/folding/bias_correction.py against plain numpy, rewrite/folding/bias_correction.py against
planted errors, the promises after it.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lsq_export
from calib.errors import QuantizationError
from calib.folding.bias_correction import LEAST_IMAGES, ChannelErrors
from lsq_export.graph.layers import bias_of, layer_of, output_grid_of, set_bias
from lsq_export.graph.read import constant_of
from lsq_export.rewrite.emit import emit_all
from lsq_export.rewrite.fold import Folded, prepare_fold
from lsq_export.rewrite.folding import bias_correction
from lsq_export.targets import get
from lsq_export.verification.checking import Subject, check
from lsq_export.verification.fold_costs import FOLDS, fold_costs
from support import parallel
from support.commands import invoke
from support.exported import Exported, images, prepared
from support.networks import LOW, ZOO, Case, Conv, captured, find, inputs, quick_capture, set_constant, train
from support.passes import spoil, unwatched

pytestmark = pytest.mark.usefixtures("one_thread")
IMAGES = 40


def outputs(seed: int = 0, count: int = IMAGES, shift: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """(found, wanted) [N, 6, 5, 4]:

    noise of every image, of every pixel, and means of some channels that are far beyond both.
    """
    generator = torch.Generator().manual_seed(seed)
    wanted = torch.randn(count, 6, 5, 4, generator=generator, dtype=torch.float64)
    of_images, of_pixels = (
        torch.randn(count, 6, *size, generator=generator, dtype=torch.float64) for size in ((1, 1), (5, 4))
    )
    means = torch.tensor([0.0, 0.5, 0.0, -0.7, 0.0, 0.0], dtype=torch.float64).reshape(1, 6, 1, 1)
    return wanted + 0.1 * of_images + 0.2 * of_pixels + means + shift, wanted


def errors_of(found: torch.Tensor, wanted: torch.Tensor, sizes: list[int]) -> ChannelErrors:
    errors = ChannelErrors(found.shape[1])
    for a, b in zip(found.split(sizes), wanted.split(sizes), strict=True):
        errors.update(a, b)
    return errors


# The numbers


def test_means_and_their_errors_are_those_of_all_images_in_plain_numpy() -> None:
    found, wanted = outputs()
    errors = errors_of(found, wanted, [IMAGES])
    error = (found - wanted).numpy()  # [N, C, H, W]
    of_images = error.mean(axis=(2, 3))
    np.testing.assert_allclose(errors.mean, error.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(errors.standard_error, of_images.std(axis=0, ddof=1) / np.sqrt(IMAGES), rtol=1e-12)
    moved = np.abs(errors.mean) > 2 * errors.standard_error
    assert moved[[1, 3]].all() and not moved.all()
    np.testing.assert_array_equal(errors.correction, np.where(moved, -errors.mean, 0))
    corrected = error + errors.correction.reshape(1, -1, 1, 1)
    square = np.square(wanted.numpy()).mean()
    np.testing.assert_allclose(
        errors.squared_error, (np.square(error).mean() / square, np.square(corrected).mean() / square), rtol=1e-12
    )


@pytest.mark.parametrize("sizes", [[1] * IMAGES, [7, 1, 32], [39, 1]])
def test_batches_of_any_size_give_what_one_batch_gives(sizes: list[int]) -> None:
    one, many = (errors_of(*outputs(), s) for s in ([IMAGES], sizes))
    np.testing.assert_allclose(many.correction, one.correction, rtol=1e-12, atol=0)
    np.testing.assert_allclose(many.standard_error, one.standard_error, rtol=1e-12)
    np.testing.assert_allclose(many.squared_error, one.squared_error, rtol=1e-12)


def test_outputs_of_a_linear_layer_have_no_pixels() -> None:
    found, wanted = (x[..., 0, 0] for x in outputs())
    errors = errors_of(found, wanted, [13, 27])
    np.testing.assert_allclose(errors.mean, (found - wanted).numpy().mean(axis=0), rtol=1e-12)


def test_noise_moves_no_bias_and_what_is_moved_by_chance_is_as_rare_as_two_standard_errors_are() -> None:
    share = []
    for seed in range(200):
        found, wanted = outputs(seed)
        correction = errors_of(found, wanted, [IMAGES]).correction
        assert correction[1] < 0 < correction[3]
        share.append(np.count_nonzero(correction[[0, 2, 4, 5]]) / 4)
    # of a normal distribution 4.6 % are beyond; 5.3 % of Student's with 39 degrees of freedom
    assert 0.03 < np.mean(share) < 0.075


def test_few_images_tell_nothing_and_what_is_negligible_stays() -> None:
    for count in (1, LEAST_IMAGES - 1):
        assert not errors_of(*outputs(count=count, shift=9.0), [count]).correction.any()
    assert errors_of(*outputs(count=LEAST_IMAGES, shift=9.0), [LEAST_IMAGES]).correction.all()
    _, wanted = outputs()
    assert not errors_of(wanted + 5e-5, wanted, [IMAGES]).correction.any()  # every image alike, but far below a step
    assert errors_of(wanted + 2e-4, wanted, [IMAGES]).correction.all()
    silent = torch.zeros(IMAGES, 2)
    assert errors_of(silent, silent, [IMAGES]).squared_error == (0.0, 0.0)


# In the graph


def biases(folded: Folded) -> dict[str, np.ndarray]:
    """{layer: bias codes, int32 [C]}."""
    found = {}
    for node in find(folded.model, "Conv", "Gemm"):
        made = node.inputs[2].producer() if node.inputs[2] is not None else None
        assert made is not None
        found[layer_of(node)] = constant_of(made.inputs[0], "bias")
    return found


def real_biases(folded: Folded) -> dict[str, np.ndarray]:
    """{layer: bias in steps of the output's grid, [C]}, of layers with a grid behind them."""
    found = {}
    for node in find(folded.model, "Conv", "Gemm"):
        made, grid = node.inputs[2].producer() if node.inputs[2] is not None else None, output_grid_of(node)
        if made is not None and grid is not None:
            codes, unit = (constant_of(v, "bias").astype(np.float64) for v in made.inputs[:2])
            found[layer_of(node)] = codes * unit / grid.scale
    return found


@pytest.mark.parametrize("how", ["strided", "integer"])
@pytest.mark.parametrize("name", ["above", "integer", "signed codes"])
def test_an_exact_fold_leaves_nothing_to_correct(name: str, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind learned grids without padding (or with real zero on them) only scales in float32 are inexact;

    the first layer reads a rounded image.
    """
    made = (
        captured(name)
        if name in ZOO
        else quick_capture(train(Case(lambda: nn.Sequential(*(Conv(3, 3, 3) for _ in range(3))), LOW)))
    )
    place, x = prepare_fold(made, [inputs(16, 1)]), [inputs(16, 2)]
    plain, corrected = place(how), place(how, x)
    assert not plain.corrections and len(corrected.corrections) == len(plain.layers)
    _, *others = corrected.corrections
    assert all(c.moved == 0 and c.error_before < 1e-10 for c in others)
    before, after = biases(plain), biases(corrected)
    assert all(np.array_equal(before[c.name], after[c.name]) for c in others)
    # what biases carry for the offset behind them would be taken for an error
    monkeypatch.setattr(bias_correction, "_relations", lambda *_: ())
    carried = any(c.moved and c.error_before > 1e-3 for c in place(how, x).corrections)
    assert carried == (name != "integer")  # an offset of whole steps is a zero point, and no bias carries it


@pytest.mark.parametrize("how", ["strided", "integer"])
@pytest.mark.parametrize("name", ["residual", "residual3", "clamps", "twice", "perceptron"])
def test_errors_are_of_the_fold_alone(name: str, how: str) -> None:
    """What a bias carries for offsets is none of them:

    an offset is a good part of the outputs, what is rounded is not.
    """
    for c in prepare_fold(captured(name), [inputs(16, 1)])(how, [inputs(16, 1)]).corrections:
        assert (
            c.error_before < 4e-2 and c.error_after <= c.error_before and 0 <= c.moved <= c.channels and c.images == 16
        )


@pytest.mark.parametrize("activation", [F.relu, F.silu])
def test_merged_convolutions_too(activation: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their channels have offsets of their own."""
    place = prepare_fold(quick_capture(train(parallel.case_of(activation))), [inputs(16, 1)], merge=True)
    found = place("strided", [inputs(16, 1)]).corrections
    assert len(found) >= 4 and all(c.error_before < 2e-2 for c in found)
    monkeypatch.setattr(bias_correction, "_relations", lambda *_: ())
    assert any(c.error_before > 5e-2 for c in place("strided", [inputs(16, 1)]).corrections)


@pytest.mark.parametrize(("name", "layer"), [("residual", "a"), ("residual", "c"), ("chain2", "3")])
def test_a_planted_error_comes_back(name: str, layer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bias of every second channel is wrong by some steps;

    the correction gives it the value that it has without.
    """
    place, x = prepare_fold(captured(name), [inputs(16, 1)]), [inputs(16, 2), inputs(16, 3)]
    right = place("strided", x)
    steps = np.array([0.0, -1.5, 0.0, 0.7, 0.0, -0.4, 0.0, 2.0])

    def damage(model: ir.Model) -> None:
        node = next(n for n in find(model, "Conv") if layer_of(n) == layer)
        grid = output_grid_of(node)
        assert grid is not None
        set_bias(node, model.graph, bias_of(node) + steps * grid.scale)

    if layer != "c":  # after c lies a sum whose scale moved clear of ties by more than the damage: its codes may differ
        with monkeypatch.context() as patch:
            spoil(patch, "clear_ties", damage)
            with pytest.raises(QuantizationError, match="codes differ after the pass clear_ties"):
                place("strided")
    unwatched(monkeypatch)
    place = prepare_fold(captured(name), [inputs(16, 1)])
    spoil(monkeypatch, "clear_ties", damage)
    wrong, corrected = place("strided"), place("strided", x)
    rounding = max(d.bias_error_steps for d in place("strided").layers)
    assert np.abs(real_biases(wrong)[layer] - real_biases(right)[layer])[1::2].min() > 0.2
    assert np.abs(real_biases(corrected)[layer] - real_biases(right)[layer]).max() <= 2 * rounding + 1e-9
    # every layer hands on what the trained one gives: nobody corrects another's error
    others = [n for n in biases(right) if n != layer]
    assert all(np.array_equal(biases(corrected)[n], biases(right)[n]) for n in others)
    (found,) = (c for c in corrected.corrections if c.name == layer)
    assert found.moved >= 4 and found.error_after < 0.2 * found.error_before
    assert found.largest_steps == pytest.approx(np.abs(steps).max(), abs=0.1)
    test = [(inputs(32, 4), None)]
    ours, other = fold_costs([corrected, wrong], test)
    assert ours.sqnr_db > other.sqnr_db + 3


def test_portions_give_what_all_images_at_once_give(monkeypatch: pytest.MonkeyPatch) -> None:
    place, x = prepare_fold(captured("residual"), [inputs(16, 1)]), inputs(24, 2)
    at_once = place("strided", [x])
    monkeypatch.setattr("lsq_export.graph.evaluate.PORTION", 5 * x[0].numel())
    in_portions = place("strided", [x[:17], x[17:]])
    assert [c.moved for c in in_portions.corrections] == [c.moved for c in at_once.corrections] and sum(
        c.moved for c in at_once.corrections
    )
    assert all(
        np.array_equal(a, b) for a, b in zip(biases(in_portions).values(), biases(at_once).values(), strict=True)
    )


@pytest.mark.parametrize("name", ["residual3", "concat"])
@pytest.mark.parametrize("how", ["strided", "integer"])
def test_the_promises_hold_after_it_and_a_moved_bias_is_found(name: str, how: str) -> None:
    made = prepare_fold(captured(name), [inputs(16, 1)])(how, [inputs(16, 2)])
    assert sum(c.moved for c in made.corrections)
    target = get("ort-cpu")
    files, x = emit_all(made, ("qdq", "qoperator"), target), [inputs(8, 3, spread=3.0)]
    parity = check(Subject.of(made, files, "ort-cpu"), x)
    assert parity.ok, parity.failures
    node = find(made.model, "Conv")[0]
    codes = node.inputs[2].producer().inputs[0]  # type: ignore[union-attr]
    # the folded model is the one with the corrected biases, to the last unit
    set_constant(codes, constant_of(codes, "bias") + 1)
    assert not check(Subject.of(made, files, "ort-cpu"), x).ok


# export, folds


@pytest.mark.slow
def test_export_says_what_moved_and_keeps_its_promises(tmp_path: Path) -> None:
    model, (x, y) = prepared(seed=0), images(seed=0)
    plain, corrected = (
        lsq_export.export(
            model, x[:1], tmp_path / str(on), calibration=[(x[:16], y[:16]), (x[16:], y[16:])], bias_correction=on
        )
        for on in (False, True)
    )
    assert plain.manifest["bias_correction"] is None
    said = corrected.manifest["bias_correction"]
    moved, channels = (sum(c[key] for c in said["layers"]) for key in ("moved", "channels"))
    before, after = (np.mean([c[key] for c in said["layers"]]) for key in ("error_before", "error_after"))
    assert 0 < moved < channels and after < before
    assert said["summary"] == (
        f"bias correction on 24 images: moved {moved} of {channels} channels, "
        f"mean squared error of layer outputs, of their square, from {before:.3g} to {after:.3g}"
    )
    parity = lsq_export.verify(model, corrected, [(x, y)])
    assert parity.ok and parity.formats["qoperator"].reference_mismatch == 0, parity.failures
    assert not any("unknown" in layer.reasons for layer in parity.trained_layers)
    assert (plain.directory / "reference/folded.onnx").read_bytes() != (
        corrected.directory / "reference/folded.onnx"
    ).read_bytes()
    assert (plain.directory / "reference/trained.onnx").read_bytes() == (
        corrected.directory / "reference/trained.onnx"
    ).read_bytes()


@pytest.mark.slow
def test_commands(exported: Exported, tmp_path: Path) -> None:
    arguments = [str(exported.checkpoint), "--data", exported.data]
    result = invoke("export", *arguments, "--out", str(tmp_path / "out"), "--bias-correction", "-v")
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert result.exit_code == 0 and manifest["bias_correction"]["summary"] in result.output
    table = invoke("folds", *arguments, "--bias-correction", "--out", str(tmp_path / "folds.json"))
    assert table.exit_code == 0 and "strided + bias correction" in table.stdout
    rows = json.loads((tmp_path / "folds.json").read_text())
    assert [(row["fold"], row["bias_correction"]) for row in rows] == [
        (fold, on) for fold in FOLDS for on in (False, True)
    ]
