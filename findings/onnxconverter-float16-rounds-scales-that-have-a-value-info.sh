#!/usr/bin/env bash
# onnxconverter-common 1.16.0, onnx 1.23.2: convert_float_to_float16 with QuantizeLinear and DequantizeLinear in
# op_block_list rounds their scales to float16 all the same where the model has a value_info for these initializers, as
# models that onnx-ir 1.1.0 writes have (and with it torch.onnx and onnxscript).
# Expected: operators of op_block_list keep their float32 scales, as they do without the value_info, which says nothing
# new: name, type and shape are those of the initializer.
# Seen: the scales are FLOAT16, and a Cast makes float32 of what was rounded; the scale 0.1 becomes 0.0999755859375, and
# codes of the same float32 input differ.
# The script fails if that changes.
set -euo pipefail
export ORT_DISABLE_TELEMETRY=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check \
  onnxconverter-common==1.16.0 onnx==1.23.2 onnx-ir==1.1.0 onnxruntime==1.32.0 numpy==2.4.6
"$work/env/bin/python" - <<'PYTHON'
import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from onnx import TensorProto, checker, helper, numpy_helper
from onnxconverter_common import float16

BLOCKED = [*float16.DEFAULT_OP_BLOCK_LIST, "QuantizeLinear", "DequantizeLinear"]


def model():
    """y = DQ(Q(x)), of a scale of 0.1, and a Relu that may become float16."""
    n = helper.make_node
    nodes = [
        n("QuantizeLinear", ["x", "s", "z"], ["codes"], "quantize"),
        n("DequantizeLinear", ["codes", "s", "z"], ["values"], "dequantize"),
        n("Relu", ["values"], ["y"], "relu"),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2001]) for name in ("x", "y")]
    made = [numpy_helper.from_array(np.asarray(v), name) for name, v in (("s", np.float32(0.1)), ("z", np.uint8(128)))]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], made)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(proto, full_check=True)
    return proto


def codes_of(proto, x):
    wider = type(proto)()
    wider.CopyFrom(proto)
    wider.graph.output.append(helper.make_tensor_value_info("codes", TensorProto.UINT8, None))
    session = ort.InferenceSession(wider.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["codes"], {"x": x})[0]


x = np.linspace(-12, 12, 2001, dtype=np.float16).astype(np.float32).reshape(1, -1)  # float16 holds all inputs
plain, listed = model(), ir.to_proto(ir.from_proto(model()))
assert not plain.graph.value_info and "s" in {value.name for value in listed.graph.value_info}
expected = codes_of(plain, x)
for name, proto in (("no value_info", plain), ("onnx-ir's value_info", listed)):
    assert np.array_equal(codes_of(proto, x), expected)
    half = float16.convert_float_to_float16(proto, keep_io_types=True, op_block_list=BLOCKED)
    scale = next(tensor for tensor in half.graph.initializer if tensor.name == "s")
    kind, value = TensorProto.DataType.Name(scale.data_type), float(numpy_helper.to_array(scale))
    differing = int((codes_of(half, x) != expected).sum())
    print(f"{name}: the scale is {kind} {value!r}; {differing} of {expected.size} codes differ")
    assert (kind, differing > 0) == (("FLOAT", False) if proto is plain else ("FLOAT16", True)), "it has changed"
print("as described")
PYTHON
