"""The table of operators: one row says all that the fold needs to know of a standard operator.

Passes ask the table for the operators of a kind (`named`), evaluation for their meaning, lowering for their integer
form, the documentation for all of it. The integer reference (`lsq_export.integer`) has tables of its own, on purpose; a
test holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import onnx_ir as ir
import torch
import torch.nn.functional as F

from . import float_grids, float_layers, float_moves, float_reductions
from .read import attribute

Meaning = Callable[[ir.Node, "list[Any]"], "torch.Tensor | tuple[torch.Tensor, ...]"]
CONTRIB = "com.microsoft"


class Kind(Enum):
    """What the fold does with an operator."""

    LAYER = "layer: weights and biases become integers"
    MOVES = "moves codes: any grid goes through unchanged"
    CLAMP = "clamp: becomes a clamp of the codes after it"
    ARITHMETIC = "integer arithmetic between grids"
    NORM = "norm: goes into the layer before it"
    ISLAND = "float island between grids"
    GRID = "puts values onto a grid"
    REWRITTEN = "rewritten as other operators of this table"


@dataclass(frozen=True, kw_only=True)
class IntegerForm:
    """The operator on codes that takes an operator's place in `qoperator` files.

    inputs: the order of "operands" (codes, scale and zero point of each), "bias" (int32 codes) and "result" (scale and
    zero point). fixed: attributes with these values. copied: attributes of the operator, where it has them.
    """

    op_type: str
    domain: str = CONTRIB
    inputs: tuple[str, ...] = ("operands", "result")
    fixed: Mapping[str, Any] = field(default_factory=dict)
    copied: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Operator:
    """One row.

    meaning: what it computes, in floating point. integer: its form on codes;
    None of operators that keep their own form there. increasing: it never decreases where its input grows. pointwise:
    each output element depends on the elements at the same place. between: its outputs lie among the values of its
    input. picks: it leaves elements out. constants: all inputs but the first must be constants. keeps_type: its output
    has the type of its first input. opset: the operator set that brought it, where that is newer than 17. note: what it
    is rewritten as.
    """

    name: str
    kind: Kind
    meaning: Meaning
    integer: IntegerForm | None = None
    increasing: bool = False
    pointwise: bool = False
    between: bool = False
    picks: bool = False
    constants: bool = False
    keeps_type: bool = False
    opset: int = 17
    note: str = ""


GEOMETRY = ("dilations", "group", "kernel_shape", "pads", "strides")
WINDOWS = ("ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides")


def _row(kind: Kind, name: str, meaning: Meaning, **more: Any) -> Operator:
    return Operator(kind=kind, name=name, meaning=meaning, **more)


def _moves(name: str, meaning: Meaning, **more: Any) -> Operator:
    return _row(Kind.MOVES, name, meaning, **{"between": True, "keeps_type": True} | more)


def _qlinear(name: str, **form: Any) -> IntegerForm:
    return IntegerForm(op_type=f"QLinear{name}", **form)


def _clip(node: ir.Node, inputs: list[Any]) -> torch.Tensor:
    low, high = (inputs[index] if len(inputs) > index else None for index in (1, 2))
    return torch.clamp(inputs[0], min=low, max=high)


def _leaky_relu(node: ir.Node, inputs: list[Any]) -> torch.Tensor:
    return torch.where(inputs[0] >= 0, inputs[0], attribute(node, "alpha", 0.01) * inputs[0])


def _gelu(node: ir.Node, inputs: list[Any]) -> torch.Tensor:
    return F.gelu(inputs[0], approximate=attribute(node, "approximate", "none"))


def _hard_sigmoid(node: ir.Node, inputs: list[Any]) -> torch.Tensor:
    return torch.as_tensor((attribute(node, "alpha", 0.2) * inputs[0] + attribute(node, "beta", 0.5)).clamp(0, 1))


def _div(node: ir.Node, inputs: list[Any]) -> torch.Tensor:
    """Of integers, such as sizes, ONNX leaves the fraction out."""
    whole = not any(torch.is_floating_point(x) for x in inputs)
    return torch.div(inputs[0], inputs[1], rounding_mode="trunc" if whole else None)


def _sum(node: ir.Node, inputs: list[Any]) -> torch.Tensor:
    return torch.as_tensor(sum(inputs[1:], start=inputs[0]))


def _einsum(node: ir.Node, inputs: list[Any]) -> torch.Tensor:
    return torch.einsum(attribute(node, "equation"), *inputs)


def _softplus(node: ir.Node, inputs: list[Any]) -> torch.Tensor:
    return torch.logaddexp(inputs[0], torch.zeros_like(inputs[0]))


_CONV = _qlinear("Conv", domain="", inputs=("operands", "result", "bias"), copied=GEOMETRY)
_GEMM = IntegerForm(
    op_type="QGemm", inputs=("operands", "bias", "result"), fixed={"alpha": 1.0, "transA": 0, "transB": 1}
)
_AVERAGE = _qlinear("AveragePool", fixed={"channels_last": 0}, copied=WINDOWS)
_GLOBAL = _qlinear("GlobalAveragePool", fixed={"channels_last": 0})
_CONCAT = _qlinear("Concat", inputs=("result", "operands"), copied=("axis",))
_LEAKY = _qlinear("LeakyRelu", fixed={"alpha": 0.01}, copied=("alpha",))
_TANH = "Sigmoid, with scales that make 2σ(2x) - 1 of it"
_CLAMP = "Clip, where one operand is a constant"
_SUM = "of one value, it keeps optimizers from quantizing a layer that is kept float"

_ROWS = (
    _row(Kind.LAYER, "Conv", float_layers.conv, integer=_CONV),
    _row(Kind.LAYER, "Gemm", float_layers.gemm, integer=_GEMM),
    _row(Kind.NORM, "BatchNormalization", float_layers.batch_norm),
    _moves("DepthToSpace", float_moves.depth_to_space, constants=True),
    _moves("Flatten", float_moves.flatten),
    _moves("Gather", float_moves.gather, constants=True, picks=True),
    _moves("MaxPool", float_layers.max_pool),
    _moves("Pad", float_moves.pad, constants=True, between=False),
    _moves("Reshape", float_moves.reshape),
    _moves("Resize", float_moves.resize, constants=True),
    _moves("Slice", float_moves.slice_, constants=True, picks=True),
    _moves("SpaceToDepth", float_moves.space_to_depth, constants=True),
    _moves("Squeeze", float_moves.squeeze, constants=True),
    _moves("Transpose", float_moves.transpose),
    _moves("Unsqueeze", float_moves.unsqueeze, constants=True),
    _row(Kind.CLAMP, "Clip", _clip, increasing=True, pointwise=True, keeps_type=True),
    _row(Kind.CLAMP, "Relu", lambda node, i: i[0].clamp(min=0), increasing=True, pointwise=True),
    _row(Kind.ARITHMETIC, "Add", lambda node, i: i[0] + i[1], integer=_qlinear("Add"), pointwise=True, keeps_type=True),
    _row(Kind.ARITHMETIC, "AveragePool", float_layers.average_pool, integer=_AVERAGE),
    _row(Kind.ARITHMETIC, "Concat", lambda node, i: torch.cat(i, dim=attribute(node, "axis")), integer=_CONCAT),
    _row(Kind.ARITHMETIC, "GlobalAveragePool", float_layers.global_average_pool, integer=_GLOBAL, between=True),
    _row(Kind.ARITHMETIC, "LeakyRelu", _leaky_relu, integer=_LEAKY, pointwise=True),
    _row(Kind.ARITHMETIC, "MatMul", lambda node, i: i[0] @ i[1], integer=_qlinear("MatMul", domain="")),
    _row(Kind.ARITHMETIC, "Mul", lambda node, i: i[0] * i[1], integer=_qlinear("Mul"), pointwise=True),
    _row(
        Kind.ARITHMETIC,
        "Sigmoid",
        lambda node, i: torch.sigmoid(i[0]),
        integer=_qlinear("Sigmoid"),
        increasing=True,
        pointwise=True,
    ),
    _row(Kind.ARITHMETIC, "Tanh", lambda node, i: i[0].tanh(), note=_TANH),
    _row(Kind.GRID, "DequantizeLinear", float_grids.dequantize_linear, increasing=True, pointwise=True),
    _row(Kind.GRID, "QuantizeLinear", float_grids.quantize_linear, increasing=True, pointwise=True),
    _row(Kind.ISLAND, "Celu", lambda node, i: F.celu(i[0], attribute(node, "alpha", 1.0))),
    _row(Kind.ISLAND, "Cos", lambda node, i: i[0].cos()),
    _row(Kind.ISLAND, "Div", _div, note="Mul, where the divisor is a constant"),
    _row(Kind.ISLAND, "Elu", lambda node, i: F.elu(i[0], attribute(node, "alpha", 1.0))),
    _row(Kind.ISLAND, "Erf", lambda node, i: i[0].erf()),
    _row(Kind.ISLAND, "Exp", lambda node, i: i[0].exp()),
    _row(Kind.ISLAND, "Gelu", _gelu, opset=20),
    _row(Kind.ISLAND, "LayerNormalization", float_layers.layer_norm),
    _row(Kind.ISLAND, "Log", lambda node, i: i[0].log()),
    _row(Kind.ISLAND, "LogSoftmax", lambda node, i: i[0].log_softmax(attribute(node, "axis", -1))),
    _row(Kind.ISLAND, "Mish", lambda node, i: F.mish(i[0]), opset=18),
    _row(Kind.ISLAND, "PRelu", lambda node, i: torch.where(i[0] >= 0, i[0], i[1] * i[0]), note="LeakyRelu, Relu, Clip"),
    _row(Kind.ISLAND, "Pow", lambda node, i: i[0] ** i[1], note="Mul, where the exponent is 2"),
    _row(Kind.ISLAND, "Reciprocal", lambda node, i: i[0].reciprocal()),
    _row(Kind.ISLAND, "Selu", lambda node, i: F.selu(i[0])),
    _row(Kind.ISLAND, "Sin", lambda node, i: i[0].sin()),
    _row(Kind.ISLAND, "Softmax", lambda node, i: i[0].softmax(attribute(node, "axis", -1))),
    _row(Kind.ISLAND, "Softplus", _softplus),
    _row(Kind.ISLAND, "Softsign", lambda node, i: i[0] / (1 + i[0].abs())),
    _row(Kind.ISLAND, "Sqrt", lambda node, i: i[0].sqrt()),
    _row(Kind.ISLAND, "Sum", _sum, note=_SUM),
    _row(Kind.REWRITTEN, "Abs", lambda node, i: i[0].abs(), note="LeakyRelu with the slope -1"),
    _row(Kind.REWRITTEN, "ConvTranspose", float_layers.conv_transpose, note="Conv, the phases in turn"),
    _row(Kind.REWRITTEN, "Dropout", lambda node, i: i[0], note="nothing: it is off in eval mode"),
    _row(Kind.REWRITTEN, "Einsum", _einsum, note="MatMul, for products of two tensors"),
    _row(Kind.REWRITTEN, "HardSigmoid", _hard_sigmoid, note="Mul, Add, Clip"),
    _row(Kind.REWRITTEN, "HardSwish", lambda node, i: F.hardswish(i[0]), note="Mul, Add, Clip, Mul"),
    _row(Kind.REWRITTEN, "Identity", lambda node, i: i[0], note="nothing", keeps_type=True),
    _row(Kind.REWRITTEN, "Max", lambda node, i: torch.maximum(i[0], i[1]), note=_CLAMP),
    _row(Kind.REWRITTEN, "Min", lambda node, i: torch.minimum(i[0], i[1]), note=_CLAMP, pointwise=True),
    _row(Kind.REWRITTEN, "Neg", lambda node, i: -i[0], note="Mul with -1"),
    _row(Kind.REWRITTEN, "ReduceMax", float_reductions.largest, note="MaxPool"),
    _row(Kind.REWRITTEN, "ReduceMean", float_reductions.mean, note="GlobalAveragePool, AveragePool"),
    _row(Kind.REWRITTEN, "ReduceMin", float_reductions.smallest, note="MaxPool, Mul with -1"),
    _row(Kind.REWRITTEN, "ReduceSum", float_reductions.total, note="ReduceMean, Mul"),
    _row(Kind.REWRITTEN, "Split", float_moves.split, note="one Slice for each part"),
    _row(Kind.REWRITTEN, "Sub", lambda node, i: i[0] - i[1], note="Add, Mul with -1"),
)
OPERATORS: Mapping[str, Operator] = {row.name: row for row in _ROWS}


def named(*kinds: Kind) -> tuple[str, ...]:
    """Names of the operators of these kinds, in the order of the table."""
    return tuple(row.name for row in _ROWS if row.kind in kinds)


LAYERS, MOVES, CLAMPS, ISLANDS = (named(kind) for kind in (Kind.LAYER, Kind.MOVES, Kind.CLAMP, Kind.ISLAND))
# Float functions that are as large as x above zero, and flat below: of a grid before them, half would be lost.
RECTIFIERS = ("Celu", "Elu", "Gelu", "Mish", "Selu", "Softplus")
