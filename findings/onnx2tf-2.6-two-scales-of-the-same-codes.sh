#!/usr/bin/env bash
# onnx2tf 2.6.9: two DequantizeLinear nodes that read the codes of one QuantizeLinear, with different scales, come out of
# the conversion with one scale, that of the last node. Nothing is said. (Codes that are stored keep both scales.)
# Expected: each DequantizeLinear has the scale that it names, (codes - zero_point) * scale.
# Seen in LiteRT 2.1.2: of the scales 0.5 and 1 the first result is twice as large as it should be, and with the nodes in
# the other order half as large. Files have such pairs where a residual branch reads the codes of a layer as values, and
# the next layer reads them on another scale.
# The script fails if that changes. It wants Python 3.12, as this version does: PYTHON=/path/to/python3.12.
set -euo pipefail
export ORT_DISABLE_TELEMETRY=1 TF_CPP_MIN_LOG_LEVEL=3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.12}" -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check onnx2tf==2.6.9 ai-edge-litert==2.1.2 onnxruntime==1.26.0
cd "$work"
"$work/env/bin/python" - <<'PYTHON' 2>"$work/said" || { tail -20 "$work/said"; exit 1; }
from pathlib import Path

import numpy as np
import onnx
import onnx2tf
import onnxruntime
from ai_edge_litert.interpreter import Interpreter
from onnx import TensorProto, helper, numpy_helper

SCALES = {"half": 0.5, "whole": 1.0}
np.save("calibration_image_sample_data_20x128x128x3_float32.npy", np.zeros((20, 128, 128, 3), np.float32))  # no download


def ratios(order):
    """{result: how many times too large it is}, in LiteRT."""
    tensors = {**{name: np.float32(scale) for name, scale in SCALES.items()}, "zero": np.uint8(128), "three": np.float32(3)}
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in tensors.items()]
    nodes = [helper.make_node("QuantizeLinear", ["x", "half", "zero"], ["codes"], name="codes")]
    for name in order:
        nodes.append(helper.make_node("DequantizeLinear", ["codes", name, "zero"], [f"{name}_values"], name=f"{name}_values"))
        nodes.append(helper.make_node("Mul", [f"{name}_values", "three"], [f"{name}_out"], name=f"{name}_out"))
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 12]) for name in ("x", "half_out", "whole_out")]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, "model.onnx")
    x = np.arange(1, 13, dtype=np.float32).reshape(1, 12)
    wanted = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})
    assert all(np.array_equal(found, 6 * scale * x) for found, scale in zip(wanted, SCALES.values()))
    names = {"output_signaturedefs": True, "copy_onnx_input_output_names_to_tflite": True}
    onnx2tf.convert(input_onnx_file_path="model.onnx", output_folder_path="out", non_verbose=True, **names)
    interpreter = Interpreter(model_path=str(next(Path("out").glob("*float32.tflite"))))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    found = [interpreter.get_tensor(one["index"]) for one in interpreter.get_output_details()]
    return {name: float((value / right)[0, 0]) for name, value, right in zip(SCALES, found, wanted)}


for order, expected in ((("half", "whole"), {"half": 2.0, "whole": 1.0}), (("whole", "half"), {"half": 1.0, "whole": 0.5})):
    found = ratios(order)
    print("in the order", *order, "- times too large:", found)
    assert found == expected, found
print("as described: one of two scales is lost")
PYTHON
