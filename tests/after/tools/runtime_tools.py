"""ONNX Runtime's own tools, and OpenVINO's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx

from .registry import module, tool


def ort_saved(source: Path, target: Path, level: str) -> None:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
    options.optimized_model_filepath = str(target)
    options.log_severity_level = 3
    ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])


@tool("onnxruntime")
def ort_basic(source: Path, target: Path) -> None:
    """ONNX Runtime, optimized_model_filepath, basic"""
    ort_saved(source, target, "BASIC")


@tool("onnxruntime")
def ort_extended(source: Path, target: Path) -> None:
    """ONNX Runtime, optimized_model_filepath, extended"""
    ort_saved(source, target, "EXTENDED")


@tool("onnxruntime")
def ort_all(source: Path, target: Path) -> None:
    """ONNX Runtime, optimized_model_filepath, all"""
    ort_saved(source, target, "ALL")


def ort_format(source: Path, target: Path, style: str) -> Path:
    copy = target.with_name("copy.onnx")
    copy.write_bytes(source.read_bytes())
    module("onnxruntime.tools.convert_onnx_models_to_ort", copy, "--optimization_style", style)
    ending = ".ort" if style == "Fixed" else ".with_runtime_opt.ort"
    return copy.with_name(f"copy{ending}")


@tool("onnxruntime")
def ort_format_fixed(source: Path, target: Path) -> Path:
    """convert_onnx_models_to_ort --optimization_style Fixed (.ort)"""
    return ort_format(source, target, "Fixed")


@tool("onnxruntime")
def ort_format_runtime(source: Path, target: Path) -> Path:
    """convert_onnx_models_to_ort --optimization_style Runtime (.ort)"""
    return ort_format(source, target, "Runtime")


@tool("onnxruntime")
def fixed_shape(source: Path, target: Path) -> None:
    """onnxruntime.tools.make_dynamic_shape_fixed, batch 1"""
    free = [d.dim_param for d in onnx.load(source).graph.input[0].type.tensor_type.shape.dim if d.dim_param]
    if not free:
        raise RuntimeError("not asked: the batch is fixed already")
    module("onnxruntime.tools.make_dynamic_shape_fixed", "--dim_param", free[0], "--dim_value", 1, source, target)


@tool("onnxruntime")
def quant_preprocess(source: Path, target: Path) -> None:
    """onnxruntime.quantization.preprocess"""
    module("onnxruntime.quantization.preprocess", "--input", source, "--output", target)


@tool("onnxruntime")
def symbolic_shapes(source: Path, target: Path) -> None:
    """onnxruntime.tools.symbolic_shape_infer --auto_merge"""
    module("onnxruntime.tools.symbolic_shape_infer", "--input", source, "--output", target, "--auto_merge")


@tool("onnxruntime")
def quantize_dynamic(source: Path, target: Path) -> None:
    """onnxruntime.quantization.quantize_dynamic, over it again"""
    from onnxruntime.quantization import quantize_dynamic as tool_of_it

    tool_of_it(source, target)


@tool("onnxruntime")
def quantize_static(source: Path, target: Path) -> None:
    """onnxruntime.quantization.quantize_static, over it again"""
    import numpy as np
    from onnxruntime.quantization import CalibrationDataReader
    from onnxruntime.quantization import quantize_static as tool_of_it

    name = onnx.load(source).graph.input[0].name
    rows = iter([{name: np.random.default_rng(0).normal(size=(1, 3, 32, 32)).astype(np.float32)}])

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> Any:
            return next(rows, None)

    tool_of_it(source, target, Reader())


@tool("openvino")
def openvino_saved(source: Path, target: Path) -> Path:
    """openvino.save_model (compress_to_fp16=True, its default; as ovc writes it), in OpenVINO"""
    import openvino

    written = target.with_suffix(".xml")
    openvino.save_model(openvino.Core().read_model(source), written)
    return written


@tool("onnxruntime-extensions")
def extensions(source: Path, target: Path) -> None:
    """onnxruntime_extensions.tools.pre_post_processing, an Identity in front and one behind"""
    from onnxruntime_extensions.tools import pre_post_processing as parts

    model = onnx.load(source)
    shape = ["batch", 3, 32, 32]
    pipeline = parts.PrePostProcessor([parts.create_named_value("image", onnx.TensorProto.FLOAT, shape)], 18)
    pipeline.add_pre_processing([parts.Identity()])
    pipeline.add_post_processing([parts.Identity()])
    onnx.save(pipeline.run(model), target)
