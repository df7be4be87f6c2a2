"""The float network that `bench` compares the integer files with:

as torch exports it, or, without a torch model, rebuilt from a trained graph.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx_ir as ir

from lsq_export.bundle.directory import TRAINED, load_onnx
from lsq_export.graph.edit import clean, constant, replace
from lsq_export.graph.read import constant_of, is_marker, is_op
from lsq_export.rewrite.emit import serialize

if TYPE_CHECKING:
    import torch


def float_model(trained: onnx.ModelProto) -> onnx.ModelProto:
    """The graph without its quantizers: the shapes of the float model, weights as values.

    The operators are those of a normalized graph (GlobalAveragePool for ReduceMean, say), which ONNX Runtime can run
    faster than what torch exports. The weights are the trained low-bit values; latency does not depend on them."""
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
    """Of a bundle directory, serialized."""
    return float_model(load_onnx(bundle / TRAINED)).SerializeToString()


def exported_float_model(model: torch.nn.Module, example: torch.Tensor) -> bytes:
    """What a user of torch would deploy: torch.onnx.export(dynamo=True) of the model without its quantizers (if it has
    any), untouched, serialized.

    example: float32 [N, …]; the batch stays dynamic. Errors (QuantizationError): the model does not take the example,
    or torch cannot export it."""
    import torch

    from calib.errors import QuantizationError
    from calib.initialization.first_grids import evaluating
    from calib.quantized import bypassed
    from lsq_export.graph.capture import CAPTURE_BATCH, _quiet_exporter, forward

    example = example[:1].expand(CAPTURE_BATCH, *example.shape[1:]).contiguous()
    with bypassed(model), evaluating(model):
        forward(model, example)
        try:
            with _quiet_exporter():
                program = torch.onnx.export(
                    model,
                    (example,),
                    dynamo=True,
                    dynamic_shapes=({0: torch.export.Dim("batch")},),
                    verbose=False,
                    input_names=["input"],
                )
        except Exception as error:  # the exporter raises many types of its own
            reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise QuantizationError(f"torch.onnx.export cannot export the float network: {reason}") from error
    assert program is not None
    return bytes(program.model_proto.SerializeToString())
