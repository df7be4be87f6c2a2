"""One peer quantizes one network, in the environment that has the peers: python peers.py METHOD DIRECTORY

METHOD: minmax, entropy or percentile of ONNX Runtime's quantize_static, or nncf. Writes METHOD.onnx and METHOD.json
beside the network. It imports nothing of this project.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.version_converter

STRIDE, OPSET = 16, 17
BATCHED_ON = {"silero-vad": {"state": 1}}  # axes of the samples that are not the first


def batches(directory: Path) -> Iterator[dict[str, np.ndarray]]:
    """One sample after the other, as the network takes it."""
    axes = BATCHED_ON.get(directory.name, {})
    with np.load(directory / "calibration.npz") as arrays:
        samples = {name: np.moveaxis(arrays[name], axes.get(name, 0), 0) for name in arrays.files}
    for index in range(len(next(iter(samples.values())))):
        yield {n: np.moveaxis(array[index : index + 1], 0, axes.get(n, 0)) for n, array in samples.items()}


def static(method: str, directory: Path) -> None:
    """As its documentation has it: shape inference and optimization before, QDQ, a scale for each channel."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared, ready = directory / f"{method}.float.onnx", directory / f"{method}.ready.onnx"
    _prepare(directory / "float.onnx", prepared)
    # symbolic shape inference refuses some networks; what it is for, sizes of Transformers, onnx finds as well
    quant_pre_process(str(prepared), str(ready), skip_symbolic_shape=True)
    methods = {
        "minmax": CalibrationMethod.MinMax,
        "entropy": CalibrationMethod.Entropy,
        "percentile": CalibrationMethod.Percentile,
    }
    # All tensors of STRIDE samples are in memory at a time, by any method.
    # The second try is for magika, on which the adjustment of scales to int32 biases raises a ValueError.
    told = ""
    for more in ({}, {"QDQDisableWeightAdjustForInt32Bias": True}):
        try:
            quantize_static(
                str(ready),
                str(directory / f"{method}.onnx"),
                _Reader(directory),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=methods[method],
                extra_options={"CalibStridedMinMax": STRIDE, **more},
            )
            break
        except ValueError as error:
            told = f"{directory.name} {method}: {error}"
    else:
        raise SystemExit(told)
    ready.unlink()
    prepared.unlink()


def _prepare(path: Path, out: Path) -> None:
    """Operator set 17: older ones have no DequantizeLinear with a scale for each channel. Every node has a name."""
    model = onnx.load(path)
    if next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")) < OPSET:
        model = onnx.version_converter.convert_version(model, OPSET)
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.name or node.op_type}_{index}"
    onnx.save(model, out)


class _Reader:
    def __init__(self, directory: Path) -> None:
        self._all = list(batches(directory))
        self._rest = iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._rest = iter(self._all[start_index:end_index])

    def get_next(self) -> Any:
        return next(self._rest, None)


def nncf(method: str, directory: Path) -> None:
    """All samples; networks with attention are told to be Transformers, as its documentation asks."""
    import nncf as package

    prepared = directory / f"{method}.float.onnx"
    _prepare(directory / "float.onnx", prepared)
    model = onnx.load(prepared)
    prepared.unlink()
    samples = list(batches(directory))
    attention = any(node.op_type == "Softmax" for node in model.graph.node[:-1])
    quantized = package.quantize(
        model,
        package.Dataset(samples),
        subset_size=len(samples),
        model_type=package.ModelType.TRANSFORMER if attention else None,
    )
    onnx.save(quantized, directory / f"{method}.onnx")


def main(method: str, directory: Path) -> None:
    before, cpu = time.perf_counter(), time.process_time()
    (nncf if method.startswith("nncf") else static)(method, directory)
    found = {"cpu": time.process_time() - cpu, "seconds": time.perf_counter() - before}
    (directory / f"{method}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
