"""LSQ+ fake quantizer module (arXiv:2004.09576): the state and the projection around `fake_quantize`, and one marker
node in ONNX.

The factor g on the gradients of s and β is 1/√(N·p) (LSQ, arXiv:1902.08153, part 2.2), where N counts the features of
one sample (activations: independent of the batch size) or the elements that share a scale (weights)."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch

from calib.errors import QuantizationError
from calib.grid import code_range
from calib.quantized import Kind, Quantized

from .fake_quantize import fake_quantize

ActivationGrid = Literal["unsigned-symmetric", "signed-symmetric", "signed-asymmetric", "unsigned-asymmetric"]
ACTIVATION_GRIDS: tuple[ActivationGrid, ...] = (
    "unsigned-symmetric",
    "signed-symmetric",
    "signed-asymmetric",
    "unsigned-asymmetric",
)
MARKER = "lsq_export::FakeQuantize"  # the custom ONNX operator that stands for one use of a quantizer


class Quantizer(Quantized):
    """LSQ+ fake quantizer of one tensor: x̂ in the shape and type of x. Make one with `Quantizer.weight` or
    `Quantizer.activation`.

    s stays positive in training: at the start of forward in training mode it is projected, in place, onto s >= floor
    (0.001 of the initial s). In eval mode nothing is written, and a bad s is an error at export.

        >>> quantizer = Quantizer.activation("conv1.input", bits=4, grid="unsigned-asymmetric")
        >>> quantizer.set_grid(scale=0.1, offset=-0.3)
        >>> quantizer(torch.tensor([-1.0, 0.06, 9.0])).detach()
        tensor([-0.3000,  0.1000,  1.2000])
    """

    @classmethod
    def weight(
        cls, name: str, bits: int, *, channels: int | None = None, device: torch.device | None = None
    ) -> Quantizer:
        """Signed symmetric grid, per tensor, or one scale for each of the `channels` along axis 0."""
        return cls(
            name, "weight", bits, *code_range(bits, signed=True), symmetric=True, channels=channels, device=device
        )

    @classmethod
    def activation(
        cls,
        name: str,
        bits: int,
        *,
        grid: ActivationGrid = "unsigned-asymmetric",
        integer_offset: bool = False,
        offset_steps: int = 1,
        holds_zero: bool = False,
        device: torch.device | None = None,
    ) -> Quantizer:
        """One of the paper's four configurations, per tensor.

        integer_offset: β on multiples of s / offset_steps; holds_zero: see `Quantized`.
        """
        if grid not in ACTIVATION_GRIDS:
            raise QuantizationError(f"activation_grid={grid!r}: use one of {', '.join(ACTIVATION_GRIDS)}")
        symmetric = grid.endswith("-symmetric")
        limits = code_range(bits, signed=grid.startswith("signed-"))
        on_steps = integer_offset and not symmetric
        return cls(
            name,
            "activation",
            bits,
            *limits,
            symmetric=symmetric,
            integer_offset=on_steps,
            offset_steps=offset_steps,
            holds_zero=holds_zero,
            device=device,
        )

    @property
    def effective_offset(self) -> torch.Tensor:
        """β as forward uses it: the parameter, or s/k·round(k·β/s) with `integer_offset` and k = `offset_steps`. Export
        uses this one.

        The rounding is straight-through, as in E1: ∂/∂β = 1, ∂/∂s = (round(k·β/s) - k·β/s) / k.
        """
        return self._offset_with(self.scale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.bypass:
            return x
        if not self._ready:
            raise QuantizationError(
                f"{self.name}: the quantizer has no grid yet; call calib.initialize(model, batches) first"
            )
        if torch.onnx.is_in_onnx_export():
            return self._marker(x)
        if self.training:
            with torch.no_grad():
                self.scale.clamp_(min=self.floor)
        compute = torch.promote_types(x.dtype, torch.float32)
        scale = (
            self.scale.clone() if self.training else self.scale
        )  # autograd must not hold the tensor that the next call projects
        offset = None if self.symmetric else self._offset_with(scale).to(compute)
        return fake_quantize(x, scale.to(compute), offset, self.qmin, self.qmax, self.gradient_scale(x))

    def gradient_scale(self, x: torch.Tensor) -> float:
        """g = 1/√(N·p). A one-dimensional activation is one sample;

        otherwise dimension 0 is the batch, for a per-channel weight the channel.
        """
        per_item = x.dim() > 1 and (self.kind == "activation" or self.axis == 0)
        features = math.prod(x.shape[1:] if per_item else x.shape)
        return 1.0 / math.sqrt(max(1, features) * self.qmax)

    def right_inverse(self, value: torch.Tensor) -> torch.Tensor:
        """For torch.nn.utils.parametrize: `layer.weight = value` stores the float weight."""
        return value

    def _offset_with(self, scale: torch.Tensor) -> torch.Tensor:
        if not self.integer_offset:
            return self.offset
        unit = scale / self.offset_steps
        ratio = self.offset / unit
        steps = ratio.round()
        if self.holds_zero:
            steps = steps.clamp(-self.qmax * self.offset_steps, -self.qmin * self.offset_steps)
        return unit * (ratio + (steps - ratio).detach())

    def _marker(self, x: torch.Tensor) -> torch.Tensor:
        attributes: dict[str, Any] = {
            "bits": self.bits,
            "qmin": self.qmin,
            "qmax": self.qmax,
            "kind": self.kind,
            "axis": -1 if self.axis is None else self.axis,
            "quantizer": self.name,
        }
        inputs = (x, self.scale, self.effective_offset)
        return torch.onnx.ops.symbolic(MARKER, inputs, attrs=attributes, dtype=x.dtype, shape=x.shape, version=1)


__all__ = ["ACTIVATION_GRIDS", "MARKER", "ActivationGrid", "Kind", "Quantizer"]
