"""Where in the user's model the tensors are that trained edges have quantizers for, in words."""

from __future__ import annotations

from torch import fx, nn


def place_of(model: fx.GraphModule, node: fx.Node) -> str:
    """Output of maxpool (MaxPool2d); add in layer1 (Residual). model: traced; node: what makes the value."""
    if node.op == "placeholder":
        return f"input {node.target}"
    if node.op == "call_module":
        return f"output of {node.target} ({type(model.get_submodule(str(node.target))).__name__})"
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", node.name)
    inside = _module_of(node)
    return f"{name} in {inside}" if inside else f"{name} in forward"


def opened_place(model: fx.GraphModule, node: fx.Node) -> str:
    """Of the operators that an activation is made of: part of down.2 (Hardswish)."""
    if node.op == "call_module":
        return f"part of {node.target} ({type(model.get_submodule(str(node.target))).__name__})"
    return f"part of {place_of(model, node)}"


def places(model: object) -> dict[str, str]:
    """{quantizer of a trained edge: where it is, in words}; of a model that was prepared, nothing of anything else."""
    modules = model.named_modules() if isinstance(model, nn.Module) else ()
    found = {name: getattr(module, "place", None) for name, module in modules}
    return {name: place for name, place in found.items() if place}


def _module_of(node: fx.Node) -> str | None:
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    if not stack:
        return None
    name, kind = stack[-1]
    return f"{name} ({kind.__name__})" if isinstance(kind, type) and name else None
