"""adopt: a network that another tool quantized becomes a bundle, with its scales and zero points unchanged."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from calib.batches import InputKey
from lsq_export.adoption.network import OnnxNetwork, read_quantized
from lsq_export.bundle.directory import Bundle
from lsq_export.data.sample import Sample
from lsq_export.pipeline import export


def adopt(
    file: str | os.PathLike[str] | OnnxNetwork,
    out: str | os.PathLike[str],
    *,
    calibration: Iterable[object],
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
    """Fold a quantized ONNX file of any maker and write a bundle to the directory `out`.

    file: QuantizeLinear and DequantizeLinear, QLinear operators, or QONNX; or what `read_quantized` made of it.
    encodings: the file of grids that AIMET and Qualcomm's tools write beside a float ONNX file. What a file computes
    between its own grids is what was trained: `bundle.parity.capture_error` says how far the adopted network is from
    it on the first calibration batches, [N, …] each. Tensors that integer operators exchange and that have no grid
    in the file get one of 8 bits from the calibration data. All else is as in `export`.

    Errors (QuantizationError): those of `export`; a float network, an operator that ONNX Runtime does not have.
    """
    network = file if isinstance(file, OnnxNetwork) else read_quantized(file, encodings)
    return export(
        network,
        None,
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
