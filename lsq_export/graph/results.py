"""What a user's model returns, as a flat list of tensors with names.

    y                            output
    (y, z)                       output_0, output_1
    {"out": y, "aux": z}         out, aux              mappings, dataclasses and named tuples: their own names
    {"boxes": [y, z]}            boxes.0, boxes.1      and so on, however deep
    (y, {"mask": z})             output_0, output_1.mask

None is left out, and so are numbers and texts: they are no tensors, and the same for every input.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import fx, nn

from calib.errors import QuantizationError
from lsq_export.qat.node_kinds import asks

SINGLE = "output"
NUMBERS = (bool, int, float, torch.SymBool, torch.SymInt, torch.SymFloat)  # Sym…: sizes, while torch.export runs it


def named_outputs(result: Any) -> dict[str, torch.Tensor]:
    """{name: tensor}, in the order of the model.

    Errors (QuantizationError): no tensor in it, something that nobody can look into, two outputs of one name.
    """
    if isinstance(result, torch.Tensor):
        return {SINGLE: result}
    found: dict[str, torch.Tensor] = {}
    for name, tensor in _tensors(result, ""):
        unique = name if name.startswith(SINGLE) or not name[:1].isdigit() else f"{SINGLE}_{name}"
        if unique in found:
            raise QuantizationError(f"the model returns two outputs that are called {unique}: give them other names")
        found[unique] = tensor
    if not found:
        raise QuantizationError(
            f"the model returns {_what(result)} without a tensor: it must return tensors, alone or in tuples, mappings "
            "or dataclasses"
        )
    return {SINGLE: next(iter(found.values()))} if list(found) == [f"{SINGLE}_0"] else found


def _tensors(result: Any, path: str) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(result, torch.Tensor):
        yield path, result
    elif parts := _parts(result):
        for name, part in parts:
            yield from _tensors(part, f"{path}.{name}" if path else name)
    elif result is not None and not isinstance(result, (*NUMBERS, str, Mapping, tuple, list)):
        raise QuantizationError(
            f"the model returns a {type(result).__name__}{f' in {path}' if path else ''}: it must return tensors, "
            "alone or in tuples, mappings or dataclasses; wrap it in a module that does"
        )


def _parts(result: Any) -> list[tuple[str, Any]]:
    """(name, part) of everything in it."""
    if isinstance(result, Mapping):
        return [(str(key), value) for key, value in result.items()]
    if is_dataclass(result) and not isinstance(result, type):
        return [(field.name, getattr(result, field.name)) for field in fields(result)]
    names = getattr(result, "_fields", None)
    if isinstance(result, tuple) and names:
        return list(zip(map(str, names), result, strict=True))
    return [(str(i), part) for i, part in enumerate(result)] if isinstance(result, (tuple, list)) else []


def _what(result: Any) -> str:
    return "nothing" if result is None else f"a {type(result).__name__}"


def _is_made(node: fx.Node) -> bool:
    """Whether it makes one of the user's own classes, a dataclass or a named tuple."""
    return node.op == "call_function" and isinstance(node.target, type)


def _given(node: fx.Node) -> list[Any]:
    """What a class is made of, in the order of its fields."""
    made: Any = node.target
    names = [field.name for field in fields(made)] if is_dataclass(made) else list(getattr(made, "_fields", ()))
    given = dict(zip(names, node.args, strict=False)) | node.kwargs
    return [given.get(name) for name in names] if names else [*node.args, *node.kwargs.values()]


def _parts_of_nodes(result: Any) -> Iterator[fx.Node]:
    """The nodes that a traced model returns, in the order of `named_outputs`."""
    if isinstance(result, fx.Node) and _is_made(result):
        yield from _parts_of_nodes(_given(result))
    elif isinstance(result, fx.Node):
        if not asks(result):
            yield result
    elif isinstance(result, (Mapping, tuple, list)):
        for part in result.values() if isinstance(result, Mapping) else result:
            yield from _parts_of_nodes(part)


@contextmanager
def flat(model: nn.Module, keywords: Iterable[str] = ()) -> Iterator[None]:
    """Within this block the model returns a tuple of tensors, which torch's exporter can take whatever it was.

    keywords: what a forward(**kwargs) is given; the exporter takes arguments that have names alone.
    """
    if isinstance(model, fx.GraphModule):
        yield from _flat_graph(model.graph)
        return
    forward = model.forward

    @functools.wraps(forward)
    def flattened(*args: Any, **kwargs: Any) -> Any:
        result = forward(*args, **kwargs)
        return result if isinstance(result, torch.Tensor) else tuple(named_outputs(result).values())

    _name_keywords(flattened, keywords)
    own = model.__dict__.get("forward")
    model.forward = flattened
    try:
        yield
    finally:
        if own is None:
            del model.__dict__["forward"]
        else:
            model.forward = own


def _name_keywords(function: Any, keywords: Iterable[str]) -> None:
    """Let a function with **kwargs say that it has these parameters."""
    signature = inspect.signature(function)
    kept = [p for p in signature.parameters.values() if p.kind != p.VAR_KEYWORD]
    if keywords and len(kept) < len(signature.parameters):
        new = [name for name in keywords if name not in signature.parameters]
        named = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in new]
        function.__signature__ = signature.replace(parameters=[*kept, *named])


def _flat_graph(graph: fx.Graph) -> Iterator[None]:
    """torch's exporter reads the graph of a traced model, and does not call it: no number is an output of ONNX."""
    output = next(node for node in reversed(graph.nodes) if node.op == "output")
    before = output.args
    output.args = (tuple(_parts_of_nodes(before[0])),)
    try:
        yield
    finally:
        output.args = before
