"""float_clamps: between two layers that are kept float, a clamp stays float.

    Conv(Relu(Conv(x, w, b)), …)   both kept float   =>   the same, and the Relu is kept float: no grid between them

Fires only where nobody else reads the values between the two.
"""

from __future__ import annotations

import onnx_ir as ir

from lsq_export.graph.kept_float import is_float_layer, stays_float
from lsq_export.graph.notes import FLOAT, WISHED
from lsq_export.graph.operators import CLAMPS
from lsq_export.graph.read import input_of, is_op, single_consumer
from lsq_export.rewrite.contract.conditions import NO_BATCH_NORMS
from lsq_export.rewrite.contract.passes import Keeps, Pass, stateless


def keep_clamps_float(model: ir.Model) -> None:
    for node in model.graph:
        if is_float_layer(node):
            _keep_before(node)


def _keep_before(layer: ir.Node) -> None:
    clamps, x = [], input_of(layer)
    while is_op(x.producer(), *CLAMPS) and single_consumer(x):
        clamp = x.producer()
        assert clamp is not None
        clamps.append(clamp)
        x = input_of(clamp)
    if stays_float(x.producer()) and single_consumer(x):
        for clamp in clamps:
            FLOAT.write(clamp, FLOAT.get(layer, WISHED))


PASS = Pass("float_clamps", stateless(keep_clamps_float), Keeps.VALUES, requires=(NO_BATCH_NORMS,))
