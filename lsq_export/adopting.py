"""adopt: a network that another tool quantized becomes a bundle, with its scales and zero points unchanged."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from torch import nn

from calib.batches import InputKey, nothing_in, read_batches
from calib.door import check_model
from calib.errors import QuantizationError, warn
from calib.signature import Takes, takes_of
from calib.words import counted
from lsq_export.adoption.network import OnnxNetwork, read_quantized
from lsq_export.bundle.directory import Bundle
from lsq_export.checkpoints.network import read_checkpoint
from lsq_export.data.sample import Sample
from lsq_export.files.kinds import holds_tensors
from lsq_export.pipeline import export


def adopt(
    file: str | os.PathLike[str] | OnnxNetwork,
    out: str | os.PathLike[str],
    *,
    calibration: Iterable[object],
    model: nn.Module | None = None,
    mapping: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    bits: int | None = None,
    encodings: str | os.PathLike[str] | None = None,
    formats: Iterable[str] | None = None,
    target: str = "ort-cpu",
    fold: str | None = None,
    force: bool = False,
    strict_integer: bool = False,
    bias_correction: bool = False,
    preprocessing: dict[str, Any] | None = None,
    source: dict[str, Any] | None = None,
    input_key: InputKey | None = None,
    classes: Sequence[str] | None = None,
    license: str | None = None,
    sample: Sample | Literal[False] | None = None,
    progress: bool = False,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Bundle:
    """Fold what another tool quantized, an ONNX file or a PyTorch checkpoint, and write a bundle to `out`.

    file: an ONNX file with QuantizeLinear and DequantizeLinear, QLinear operators, or QONNX; what `read_quantized` made
    of it; with `model`, the float network that was quantized (its weights do not matter, it stays as it is), a
    checkpoint with learned scales. mapping: a TOML or JSON file, or its content, with what a checkpoint does not say
    (docs/adopting.md); bits: the width of its grids. encodings: AIMET's file of grids beside a float one. What the file
    computes between its own grids is what was trained: `bundle.parity.capture_error` says how far off the adopted
    network is on the first calibration batches, [N, …] each. Tensors that integer operators exchange and that have no
    grid in the file get one of 8 bits from the data. A warning (QuantizationWarning) names what of a checkpoint cannot
    be carried as it is. All else is as in `export`.

    Errors (QuantizationError): those of `export`; a float network, an operator that ONNX Runtime does not have;
    parameters that are not the network's, grids whose place, bits or sign nobody says.
    """
    said = {"mapping": mapping, "bits": bits, "encodings": encodings}
    network, example, calibration, source = _network(file, model, calibration, input_key, source, said)
    return export(
        network,
        example,
        out,
        formats=formats,
        calibration=calibration,
        target=target,
        fold=fold,
        force=force,
        strict_integer=strict_integer,
        bias_correction=bias_correction,
        preprocessing=preprocessing,
        source=source,
        input_key=input_key,
        classes=classes,
        license=license,
        sample=sample,
        progress=progress,
        on_stage=on_stage,
    )


def _network(
    file: str | os.PathLike[str] | OnnxNetwork,
    model: nn.Module | None,
    batches: Iterable[object],
    key: InputKey | None,
    source: dict[str, Any] | None,
    said: Mapping[str, Any],
) -> tuple[Any, Any, Iterable[object], dict[str, Any] | None]:
    """(what `export` takes, an example input, the batches, the source). said: what is known beside the file."""
    if isinstance(file, OnnxNetwork) or model is None:
        _check_no_checkpoint(file, said)
        if isinstance(file, OnnxNetwork):
            return _said(file), None, batches, source
        every = batches

        def example_of(_: Any, takes: Takes) -> Any:
            nonlocal every
            x, every = _first(batches, key, takes)
            return x

        return _said(read_quantized(file, said["encodings"], example_of)), None, every, source
    check_model(model)
    example, batches = _first(batches, key, takes_of(model))
    adopted = read_checkpoint(file, model, example, **said)
    if adopted.left:
        lines = "; ".join(f"{left.name}: {left.why}" for left in adopted.left)
        warn(f"not as {adopted.library} has it: {lines}")
    known = {"file": Path(file).name, "library": adopted.library}
    return adopted.module, example, batches, {**known, **(source or {})}


def _said(network: OnnxNetwork) -> OnnxNetwork:
    """With a warning (QuantizationWarning) where a file seems to lack limits that training had."""
    if network.unlimited:
        first, more = network.unlimited[0], len(network.unlimited) - 1
        layers = f"{first} and {counted(more, 'more layer')} have" if more else f"{first} has"
        warn(
            f"{network.name}: {layers} weights of 4 bits in no type of 4, and inputs that only a type of 8 limits: if "
            "training limited these to fewer bits, the exporter has lost that, and the network is the file's, not the "
            "trained one; adopt the checkpoint then"
        )
    return network


def _first(batches: Iterable[object], key: InputKey | None, takes: Takes) -> tuple[Any, Iterable[object]]:
    """(inputs of the first batch, all batches)."""
    rest = iter(batches)
    first = next(rest, None)
    if first is None:
        raise QuantizationError(f"no calibration batches: {nothing_in(batches)}")
    return next(read_batches([first], key, takes=takes))[0], chain([first], rest)


def _check_no_checkpoint(file: str | os.PathLike[str] | OnnxNetwork, said: Mapping[str, Any]) -> None:
    for name in ("mapping", "bits"):
        if said[name] is not None:
            raise QuantizationError(f"{name} is for checkpoints: give the float network, model=, or leave it out")
    if not isinstance(file, OnnxNetwork) and holds_tensors(Path(file)):
        raise QuantizationError(
            f"checkpoint {os.fspath(file)} holds tensors and no network: give the float network that was quantized, "
            "model=…"
        )
