"""Files that other tools wrote (recipes beside them): a small network, its inputs, and what the tools made of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from lsq_export.adoption.network import OnnxNetwork, read_quantized
from lsq_export.graph.evaluate import evaluate

SAMPLES = Path(__file__).parent.parent / "adoption" / "samples"
REFUSED = ("aimet-torch/encodings", "mct/gptq_mctq", "mct/ptq_mctq", "mct/qat_mctq", "nvidia-modelopt/w4a4_torchscript")
ADOPTED = tuple(
    name
    for path in sorted(SAMPLES.glob("*/*.onnx"))
    if (name := str(path.relative_to(SAMPLES).with_suffix(""))) not in REFUSED
)
# Their exporters lose limits of 4 bits, as their recipes say.
UNLIMITED = (
    *(f"amd-quark-torch/minmax4_{how}" for how in ("eager", "eager_int4", "fx", "fx_int4")),
    "torchao-pt2e-qat/xnn4_converted",
)
# {file: outputs of the tool's own simulation}, where the tool says that the file computes that.
SIMULATED = {
    "aimet-onnx/w4a4_qdq_floatbias": "aimet-onnx/w4a4.outputs",
    "aimet-onnx/w8a8_qdq_floatbias": "aimet-onnx/w8a8.outputs",
    "aimet-torch/qdq_ts21_floatbias": "aimet-torch/outputs",
    "amd-quark-onnx/u8s8_pc": "amd-quark-onnx/u8s8_pc.outputs",
    "amd-quark-onnx/a8w8_default": "amd-quark-onnx/a8w8_default.outputs",
    "amd-quark-onnx/a16w8": "amd-quark-onnx/a16w8.outputs",
    "amd-quark-onnx/xint8": "amd-quark-onnx/xint8.outputs",
    "amd-quark-torch/minmax4_eager": "amd-quark-torch/minmax4_eager.outputs",
    "amd-quark-torch/minmax8_eager": "amd-quark-torch/minmax8_eager.outputs",
    "brevitas/floatbias_qcdq_dynamo": "brevitas/floatbias.outputs",
    "brevitas/qcdq_torchscript": "brevitas/outputs",
    "brevitas/qonnx_dynamo": "brevitas/outputs",
    "brevitas/qonnx_torchscript": "brevitas/outputs",
    "mct/gptq_fakely_quant": "mct/gptq.outputs",
    "mct/ptq_fakely_quant": "mct/ptq.outputs",
    "mct/qat_fakely_quant": "mct/qat.outputs",
    "nncf/onnx_ptq8": "nncf/onnx_ptq8.outputs",
    "nncf/onnx_ptq8_mixed": "nncf/onnx_ptq8_mixed.outputs",
    "nncf/qat8_native_torchscript": "nncf/qat8.outputs",
    "nvidia-modelopt/w8a8_torchscript": "nvidia-modelopt/w8a8.outputs",
    "nvidia-modelopt/w8a8_unsigned_torchscript": "nvidia-modelopt/w8a8_unsigned.outputs",
    "olive/static_qdq": "olive/static_qdq.outputs",
    "onnxruntime/qdq_u8s8_perchannel": "onnxruntime/qdq_u8s8_perchannel.outputs",
    "onnxruntime/qdq_s8s8_sym": "onnxruntime/qdq_s8s8_sym.outputs",
    "onnxruntime/qdq_u4s4": "onnxruntime/qdq_u4s4.outputs",
    "onnxruntime/qoperator_u8s8": "onnxruntime/qoperator_u8s8.outputs",
    "torch-fx-qat/qat8_torchscript": "torch-fx-qat/qat8.outputs",
    "torchao-pt2e-qat/xnn8_converted": "torchao-pt2e-qat/xnn8_converted.outputs",
}


def inputs() -> torch.Tensor:
    """float32 [8, 3, 16, 16]."""
    return torch.from_numpy(np.load(SAMPLES / "inputs.npz")["input"])


def read(name: str) -> OnnxNetwork:
    """A sample by its name, TOOL/FILE."""
    return read_quantized(SAMPLES / f"{name}.onnx")


def adopted_outputs(network: OnnxNetwork, x: torch.Tensor) -> np.ndarray:
    """What the graph with markers makes of x, in float32."""
    parts = x.split(1) if network.captured.fixed else [x]
    graph = network.captured.model.graph
    return np.concatenate([evaluate(graph, part, dtype=torch.float32)[0].numpy() for part in parts])


def file_outputs(network: OnnxNetwork, x: torch.Tensor) -> np.ndarray:
    """What ONNX Runtime makes of x with the file, without optimization."""
    parts = x.split(1) if network.captured.fixed else [x]
    return np.concatenate([network.outputs(part)[0] for part in parts])


def differing(found: np.ndarray, expected: np.ndarray) -> int:
    """How many elements differ by more than float32 rounds."""
    return int((np.abs(found - expected) > 1e-5 * np.abs(expected).max()).sum())
