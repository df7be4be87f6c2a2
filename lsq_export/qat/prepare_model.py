"""prepare: a fake-quant copy of a float model.

Every Conv2d and Linear (subclasses too) gets two quantizers:

    <layer>.input    a forward pre-hook calls layer.input_quantizer
    <layer>.weight   torch.nn.utils.parametrize puts a quantizer on layer.weight

so the layer keeps its class, its forward and its other hooks, and a module that is used twice has one pair of
quantizers. Convolutions that a forward calls as functions (torch.nn.functional) stay float; export refuses them."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize

from calib.errors import QuantizationError
from calib.folding.containers import container_steps
from calib.quantized import Quantized, quantized_modules

from .edges import insert_edges
from .quantizer import ACTIVATION_GRIDS, ActivationGrid, Quantizer

Granularity = Literal["tensor", "channel"]
Offset = Literal["real", "integer", "container"]
Edges = Literal["calibrated", "trained"]
QUANTIZED_LAYERS = (nn.Conv2d, nn.Linear)
# Layers with weights that no integer operator of ours computes. Norms, activations, pooling and dropout are fine.
REFUSED_LAYERS = (
    _ConvNd,
    nn.RNNBase,
    nn.RNNCellBase,
    nn.MultiheadAttention,
    nn.Embedding,
    nn.EmbeddingBag,
    nn.Bilinear,
)


@dataclass(frozen=True)
class QATConfig:
    """How to quantize a model.

    weight_bits, activation_bits   2 … 8
    activation_grid                the LSQ+ configurations 1-4, see `ACTIVATION_GRIDS`
    weight_granularity             "tensor", or "channel": one scale per output channel
    first_last_bits                bits of input and weight of the first and of the last layer; None: like the rest. First and last in the
                                   order in which the model registers its layers (the order of execution is not known
                                   without an input).
    offset                         "real"; "integer": the offset is trained on multiples of the scale; "container": on multiples of s/k (E5), which
                                   8-bit containers hold exactly, borders of padded layers included
    edges                          "calibrated": sums and what else has no quantizer get an 8-bit grid at export; "trained": training has 8-bit
                                   quantizers there already, so that it sees their rounding (needs a model that torch.fx
                                   can trace)
    """

    weight_bits: int = 4
    activation_bits: int = 4
    activation_grid: ActivationGrid = "unsigned-asymmetric"
    weight_granularity: Granularity = "tensor"
    first_last_bits: int | None = 8
    offset: Offset = "real"
    edges: Edges = "calibrated"

    def __post_init__(self) -> None:
        for option in ("weight_bits", "activation_bits", "first_last_bits"):
            bits = getattr(self, option)
            if option == "first_last_bits" and bits is None:
                continue
            if isinstance(bits, bool) or not isinstance(bits, int) or not 2 <= bits <= 8:
                raise QuantizationError(
                    f"{option}={bits!r}: use 2 to 8{', or None' if option == 'first_last_bits' else ''}"
                )
        choices = {
            "activation_grid": ACTIVATION_GRIDS,
            "weight_granularity": get_args(Granularity),
            "offset": get_args(Offset),
            "edges": get_args(Edges),
        }
        for option, allowed in choices.items():
            if getattr(self, option) not in allowed:
                raise QuantizationError(f"{option}={getattr(self, option)!r}: use one of {', '.join(allowed)}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> QATConfig:
        """The opposite of to_dict; an unknown option is an error, a missing one has its default."""
        known = [field.name for field in fields(cls)]
        for option in values:
            if option not in known:
                raise QuantizationError(f"unknown option {option!r} in a QAT config: use {', '.join(known)}")
        return cls(**values)


def prepare(float_model: nn.Module, config: QATConfig | None = None) -> nn.Module:
    """A deep copy of `float_model` with fake quantizers that have no grid yet (`calib.initialize` gives them one). The
    model itself is untouched.

    Errors: nothing to quantize, a layer that cannot be quantized (named), a model that is prepared already.
    """
    config = config or QATConfig()
    if quantized_modules(float_model):
        raise QuantizationError("the model is prepared already: prepare the float model")
    layers = _layers(float_model)
    model = copy.deepcopy(float_model)
    outer = dict.fromkeys((layers[0], layers[-1]), config.first_last_bits)
    if config.edges == "trained":
        device = next(model.parameters()).device
        bits = {name: outer.get(name) or config.activation_bits for name in layers}

        def edge(name: str) -> Quantizer:
            return Quantizer.activation(name, 8, integer_offset=True, holds_zero=True, device=device).train(
                model.training
            )

        model = insert_edges(model, bits, edge)
    for name in layers:
        _quantize_layer(name, model.get_submodule(name), config, outer.get(name))
    return model


def quantizers(model: nn.Module) -> dict[str, Quantized]:
    """{"<layer>.input" | "<layer>.weight": quantizer} of a prepared model, in the order of its layers."""
    return quantized_modules(model)


def _layers(model: nn.Module) -> list[str]:
    """Names of the layers to quantize, in registration order; refuses what cannot be quantized."""
    names = []
    for name, module in model.named_modules():
        what = f"layer {name or '(the model)'} ({type(module).__name__})"
        if isinstance(module, QUANTIZED_LAYERS):
            _check(what, module)
            names.append(name)
        elif isinstance(module, REFUSED_LAYERS):
            raise QuantizationError(
                f"{what} cannot be quantized: only Conv2d and Linear can; replace it, or keep it out of the model"
            )
    if not names:
        raise QuantizationError(f"nothing to quantize in {type(model).__name__}: it has no Conv2d and no Linear")
    return names


def _check(what: str, layer: nn.Conv2d | nn.Linear) -> None:
    if "weight" not in layer._parameters and not parametrize.is_parametrized(layer, "weight"):
        raise QuantizationError(
            f"{what} cannot be quantized: its weight is made by a hook; use torch.nn.utils.parametrizations or a plain "
            "parameter"
        )
    if isinstance(layer.weight, nn.UninitializedParameter):
        raise QuantizationError(f"{what} has no weight yet: run the model once on an input before prepare")
    if not layer.weight.is_floating_point():
        raise QuantizationError(f"{what} cannot be quantized: its weight is {layer.weight.dtype}, not a float type")
    if isinstance(layer, nn.Conv2d) and layer.padding_mode != "zeros":
        raise QuantizationError(f"{what} cannot be quantized: padding_mode={layer.padding_mode!r}, only 'zeros' can")


def _quantize_layer(name: str, layer: nn.Module, config: QATConfig, edge_bits: int | None) -> None:
    prefix = f"{name}." if name else ""
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    input_quantizer = Quantizer.activation(
        f"{prefix}input",
        edge_bits or config.activation_bits,
        grid=config.activation_grid,
        integer_offset=config.offset != "real",
        offset_steps=container_steps(2 ** (edge_bits or config.activation_bits)) if config.offset == "container" else 1,
        device=weight.device,
    )
    channels = weight.shape[0] if config.weight_granularity == "channel" else None
    weight_quantizer = Quantizer.weight(
        f"{prefix}weight", edge_bits or config.weight_bits, channels=channels, device=weight.device
    )
    layer.input_quantizer = input_quantizer.train(layer.training)
    layer.register_forward_pre_hook(_quantize_input, with_kwargs=True)
    # unsafe: torch would call the quantizer once to check shape and type, before it has a grid
    parametrize.register_parametrization(layer, "weight", weight_quantizer.train(layer.training), unsafe=True)


def _quantize_input(
    layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    quantizer = layer.input_quantizer
    assert isinstance(quantizer, Quantized)
    if args:
        return (quantizer(args[0]), *args[1:]), kwargs
    return args, {**kwargs, "input": quantizer(kwargs["input"])}
