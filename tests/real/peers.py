"""One peer quantizes one network, in the environment that has the peers: python peers.py METHOD DIRECTORY OUT BITS BITS

METHOD: minmax, entropy or percentile of ONNX Runtime's quantize_static, or nncf. DIRECTORY: of the network and its
samples. Writes METHOD.onnx and METHOD.json to OUT; BITS: of weights, and of activations. It imports nothing of this
project.
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

STRIDE = 16
OPSET, FOUR_BITS = 17, 21  # operator sets: see `_prepare`, and the first with integers of four bits
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
BATCHED_ON = {"silero-vad": {"state": 1}}  # axes of the samples that are not the first


def batches(directory: Path) -> Iterator[dict[str, np.ndarray]]:
    """One sample after the other, as the network takes it."""
    axes = BATCHED_ON.get(directory.name, {})
    with np.load(directory / "calibration.npz") as arrays:
        samples = {name: np.moveaxis(arrays[name], axes.get(name, 0), 0) for name in arrays.files}
    for index in range(len(next(iter(samples.values())))):
        yield {n: np.moveaxis(array[index : index + 1], 0, axes.get(n, 0)) for n, array in samples.items()}


def static(method: str, directory: Path, out: Path, bits: tuple[int, int]) -> None:
    """As its documentation has it: shape inference and optimization before, QDQ, a scale for each channel.

    Fewer bits than 8: of the layers but the first and the last, as of this project.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared, ready = out / f"{method}.float.onnx", out / f"{method}.ready.onnx"
    _prepare(directory / "float.onnx", prepared, OPSET if bits == (8, 8) else FOUR_BITS)
    # symbolic shape inference refuses some networks; what it is for, sizes of Transformers, onnx finds as well
    quant_pre_process(str(prepared), str(ready), skip_symbolic_shape=True)
    methods = {
        "minmax": CalibrationMethod.MinMax,
        "entropy": CalibrationMethod.Entropy,
        "percentile": CalibrationMethod.Percentile,
    }
    few = {"TensorQuantOverrides": _few_bits(onnx.load(ready).graph, bits, QuantType)} if bits != (8, 8) else {}
    # All tensors of STRIDE samples are in memory at a time, by any method. Ranges are the same for all bits.
    # The second try is for magika, on which the adjustment of scales to int32 biases raises a ValueError.
    told = ""
    for more in ({}, {"QDQDisableWeightAdjustForInt32Bias": True}):
        try:
            quantize_static(
                str(ready),
                str(out / f"{method}.onnx"),
                _Reader(directory),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=methods[method],
                extra_options={"CalibStridedMinMax": STRIDE, **few, **more},
                calibration_cache_path=str(directory / f"{method}.ranges.json") if few else None,
            )
            break
        except ValueError as error:
            told = f"{directory.name} {method}: {error}"
    else:
        raise SystemExit(told)
    ready.unlink()
    prepared.unlink()


def _few_bits(graph: onnx.GraphProto, bits: tuple[int, int], types: Any) -> dict[str, list[dict[str, Any]]]:
    """What the layers between the first and the last read, {tensor: its type, and the axis of its channels}."""
    constants = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    layers = [node for node in graph.node if node.op_type in LAYERS and constants.get(node.input[1], 0) > 1]
    found = {}
    for node in layers[1:-1]:
        turned = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        axis = 0 if node.op_type == "Conv" or turned else constants[node.input[1]] - 1
        axis = 1 if node.op_type == "ConvTranspose" else axis
        if bits[0] != 8:
            found[node.input[1]] = [{"quant_type": types[f"QInt{bits[0]}"], "axis": axis}]
        if bits[1] != 8:
            found[node.input[0]] = [{"quant_type": types[f"QUInt{bits[1]}"]}]
    return found


def _prepare(path: Path, out: Path, opset: int = OPSET) -> None:
    """Operator set 17: older ones have no DequantizeLinear with a scale for each channel. Every node has a name."""
    model = onnx.load(path)
    if next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")) < opset:
        model = onnx.version_converter.convert_version(model, opset)
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


def nncf(method: str, directory: Path, out: Path, bits: tuple[int, int]) -> None:
    """All samples; networks with attention are told to be Transformers, as its documentation asks."""
    import nncf as package
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, QuantizationParameters

    prepared = out / f"{method}.float.onnx"
    _prepare(directory / "float.onnx", prepared)
    model = onnx.load(prepared)
    prepared.unlink()
    samples = list(batches(directory))
    attention = any(node.op_type == "Softmax" for node in model.graph.node[:-1])
    few = AdvancedQuantizationParameters(
        weights_quantization_params=QuantizationParameters(num_bits=bits[0]),
        activations_quantization_params=QuantizationParameters(num_bits=bits[1]),
    )
    quantized = package.quantize(
        model,
        package.Dataset(samples),
        subset_size=len(samples),
        model_type=package.ModelType.TRANSFORMER if attention else None,
        advanced_parameters=few if bits != (8, 8) else None,
    )
    onnx.save(quantized, out / f"{method}.onnx")


def main(method: str, directory: Path, out: Path, bits: tuple[int, int]) -> None:
    before, cpu = time.perf_counter(), time.process_time()
    (nncf if method.startswith("nncf") else static)(method, directory, out, bits)
    found = {"cpu": time.process_time() - cpu, "seconds": time.perf_counter() - before}
    (out / f"{method}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), (int(sys.argv[4]), int(sys.argv[5])))
