"""How many multiplications a folded network does for one sample, and how many of them on integers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import prod
from typing import Any

import onnx_ir as ir
import torch

from .evaluate import evaluate
from .islands import is_island, islands
from .read import attribute, maker_of
from .stock import zeros_for

ELEMENTWISE = ("Div", "Mul", "PRelu", "BatchNormalization", "InstanceNormalization", "LayerNormalization", "Resize")


@dataclass(frozen=True, kw_only=True)
class Multiplications:
    """integer: of those, how many have integers as operands. all: of one sample."""

    integer: int
    all: int

    @property
    def share(self) -> float:
        """0 … 1; 1 of a network that multiplies nothing."""
        return self.integer / self.all if self.all else 1.0


def multiplications(folded: ir.Graph) -> Multiplications | None:
    """Of convolutions, products, recurrent layers, and the factors of single elements. None: nothing stays float.

    Counted on a sample of zeros; None as well where sizes other than the batch vary.
    """
    sample = zeros_for(folded, 1)
    if not islands(folded) or sample is None:
        return None
    counts = {False: 0, True: 0}

    def count(output: ir.Value, inputs: list[torch.Tensor | None], value: torch.Tensor) -> None:
        node = maker_of(output)
        if value is not None and node not in seen:
            seen.add(node)
            counts[is_island(node)] += _of(node, inputs, value)

    seen: set[ir.Node] = set()
    evaluate(folded, sample, dtype=torch.float32, on_node=count)
    return Multiplications(integer=counts[False], all=counts[False] + counts[True])


def counted(folded: ir.Graph) -> dict[str, Any]:
    """What a manifest says of them: nothing where nothing stays float."""
    found = multiplications(folded)
    return {} if found is None else {"multiplications": asdict(found)}


def _of(node: ir.Node, inputs: list[Any], value: torch.Tensor) -> int:
    kind, made = node.op_type, value.numel()
    if kind == "Conv":
        return made * int(prod(inputs[1].shape[1:]))
    if kind == "ConvTranspose":
        return int(inputs[0].numel()) * int(prod(inputs[1].shape[1:]))
    if kind == "Gemm":
        return made * int(inputs[0].shape[0 if attribute(node, "transA", 0) else -1])
    if kind == "MatMul":
        return made * int(inputs[0].shape[-1])
    if kind == "Einsum":
        return _of_einsum(str(attribute(node, "equation")), inputs)
    if kind in ("LSTM", "GRU", "RNN"):
        return int(inputs[0].shape[0] * inputs[0].shape[1]) * int(inputs[1].numel() + inputs[2].numel())
    return made if kind in ELEMENTWISE else 0


def _of_einsum(equation: str, inputs: list[Any]) -> int:
    terms = equation.replace(" ", "").split("->")[0].split(",")
    sizes = {
        letter: size for term, x in zip(terms, inputs, strict=True) for letter, size in zip(term, x.shape, strict=False)
    }
    return prod(sizes.values())
