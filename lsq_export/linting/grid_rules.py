"""Rules of quantized tensors: types of codes, scales, zero points."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType

import numpy as np

from lsq_export.inspection.onnx_read import attribute

from .grids import ROLES, GridUse, grids
from .onnx_file import OnnxFile
from .predicates import Place, predicate
from .scope import input_name, label, type_name

HALF = "FLOAT16"
INTEGERS = frozenset({"INT8", "UINT8", "INT4", "UINT4", "INT2", "UINT2", "INT16", "UINT16"})


def _uses(file: OnnxFile, roles: Collection[str]) -> Iterator[GridUse]:
    for scope in file.scopes:
        for use in grids(scope):
            if use.role in roles or ("input" in roles and use.is_input):
                yield use


@predicate
def code_types(file: OnnxFile, allowed: Collection[str], roles: Collection[str] = ("activation",)) -> Iterator[Place]:
    """Codes have one of these types."""
    for use in _uses(file, roles):
        if use.type is not None and use.type not in allowed:
            yield label(use.node), f"has codes of the type {use.type} ({use.role} {use.tensor})"


@predicate
def zero_points(
    file: OnnxFile, roles: Collection[str] = ROLES, of_types: Mapping[str, int] = MappingProxyType({})
) -> Iterator[Place]:
    """Zero points are 0, or what `of_types` has for the type of the codes.

    roles: "activation", "weight", "bias", or "input" for the network's input alone.
    """
    for use in _uses(file, roles):
        found, right = use.zero_points(), of_types.get(use.type or "", 0)
        if found is not None and (found != right).any():
            yield (
                label(use.node),
                f"has the zero point {found[found != right][0]}, not {right} ({use.role} {use.tensor})",
            )


@predicate
def scale_types(file: OnnxFile, half_from: int, mixed_from: int) -> Iterator[Place]:
    """Scales are float32; of QuantizeLinear and DequantizeLinear they may be float16 from that operator set on.

    mixed_from: the operator set from which on QuantizeLinear takes them for values of float32.
    """
    for use in _uses(file, ROLES):
        kind = use.node.op_type
        pair = kind in ("QuantizeLinear", "DequantizeLinear") and file.opset >= half_from
        mixed = kind == "QuantizeLinear" and use.scope.type(input_name(use.node, 0)) == "FLOAT"
        if use.scope.type(use.scale) == HALF and not (pair and (not mixed or file.opset >= mixed_from)):
            beside = " beside values of the type FLOAT" if pair else ""
            yield label(use.node), f"has a scale of the type {HALF}{beside} ({use.role} {use.tensor})"


def _casts(use: GridUse) -> Iterator[str | None]:
    """The types that its scale has, and had before Casts."""
    name, seen = use.scale, set[str]()
    while name and name not in seen:
        seen.add(name)
        maker = use.scope.producer(name)
        if maker is None or maker.op_type != "Cast":
            yield use.scope.type(name)
            return
        yield type_name(attribute(maker, "to"))
        name = input_name(maker, 0)


@predicate
def float16_scales(file: OnnxFile) -> Iterator[Place]:
    """No scale was rounded to float16, also where a Cast makes float32 of it."""
    for use in _uses(file, ROLES):
        if HALF in _casts(use):
            yield label(use.node), f"has a scale that was rounded to {HALF} ({use.role} {use.tensor})"


@predicate
def one_dequantize(file: OnnxFile) -> Iterator[Place]:
    """DequantizeLinear gives the same computed codes the same scale everywhere."""
    for scope in file.scopes:
        first: dict[str, GridUse] = {}
        for use in grids(scope):
            if use.node.op_type != "DequantizeLinear" or scope.constant(use.tensor) is not None:
                continue
            if first.setdefault(use.tensor, use) is use:
                continue
            known, found = first[use.tensor].scales(), use.scales()
            if known is not None and found is not None and not np.array_equal(known, found):
                yield label(use.node), f"has another scale than {label(first[use.tensor].node)} for {use.tensor}"


@predicate
def power_of_two_scales(file: OnnxFile, roles: Collection[str] = ROLES) -> Iterator[Place]:
    """Scales are powers of two."""
    for use in _uses(file, roles):
        found = use.scales()
        if found is None:
            continue
        odd = found[np.frexp(found)[0] != 0.5]
        if odd.size:
            yield label(use.node), f"has the scale {odd[0]:.6g} ({use.role} {use.tensor})"


@predicate
def one_scale(file: OnnxFile, roles: Collection[str] = ROLES) -> Iterator[Place]:
    """A tensor has one scale, and none for each channel."""
    for use in _uses(file, roles):
        found = use.scales()
        if found is not None and found.size > 1:
            yield label(use.node), f"has {found.size} scales ({use.role} {use.tensor})"


@predicate
def no_clip_on_codes(file: OnnxFile) -> Iterator[Place]:
    """Clip, Min, Max and Relu are of float values, not of codes."""
    for scope in file.scopes:
        for node in scope.nodes:
            if node.op_type in ("Clip", "Min", "Max", "Relu") and scope.type(input_name(node, 0)) in INTEGERS:
                yield label(node), f"is on codes of the type {scope.type(input_name(node, 0))}"
