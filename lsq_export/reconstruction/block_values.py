"""What blocks compute, in float or with what is learned, so that gradients go through."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import onnx_ir as ir
import torch

from lsq_export.graph.evaluate import constant_tensor, has_gradient, outputs_of
from lsq_export.graph.read import array_of, is_marker

from .blocks import Block

Values: TypeAlias = "dict[ir.Value, torch.Tensor]"
OnMarker: TypeAlias = "Callable[[ir.Node, torch.Tensor], torch.Tensor]"


class BlockValues:
    """Evaluates blocks of one graph; what depends on constants alone is computed once."""

    def __init__(self) -> None:
        self._constants: Values = {}

    def run(self, block: Block, given: Mapping[ir.Value, torch.Tensor], on_marker: OnMarker | None) -> Values:
        """{value that goes on: tensor}. on_marker(marker, its input): what it makes; None: the network in float."""
        values = dict(given)
        for node in block.nodes:
            inputs = [
                None if v is None else self._value(v, values, on_marker, not has_gradient(node)) for v in node.inputs
            ]
            values.update(zip(node.outputs, self._made(node, inputs, on_marker), strict=False))
        return {value: values[value] for value in block.kept}

    def _value(self, value: ir.Value, values: Values, on_marker: OnMarker | None, raw: bool) -> torch.Tensor:
        """raw: for an operator that ONNX Runtime runs; integers and masks keep their type there."""
        if value in values:
            return values[value]
        if array_of(value) is not None:
            if raw:
                return constant_tensor(value, torch.float32, raw=True)
            if value not in self._constants:
                self._constants[value] = constant_tensor(value, torch.float32)
            return self._constants[value]
        maker = value.producer()
        assert maker is not None, f"{value.name} is no input of this block"
        rests = not has_gradient(maker)
        inputs = [None if v is None else self._value(v, values, on_marker, rests) for v in maker.inputs]
        values.update(zip(maker.outputs, self._made(maker, inputs, on_marker), strict=False))
        return values[value]

    @staticmethod
    def _made(node: ir.Node, inputs: list[torch.Tensor | None], on_marker: OnMarker | None) -> tuple[torch.Tensor, ...]:
        if is_marker(node):
            x = inputs[0]
            assert x is not None
            return (x if on_marker is None else on_marker(node, x),)
        if has_gradient(node):
            made = outputs_of(node, inputs)
        else:
            made = outputs_of(node, [None if x is None else x.detach() for x in inputs])
        return tuple(x.float() if x.is_floating_point() else x for x in made)
