"""What users of Python mix up in the calls of the pipeline."""

from __future__ import annotations

import os

import torch
from torch import nn

from calib.door import check_model, unwrapped
from calib.errors import QuantizationError
from lsq_export.adoption.network import OnnxNetwork
from lsq_export.bundle.directory import Bundle
from lsq_export.graph.dead_scales import check_quantizers


def check_export(model: object, example_input: object, out: object) -> None:
    """Errors (QuantizationError): arguments in another order, no path."""
    call = "export(model, example_input, out, calibration=…)"
    if isinstance(example_input, nn.Module) or isinstance(out, torch.Tensor):
        raise QuantizationError(f"the arguments are in another order than {call}")
    if not isinstance(out, (str, os.PathLike)):
        raise QuantizationError(f"out is a {type(out).__name__}: give the path of a directory, {call}")


def check_verify(model: object, bundle: object) -> None:
    """Errors (QuantizationError): arguments in another order, a model without grids."""
    call = "verify(model, bundle, batches)"
    if isinstance(model, Bundle) or isinstance(bundle, nn.Module):
        raise QuantizationError(f"the arguments are in another order than {call}")
    if not isinstance(bundle, (Bundle, str, os.PathLike)):
        raise QuantizationError(f"bundle is a {type(bundle).__name__}: give what export returned, or its path, {call}")
    if model is None:
        return
    if isinstance(model, OnnxNetwork):
        raise QuantizationError(
            "model is a network of an ONNX file, which the bundle has: verify(None, bundle, batches)"
        )
    check_model(model)
    check_quantizers(unwrapped(model))
