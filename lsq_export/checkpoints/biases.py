"""Biases that a library trains as int32 codes, in units of the input's scale times the weight's:

b  =>  round(b / (s·s_w)) · s·s_w
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import fx

from calib.errors import QuantizationError

from .layer_values import bias_of
from .learned import Learned
from .sites import module_at


@torch.no_grad()
def round_to_products(traced: fx.GraphModule, weights: Mapping[str, Learned], grids: Mapping[str, Learned]) -> None:
    """weights: {layer: the grid of its weight}. grids: {quantizer of an activation: its grid}.

    Errors (QuantizationError): a layer with a bias whose input has no grid.
    """
    for node in traced.graph.nodes:
        module = module_at(traced, node)
        bias = bias_of(module) if module is not None and str(node.target) in weights else None
        if bias is None:
            continue
        source = node.all_input_nodes[0]
        while str(source.target) not in grids and len(source.all_input_nodes) == 1 and source.op != "placeholder":
            source = source.all_input_nodes[0]
        if str(source.target) not in grids:
            raise QuantizationError(
                f"the input of {node.target} has no grid, whose scale the unit of its bias needs: leave bias out of "
                "the mapping file"
            )
        unit = (grids[str(source.target)].scale * weights[str(node.target)].scale).astype(np.float32)
        steps = bias / torch.from_numpy(np.asarray(unit))
        bias.copy_(steps.round() * torch.from_numpy(np.asarray(unit)))
