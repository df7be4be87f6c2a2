"""Where in the user's code a captured operator comes from: its module, and file and line.

Read from the stack traces that torch's exporter keeps. A model that torch.fx traced has code of its own, whose lines
stand for the nodes of its graph; these remember the lines of the user's.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import onnx_ir as ir
import torch
from torch import fx, nn

LIBRARIES = (Path(torch.__file__).parent, Path(__file__).parent, Path(__file__).parent.parent / "qat")
FRAME = re.compile(r'File "([^"]+)", line (\d+)')
GENERATED = "<eval_with_key>"


class Sources:
    """Of the operators that were captured from a model."""

    def __init__(self, model: nn.Module) -> None:
        traced = isinstance(model, fx.GraphModule)
        self._nodes = list(model.graph.nodes) if isinstance(model, fx.GraphModule) else []
        self._numbers: Mapping[int, int | None] = getattr(model, "_lineno_map", {}) if traced else {}
        self._first = int(getattr(model, "_prologue_start", 0)) if traced else 0

    def module(self, node: ir.Node) -> str:
        """The module of the user's in whose forward an operator is, "" for the model's own."""
        scopes = node.metadata_props.get("pkg.torch.onnx.name_scopes")
        names = ast.literal_eval(scopes)[-2:-1] if scopes else []
        # the exporter calls what belongs to no module after a hook of its own
        found = next((name for name in names if name and not name.startswith("_empty_nn_module_stack")), "")
        traced = None if found else self._traced_node(node)
        stack = list((traced.meta.get("nn_module_stack") or {}).values()) if traced is not None else []
        return str(stack[-1][0]) if stack else str(found)

    def line(self, node: ir.Node) -> str | None:
        """net.py:12, the innermost line of the user's own; None where it is not known."""
        traced = self._traced_node(node)
        trace = traced.stack_trace if traced is not None else node.metadata_props.get("pkg.torch.onnx.stack_trace")
        for file, line in reversed(FRAME.findall(trace or "")):
            if not file.startswith("<") and not _of_a_library(file):
                return f"{Path(file).name}:{line}"
        return None

    def _traced_node(self, node: ir.Node) -> fx.Node | None:
        """The node of torch.fx's graph that an operator comes from, if the model has one."""
        if not self._nodes:
            return None
        trace = node.metadata_props.get("pkg.torch.onnx.stack_trace") or ""
        lines = [int(line) for file, line in FRAME.findall(trace) if file.startswith(GENERATED)]
        index = self._numbers.get(lines[-1] - self._first) if lines else None
        return self._nodes[index] if isinstance(index, int) and index < len(self._nodes) else None


@cache
def _of_a_library(file: str) -> bool:
    return any(Path(file).is_relative_to(library) for library in LIBRARIES)
