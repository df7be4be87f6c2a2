"""The operators lsq_export::Lookup, Product, Sum, Depthwise and Conv for ONNX Runtime: 8-bit codes through a table of
256 entries, by themselves or after the product or sum of two tensors or a convolution.

Without the library a model runs its own functions of the operator's names, made of stock operators, with the same bits.
"""

from __future__ import annotations

from .compile import LIBRARY, SOURCE, build_line, find_compiler
from .library import KERNEL_VARIABLE, LIBRARY_VARIABLE, VERSION, build, is_built, kernel_name, library_path, register

DOMAIN = "lsq_export"
# Names with one kernel, one for each function of a model:
LOOKUPS, DEPTHWISES, CONVS = (tuple(f"{kind}{n}" for n in range(64)) for kind in ("Lookup", "Depthwise", "Conv"))
PRODUCTS, SUMS = (tuple(f"{kind}{number}" for number in range(16)) for kind in ("Product", "Sum"))

__all__ = [
    "CONVS",
    "DEPTHWISES",
    "DOMAIN",
    "KERNEL_VARIABLE",
    "LIBRARY",
    "LIBRARY_VARIABLE",
    "LOOKUPS",
    "PRODUCTS",
    "SOURCE",
    "SUMS",
    "VERSION",
    "build",
    "build_line",
    "find_compiler",
    "is_built",
    "kernel_name",
    "library_path",
    "register",
]
