"""What every quantizer module looks like to `calib`: state, switches, and the way to give it a grid.

The training module with the paper's gradients is `lsq_export.qat.quantizer.Quantizer`; `calib` only needs this base
class.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from .errors import QuantizationError
from .positive import watch

Kind = Literal["weight", "activation"]
MIN_SCALE_RATIO = 1e-3  # in training the scale never falls below this share of the scale that it was given


@dataclass(frozen=True, kw_only=True)
class QuantizerSpec:
    """What a quantizer is, before it has a grid.

    name             "<layer>.input" or "<layer>.weight"
    kind             "weight" or "activation"
    bits             2 … 8, with codes qmin … qmax
    symmetric        the offset is zero and frozen
    channels         None: one grid per tensor; C: one grid for each of C output channels of a weight
    integer_offset   the offset in use is a multiple of scale / offset_steps
    holds_zero       real zero is one of the codes: with integer_offset, the offset in use keeps it in qmin … qmax
    fixed            (scale, offset) of a grid that its operator prescribes: neither data nor training change it
    """

    name: str
    kind: Kind
    bits: int
    qmin: int
    qmax: int
    symmetric: bool
    channels: int | None = None
    integer_offset: bool = False
    offset_steps: int = 1
    holds_zero: bool = False
    fixed: tuple[float, float] | None = None


class Quantized(nn.Module):
    """State of one quantizer on the trained grid (E1). It also has the fields of its `QuantizerSpec`.

    axis          None (one grid per tensor) or 0 (one grid per output channel of a weight)
    scale         Parameter, shape [] or [C], in units of the tensor; > 0, after every step of an optimizer as well
    offset        Parameter, same shape, in units of the tensor; zero and frozen when `symmetric`
    floor         buffer, same shape: the smallest scale that training may reach
    initialized   bool buffer, in the state_dict: a loaded quantizer is never initialized again
    left_out      no data reach it in eval mode (a head for training alone): it has no grid and returns its input
    of_integers   it was given integers or a mask, which have no grid: it hands them on, and is left out
    bypass        while True the module returns its input (see `bypassed`)
    """

    scale: nn.Parameter
    offset: nn.Parameter
    floor: torch.Tensor
    initialized: torch.Tensor

    def __init__(self, spec: QuantizerSpec, *, device: torch.device | None = None) -> None:
        super().__init__()
        self.name, self.kind, self.bits, self.qmin, self.qmax = spec.name, spec.kind, spec.bits, spec.qmin, spec.qmax
        self.symmetric, self.holds_zero, self.fixed = spec.symmetric, spec.holds_zero, spec.fixed
        self.integer_offset, self.offset_steps = spec.integer_offset, spec.offset_steps
        self.axis: int | None = None if spec.channels is None else 0
        self.bypass = self.left_out = self.of_integers = False
        shape = () if spec.channels is None else (spec.channels,)
        learned = spec.fixed is None
        self.scale = nn.Parameter(torch.ones(shape, device=device), requires_grad=learned)
        self.offset = nn.Parameter(torch.zeros(shape, device=device), requires_grad=learned and not spec.symmetric)
        self.register_buffer("floor", torch.full(shape, MIN_SCALE_RATIO, device=device))
        self.register_buffer("initialized", torch.tensor(False, device=device))
        self._ready = False  # mirror of `initialized` that forward may read without waiting for a GPU
        watch(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        watch(self)  # a copy, too

    @torch.no_grad()
    def project(self) -> None:
        """Put s onto s >= floor, in place. torch does it after each step of an optimizer that has s (positive.py)."""
        if self._ready:
            self.scale.clamp_(min=self.floor)

    def _save_to_state_dict(self, *args: Any, **kwargs: Any) -> None:
        """An s that a hand-written step made zero or negative is saved as floor, which forward takes it for."""
        if self._ready and not self.scale.is_meta and bool((self.scale.detach() <= 0).any()):
            with torch.no_grad():
                self.scale.copy_(torch.where(self.scale <= 0, self.floor, self.scale))
        super()._save_to_state_dict(*args, **kwargs)

    @property
    def effective_offset(self) -> torch.Tensor:
        """The offset that forward uses, shape of `offset`."""
        return self.offset

    @torch.no_grad()
    def set_grid(self, scale: Any, offset: Any = 0.0) -> None:
        """Give the quantizer its grid, in place (optimizers keep their parameters), and mark it as initialized.

        scale, offset: numbers or arrays that broadcast to [] or [C]. Errors (QuantizationError): another shape; a scale
        that is not finite and > 0; an offset that is not finite, or not zero on a symmetric grid.
        """
        new_scale = self._as_state("scale", scale)
        new_offset = self._as_state("offset", offset)
        if not bool((torch.isfinite(new_scale) & (new_scale > 0)).all()):
            raise QuantizationError(
                f"{self.name}: scale is {_worst(new_scale, positive=True)}: it must be finite and positive"
            )
        if not bool(torch.isfinite(new_offset).all()):
            raise QuantizationError(f"{self.name}: offset is {_worst(new_offset)}: it must be finite")
        if self.symmetric and bool((new_offset != 0).any()):
            raise QuantizationError(
                f"{self.name}: offset is {_worst(new_offset, nonzero=True)}: a symmetric grid has none, give 0"
            )
        self.scale.copy_(new_scale)
        self.offset.copy_(new_offset)
        self.floor.copy_(new_scale * MIN_SCALE_RATIO)
        self.initialized.fill_(True)
        self._ready = True

    def _as_state(self, what: str, value: Any) -> torch.Tensor:
        tensor = torch.as_tensor(value, dtype=self.scale.dtype, device=self.scale.device)
        try:
            return tensor.expand(self.scale.shape)
        except RuntimeError:
            raise QuantizationError(
                f"{self.name}: {what} has the shape {list(tensor.shape)}, expected {list(self.scale.shape)}"
            ) from None

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._ready = bool(self.initialized)

    def extra_repr(self) -> str:
        offset = "none" if self.symmetric else f"multiples of s/{self.offset_steps}" if self.integer_offset else "real"
        codes = f"bits={self.bits}, codes={self.qmin}…{self.qmax}"
        return f"{self.name}, {codes}, offset={offset}, axis={self.axis}, initialized={self._ready}"


def _worst(values: torch.Tensor, positive: bool = False, nonzero: bool = False) -> float:
    """The first value that breaks the rule, for a message."""
    bad = ~torch.isfinite(values)
    if positive:
        bad = bad | (values <= 0)
    if nonzero:
        bad = bad | (values != 0)
    return float(values[bad].flatten()[0])


def quantized_modules(model: nn.Module) -> dict[str, Quantized]:
    """{name: quantizer} of a prepared model, in the order of its layers; empty for a float model."""
    return {module.name: module for module in model.modules() if isinstance(module, Quantized)}


@contextmanager
def bypassed(model: nn.Module) -> Iterator[None]:
    """Run the network in float inside this block."""
    before = {module: module.bypass for module in quantized_modules(model).values()}
    try:
        for module in before:
            module.bypass = True
        yield
    finally:
        for module, bypass in before.items():
            module.bypass = bypass
