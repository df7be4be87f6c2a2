"""onnx's own tools, and another converter of versions."""

from __future__ import annotations

from pathlib import Path

import onnx

from .registry import tool


def converted(source: Path, target: Path, opset: int) -> None:
    from onnx import version_converter

    onnx.save(version_converter.convert_version(onnx.load(source), opset), target)


@tool("onnx")
def opset_13(source: Path, target: Path) -> None:
    """onnx.version_converter, to operator set 13"""
    converted(source, target, 13)


@tool("onnx")
def opset_19(source: Path, target: Path) -> None:
    """onnx.version_converter, to operator set 19"""
    converted(source, target, 19)


@tool("onnx")
def opset_21(source: Path, target: Path) -> None:
    """onnx.version_converter, to operator set 21"""
    converted(source, target, 21)


@tool("onnx")
def opset_23(source: Path, target: Path) -> None:
    """onnx.version_converter, to operator set 23"""
    converted(source, target, 23)


@tool("onnx")
def opset_21_and_back(source: Path, target: Path) -> None:
    """onnx.version_converter, to 21 and back to 17"""
    from onnx import version_converter

    onnx.save(version_converter.convert_version(version_converter.convert_version(onnx.load(source), 21), 17), target)


@tool("onnxscript")
def onnxscript_opset_21(source: Path, target: Path) -> None:
    """onnxscript.version_converter, to operator set 21"""
    import onnx_ir as ir
    from onnxscript import version_converter

    model = ir.load(source)
    version_converter.convert_version(model, 21)
    ir.save(model, target)


@tool("onnx")
def shape_inference(source: Path, target: Path) -> None:
    """onnx.shape_inference"""
    onnx.save(onnx.shape_inference.infer_shapes(onnx.load(source), data_prop=True), target)


@tool("onnx")
def external_data(source: Path, target: Path) -> None:
    """onnx.save with save_as_external_data"""
    onnx.save(onnx.load(source), target, save_as_external_data=True, location="weights.bin")


@tool("onnx")
def external_data_all(source: Path, target: Path) -> None:
    """onnx.save with save_as_external_data, size_threshold=0"""
    onnx.save(onnx.load(source), target, save_as_external_data=True, location="weights.bin", size_threshold=0)


@tool("onnx")
def extract_model(source: Path, target: Path) -> None:
    """onnx.utils.extract_model, from its input to its outputs"""
    from onnx import utils

    graph = onnx.load(source).graph
    utils.extract_model(str(source), str(target), [i.name for i in graph.input], [o.name for o in graph.output])


@tool("onnx")
def compose(source: Path, target: Path) -> None:
    """onnx.compose.merge_models, an Identity in front and one behind"""
    from onnx import compose as tool_of_it
    from onnx import parser

    model = onnx.load(source)
    name, out = model.graph.input[0].name, model.graph.output[0].name
    head = f'<ir_version: {model.ir_version}, opset_import: ["" : {model.opset_import[0].version}]>'
    before = parser.parse_model(f"{head} before (float[n,3,32,32] x) => (float[n,3,32,32] y) {{ y = Identity(x) }}")
    after = parser.parse_model(f"{head} after (float[n,10] p) => (float[n,10] q) {{ q = Identity(p) }}")
    merged = tool_of_it.merge_models(before, model, io_map=[("y", name)], prefix1="before_", prefix2=None)
    merged = tool_of_it.merge_models(merged, after, io_map=[(out, "p")], prefix2="after_")
    onnx.save(merged, target)


@tool("onnx")
def textproto(source: Path, target: Path) -> None:
    """onnx.save as textproto, and loaded again"""
    text = target.with_suffix(".textproto")
    onnx.save(onnx.load(source), text)
    onnx.save(onnx.load(text), target)


@tool("onnx")
def json_text(source: Path, target: Path) -> None:
    """onnx.save as JSON, and loaded again"""
    text = target.with_suffix(".onnxjson")
    onnx.save(onnx.load(source), text, format="json")
    onnx.save(onnx.load(text, format="json"), target)


@tool("onnx")
def onnx_text(source: Path, target: Path) -> None:
    """onnx.save as onnxtxt, and loaded again"""
    text = target.with_suffix(".onnxtxt")
    onnx.save(onnx.load(source), text)
    onnx.save(onnx.load(text), target)
