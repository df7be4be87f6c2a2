"""Layers that make their weight themselves: standardized weights, weight norm and spectral norm by hooks.

    class StdConv2d(nn.Conv2d): forward = F.conv2d(x, standardized(self.weight), …)

The parameter is not what the layer multiplies with, so it gets no quantizer: the weight gets it where the layer's
forward hands it to the function.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode

from .functional import FUNCTIONS, WEIGHT
from .layer_types import QUANTIZED_LAYERS


def makes_weight(layer: nn.Module) -> bool:
    """Whether the weight that a layer multiplies with is something else than its parameter, or its parametrization."""
    if "weight" not in layer._parameters and not parametrize.is_parametrized(layer, "weight"):
        return True  # a hook makes it
    kind = next(base for base in type(layer).__mro__ if base in QUANTIZED_LAYERS)
    if type(layer).forward is kind.forward:
        return False
    try:
        graph = fx.Tracer().trace(layer)
    except Exception:  # a user's forward can raise anything
        return False
    weights = [node.args[WEIGHT] for node in graph.nodes if node.target in FUNCTIONS and len(node.args) > WEIGHT]
    return any(isinstance(weight, fx.Node) and weight.op != "get_attr" for weight in weights)


def quantize_made_weight(layer: nn.Module, quantizer: nn.Module) -> None:
    """Put a quantizer, of weights in the layer's order, on what the forward hands to a function."""
    layer.weight_quantizer = quantizer
    layer.register_forward_pre_hook(_enter)
    layer.register_forward_hook(_leave, always_call=True)


def detach_made(layer: nn.Module) -> None:
    """A weight that a hook made would keep the layer from being copied: a copy makes its own."""
    for name, value in layer.__dict__.items():
        if isinstance(value, torch.Tensor) and value.grad_fn is not None:
            layer.__dict__[name] = value.detach()


class _OnWeight(TorchFunctionMode):
    def __init__(self, quantizer: nn.Module) -> None:
        super().__init__()
        self._quantizer = quantizer

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in FUNCTIONS:
            if len(args) > WEIGHT:
                args = (*args[:WEIGHT], self._quantizer(args[WEIGHT]), *args[WEIGHT + 1 :])
            else:
                kwargs["weight"] = self._quantizer(kwargs["weight"])
        return func(*args, **kwargs)


_entered: list[_OnWeight] = []


def _enter(layer: nn.Module, args: Any) -> None:
    quantizer = layer.weight_quantizer
    assert isinstance(quantizer, nn.Module)
    _entered.append(_OnWeight(quantizer))
    _entered[-1].__enter__()  # type: ignore[no-untyped-call]


def _leave(layer: nn.Module, args: Any, result: torch.Tensor) -> None:
    detach_made(layer)
    _entered.pop().__exit__(None, None, None)  # type: ignore[no-untyped-call]
