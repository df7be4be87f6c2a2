"""The quantizers that `prepare` puts into a model, on its device and in its mode."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from calib.folding.containers import container_steps

from .config import QATConfig
from .layer_settings import LayerSettings
from .quantizer import Quantizer


@dataclass(frozen=True)
class Maker:
    """device, training: those of the model. layers: {layer: its settings; None: it stays float}."""

    config: QATConfig
    device: torch.device
    training: bool
    layers: Mapping[str, LayerSettings | None] = field(default_factory=dict)

    def edge(self, name: str, fixed: tuple[float, float] | None = None) -> Quantizer:
        """Of an edge: 8 bits, 0 among its values. fixed: (scale, offset) of a grid that is not learned."""
        quantizer = Quantizer.activation(name, 8, integer_offset=True, holds_zero=True, fixed=fixed, device=self.device)
        return quantizer.train(self.training)

    def bits(self, layer: str, owner: str) -> int | None:
        """Of the input of a layer that is called as a function; None: it stays float. owner: module of its weight."""
        settings = self._settings(layer, owner)
        return None if settings is None else settings.activation_bits

    def of_call(self, layer: str, owner: str, *, holds_zero: bool) -> tuple[Quantizer, Callable[[int], Quantizer]]:
        """(of the input of such a layer, of its weight with so many output channels)"""
        settings = self._settings(layer, owner)
        assert settings is not None, f"{layer} stays float"
        return self.input(layer, settings, holds_zero=holds_zero), lambda channels: self.weight(
            layer, settings, channels
        )

    def _settings(self, layer: str, owner: str) -> LayerSettings | None:
        return self.layers[owner] if owner in self.layers else self.config.settings(layer)

    def input(self, layer: str, settings: LayerSettings, *, holds_zero: bool = False) -> Quantizer:
        """Of the input of a layer. holds_zero: real zero is one of its values."""
        bits, offset = settings.activation_bits, settings.offset
        quantizer = Quantizer.activation(
            f"{layer}.input" if layer else "input",
            bits,
            grid=settings.activation_grid,
            integer_offset=offset != "real",
            holds_zero=holds_zero and offset != "real",
            offset_steps=container_steps(2**bits) if offset == "container" else 1,
            device=self.device,
        )
        return quantizer.train(self.training)

    def weight(self, layer: str, settings: LayerSettings, channels: int) -> Quantizer:
        """Of the weight of a layer with so many output channels."""
        by_channel = channels if settings.weight_granularity == "channel" else None
        name = f"{layer}.weight" if layer else "weight"
        quantizer = Quantizer.weight(name, settings.weight_bits, channels=by_channel, device=self.device)
        return quantizer.train(self.training)
