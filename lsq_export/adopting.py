"""adopt: a network that another tool quantized becomes a bundle, with its scales and zero points unchanged."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from torch import nn

from calib.batches import InputKey, read_batches
from calib.door import check_model
from calib.errors import QuantizationError, QuantizationWarning
from calib.signature import takes_of
from lsq_export.adoption.network import OnnxNetwork, read_quantized
from lsq_export.bundle.directory import Bundle
from lsq_export.checkpoints.network import AdoptedModel, read_checkpoint
from lsq_export.data.sample import Sample
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
    of it; with `model`, a checkpoint (torch.save or safetensors) with learned scales. model: the float network that the
    other library quantized, with any weights; it stays as it is. mapping: a TOML or JSON file, or what it would hold,
    of what a checkpoint does not say (docs/adopting.md); bits: the width of its grids, likewise.
    encodings: the file of grids that AIMET and Qualcomm's tools write beside a float ONNX file or a state_dict. What a
    file computes between its own grids is what was trained: `bundle.parity.capture_error` says how far the adopted
    network is from it on the first calibration batches, [N, …] each. Tensors that integer operators exchange and that
    have no grid in the file get one of 8 bits from the calibration data. What of a checkpoint cannot be carried as it
    is, a warning names (QuantizationWarning). All else is as in `export`.

    Errors (QuantizationError): those of `export`; a float network, an operator that ONNX Runtime does not have;
    parameters that are not the network's, grids whose place, bits or sign nobody says.
    """
    example = None
    if isinstance(file, OnnxNetwork) or model is None:
        _check_no_checkpoint(file, mapping, bits)
        network: Any = file if isinstance(file, OnnxNetwork) else read_quantized(file, encodings)
    else:
        example, calibration = _first_input(model, calibration, input_key)
        adopted = read_checkpoint(file, model, example, mapping=mapping, bits=bits, encodings=encodings)
        say_what_is_left(adopted)
        network, source = adopted.module, {"file": Path(file).name, "library": adopted.library, **(source or {})}
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


def say_what_is_left(adopted: AdoptedModel) -> None:
    """A warning that names what cannot be carried as the library has it."""
    if adopted.left:
        lines = "; ".join(f"{left.name}: {left.why}" for left in adopted.left)
        warnings.warn(f"not as {adopted.library} has it: {lines}", QuantizationWarning, stacklevel=3)


def _check_no_checkpoint(file: Any, mapping: Any, bits: int | None) -> None:
    from lsq_export.files.kinds import is_checkpoint

    for name, given in (("mapping", mapping), ("bits", bits)):
        if given is not None:
            raise QuantizationError(f"{name} is for checkpoints: give the float network, model=, or leave it out")
    if isinstance(file, (str, os.PathLike)) and is_checkpoint(Path(file)):
        raise QuantizationError(
            f"checkpoint {os.fspath(file)} holds tensors and no network: give the float network that was quantized, "
            "model= (--model package.module:function)"
        )


def _first_input(model: nn.Module, batches: Iterable[object], key: InputKey | None) -> tuple[Any, Iterable[object]]:
    """(the input of the first batch, all batches)"""
    check_model(model)
    rest = iter(batches)
    first = next(rest, None)
    if first is None:
        raise QuantizationError("no calibration batches: the iterable is empty")
    x = next(read_batches([first], key, takes=takes_of(model)))[0]
    return x, chain([first], rest)
