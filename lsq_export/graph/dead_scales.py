"""Scales that training drove to zero or below, where nothing depends on them.

Forward counts such a scale as `floor`, the least that training may reach. That is the network that was trained, but a
grid that steep is an accident, and an error at export. Not so where no output changes, whatever the scale is:

    of a weight            in channels whose codes are all zero, or that a batch norm with γ = 0 reads
    of an activation       if all layers that read it are without effect in all channels, by the same rule

Reading the captured graph, before anything is folded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import onnx_ir as ir
import torch
from torch import nn

from calib.errors import QuantizationError, warn
from calib.grid import quantize
from calib.words import counted
from lsq_export.qat.prepare_model import quantizers

from .grids import quantizer_of
from .operators import LAYERS, MOVES
from .read import array_of, attribute, constant_of, is_marker, is_op, producer_of, single_consumer


def check_quantizers(model: nn.Module) -> None:
    """Every quantizer has a finite scale and a finite offset; the first that does not is named.

    A scale that is zero or below may have no effect: see `check_without_effect`.
    """
    found = quantizers(model)
    if not found:
        raise QuantizationError(
            "the model has no quantizers: call lsq_export.prepare(model, config) and train it first"
        )
    some = any(bool(quantizer.initialized) for quantizer in found.values())
    with positive_scales(model):
        for name, quantizer in found.items():
            if not bool(quantizer.initialized):
                if some:
                    continue  # a layer that the network does not use; forward says it of one that it does
                raise QuantizationError(
                    f"{name}: the quantizer has no grid yet; call calib.initialize(model, batches) first"
                )
            scale, offset = quantizer.scale.detach().flatten(), quantizer.effective_offset.detach().flatten()
            if not torch.isfinite(scale).all():
                raise _bad_scale(name, float(scale[~torch.isfinite(scale)][0]))
            if not torch.isfinite(offset).all():
                raise QuantizationError(
                    f"{name}: offset is {float(offset[~torch.isfinite(offset)][0])}, but must be finite; initialize or "
                    "train this quantizer again"
                )


def warn_of_collapsed_scales(model: nn.Module) -> None:
    """A warning (QuantizationWarning) where training drove scales down to where the projection holds them."""
    found = [name for name, q in quantizers(model).items() if bool((q.scale == q.floor).all())]
    if found:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        warn(
            f"training drove {counted(len(found), 'scale')} to the least that they may reach, 0.001 of their first "
            "values "
            f"({', '.join(found[:3])}{more}): the learning rate is too high for them; lsq_export.parameter_groups("
            "model, lr, grid_lr=0.01) gives grids one of their own",
        )


def _bad_scale(name: str, scale: float) -> QuantizationError:
    return QuantizationError(
        f"{name}: scale is {scale}, but must be finite and positive; initialize or train this quantizer again"
    )


@contextmanager
def positive_scales(model: nn.Module) -> Iterator[dict[str, np.ndarray]]:
    """Within this block scales that are zero or below are `floor`; gives {quantizer: its scales} where some are."""
    found = quantizers(model)
    dead = {name: q for name, q in found.items() if bool((q.scale <= 0).any())}
    before = {name: quantizer.scale for name, quantizer in dead.items()}
    try:
        for quantizer in dead.values():  # in parameters of their own: an exported graph goes on reading them
            scale = quantizer.scale.detach()
            quantizer.scale = nn.Parameter(torch.where(scale <= 0, quantizer.floor, scale))
        yield {name: scale.detach().cpu().numpy() for name, scale in before.items()}
    finally:
        for name, quantizer in dead.items():
            quantizer.scale = before[name]


def check_without_effect(graph: ir.Graph, dead: Mapping[str, np.ndarray]) -> None:
    """Errors (QuantizationError): something depends on a scale that is zero or below. dead: {quantizer: its scales}."""
    for marker in (node for node in graph if is_marker(node)):
        scales = dead.get(quantizer_of(marker))
        if scales is None:
            continue
        weight, bad = attribute(marker, "kind") == "weight", scales[scales <= 0]
        free = _free_rows(marker)[scales.ravel() <= 0] if weight else np.array([_without_effect(marker.outputs[0])])
        if not free.all():
            raise _bad_scale(quantizer_of(marker), float(bad[~free][0]))


def _free_rows(marker: ir.Node) -> np.ndarray:
    """Bool, of the shape of a weight's scale: the channels (or all as one) whose weights have no effect."""
    rows, readers = _rows_of_zeros(marker), list(marker.outputs[0].consumers())
    if all(is_op(reader, *LAYERS) for reader in readers):
        ignored = [_ignored_rows(reader.outputs[0], len(rows)) for reader in readers]
        rows = rows | np.all(ignored, axis=0)
    by_channel = constant_of(marker.inputs[1], quantizer_of(marker)).size == len(rows)
    return rows if by_channel else np.array([rows.all()])


def _without_effect(value: ir.Value) -> bool:
    """Nothing depends on what a marker makes."""
    if value.is_graph_output():
        return False
    readers = list(value.consumers())
    return all(_ignores(reader) or (is_op(reader, *MOVES) and _without_effect(reader.outputs[0])) for reader in readers)


def _ignores(layer: ir.Node) -> bool:
    """Whether the output of a Conv or Gemm depends on neither its input nor its weight, in no channel."""
    weight = producer_of(layer.inputs[1]) if is_op(layer, *LAYERS) else None
    if weight is None or not is_marker(weight):
        return False
    zeros = _rows_of_zeros(weight)
    return bool((zeros | _ignored_rows(layer.outputs[0], len(zeros))).all())


def _rows_of_zeros(marker: ir.Node) -> np.ndarray:
    """Bool [C_out]: the output channels of a weight all of whose codes are zero."""
    weight = constant_of(marker.inputs[0], quantizer_of(marker)).astype(np.float32)
    scale = constant_of(marker.inputs[1], quantizer_of(marker)).astype(np.float32)
    by_channel = scale.reshape(-1, *[1] * (weight.ndim - 1))
    codes = quantize(weight, by_channel, np.float32(0), attribute(marker, "qmin"), attribute(marker, "qmax"))
    return np.asarray(~codes.reshape(len(weight), -1).any(1))


def _ignored_rows(output: ir.Value, channels: int) -> np.ndarray:
    """Bool [C_out]: the channels of a layer's output that a batch norm multiplies by 0."""
    (reader, *_) = [*output.consumers(), None]
    if reader is None or not single_consumer(output) or not is_op(reader, "BatchNormalization"):
        return np.zeros(channels, bool)
    gamma = array_of(reader.inputs[1])
    return np.zeros(channels, bool) if gamma is None else np.asarray(gamma == 0)
