"""What holds for a whole graph at some point of the fold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx_ir as ir

from calib.errors import QuantizationError
from lsq_export.graph.kept_float import stays_float
from lsq_export.graph.operators import LAYERS, OPERATORS, Kind
from lsq_export.graph.read import array_of, attribute, is_marker, is_op, producer_of


@dataclass(frozen=True)
class Condition:
    """text: what holds for every node. broken_by(node): whether it does not hold for this one."""

    text: str
    broken_by: Callable[[ir.Node], bool]

    def check(self, graph: ir.Graph, when: str) -> None:
        """Errors (QuantizationError): a node for which it does not hold, named."""
        node = next((node for node in graph if self.broken_by(node)), None)
        if node is not None:
            raise QuantizationError(f"{node.name}: {when}, {self.text}; please report this model")


def _unknown(node: ir.Node) -> bool:
    row = OPERATORS.get(node.op_type) if node.domain == "" else None
    return not (is_marker(node) or stays_float(node)) and (row is None or row.kind is Kind.REWRITTEN)


def _raw_weight(node: ir.Node) -> bool:
    weight_marker = is_marker(node) and attribute(node, "kind") == "weight"
    return weight_marker or (is_op(node, *LAYERS) and not is_op(producer_of(node.inputs[1]), "DequantizeLinear"))


def _trained_weight(node: ir.Node) -> bool:
    called = is_op(node, *LAYERS) and array_of(node.inputs[1]) is not None  # as a function: nothing was trained
    return _raw_weight(node) and not called


def _raw_bias(node: ir.Node) -> bool:
    if not is_op(node, *LAYERS):
        return False
    bias = producer_of(node.inputs[2]) if len(node.inputs) > 2 else None
    stored = array_of(bias.inputs[0]) if bias is not None and is_op(bias, "DequantizeLinear") else None
    return stored is None or stored.dtype.name != "int32"


KNOWN_OPERATORS = Condition(
    "every operator is one of the table or stays as it is, and none is left to rewrite", _unknown
)
NO_SPLITS = Condition("there is no Split", lambda node: is_op(node, "Split"))


def by_statistics_of_batch(node: ir.Node) -> bool:
    """A norm that stays float because its mean and variance are computed."""
    return is_op(node, "BatchNormalization") and stays_float(node) and any(array_of(v) is None for v in node.inputs[1:])


def _batch_norm(node: ir.Node) -> bool:
    return is_op(node, "BatchNormalization") and not by_statistics_of_batch(node)


TRAINED_WEIGHTS = Condition("trained weights are codes", _trained_weight)
FROZEN_WEIGHTS = Condition("the weights of all layers are codes", _raw_weight)
NO_BATCH_NORMS = Condition("there is no BatchNormalization with constants", _batch_norm)
NO_MARKERS = Condition("every grid is made of QuantizeLinear and DequantizeLinear", is_marker)
INTEGER_BIASES = Condition("the biases of all layers are int32 codes", _raw_bias)
