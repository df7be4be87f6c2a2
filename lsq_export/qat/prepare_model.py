"""A fake-quant copy of a float model.

Every convolution and Linear (subclasses too), but those that the configuration keeps float, gets two quantizers:

    <layer>.input    a forward pre-hook calls layer.input_quantizer
    <layer>.weight   torch.nn.utils.parametrize puts a quantizer on layer.weight

So the layer keeps its class, its forward and its other hooks, and a module that is used twice has one pair of
quantizers. Convolutions that a forward calls as functions (torch.nn.functional) stay float; export refuses them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from calib.door import check_model, check_type, unwrapped
from calib.errors import QuantizationError, warn
from calib.quantized import Quantized, quantized_modules
from calib.samples import each
from calib.signature import example_of

from .attention import open_attention
from .bias_units import round_biases
from .config import QATConfig
from .edges import grids_with_zero, insert_edges
from .layer_settings import LayerSettings, check_patterns
from .layer_types import FLOAT_LAYERS, QUANTIZED_LAYERS, output_channels, parametrization
from .made_weights import makes_weight, quantize_made_weight
from .maker import Maker
from .plain import copied, in_float32, without_wrappers
from .quantizer_table import Quantizers
from .tracing import Traced, Untraceable

__all__ = ["QATConfig", "config_of", "float_layers", "layer_names", "prepare", "quantizers"]

NAMED = 8  # layers that a note lists


def prepare(
    float_model: nn.Module, config: QATConfig | Mapping[str, Any] | None = None, *, example: Any = None
) -> nn.Module:
    """Make a deep copy of `float_model` with fake quantizers that have no grid yet; `calib.initialize` gives them one.

    The model itself is untouched; DataParallel, DistributedDataParallel and torch.compile around it, or in it, are
    left out of the copy, and a model of 16 bits becomes one of float32, with a warning.
    config: default `QATConfig()`; a dict has its fields. `config_of(model)` is the configuration that the copy has got:
    edges="auto" has become "trained" or "calibrated" there.
    example: an input of the model, [N, …], as for `export`. A model that torch.fx cannot trace is watched while it runs
    on it, so that its edges can be trained.

    Errors (QuantizationError): nothing to quantize, a layer that cannot be quantized (named), a model that is prepared
    already, edges="trained" for a model that has no graph, `layers` as in `settings_of_layers`.
    """
    config = _checked_arguments(float_model, config)
    float_model = in_float32(without_wrappers(float_model))
    check_type(float_model)
    if quantized_modules(float_model):
        raise QuantizationError("the model is prepared already: prepare the float model")
    float_model = open_attention(float_model)
    wanted = settings_of_layers(float_model, config)
    _say_what_stays_float(float_model)
    model, config = _copy_with_edges(float_model, wanted, config, example)
    with_zero = grids_with_zero(model, _input_bits(wanted)) if isinstance(model, Traced) else set()
    for name, settings in wanted.items():
        layer = model.get_submodule(name)
        if settings is not None and isinstance(layer, QUANTIZED_LAYERS):  # of others a function reads the weight
            _quantize_layer(name, layer, settings, name in with_zero)
    if isinstance(model, Traced):
        round_biases(model)
    model.qat_config = config  # type: ignore[assignment]
    return model


def _say_what_stays_float(float_model: nn.Module) -> None:
    found = [f"{name} ({kind})" for name, kind in layers_without_integer_form(float_model).items()]
    if found:
        more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
        warn(
            f"layers that stay float, since they have no integer form: {', '.join(found[:NAMED])}{more}",
        )


def config_of(model: nn.Module) -> QATConfig | None:
    """The configuration that a prepared model has got, with "auto" resolved; None for a model that is not prepared."""
    config = getattr(unwrapped(model), "qat_config", None)
    return config if isinstance(config, QATConfig) else None


def quantizers(model: nn.Module) -> Quantizers:
    """{"<layer>.input" | "<layer>.weight": quantizer} of a prepared model, in the order of its layers."""
    return Quantizers(quantized_modules(model))


def settings_of_layers(float_model: nn.Module, config: QATConfig) -> dict[str, LayerSettings | None]:
    """{layer: how it will be quantized; None: it stays float}, in the order in which the model registers its layers.

    Errors (QuantizationError): those of `layer_names`, a pattern that matches no layer, nothing left to quantize.
    """
    names = layer_names(float_model)
    check_patterns(names, config.layers)
    wanted = {name: config.settings(name, outer=name in (names[0], names[-1])) for name in names}
    if not any(wanted.values()):
        raise QuantizationError("nothing to quantize: `layers` keeps every layer float; leave some of them out of it")
    return wanted


def float_layers(model: nn.Module) -> list[str]:
    """Names of the layers that a prepared model keeps float, as its configuration wishes.

    A network that another library quantized has no configuration, and lists them itself.
    """
    listed = getattr(unwrapped(model), "kept_float", None)
    if isinstance(listed, tuple):
        return list(listed)
    config = config_of(model)
    if config is None or not config.layers:
        return []
    found = ((name, module) for name, module in _outside_float_layers(model) if isinstance(module, QUANTIZED_LAYERS))
    return [name for name, module in found if not hasattr(module, "input_quantizer")]


def _outside_float_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """(name, module), without those in layers that stay float as a whole; these themselves are among them."""
    inside: set[nn.Module] = set()
    for name, module in model.named_modules():
        if module not in inside:
            yield name, module
        if isinstance(module, FLOAT_LAYERS) and not isinstance(module, QUANTIZED_LAYERS):
            inside.update(part for part in module.modules() if part is not module)


def layers_without_integer_form(model: nn.Module) -> dict[str, str]:
    """{layer: its class} of the layers with weights that stay float, whatever the configuration says."""
    return {
        name: type(module).__name__
        for name, module in _outside_float_layers(model)
        if isinstance(module, FLOAT_LAYERS) and not isinstance(module, QUANTIZED_LAYERS)
    }


def _input_bits(layers: Mapping[str, LayerSettings | None]) -> dict[str, int | None]:
    """{layer: bits of its input; None: it stays float}."""
    return {name: settings.activation_bits if settings else None for name, settings in layers.items()}


def _copy_with_edges(
    float_model: nn.Module, layers: dict[str, LayerSettings | None], config: QATConfig, example: Any
) -> tuple[nn.Module, QATConfig]:
    """(copy of the model with quantizers on its edges, if they are to be trained; config without "auto").

    layers: {layer: its settings; None: it stays float}.
    """
    if config.edges != "calibrated":
        make = Maker(config, next(float_model.parameters()).device, float_model.training, layers)
        if example is not None:
            example = each(example_of(float_model, example, "example"), lambda tensor: tensor.to(make.device))
        try:
            return insert_edges(copied(float_model), _input_bits(layers), make, example), replace(
                config, edges="trained"
            )
        except Untraceable as error:
            if config.edges == "trained":
                raise
            why = f"torch.fx cannot trace this model: {error.why}"
            advice = "" if example is not None else "; with prepare(…, example=x) it is watched while it runs instead"
            warn(f"edges are calibrated at export, so training does not see their rounding, since {why}{advice}")
    return copied(float_model), replace(config, edges="calibrated")


def _checked_arguments(model: object, config: object) -> QATConfig:
    """The configuration. Errors (QuantizationError): what is no model, or no configuration."""
    if isinstance(model, (QATConfig, Mapping)) and isinstance(config, nn.Module):
        raise QuantizationError("the arguments are swapped: prepare(model, config)")
    check_model(model, "float_model")
    if isinstance(config, Mapping):
        return QATConfig.from_dict(dict(config))
    if config is not None and not isinstance(config, QATConfig):
        raise QuantizationError(f"config is a {type(config).__name__}: give a QATConfig(…), or a dict of its fields")
    return config or QATConfig()


def layer_names(model: nn.Module) -> list[str]:
    """Names of the layers that `prepare` quantizes, in the order in which the model registers them.

    Errors (QuantizationError): there are none, or one whose weight cannot be quantized.
    """
    names = []
    for name, module in _outside_float_layers(open_attention(without_wrappers(model))):
        if isinstance(module, QUANTIZED_LAYERS):
            _check(f"layer {name or '(the model)'} ({type(module).__name__})", module)
            names.append(name)
    if not names:
        raise QuantizationError(f"nothing to quantize in {type(model).__name__}: it has no convolution and no Linear")
    return names


def _check(what: str, layer: nn.Module) -> None:
    weight = getattr(layer, "weight", None)
    if not isinstance(weight, torch.Tensor):
        raise QuantizationError(f"{what} cannot be quantized: it has no weight")
    if isinstance(weight, nn.UninitializedParameter):
        raise QuantizationError(f"{what} has no weight yet: run the model once on an input before prepare")
    if not weight.is_floating_point():
        raise QuantizationError(f"{what} cannot be quantized: its weight is {weight.dtype}, not a float type")


def _quantize_layer(name: str, layer: nn.Module, settings: LayerSettings, holds_zero: bool) -> None:
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    make = Maker(QATConfig(), weight.device, layer.training)
    layer.input_quantizer = make.input(name, settings, holds_zero=holds_zero)
    layer.register_forward_pre_hook(_quantize_input, with_kwargs=True)
    made = makes_weight(layer)
    weights = parametrization(layer, make.weight(name, settings, output_channels(layer))).train(layer.training)
    if made:
        quantize_made_weight(layer, weights)
        return
    # unsafe: torch would call the quantizer once to check shape and type, before it has a grid
    parametrize.register_parametrization(layer, "weight", weights, unsafe=True)


def _quantize_input(
    layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    quantizer = layer.input_quantizer
    assert isinstance(quantizer, Quantized)
    if args:
        return (quantizer(args[0]), *args[1:]), kwargs
    return args, {**kwargs, "input": quantizer(kwargs["input"])}
