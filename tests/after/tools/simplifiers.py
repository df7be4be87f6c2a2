"""Simplifiers and optimizers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx

from .registry import tool


@tool("onnxslim")
def onnxslim(source: Path, target: Path) -> None:
    """onnxslim"""
    import onnxslim as tool_of_it

    tool_of_it.slim(str(source), str(target))


@tool("onnxsim")
def onnxsim(source: Path, target: Path) -> None:
    """onnxsim"""
    import onnxsim as tool_of_it

    onnx.save(tool_of_it.simplify(onnx.load(source))[0], target)


@tool("onnxoptimizer")
def onnxoptimizer(source: Path, target: Path) -> None:
    """onnxoptimizer"""
    import onnxoptimizer as tool_of_it

    onnx.save(tool_of_it.optimize(onnx.load(source)), target)


@tool("onnxoptimizer")
def onnxoptimizer_all(source: Path, target: Path) -> None:
    """onnxoptimizer, all fuse and eliminate passes"""
    import onnxoptimizer as tool_of_it

    passes = tool_of_it.get_fuse_and_elimination_passes()
    onnx.save(tool_of_it.optimize(onnx.load(source), passes, fixed_point=True), target)


@tool("onnxscript")
def onnxscript_optimizer(source: Path, target: Path) -> None:
    """onnxscript.optimizer.optimize"""
    from onnxscript import optimizer

    onnx.save(optimizer.optimize(onnx.load(source)), target)


@tool("onnxscript")
def onnxscript_rewriter(source: Path, target: Path) -> None:
    """onnxscript.rewriter.rewrite"""
    from onnxscript import rewriter

    onnx.save(rewriter.rewrite(onnx.load(source)), target)


@tool("onnx-ir")
def onnx_ir_passes(source: Path, target: Path) -> None:
    """onnx_ir.passes.common: deduplicate, lift, remove what is unused, sort"""
    import onnx_ir as ir
    import onnx_ir.passes.common as common

    model = ir.load(source)
    for each in (
        common.CommonSubexpressionEliminationPass(),
        common.DeduplicateInitializersPass(),
        common.IdentityEliminationPass(),
        common.LiftConstantsToInitializersPass(),
        common.LiftSubgraphInitializersToMainGraphPass(),
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedOpsetsPass(),
        common.TopologicalSortPass(),
        common.NameFixPass(),
    ):
        each(model)
    ir.save(model, target)


@tool("onnx_graphsurgeon")
def graphsurgeon(source: Path, target: Path) -> None:
    """onnx_graphsurgeon: fold_constants, cleanup"""
    import onnx_graphsurgeon as gs

    onnx.save(gs.export_onnx(gs.import_onnx(onnx.load(source)).fold_constants().cleanup().toposort()), target)


@tool("polygraphy")
def polygraphy(source: Path, target: Path) -> None:
    """polygraphy surgeon sanitize --fold-constants"""
    from polygraphy.tools._main import main as run

    sys.argv = ["polygraphy", "surgeon", "sanitize", str(source), "--fold-constants", "-o", str(target)]
    run_quietly(run)


def run_quietly(run: Callable[[], Any]) -> None:
    """A command line, which ends with SystemExit(0)."""
    try:
        run()
    except SystemExit as end:
        if end.code:
            raise RuntimeError(f"exit code {end.code}") from end


@tool("onnx-tool")
def onnx_tool(source: Path, target: Path) -> None:
    """onnx_tool.Model, save_model"""
    import onnx_tool as tool_of_it

    tool_of_it.Model(str(source)).save_model(str(target))


@tool("sclblonnx")
def sclblonnx(source: Path, target: Path) -> None:
    """sclblonnx: clean"""
    import sclblonnx as tool_of_it

    tool_of_it.graph_to_file(tool_of_it.clean(tool_of_it.graph_from_file(str(source))), str(target))


@tool("spox")
def spox(source: Path, target: Path) -> None:
    """spox: inline, build"""
    import spox as tool_of_it

    model = onnx.load(source)
    kinds = {0: "float32"}
    shape = tuple(d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim)
    x = tool_of_it.argument(tool_of_it.Tensor(kinds[0], shape))
    outputs = tool_of_it.inline(model)(x)
    onnx.save(tool_of_it.build({model.graph.input[0].name: x}, dict(outputs)), target)


@tool("onnx_shrink_ray")
def shrink_ray(source: Path, target: Path) -> None:
    """onnx_shrink_ray: quantize_weights"""
    from onnx_shrink_ray.shrink import quantize_weights

    onnx.save(quantize_weights(onnx.load(source)), target)
