"""Stubs of torch.ao, which give what they get until a model is converted: a trace would not see them.

QuantStub()(x), DeQuantStub()(x)  =>  Identity()(x)
"""

from __future__ import annotations

from torch import nn

STUBS = ("QuantStub", "DeQuantStub")
OBSERVER = "activation_post_process"  # a module that torch.ao puts behind what it observes
INPUT = "quant"  # what QuantWrapper has in front of a network
WRAPPER = (f"{INPUT}.{OBSERVER}.", "dequant.")  # its tensors, beside those of the network


def with_stubs(model: nn.Module) -> nn.Module:
    """The model, changed in place: each stub is a module that a graph shows."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child).__name__ in STUBS and not any(True for _ in child.children()):
                setattr(parent, name, nn.Identity())
    return model
