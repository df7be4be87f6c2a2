"""The main line: a trained model becomes a bundle (`export`), and a bundle is held against what it promises (`verify`).

capture -> fold -> rewrite -> verify -> bundle
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import onnx_ir as ir
import torch
from torch import nn

from calib.errors import QuantizationError

from .bundle.contents import write_contents
from .bundle.directory import (
    FOLDED,
    TRAINED,
    Bundle,
    changed_files,
    load_onnx,
    new_directory,
    open_bundle,
    read_golden,
)
from .bundle.manifest import Origin
from .data.calibration import Calibration
from .graph.capture import capture
from .graph.evaluate import portions_of
from .graph.islands import islands, refuse
from .report.recording import write_parity
from .rewrite.contract.decisions import decisions_of
from .rewrite.emit import check_formats, emit_all
from .rewrite.fold import prepare_fold
from .targets import get
from .verification.check import Progress, check
from .verification.fold_costs import costs_of_folds
from .verification.parity import Parity

VERIFIED_IMAGES = 64  # of the calibration data, that every export is verified on
GOLDEN_IMAGES = 2


def export(
    model: nn.Module,
    example_input: torch.Tensor,
    out: str | os.PathLike[str],
    *,
    formats: Iterable[str] | None = None,
    calibration: Iterable[object],
    target: str = "ort-cpu",
    fold: str | None = None,
    force: bool = False,
    strict_integer: bool = False,
    bias_correction: bool = False,
    preprocessing: dict[str, Any] | None = None,
    source: dict[str, Any] | None = None,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Bundle:
    """Fold a trained model (`prepare`, `initialize`, QAT) and write a bundle to the directory `out`.

    Returns the bundle; its `parity` is what the verification on the first calibration images showed.

    example_input: float [N, …], for its shape. formats: "qdq", "qoperator"; None: all that the target reads.
    calibration: batches of inputs or (input, target) pairs, read once; they give the grids of edges, the golden
    vectors, and the images on which the export is verified (run `verify` on more). fold: "strided" (real offsets on
    8-bit containers) or "integer" (zero points among the 2^b codes), see `lsq_export.rewrite.fold`; None: the target's
    default. force: replace the bundle that is in `out`. strict_integer: an operator that stays float (an island, named
    in the manifest) is an error. bias_correction: biases take back the mean errors of their channels, as far as the
    first images show them; it pays in few networks, so compare with `lsq-export folds --bias-correction`.
    preprocessing, source: go into the manifest. on_stage(name): called as each stage begins.

    Errors (QuantizationError): unknown format or target, `out` not empty (without force), a bad scale or offset, a
    layer that cannot be quantized (named), empty calibration data. Nothing is written then. A broken promise does not
    stop the export: see `parity`."""
    goal = get(target)
    wanted, how = check_formats(goal.formats if formats is None else formats), fold or goal.folds[0]
    if how not in goal.folds:
        raise QuantizationError(f"fold {how!r} is not for the target {goal.name}: use {', '.join(goal.folds)}")
    with new_directory(out, force=force) as directory:
        on_stage("capture")
        captured = capture(model, example_input)
        data = Calibration(calibration, captured.input_shape, keep=VERIFIED_IMAGES)
        on_stage("fold")
        place = prepare_fold(captured, data, merge=how == "strided")
        images = data.images
        correct_on = (images,) if bias_correction else ()
        folded = place(how, correct_on)
        if strict_integer:
            refuse(islands(folded.model.graph))
        on_stage("rewrite")
        files = emit_all(folded, wanted, goal)
        on_stage("verify")
        costs = costs_of_folds(goal.folds, images, lambda name: folded if name == how else place(name, correct_on))
        decisions = (folded.tensors, folded.layers)
        parity = check(model, folded.trained, folded.model, files, target, portions_of(images), decisions=decisions)
        on_stage("bundle")
        golden, origin = images[:GOLDEN_IMAGES].numpy(), Origin(preprocessing, source)
        try:
            manifest = write_contents(directory, folded, files, goal, golden, costs, origin)
            write_parity(directory, manifest, parity)
        except OSError as error:
            why = error.strerror or error
            raise QuantizationError(f"the output directory {out} cannot be written: {why}") from error
    return replace(open_bundle(out), parity=parity)


def verify(
    model: nn.Module | None,
    bundle: Bundle | str | os.PathLike[str],
    batches: Iterable[object],
    *,
    progress: Progress | None = None,
) -> Parity:
    """Check a bundle on batches of inputs [N, …] or (input, target) pairs. Nothing in it is changed.

    model: the prepared PyTorch model that was trained; None takes the bundle's own copy of it (reference/trained.onnx).
    progress(images so far) is called after each batch.
    Errors (QuantizationError): a bundle that cannot be read, or batches that are empty.
    """
    bundle = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
    damaged = tuple(changed_files(bundle))
    trained, folded = (ir.from_proto(load_onnx(bundle.directory / path)) for path in (TRAINED, FOLDED))
    files = {name: load_onnx(path) for name, path in bundle.models.items()}
    golden = {name: read_golden(bundle.directory, name) for name in files}
    target, decisions = str(bundle.manifest["target"]), decisions_of(bundle.manifest)
    return check(
        model,
        trained,
        folded,
        files,
        target,
        batches,
        decisions=decisions,
        damaged=damaged,
        golden=golden,
        progress=progress,
    )
