#!/usr/bin/env bash
# onnx2tf 1.29.24, the newest for Python 3.11 and older, gives wrong numbers for two plain parts of QDQ files, silently:
# - QuantizeLinear to UINT8 does not saturate at 0: negative inputs stay negative with a zero point of 0.
# - DequantizeLinear of a convolution's INT8 weights with a scale for each output channel (axis 0, what quantize_static with
#   per_channel=True writes) is wrong as soon as the scales differ; with equal ones it is right.
# Guess before: both are right, as in ONNX's definition. 2.6.9, which wants Python 3.12, was right with such weights.
# Expected: 1. outputs max(x, 0); 2. the convolution with scale · weight. All scales are powers of two, so floats are exact.
# Seen: 1. outputs equal to x, -5 among them; 2. outputs up to 30,798.75 off, where the largest is 41,065.
# The script fails if that changes.
set -euo pipefail
export ORT_DISABLE_TELEMETRY=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check onnx2tf==1.29.24
cd "$work"
"$work/env/bin/python" - <<'PYTHON' 2>"$work/said" || { tail -20 "$work/said"; exit 1; }
from pathlib import Path

import numpy as np
import onnx
import onnx2tf
from ai_edge_litert.interpreter import Interpreter
from onnx import TensorProto, helper, numpy_helper

# It would fetch these images from the internet, to run what it makes on.
images = np.random.default_rng(0).random((20, 128, 128, 3), np.float32)
np.save("calibration_image_sample_data_20x128x128x3_float32.npy", images)
x = np.random.default_rng(0).integers(-10, 200, (1, 3, 6, 6)).astype(np.float32) / 2
codes = np.random.default_rng(1).integers(-60, 60, (4, 3, 3, 3)).astype(np.int8)


def node(kind, inputs, output, **attributes):
    return helper.make_node(kind, inputs, [output], output, **attributes)


def converted(nodes, channels, constants):
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, c, 6, 6]) for n, c in (("x", 3), ("y", channels))]
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "g", ends[:1], ends[1:], initializers),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, "model.onnx")
    onnx2tf.convert(input_onnx_file_path="model.onnx", output_folder_path="out", non_verbose=True, verbosity="error")
    interpreter = Interpreter(str(Path("out/model_float32.tflite")))
    interpreter.allocate_tensors()
    given, gives = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    interpreter.set_tensor(given["index"], np.moveaxis(x, 1, -1))
    interpreter.invoke()
    return np.moveaxis(interpreter.get_tensor(gives["index"]), -1, 1)


def convolution(image, weights):
    padded = np.pad(image, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return np.einsum("nchwij,ocij->nohw", windows, weights)


grid = {"s": np.float32(0.5), "z": np.uint8(0)}
pair = [node("QuantizeLinear", ["x", "s", "z"], "q"), node("DequantizeLinear", ["q", "s", "z"], "y")]
found = converted(pair, 3, grid)
print("1. found from", found.min(), "expected from", np.maximum(x, 0).min())
assert np.array_equal(found, x) and x.min() == -5

layer = [node("DequantizeLinear", ["w", "sw", "zw"], "v", axis=0), node("Conv", ["x", "v"], "y", pads=[1, 1, 1, 1])]
for scales, is_right in (((0.5, 0.5, 0.5, 0.5), True), ((1.0, 0.5, 0.25, 2.0), False)):
    scale = np.array(scales, np.float32)
    found = converted(layer, 4, {"w": codes, "sw": scale, "zw": np.zeros(4, np.int8)})
    expected = convolution(x, codes * scale.reshape(-1, 1, 1, 1))
    print("2. scales", scales, "off by", np.abs(found - expected).max(), "of", np.abs(expected).max())
    assert np.array_equal(found, expected) == is_right
print("as described: it does not saturate at 0, and is wrong where the scales of channels differ")
PYTHON
