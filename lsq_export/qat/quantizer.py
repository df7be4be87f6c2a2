"""LSQ+ fake quantizer module (arXiv:2004.09576): state and projection around `fake_quantize`, one marker node in ONNX.

The factor g on the gradients of s and β is 1/√(N·p) (LSQ, arXiv:1902.08153, part 2.2), where N counts the features of
one sample (activations: independent of the batch size) or the elements that share a scale (weights).
"""

from __future__ import annotations

import math
from typing import Any

import torch

from calib.errors import QuantizationError
from calib.grid import code_range
from calib.quantized import Quantized, QuantizerSpec

from .fake_quantize import fake_quantize
from .kernels import Kernels
from .layer_settings import ACTIVATION_GRIDS, ActivationGrid
from .marker import mark

__all__ = ["ACTIVATION_GRIDS", "MARKER", "ActivationGrid", "Quantizer"]

MARKER = "lsq_export::FakeQuantize"  # the custom ONNX operator that stands for one use of a quantizer


class Quantizer(Quantized):
    """LSQ+ fake quantizer of one tensor: x̂ in the shape and type of x.

    Make one with `Quantizer.weight` or `Quantizer.activation`. kernels: what computes x̂ and the gradients, see
    `lsq_export.qat.fuse`. place: where in the user's model its tensor is, in words, where its name does not say it.
    marks_alone: its marker has no scale and offset yet (lsq_export/graph/grids_aside.py).

    s stays positive: after every step of a torch optimizer that has it, and at the start of forward in training mode,
    it is projected, in place, onto s >= floor (0.001 of the initial s). In eval mode nothing is written, and an s of
    zero or below, from a step written by hand, counts as floor; at export it is an error, unless the layer has no
    effect.

        >>> quantizer = Quantizer.activation("conv1.input", bits=4, grid="unsigned-asymmetric")
        >>> quantizer.set_grid(scale=0.1, offset=-0.3)
        >>> quantizer(torch.tensor([-1.0, 0.06, 9.0])).detach()
        tensor([-0.3000,  0.1000,  1.2000])
    """

    kernels: Kernels = Kernels.BLOCKS
    place: str | None = None
    marks_alone = False

    @classmethod
    def weight(
        cls, name: str, bits: int, *, channels: int | None = None, device: torch.device | None = None
    ) -> Quantizer:
        """A signed symmetric grid per tensor, or one for each of the `channels` along axis 0."""
        qmin, qmax = code_range(bits, signed=True)
        spec = QuantizerSpec(
            name=name, kind="weight", bits=bits, qmin=qmin, qmax=qmax, symmetric=True, channels=channels
        )
        return cls(spec, device=device)

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
        fixed: tuple[float, float] | None = None,
        device: torch.device | None = None,
    ) -> Quantizer:
        """One of the paper's four configurations, per tensor.

        integer_offset: β on multiples of s / offset_steps; holds_zero, fixed: see `QuantizerSpec`.
        """
        if grid not in ACTIVATION_GRIDS:
            raise QuantizationError(f"activation_grid={grid!r}: use one of {', '.join(ACTIVATION_GRIDS)}")
        symmetric = grid.endswith("-symmetric")
        qmin, qmax = code_range(bits, signed=grid.startswith("signed-"))
        spec = QuantizerSpec(
            name=name,
            kind="activation",
            bits=bits,
            qmin=qmin,
            qmax=qmax,
            symmetric=symmetric,
            integer_offset=integer_offset and not symmetric,
            offset_steps=offset_steps,
            holds_zero=holds_zero,
            fixed=fixed,
        )
        return cls(spec, device=device)

    @property
    def effective_offset(self) -> torch.Tensor:
        """β as forward uses it: the parameter, or s/k·round(k·β/s) with `integer_offset` and k = `offset_steps`.

        Export uses this one. The rounding is straight-through, as that of codes: ∂/∂β = 1, ∂/∂s = (round(k·β/s) -
        k·β/s) / k.
        """
        return self._offset_with(self.scale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not x.is_floating_point():
            if not self.of_integers:
                self.of_integers = True
            return x
        if self.bypass or self.left_out:
            return x
        if not self._ready:
            raise QuantizationError(
                f"{self.name}: the quantizer has no grid yet; call calib.initialize(model, batches) first"
            )
        if torch.onnx.is_in_onnx_export():
            return self._marker(x)
        if self.training:
            self.project()
        compute = torch.promote_types(x.dtype, torch.float32)
        # A copy in training: autograd must not hold the tensor that the next call projects.
        scale = self.scale.clone() if self.training else torch.where(self.scale <= 0, self.floor, self.scale)
        offset = None if self.symmetric else self._offset_with(scale).to(compute)
        g = self.gradient_scale(x)
        return fake_quantize(x, scale.to(compute), offset, self.qmin, self.qmax, g, self.kernels)

    def gradient_scale(self, x: torch.Tensor) -> float:
        """g = 1/√(N·p).

        Dimension 0 is the batch, for a per-channel weight the channel; but a one-dimensional activation is one sample.
        """
        per_item = x.dim() > 1 and (self.kind == "activation" or self.axis == 0)
        features = math.prod(x.shape[1:] if per_item else x.shape)
        return 1.0 / math.sqrt(max(1, features) * max(1, self.qmax))  # p is 0 of grids below zero alone

    def right_inverse(self, value: torch.Tensor) -> torch.Tensor:
        """The float weight itself: torch.nn.utils.parametrize stores it at `layer.weight = value`."""
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

    @property
    def marks(self) -> dict[str, Any]:
        """The attributes of its marker."""
        return {
            "bits": self.bits,
            "qmin": self.qmin,
            "qmax": self.qmax,
            "kind": self.kind,
            "axis": -1 if self.axis is None else self.axis,
            "quantizer": self.name,
        }

    def _marker(self, x: torch.Tensor) -> torch.Tensor:
        if self.marks_alone:
            return mark(x, self.name)
        inputs = (x, self.scale, self.effective_offset)
        return torch.onnx.ops.symbolic(MARKER, inputs, attrs=self.marks, dtype=x.dtype, shape=x.shape, version=1)
