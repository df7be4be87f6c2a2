"""What a TorchFunctionMode sees of calls, and what they are in a graph of torch.fx."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any

import torch
import torch.nn.functional as F

from .modes import Training
from .sizes import Size
from .user_code import place_in, user_frame

ASKS = ("shape", "size", "numel", "nelement")
FACTS = (  # of a tensor, which no later input changes
    *("dtype", "device", "layout", "ndim", "dim", "ndimension", "requires_grad", "grad_fn", "is_leaf", "is_cuda"),
    *("is_floating_point", "is_complex", "is_contiguous", "stride", "element_size", "is_tensor", "is_sparse", "names"),
    *("is_nested", "is_quantized", "is_mps", "is_meta", "__len__", "__hash__", "__repr__", "__format__", "type"),
    *("is_signed", "is_inference", "storage_offset", "result_type", "promote_types", "grad", "_version"),
)
READS = (
    *("__bool__", "__float__", "__int__", "__index__", "__contains__", "item", "tolist", "numpy", "__array__"),
    *("is_nonzero", "equal", "allclose"),
)
RANDOM = ("rand", "randn", "randint", "randperm", "normal", "bernoulli", "poisson")
REFLECTED = {
    "__rsub__": operator.sub,
    "__rdiv__": operator.truediv,
    "__rtruediv__": operator.truediv,
    "__rpow__": operator.pow,
    "__rfloordiv__": operator.floordiv,
    "__rmod__": operator.mod,
    "__rmatmul__": operator.matmul,
}
OPERATORS = {
    "__getitem__": operator.getitem,
    "__invert__": operator.invert,
    "__floordiv__": operator.floordiv,
    "__eq__": operator.eq,
    "__and__": operator.and_,
    "__or__": operator.or_,
    "__xor__": operator.xor,
}


class Depends(Exception):
    """The forward decides on something that another input would decide otherwise. why: in words; place: file:line."""

    def __init__(self, why: str, frame: FrameType | None) -> None:
        super().__init__(why)
        self.place = f" at {place_in(frame)}" if frame is not None else ""


def name_of(func: Any) -> str:
    """Of a function, of a method, or of an attribute that is read."""
    name = str(getattr(func, "__name__", ""))
    return str(getattr(func.__self__, "__name__", name)) if name in ("__get__", "__set__") else name


def target_of(func: Any, name: str, args: tuple[Any, ...]) -> tuple[str, Any, tuple[Any, ...]]:
    """(kind of node, target, arguments)"""
    if func.__name__ == "__get__":
        return "call_function", getattr, (args[0], name)
    if func.__name__ == "__set__":
        raise Depends(f"it assigns to .{name} of a tensor", user_frame())
    if name in REFLECTED:
        return "call_function", REFLECTED[name], (args[1], args[0])
    if name in OPERATORS:
        return "call_function", OPERATORS[name], args
    method = getattr(torch.Tensor, name, None)
    is_function = func is getattr(torch, name, None) or func is getattr(F, name, None)
    known = func is method or func is getattr(torch._C.TensorBase, name, None) or name.endswith("_")
    if method is not None and known and not is_function:
        return "call_method", name, args
    return "call_function", func, args


def plain(value: Any) -> Any:
    """The same form, with Python's own numbers."""
    if isinstance(value, Size):
        return int(value)
    if isinstance(value, Training):
        return False
    if isinstance(value, torch.Size):
        return torch.Size([plain(part) for part in value])
    if isinstance(value, slice):
        return slice(*map(plain, (value.start, value.stop, value.step)))
    if type(value) in (tuple, list):
        return type(value)(map(plain, value))
    if type(value) is dict:
        return {key: plain(part) for key, part in value.items()}
    return value


def leaves(value: Any) -> Iterator[Any]:
    """What nested arguments hold."""
    if isinstance(value, slice):
        value = (value.start, value.stop, value.step)
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, (tuple, list)):
        for part in value:
            yield from leaves(part)
    else:
        yield value


def has_tensors(value: Any) -> bool:
    """Whether nested results hold a tensor."""
    return any(isinstance(leaf, torch.Tensor) for leaf in leaves(value))
