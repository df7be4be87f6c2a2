"""The float network with which `bench` compares the integer files.

It is what torch exports or, without a torch model, rebuilt from the trained graph of a bundle.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx_ir as ir

from lsq_export.bundle.layout import TRAINED
from lsq_export.bundle.reading import Files, the_bundles_fault
from lsq_export.graph.edit import clean, constant, replace
from lsq_export.graph.read import constant_of, is_marker, is_op
from lsq_export.rewrite.emit import serialize

if TYPE_CHECKING:
    import torch


def float_model(trained: onnx.ModelProto) -> onnx.ModelProto:
    """The graph without its quantizers: the shapes of the float model, with weights as values.

    The operators are those of a normalized graph (GlobalAveragePool for ReduceMean, say), which ONNX Runtime can run
    faster than what torch exports. The weights are the trained low-bit values; latency does not depend on them.
    """
    model = ir.from_proto(trained)
    graph = model.graph
    for node in list(graph):
        if is_marker(node):
            assert node.inputs[0] is not None
            replace(node.outputs[0], node.inputs[0])
        elif is_op(node, "DequantizeLinear"):
            codes, scale = (constant_of(v, str(node.name)).astype(np.float32) for v in node.inputs[:2])
            values = codes * scale.reshape(-1, *[1] * (codes.ndim - 1))
            replace(node.outputs[0], constant(graph, f"{node.outputs[0].name}.float", values))
    clean(model)
    return serialize(model, graph.opset_imports[""], "float")


def float_model_of(bundle: Path) -> bytes:
    """The float network of a bundle directory, serialized. Errors (DamagedError): it is not what SHA256SUMS says."""
    trained = Files(bundle).onnx(str(TRAINED))
    with the_bundles_fault(bundle):
        serialized: bytes = float_model(trained).SerializeToString()
    return serialized


def exported_float_model(model: torch.nn.Module, example: torch.Tensor) -> bytes:
    """What a user of torch would deploy: torch.onnx.export(dynamo=True) of the model, untouched, serialized.

    Quantizers of a prepared model are left out. example: float32 [N, …]; the batch stays dynamic. Errors
    (QuantizationError): the model does not take the example, or torch cannot export it.
    """
    from calib.errors import QuantizationError
    from calib.initialization.first_grids import evaluating
    from calib.quantized import bypassed
    from lsq_export.graph.capture import forward
    from lsq_export.graph.exporting import capture_batch, export_program, first_line

    example = capture_batch(example)
    with bypassed(model), evaluating(model):
        forward(model, example)
        try:
            program = export_program(model, example)
        except Exception as error:  # the exporter raises many types of its own
            reason = first_line(error)
            raise QuantizationError(f"torch.onnx.export cannot export the float network: {reason}") from error
    return bytes(program.model_proto.SerializeToString())
