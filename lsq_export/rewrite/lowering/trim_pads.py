"""trim_pads: padding behind the last window of a convolution goes, where one window is all that there is.

    Conv(x [N, C, 2, 2], kernel 3×3, pads 1 1 1 1, strides 2 2)  =>  Conv(x, kernel 3×3, pads 1 1 0 0, strides 2 2)

No window reads what goes. IREE 3.13.0 takes the size of the padded image from the windows where the output is a single
pixel, finds another one, and refuses the file.
"""

from __future__ import annotations

import onnx_ir as ir

from lsq_export.graph.read import attribute, input_of, is_op


def trim_pads(model: ir.Model) -> None:
    """In a graph whose convolutions have shapes; those without stay as they are."""
    for node in model.graph:
        kernel, pads = attribute(node, "kernel_shape"), attribute(node, "pads")
        if not is_op(node, "Conv") or kernel is None or pads is None:
            continue
        spatial = len(kernel)
        dilations = attribute(node, "dilations", [1] * spatial)
        trimmed = list(pads)
        for axis in range(spatial):
            size, outputs = _size(input_of(node), axis), _size(node.outputs[0], axis)
            if size is None or outputs != 1:
                continue
            read = dilations[axis] * (kernel[axis] - 1) + 1 - pads[axis]  # pixels of the image, from its first on
            trimmed[spatial + axis] = min(pads[spatial + axis], max(read - size, 0))
        if trimmed != list(pads):
            node.attributes["pads"] = ir.AttrInt64s("pads", trimmed)


def _size(value: ir.Value, axis: int) -> int | None:
    """Of a spatial axis; None where it is not known."""
    size = None if value.shape is None else value.shape[2 + axis]
    return size if isinstance(size, int) else None
