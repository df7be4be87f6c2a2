#!/usr/bin/env bash
# onnxruntime-qnn 2.7.0, onnxruntime 1.32.0 (Linux x86-64, compiled for HTP v73): a Clip between a convolution and its
# QuantizeLinear that limits more than the grid does takes the integer layer away.
# Expected: one context of the backend, as without the Clip: an integer convolution with a clamp behind it.
# Seen: with a Clip as wide as the grid, or wider, or a Relu, all is one EPContext; with one that ends inside the grid
# (ReLU6 in front of a grid up to 12.75) the DequantizeLinear of the weight stays on the CPU, and the context reads
# the weight in floats. The session is made, with the general warning that some nodes went to another provider.
# The script fails if that changes.
set -euo pipefail
export ORT_DISABLE_TELEMETRY=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 onnxruntime-qnn==2.7.0 numpy==2.4.6
"$work/env/bin/python" -W ignore - "$work" <<'PYTHON' 2> "$work/log" || { cat "$work/log"; exit 1; }
import os
import sys
from collections import Counter

import numpy as np
import onnx
import onnxruntime as ort
import onnxruntime_qnn as qnn
from onnx import TensorProto, helper, numpy_helper

WORK = sys.argv[1]
STEP = 0.05  # of the grid behind the layer, which ends at 255 * 0.05 = 12.75
random = np.random.default_rng(0)
constants = {
    "s": np.float32(0.02),
    "z": np.uint8(128),
    "w": random.integers(-127, 128, (8, 8, 3, 3)).astype(np.int8),
    "ws": np.full(8, 0.01, np.float32),
    "wz": np.zeros(8, np.int8),
    "t": np.float32(STEP),
    "u": np.uint8(0),
    "low": np.float32(0),
}


def model(between, high):
    """A convolution in QDQ form, with an operator in front of its QuantizeLinear."""
    constants["high"] = np.float32(high)
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "s", "z"], ["xv"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wv"], axis=0),
        helper.make_node("Conv", ["xv", "wv"], ["c"], kernel_shape=[3, 3], pads=[1] * 4),
    ]
    if between:
        nodes.append(helper.make_node(between, ["c", "low", "high"] if between == "Clip" else ["c"], ["r"]))
    nodes.append(helper.make_node("QuantizeLinear", [nodes[-1].output[0], "t", "u"], ["y"]))
    read = {name for node in nodes for name in node.input}
    ends = [helper.make_tensor_value_info(name, TensorProto.UINT8, [1, 8, 8, 8]) for name in "xy"]
    stored = [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items() if name in read]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def compiled(name, between=None, high=0.0):
    """What is left of the graph around the backend's context."""
    path = os.path.join(WORK, f"{name}.onnx")
    options = ort.SessionOptions()
    for key, value in {"enable": "1", "file_path": path, "embed_mode": "1"}.items():
        options.add_session_config_entry(f"ep.context_{key}", value)
    backend = os.path.join(os.path.dirname(qnn.__file__), "libQnnHtp.so")
    settings = {"backend_path": backend, "htp_arch": "73", "offload_graph_io_quantization": "0"}
    options.add_provider_for_devices([d for d in ort.get_ep_devices() if d.ep_name == "QNNExecutionProvider"], settings)
    ort.InferenceSession(model(between, high).SerializeToString(), options)
    return dict(Counter(node.op_type for node in onnx.load(path).graph.node))


ort.register_execution_provider_library("QNNExecutionProvider", qnn.get_library_path())
cases = {
    "nothing between": compiled("plain"),
    "Relu": compiled("relu", "Relu"),
    "Clip to 12.75": compiled("even", "Clip", 255 * STEP),
    "Clip to 13": compiled("wide", "Clip", 13.0),
    "Clip to 6": compiled("inside", "Clip", 6.0),
    "Clip to 0.75": compiled("few", "Clip", 0.75),
}
for what, left in cases.items():
    print(f"{what}: {left}")
whole, floats = {"EPContext": 1}, {"DequantizeLinear": 1, "EPContext": 1}
assert list(cases.values()) == [whole] * 4 + [floats] * 2
PYTHON
