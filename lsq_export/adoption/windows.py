"""What windows leave to be worked out becomes numbers, as torch's exporter writes them.

Conv(x, W)                                    =>  Conv(x, W), kernel_shape of W
Conv, MaxPool, AveragePool, auto_pad = SAME_…  =>  with the pads of the sizes of x
"""

from __future__ import annotations

import onnx_ir as ir

from lsq_export.graph.read import attribute

CONVOLUTIONS = ("Conv", "ConvTranspose")
WINDOWS = ("Conv", "MaxPool", "AveragePool")


def spell_windows(graph: ir.Graph) -> None:
    """Of all operators whose sizes are known; shapes have to be inferred before."""
    for node in graph:
        if node.domain not in ("", "ai.onnx"):
            continue
        if node.op_type in CONVOLUTIONS and attribute(node, "kernel_shape") is None:
            sizes = _sizes(node.inputs[1])
            if sizes is not None:
                node.attributes["kernel_shape"] = ir.AttrInt64s("kernel_shape", sizes)
        if node.op_type in WINDOWS and attribute(node, "auto_pad", "NOTSET") != "NOTSET":
            _spell_pads(node)


def _spell_pads(node: ir.Node) -> None:
    kernel, auto = attribute(node, "kernel_shape"), attribute(node, "auto_pad")
    sizes = _sizes(node.inputs[0]) if auto != "VALID" or kernel is None else [0] * len(kernel)
    if kernel is None or sizes is None or auto not in ("SAME_UPPER", "SAME_LOWER", "VALID"):
        return
    ones = [1] * len(kernel)
    strides, dilations = (list(attribute(node, name, None) or ones) for name in ("strides", "dilations"))
    begin, end = [], []
    for size, taps, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        reach = (-(-size // stride) - 1) * stride + (taps - 1) * dilation + 1
        total = max(reach - size, 0) if auto != "VALID" else 0
        less, more = total // 2, total - total // 2
        begin.append(less if auto == "SAME_UPPER" else more)
        end.append(more if auto == "SAME_UPPER" else less)
    del node.attributes["auto_pad"]
    if auto != "VALID":
        node.attributes.pop("ceil_mode", None)  # the sizes of outputs are whole already
    node.attributes["pads"] = ir.AttrInt64s("pads", [*begin, *end])


def _sizes(value: ir.Value | None) -> list[int] | None:
    """Of all axes but the first two; None: they are not known."""
    shape = value.shape if value is not None else None
    sizes = list(shape)[2:] if shape is not None else []
    return (
        [int(size) for size in sizes if isinstance(size, int)]
        if sizes and all(isinstance(s, int) for s in sizes)
        else None
    )
