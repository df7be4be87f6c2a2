"""What each node of a graph gives for an example: whether it is one tensor of floats, which alone has a grid.

Names of functions tell most of it (float_functions.py); torch.where(mask), say, gives places, and
torch.where(mask, a, b) numbers. With an example nobody has to guess.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from calib.initialization.first_grids import evaluating
from calib.samples import Input, arguments_of

from .plain import copied

FLOATS = "floats"  # key of a node's meta data


class _Look(fx.Interpreter):
    """Runs a graph, and notes what its nodes give."""

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        n.meta[FLOATS] = isinstance(result, torch.Tensor) and result.is_floating_point()
        return result


def note_types(traced: fx.GraphModule, example: Input) -> None:
    """Note it in the nodes; nothing is noted of what the model does not come to, or where it fails."""
    positional, keywords = arguments_of(traced, example)
    asked = {
        str(node.target): node.args[0] if node.args else None for node in traced.graph.find_nodes(op="placeholder")
    }
    given = asked | dict(zip(asked, positional, strict=False)) | keywords
    model = copied(traced)  # a forward may write to its buffers
    with evaluating(model), torch.no_grad(), torch.random.fork_rng(devices=[]):
        look = _Look(model, graph=traced.graph)
        look.extra_traceback = False
        try:
            look.run(*(given[name] for name in asked), enable_io_processing=False)
        except Exception:  # a user's forward can raise anything; whoever calls it next says so
            return
