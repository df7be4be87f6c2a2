"""Codes of the folded model as codes of the trained grid, where the trained graph has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from lsq_export.graph.evaluate import evaluate_node
from lsq_export.graph.notes import PASSED
from lsq_export.graph.read import array_of
from lsq_export.rewrite.contract.decisions import Remainder, TensorDecision
from lsq_export.rewrite.folding.pads import is_constant_pad, pad_code

PAD_VALUE = 2  # input of Pad


def trained_codes(decision: TensorDecision, codes: np.ndarray, grid_offset: float) -> np.ndarray:
    """Container codes as codes of the trained grid, counted from 0 (E5). grid_offset: the value of that 0."""
    return np.asarray((codes - decision.origin) / decision.stride + first_code(decision, grid_offset))


def first_code(decision: TensorDecision, grid_offset: float) -> int:
    """The trained code that a clamp before the grid made the lowest one (E10)."""
    if decision.remainder in (Remainder.MOVED, Remainder.DROPPED):
        return 0
    return round((decision.offset - grid_offset) / decision.scale)


def own_channels(codes: np.ndarray, decision: TensorDecision) -> np.ndarray:
    """The codes [N, C, …] of this quantizer alone, where parallel convolutions became one."""
    return codes if decision.channels is None else codes[:, slice(*decision.channels)]


def sizes_read(movers: Sequence[ir.Node]) -> set[str]:
    """The values that operators read beside the codes, where they are computed: sizes that vary with the input."""
    return {str(v.name) for node in movers for v in node.inputs[1:] if v is not None and array_of(v) is None}


def codes_after(
    movers: Sequence[ir.Node], codes: np.ndarray, decision: TensorDecision, sizes: Mapping[str, Any]
) -> np.ndarray:
    """The codes of a grid where the trained graph has it, float64: after the operators that the grid moved before.

    movers: those operators, in order (rewrite/folding/clamps.py). sizes: what `sizes_read` names, as arrays or tensors.
    NaN is what a Pad added if the file has its value on a grid of another quantizer, which moved before it as well.
    """
    x = torch.from_numpy(own_channels(codes, decision).astype(np.float64))
    for node in movers:
        computed = {
            index: torch.as_tensor(sizes[str(v.name)])
            for index, v in enumerate(node.inputs)
            if index and v is not None and array_of(v) is None
        }
        x = evaluate_node(node, x, {**computed, **_pad_value(node, decision)})
    return x.numpy()


def _pad_value(node: ir.Node, decision: TensorDecision) -> dict[int, torch.Tensor]:
    if not is_constant_pad(node):
        return {}
    is_own = PASSED.read(node)[0] == decision.name
    code = pad_code(node, decision.container_scale, decision.zero_point) if is_own else np.nan
    return {PAD_VALUE: torch.tensor(code)}
