"""Two files in ONNX Runtime: `python compare.py BEFORE AFTER FEEDS.npz CODES.json`, one line of JSON on stdout.

    {"default": …, "disabled": …, "operators": {name: how many more}}
    -> of each session {"outputs": elements that differ, "inside": codes that differ, "of": codes, "gone": tensors that
       are no longer there} or {"error": why}

CODES: names of the tensors of codes. Everything is bit for bit, against the file before in a session of the same kind.
The codes are asked for as further outputs, in a session of their own.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

Arrays = dict[str, np.ndarray]
LEVELS = {"default": "ORT_ENABLE_ALL", "disabled": "ORT_DISABLE_ALL"}


def session(model: str | bytes, level: str) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, LEVELS[level])
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run(model: str | bytes, level: str, x: np.ndarray, names: list[str] | None = None) -> Arrays:
    """{output: [N, …]}, one batch at a time where the file has a fixed one."""
    opened = session(model, level)
    first, names = opened.get_inputs()[0], names or [one.name for one in opened.get_outputs()]
    size = first.shape[0] if isinstance(first.shape[0], int) else len(x)
    parts = [opened.run(names, {first.name: x[start : start + size]}) for start in range(0, len(x), size)]
    return {name: np.concatenate(rows) for name, *rows in zip(names, *parts, strict=True)}


def run_openvino(path: Path, x: np.ndarray) -> Arrays:
    """The first output of a file in OpenVINO, in float32."""
    import openvino

    core = openvino.Core()
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = core.compile_model(core.read_model(path), "CPU", options)
    shape = compiled.input(0).partial_shape[0]
    size = shape.get_length() if shape.is_static else len(x)
    return {"": np.concatenate([compiled([x[i : i + size]])[0].copy() for i in range(0, len(x), size)])}


def with_codes(path: Path, codes: list[str]) -> tuple[bytes, list[str]]:
    """The file with those codes as outputs that it still has."""
    model = onnx.load(path)
    there = {name for node in model.graph.node for name in node.output}
    shown = {one.name for one in model.graph.output}
    more = [name for name in codes if name in there]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in more if name not in shown)
    return model.SerializeToString(), more


def differing(a: np.ndarray, b: np.ndarray) -> int:
    """Elements; all of them if shape or type differ."""
    return int(np.count_nonzero(a != b)) if (a.shape, a.dtype) == (b.shape, b.dtype) else a.size


def compared(before: Path, after: Path, level: str, x: np.ndarray, codes: list[str]) -> dict[str, Any]:
    if after.suffix == ".xml":
        expected, found = run_openvino(before, x), run_openvino(after, x)
    else:
        expected, found = run(str(before), level, x), run(str(after), level, x)
    pairs = list(zip(expected.values(), found.values(), strict=True))
    result: dict[str, Any] = {"outputs": sum(differing(*pair) for pair in pairs)}
    result["elements"] = sum(value.size for value in expected.values())
    result["largest"] = max(float(np.abs(a - b).max() / np.abs(a).max()) if a.shape == b.shape else 1 for a, b in pairs)
    if after.suffix != ".onnx":
        return result
    model, names = with_codes(before, codes)
    again, left = with_codes(after, codes)
    expected, found = run(model, level, x, names), run(again, level, x, left)
    return result | {
        "inside": sum(differing(expected[name], found[name]) for name in left),
        "of": sum(expected[name].size for name in left),
        "first": next((name for name in left if differing(expected[name], found[name])), ""),
        "gone": [name for name in names if name not in left],
    }


def operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node) if path.suffix == ".onnx" else Counter()


def main() -> None:
    before, after = Path(sys.argv[1]), Path(sys.argv[2])
    x = np.load(sys.argv[3])["x"]
    codes = json.loads(Path(sys.argv[4]).read_text(encoding="utf-8"))
    answer: dict[str, Any] = {}
    for level in LEVELS:
        try:
            answer[level] = compared(before, after, level, x, codes)
        except Exception as error:
            answer[level] = {"error": f"{error}".replace("\n", " ")[:300]}
    had, has = operators(before), operators(after)
    names = sorted({*had, *has})
    answer["operators"] = {name: has[name] - had[name] for name in names if has[name] != had[name] and has}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
