"""export: the main line, from a trained model to a bundle."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

import calib
from calib.errors import QuantizationError

from . import __version__, integer
from .bundle import FOLDED, MANIFEST, PARITY, REPORT, TRAINED, Bundle, new_directory, open_bundle, write_json, write_model, write_text
from .capture import capture
from .decisions import summary
from .emit import FORMATS, code_types, emit, emit_all, serialize
from .evaluate import portions_of
from .fold import Folded, prepare_fold
from .folds import FoldCost, fold_costs
from .parity import Parity
from .report import render
from .rewrite.islands import islands, refuse
from .targets import Target, get
from .verify import check

VERIFIED_IMAGES = 64  # of the calibration data, that every export is verified on
COMPARED = 16 * 3 * 224**2  # numbers in the images of these that the folds are compared on, 8 images at least
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
    on_parity: Callable[[Parity], None] = lambda parity: None,
) -> Bundle:
    """Fold a trained model (`prepare`, `initialize`, QAT) and write a bundle to the directory `out`.

    example_input: float [N, …], for its shape. formats: "qdq", "qoperator"; None: all that the target reads. calibration: batches of inputs or
    (input, target) pairs, one pass; they give the grids of edges, the golden vectors, and the images on which the export is verified
    (parity.json; run `verify` on more). fold: "strided" (real offsets on 8-bit containers) or "integer" (zero points among the 2^b codes), see
    `lsq_export.fold`; None: the target's default. preprocessing, source: go into the manifest. on_stage(name): called as each stage begins;
    on_parity(parity): with what those images showed. strict_integer: an operator that stays float (an island, named in the manifest) is an error.
    bias_correction: biases take back the mean errors of their channels, as far as those images show them (README, "What the fold costs": it pays in
    few networks, so compare with `lsq-export folds --bias-correction`). The folded model has the corrected biases.
    Errors (QuantizationError): unknown format or target, `out` not empty (without force), a bad scale or offset, a layer that cannot be
    quantized (named), empty calibration data. Nothing is written then. A broken promise does not stop the export: see parity.json.
    """
    goal = get(target)
    wanted, how = _check_formats(goal.formats if formats is None else formats), fold or goal.folds[0]
    if how not in goal.folds:
        raise QuantizationError(f"fold {how!r} is not for the target {goal.name}: use {', '.join(goal.folds)}")
    with new_directory(out, force=force) as directory:
        seen: list[torch.Tensor] = []
        on_stage("capture")
        captured = capture(model, example_input)
        on_stage("fold")
        place = prepare_fold(captured, _keep_first(_matching(calibration, captured.input_shape), seen), merge=how == "strided")
        images = torch.cat(seen)[:VERIFIED_IMAGES]
        correct_on = (images,) if bias_correction else ()
        folded = place(how, correct_on)
        if strict_integer:
            refuse(islands(folded.model.graph))
        on_stage("rewrite")
        files = emit_all(folded, wanted, goal)
        on_stage("verify")
        costs = _costs(goal.folds, images, lambda name: folded if name == how else place(name, correct_on))
        parity = check(model, folded.trained, folded.model, files, target, portions_of(images), decisions=(folded.tensors, folded.layers))
        on_parity(parity)
        on_stage("bundle")
        try:
            _write(directory, folded, files, goal, images[:GOLDEN_IMAGES].numpy(), parity, costs, preprocessing, source)
        except OSError as error:
            raise QuantizationError(f"the output directory {out} cannot be written: {error.strerror or error}") from error
    return open_bundle(out)


def _check_formats(formats: Iterable[str]) -> tuple[str, ...]:
    wanted = tuple(dict.fromkeys([formats] if isinstance(formats, str) else formats))
    if not wanted:
        raise QuantizationError(f"formats is empty: use {' or '.join(FORMATS)}")
    for name in wanted:
        if name not in FORMATS:
            raise QuantizationError(f"format {name!r} is unknown: use {', '.join(FORMATS)}")
    return wanted


def _matching(batches: Iterable[object], shape: tuple[int, ...]) -> Iterator[torch.Tensor]:
    """Inputs [N, *shape] of the batches, float32 on the CPU."""
    for index, x in enumerate(calib.inputs(batches, torch.device("cpu"))):
        if tuple(x.shape[1:]) != shape:
            raise QuantizationError(
                f"calibration batch {index} has inputs of shape {list(x.shape[1:])}, the example input has {list(shape)}: use one shape"
            )
        if not torch.isfinite(x).all():
            raise QuantizationError(f"calibration batch {index} holds NaN or infinity: check the data")
        yield x.float()


def _keep_first(batches: Iterator[torch.Tensor], kept: list[torch.Tensor]) -> Iterator[torch.Tensor]:
    """Pass the batches on and keep the first VERIFIED_IMAGES images."""
    for x in batches:
        missing = VERIFIED_IMAGES - sum(len(k) for k in kept)
        if missing > 0:
            kept.append(x[:missing].clone())
        yield x


def _costs(names: Sequence[str], images: torch.Tensor, place: Callable[[str], Folded]) -> list[dict[str, Any]]:
    """For the manifest: each fold against the trained model on the first of these images, or why it is refused."""
    folds, refused = {}, {}
    for name in names:
        try:
            folds[name] = place(name)
        except QuantizationError as error:
            refused[name] = str(error)
    images = images[: max(8, COMPARED // images[0].numel())]
    found = dict(zip(folds, fold_costs(list(folds.values()), [(x, None) for x in portions_of(images)]), strict=True))
    return [{"fold": name, "refused": refused[name]} if name in refused else _cost(found[name], len(images)) for name in names]


def _cost(cost: FoldCost, images: int) -> dict[str, Any]:
    return {"fold": cost.fold, "images": images, **{key: cost.to_dict()[key] for key in ("codes_differing", "sqnr_db", "top1_agreement")}}


def _write(
    directory: Path, folded: Folded, files: dict[str, onnx.ModelProto], target: Target, golden: np.ndarray, parity: Parity,
    costs: list[dict[str, Any]], preprocessing: dict[str, Any] | None, source: dict[str, Any] | None,
) -> None:  # fmt: skip
    reference = files.get("qoperator") or emit(folded.model, "qoperator", target)
    names = [output.name for output in reference.graph.output]
    outputs = integer.run(reference, {reference.graph.input[0].name: golden}, outputs=names)
    for name, proto in files.items():
        write_model(directory, name, proto, golden, outputs)
    (directory / TRAINED).parent.mkdir()
    for path, graph in ((TRAINED, folded.trained), (FOLDED, folded.model)):
        onnx.save(serialize(graph, target.opset, path.stem), directory / path)
    manifest = manifest_of(directory, folded, files, target, preprocessing, source) | {"folds": costs}
    write_json(directory / MANIFEST, manifest)
    write_json(directory / PARITY, parity.to_dict())
    write_text(directory / REPORT, render(manifest, parity.to_dict()))


def manifest_of(
    directory: Path,
    folded: Folded,
    files: dict[str, onnx.ModelProto],
    target: Target,
    preprocessing: dict[str, Any] | None,
    source: dict[str, Any] | None,
) -> dict[str, Any]:
    """What manifest.json holds: the files, how to feed them, and every decision of the fold."""
    first = next(iter(files.values()))
    containers = {name: kind for proto in files.values() for name, kind in code_types(proto).items()}
    opsets = {name: next(o.version for o in proto.opset_import if not o.domain) for name, proto in files.items()}
    return {
        "lsq_export": __version__,
        "made_with": {"torch": torch.__version__, "onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__},
        "target": target.name,
        "fold": folded.how,
        "opset": max(opsets.values()),
        "formats": {
            name: {"file": f"{name}/model.onnx", "bytes": (directory / name / "model.onnx").stat().st_size, "opset": opsets[name]} for name in files
        },
        "input": {"name": first.graph.input[0].name, "type": "float32", "shape": ["batch", *folded.input_shape]},
        "outputs": [output.name for output in first.graph.output],
        "preprocessing": preprocessing,
        "source": source,
        "islands": [asdict(island) for island in islands(folded.model.graph)],
        "tensors": [{**asdict(d), "container": containers.get(d.codes, d.container)} for d in folded.tensors],
        "layers": [{**asdict(d), "container": containers.get(d.name, d.container)} for d in folded.layers],
        "bias_correction": {"summary": summary(folded.corrections), "layers": [asdict(c) for c in folded.corrections]}
        if folded.corrections
        else None,
    }
