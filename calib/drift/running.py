"""The activation quantizers of a model, and a run of the model on data as it is used."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from calib.batches import inputs
from calib.errors import QuantizationError, one_line
from calib.initialization.first_grids import evaluating
from calib.quantized import Quantized, quantized_modules
from calib.samples import called, in_words, shape_of
from calib.signature import takes_of
from calib.words import counted


def activation_quantizers(model: nn.Module) -> dict[str, Quantized]:
    """{name: quantizer} of the activations. Errors (QuantizationError): there are none."""
    activations = {name: q for name, q in quantized_modules(model).items() if q.kind == "activation" and not q.left_out}
    if not activations:
        raise QuantizationError("the model has no quantizers: call lsq_export.prepare(model, config) first")
    return activations


def run(model: nn.Module, batches: Iterable[Any], progress: Callable[[str], None] | None = None) -> None:
    """Run the model on every batch, in eval mode, on its own device; its training mode comes back afterwards.

    Errors (QuantizationError): a batch that the model cannot take, named by its shape.
    """
    samples = 0
    with torch.no_grad(), evaluating(model):
        for x in inputs(batches, next(model.parameters()).device, takes=takes_of(model)):
            try:
                called(model, x)
            except QuantizationError:
                raise
            except (RuntimeError, ValueError, TypeError) as error:
                shape = list(x.shape) if isinstance(x, torch.Tensor) else in_words(shape_of(x))
                raise QuantizationError(f"the model fails on an input of shape {shape}: {one_line(error)}") from error
            samples += len(x)
            if progress is not None:
                progress(counted(samples, "image"))
