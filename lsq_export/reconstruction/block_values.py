"""What blocks compute, in float or with what is learned, so that gradients go through."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import onnx_ir as ir
import torch

from lsq_export.graph.evaluate import computed_by, constant_tensor, has_gradient
from lsq_export.graph.read import array_of, is_marker

from .blocks import Block

Values: TypeAlias = "dict[ir.Value, torch.Tensor]"
OnMarker: TypeAlias = "Callable[[ir.Node, torch.Tensor], torch.Tensor]"


@dataclass(frozen=True)
class Step:
    """One node. compute(its inputs): its outputs; None for a marker. raw: ONNX Runtime runs it, without gradients.

    inputs: constants are tensors; of a raw node integers and masks keep their type.
    """

    node: ir.Node
    compute: Callable[[list[torch.Tensor | None]], tuple[torch.Tensor, ...]] | None
    raw: bool
    inputs: tuple[ir.Value | torch.Tensor | None, ...]

    def run(self, values: Values, on_marker: OnMarker | None) -> tuple[torch.Tensor, ...]:
        """What the node makes of the values."""
        inputs = [values[v] if isinstance(v, ir.Value) else v for v in self.inputs]
        if self.compute is None:
            x = inputs[0]
            assert x is not None
            return (x if on_marker is None else on_marker(self.node, x),)
        if self.raw:
            inputs = [None if x is None else x.detach() for x in inputs]
        return tuple(x.float() if x.is_floating_point() else x for x in self.compute(inputs))


class BlockValues:
    """Evaluates blocks of one graph; what its nodes are and what they read is found once."""

    def __init__(self) -> None:
        self._steps: dict[ir.Node, list[Step]] = {}  # of a block, by its first node
        self._constants: Values = {}

    def run(self, block: Block, given: Mapping[ir.Value, torch.Tensor], on_marker: OnMarker | None) -> Values:
        """{value that goes on: tensor}. on_marker(marker, its input): what it makes; None: the network in float."""
        steps = self._steps.get(block.nodes[0])
        if steps is None:
            steps = self._steps[block.nodes[0]] = list(self._steps_of(block))
        values = dict(given)
        for step in steps:
            values.update(zip(step.node.outputs, step.run(values, on_marker), strict=False))
        return {value: values[value] for value in block.kept}

    def _steps_of(self, block: Block) -> Iterator[Step]:
        """Each node, and before it what makes its inputs of constants alone."""
        known = set(block.given)
        for node in block.nodes:
            yield from self._with_makers(node, known)

    def _with_makers(self, node: ir.Node, known: set[ir.Value]) -> Iterator[Step]:
        for value in node.inputs:
            if value is not None and value not in known and array_of(value) is None:
                maker = value.producer()
                assert maker is not None, f"{value.name} is no input of this block"
                yield from self._with_makers(maker, known)
        gradient = has_gradient(node)
        inputs = tuple(v if v is None or v in known else self._constant(v, not gradient) for v in node.inputs)
        known.update(node.outputs)
        yield Step(node, None if is_marker(node) else computed_by(node), not gradient, inputs)

    def _constant(self, value: ir.Value, raw: bool) -> torch.Tensor:
        if raw:
            return constant_tensor(value, torch.float32, raw=True)
        if value not in self._constants:
            self._constants[value] = constant_tensor(value, torch.float32)
        return self._constants[value]
