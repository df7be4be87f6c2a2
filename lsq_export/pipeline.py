"""The main line: a trained model becomes a bundle (`export`), and a bundle is held against what it promises (`verify`).

capture -> fold -> rewrite -> verify -> bundle
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from torch import nn

from calib.batches import InputKey
from calib.door import unwrapped
from calib.errors import QuantizationError
from calib.garbage import few_collections
from calib.samples import Arrays, Input, arrays_of, shape_of
from calib.signature import takes_as
from lsq_export.adoption.network import OnnxNetwork
from lsq_export.bundle.contents import Contents, write_contents
from lsq_export.bundle.directory import Bundle, open_bundle
from lsq_export.bundle.manifest import places_of
from lsq_export.bundle.origin import Origin
from lsq_export.bundle.reading import the_bundles_fault
from lsq_export.bundle.sample import noise_like, prepared_input
from lsq_export.bundle.subject import check_written, fails_by_itself, subject_of
from lsq_export.bundle.whole_directory import new_directory
from lsq_export.data.calibration import Calibration, varying_shape
from lsq_export.data.sample import Sample
from lsq_export.graph.capture import Captured, capture, check_ready
from lsq_export.graph.dead_scales import warn_of_collapsed_scales
from lsq_export.graph.evaluate import portions_of
from lsq_export.graph.exporting import varying_axes
from lsq_export.graph.islands import islands, refuse
from lsq_export.linting.taken import taken
from lsq_export.progress import announcing, counting
from lsq_export.qat.places import places
from lsq_export.qat.prepare_model import config_of
from lsq_export.qat.untrained import noted_source
from lsq_export.report.recording import record_better, write_parity
from lsq_export.rewrite.emit import emit_all
from lsq_export.rewrite.fold import Folded, prepare_fold
from lsq_export.rewrite.normalizing.for_target import note_target
from lsq_export.targets import adjusted, asked_of, choose, get
from lsq_export.targets.choice import Choice
from lsq_export.verification.checking import Progress, Subject, check
from lsq_export.verification.fold_costs import costs_of_folds
from lsq_export.verification.parity import Parity

from .mixed_up import check_export, check_verify

VERIFIED_IMAGES = 64  # of the calibration data, that every export is verified on
GOLDEN_IMAGES = 2


def export(
    model: nn.Module | OnnxNetwork,
    example_input: Any,
    out: str | os.PathLike[str],
    *,
    formats: Iterable[str] | None = None,
    calibration: Iterable[object],
    target: str = "ort-cpu",
    fold: str | None = None,
    opset: int | None = None,
    batch: int | None = None,
    quantized_output: bool = False,
    force: bool = False,
    strict_integer: bool = False,
    bias_correction: bool = False,
    preprocessing: dict[str, Any] | None = None,
    source: dict[str, Any] | None = None,
    input_key: InputKey | None = None,
    dynamic: Mapping[Any, Any] | None = None,
    classes: Sequence[str] | None = None,
    license: str | None = None,
    sample: Sample | Literal[False] | None = None,
    progress: bool = False,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Bundle:
    """Fold a trained model (`prepare`, `initialize`, QAT) and write a bundle to the directory `out`.

    Its `parity` is what the first calibration images showed. progress: on stderr. example_input: float [N, …], for its
    shape; of several inputs (floats, integers, masks) a tuple, or a mapping by the names of the forward. formats:
    "qdq", "qoperator"; None: all that the target reads. calibration: batches of inputs or (input, target) pairs, read
    once; they give the grids of edges, the golden vectors, and the images that the export is verified on. fold: see
    `lsq_export.rewrite.fold`; opset, batch: of the files; None: the target's. quantized_output: outputs are codes, the
    manifest has their grids. force: replace the bundle in `out`. strict_integer: islands are an error. bias_correction:
    biases take back the mean errors of their channels. preprocessing, source, classes (names), license (SPDX): for
    receivers. sample: one of the data before preprocessing, which is checked on it; None: the first calibration input;
    False: noise. input_key: see `calib.initialize`. dynamic: axes that vary, {2: "height"}, {input: such}.

    Errors (QuantizationError, nothing is written): names, data or layers that do not do, what the target does not take.
    """
    check_export(model, example_input, out)
    plan = choose(adjusted(get(target), opset, batch, quantized_output), formats, fold)
    origin = Origin(preprocessing=preprocessing, source=source, classes=classes, license=license, sample=sample)
    with few_collections(model), new_directory(out, force=force) as to, announcing("export", progress, on_stage) as at:
        at("capture")
        captured, data = _captured(model, example_input, calibration, input_key, dynamic)
        shown = _shown(origin, captured)
        at("fold")
        place, images = _prepared_fold(captured, data, plan, bias_correction)
        folded = _placed(place, plan.fold, strict_integer)
        costs = costs_of_folds(plan.target.folds, images, lambda how: folded if how == plan.fold else place(how, False))
        at("rewrite")
        files = taken(emit_all(folded, plan.formats, plan.target), plan.target, opset)
        origin = _with_config(origin, model)
        at("verify")
        parity = _first_look(folded, files, plan, images, model, origin)
        at("bundle")
        golden = _golden(shown, images, origin, 1 if captured.fixed else plan.target.batch or GOLDEN_IMAGES)
        contents = Contents(folded=folded, files=files, target=plan.target, golden=golden, costs=costs, origin=origin)
        _write(out, to, contents, parity)
    return replace(open_bundle(out), parity=parity.told())


def _captured(
    model: nn.Module | OnnxNetwork, example_input: Any, batches: Iterable[object], key: InputKey | None, dynamic: Any
) -> tuple[Captured, Calibration]:
    """The graph, and the data as it takes them. What is quick to find out is checked before."""
    if isinstance(model, OnnxNetwork):
        data = Calibration(batches, model.captured.input_shape, VERIFIED_IMAGES, key, model.takes)
        data.begin()
        data.single = True
        return model.captured, data
    example, _ = check_ready(model, example_input)
    warn_of_collapsed_scales(model)
    shape = varying_shape(shape_of(example), varying_axes(example, dynamic))
    data = Calibration(batches, shape, VERIFIED_IMAGES, key, takes_as(example))
    data.begin()
    captured = capture(model, example, dynamic)
    data.single = captured.fixed
    return captured, data


def _golden(shown: np.ndarray | None, images: Input, origin: Origin, count: int) -> Arrays:
    """The inputs of the golden vectors, so many: the sample, if there is one, and calibration images, or noise."""
    inputs = noise_like(arrays_of(images), count) if origin.sample is False else arrays_of(images[:count])
    if shown is not None:
        assert isinstance(inputs, np.ndarray)
        return np.concatenate([shown, inputs])[:count]
    return inputs  # type: ignore[no-any-return]


def _placed(place: Callable[..., Folded], how: str, strict_integer: bool) -> Folded:
    """The fold, without islands if they are refused."""
    folded = place(how)
    if strict_integer:
        refuse(islands(folded.model.graph))
    return folded


def _with_config(origin: Origin, model: nn.Module | OnnxNetwork) -> Origin:
    """The configuration comes from the model where `source` has none."""
    if isinstance(model, OnnxNetwork):
        return replace(origin, source={"file": model.name, "grids": model.origin, **(origin.source or {})})
    found = unwrapped(model)
    config = config_of(found)
    known = {**({"config": config.to_dict()} if config is not None else {}), **noted_source(found)}
    return replace(origin, source={**known, **(origin.source or {})} or None, places=places(found))


def _prepared_fold(
    captured: Captured, data: Calibration, plan: Choice, bias_correction: bool
) -> tuple[Callable[..., Folded], Any]:
    """(function that folds in a way, by name, watched or not, first calibration images [N, …]). plan: of the export."""
    note_target(captured.model.graph, plan.target)
    place = prepare_fold(captured, data, merge=plan.fold == "strided")
    images = data.images
    correct_on = (images,) if bias_correction else ()
    return lambda name, watched=True: place(name, correct_on, watched), images


def _shown(origin: Origin, captured: Captured) -> np.ndarray | None:
    """The sample as an input, [1, …], if there is one; what the user says of the network is checked before the fold."""
    shape = captured.model.graph.outputs[0].shape
    origin.check_outputs([dim if isinstance(dim, int) else None for dim in shape] if shape is not None else [])
    if not origin.sample:
        return None
    if isinstance(captured.input_shape, Mapping):
        raise QuantizationError("a sample is for networks with one input: leave it out, or give False for noise")
    return prepared_input(origin.sample, origin, captured.input_shape)


def _first_look(
    folded: Folded,
    files: Mapping[str, onnx.ModelProto],
    plan: Choice,
    images: Any,
    model: nn.Module | OnnxNetwork,
    origin: Origin,
) -> Parity:
    """The verification of an export, on the first calibration images."""
    subject = replace(Subject.of(folded, files, plan.target.name, asked_of(plan.target)), fresh=True)
    original = model if not isinstance(model, OnnxNetwork) or model.trained else None
    parity = check(subject, portions_of(images, subject.trained.graph), model=original)
    return replace(parity.of_source(origin.source, split="calibration"), places=origin.places)


def _write(out: str | os.PathLike[str], directory: Path, contents: Contents, parity: Parity) -> None:
    """Into a directory that will be `out`."""
    try:
        manifest = write_contents(directory, contents)
        contents.files.clear()  # large constants are read again, and shall not be in memory twice
        check_written(directory, manifest)
        write_parity(directory, manifest, parity)
    except OSError as error:
        why = error.strerror or error
        raise QuantizationError(f"the output directory {out} cannot be written: {why}") from error


def verify(
    model: nn.Module | None,
    bundle: Bundle | str | os.PathLike[str],
    batches: Iterable[object],
    *,
    record: bool = False,
    progress: Progress | bool | None = None,
    input_key: InputKey | None = None,
) -> Parity:
    """Check a bundle on batches of inputs [N, …] or (input, target) pairs. Nothing in it is changed without record.

    record: what was found goes into parity.json and report.html of the bundle, as `lsq-export verify` does it: unless
    they hold a better record, on its own test split or on more images.
    model: the prepared PyTorch model that was trained; None takes the bundle's own copy of it (reference/trained.onnx).
    progress(images so far) is called after each batch; True shows a bar on a terminal, and lines elsewhere.
    input_key: for other batches, see `calib.initialize`; classes are what a mapping has under "labels" or "label".
    Errors (QuantizationError): a model without grids, batches that are empty or do not fit, a bundle that cannot be
    written (record); of these a DamagedError: files that are needed and are not what SHA256SUMS says, a manifest that
    contradicts them (each number is named).
    """
    check_verify(model, bundle)
    bundle = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
    subject = subject_of(bundle)
    blame = partial(fails_by_itself, bundle, subject)
    with the_bundles_fault(bundle.directory, blame), counting("verify", progress, batches) as on_images:
        parity = check(subject, batches, model=model, progress=on_images, input_key=input_key)
    parity = replace(parity.of_source(bundle.manifest.get("source")), places=places_of(bundle.manifest))
    if record:
        record_better(bundle, parity)
    return parity.told()
