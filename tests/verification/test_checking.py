"""verify: holds for what was exported, and fails for every graph that is not it, whichever promise has to notice."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from torch import nn

import calib
import lsq_export
from lsq_export.bundle.directory import FOLDED, TRAINED
from lsq_export.rewrite.fold import Folded
from support.exported import Exported, prepared
from support.published import published
from support.verified import FORMATS, broken, run_check


def test_the_untouched_bundle_holds(exported: Exported) -> None:
    parity = lsq_export.verify(exported.model, exported.bundle, exported.batches)
    assert parity.ok and parity.failures == [] and parity.images == 24 and parity.damaged == parity.golden == ()
    assert parity.capture_error is not None and parity.capture_error < 1e-5
    assert parity.folded_sqnr_db > 20
    for name in FORMATS:
        found = parity.formats[name]
        assert found.ok and broken(found) == set() and found.name == name
        assert (
            found.reference_mismatch == 0
            and found.first_mismatch is None
            and found.accumulator_mismatch == 0
            and found.output_mismatch == 0
        )
        assert found.top1_agreement > 0.9 and found.sqnr_db > 20  # 24 images, untrained
        assert all(layer.differing == 0 and layer.largest == 0 and layer.elements > 0 for layer in found.layers)
    assert {layer.name for layer in parity.formats["qoperator"].layers} >= {
        t["codes"] for t in exported.bundle.manifest["tensors"]
    }


def test_without_the_model_the_bundle_vouches_for_it(exported: Exported) -> None:
    parity = lsq_export.verify(None, str(exported.bundle.directory), exported.batches)
    assert parity.ok and parity.capture_error is None
    with_model = lsq_export.verify(exported.model, exported.bundle, exported.batches)
    assert parity.formats["qdq"].sqnr_db == pytest.approx(with_model.formats["qdq"].sqnr_db, abs=1e-3)


def decibel(found: np.ndarray, expected: np.ndarray) -> float:
    return 10 * math.log10((expected.astype(float) ** 2).sum() / ((found - expected).astype(float) ** 2).sum())


def test_numbers_against_the_trained_model_are_its_own(exported: Exported) -> None:
    """Agreement, SQNR and accuracies, computed a second time from outputs alone."""
    x, y = torch.from_numpy(exported.inputs), np.concatenate([y for _, y in exported.batches])
    with torch.no_grad():
        trained, nudged = exported.model(x).numpy(), exported.model(x * 1.0001).numpy()
    session = onnxruntime.InferenceSession(exported.bundle.models["qoperator"])
    (found,) = session.run(None, {"input": x.numpy()})
    parity = lsq_export.verify(exported.model, exported.bundle, exported.batches)
    same = parity.formats["qoperator"]
    assert same.top1_agreement == (found.argmax(1) == trained.argmax(1)).mean()
    assert same.sqnr_db == pytest.approx(decibel(found, trained), abs=1e-3)
    assert parity.nudged_top1_agreement == (nudged.argmax(1) == trained.argmax(1)).mean()
    assert (
        parity.nudged_sqnr_db == pytest.approx(decibel(nudged, trained), abs=0.1) and 20 < parity.nudged_sqnr_db < 100
    )
    assert same.accuracy == (found.argmax(1) == y).mean() and parity.trained_accuracy == (trained.argmax(1) == y).mean()


def test_a_nudge_does_not_overflow(exported: Exported) -> None:
    x = exported.batches[0][0].clone()
    x[0] = torch.finfo(torch.float32).max
    parity = lsq_export.verify(None, exported.bundle, [x])
    assert math.isfinite(parity.nudged_sqnr_db) and parity.nudged_top1_agreement > 0.5


def test_inputs_alone_give_no_accuracies(exported: Exported) -> None:
    parity = lsq_export.verify(exported.model, exported.bundle, [x for x, _ in exported.batches])
    assert (
        parity.ok
        and parity.trained_accuracy is None
        and parity.folded_accuracy is None
        and parity.formats["qdq"].accuracy is None
    )


def test_the_model_keeps_its_modes(exported: Exported) -> None:
    model = prepared(seed=0).train()
    model.bn1.eval()
    modes = [m.training for m in model.modules()]
    lsq_export.verify(model, exported.bundle, exported.batches)
    assert [m.training for m in model.modules()] == modes


def test_progress_counts_images(exported: Exported) -> None:
    seen: list[int] = []
    lsq_export.verify(None, exported.bundle, exported.batches, progress=seen.append)
    assert seen == [16, 24]


def test_the_number_of_threads_changes_nothing(exported: Exported) -> None:
    found = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(lsq_export.verify(exported.model, exported.bundle, exported.batches).to_dict())
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1]


def test_a_folded_model_of_other_weights_is_noticed(exported: Exported, other: Folded) -> None:
    parity = run_check(exported, {name: exported.file(name) for name in FORMATS}, folded=other.model)
    assert {"altered", "layers", "accumulator_mismatch", "output_mismatch"} <= broken(parity.formats["qoperator"])
    assert {"altered", "layers"} <= broken(parity.formats["qdq"])


def test_evaluating_needs_the_graph_as_it_was(exported: Exported) -> None:
    """check does not change the graphs that it is given."""
    files = {name: exported.file(name) for name in FORMATS}
    trained, folded = exported.graph(TRAINED), exported.graph()
    before = [f.SerializeToString(deterministic=True) for f in files.values()]
    assert run_check(exported, files, trained=trained, folded=folded).ok
    assert before == [f.SerializeToString(deterministic=True) for f in files.values()]
    for graph, path in ((trained, TRAINED), (folded, FOLDED)):
        assert ir.to_proto(graph).graph.node == exported_nodes(exported, path)


def exported_nodes(exported: Exported, path: Path) -> Any:
    return ir.to_proto(exported.graph(path)).graph.node


def test_pixels_on_ties_of_the_networks_input_get_the_codes_that_onnx_gives_them(tmp_path: Path) -> None:
    """With 16 levels in [-1, 1] on a grid of 255 steps, x / s is k + 1/2 in float32, and beside it in float64.

    In 13 % of such pixels codes differed.
    """
    torch.manual_seed(0)
    x = ((torch.randint(0, 16, (32, 3, 12, 12)) / 15 - 0.5) / 0.5).float()
    model = lsq_export.prepare(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)), published())
    calib.initialize(model, [x], method="minmax")
    bundle = lsq_export.export(model, x[:1], tmp_path / "out", calibration=[x])
    parity = lsq_export.verify(model, bundle, [x])
    assert parity.ok, parity.failures
    scale, zero = (
        float(n)
        for n in (bundle.manifest["tensors"][0]["container_scale"], bundle.manifest["tensors"][0]["zero_point"])
    )
    single, double = (np.rint(x.numpy().astype(t) / t(scale)) + zero for t in (np.float32, np.float64))
    assert (single != double).mean() > 0.05
