"""apart: what ONNX Runtime's optimizer would merge stays two pairs, and qdq gives the codes of qoperator in a default
session.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
import torch.nn.functional as F

from lsq_export.rewrite.emit import emit_all
from lsq_export.rewrite.fold import Folded, fold
from lsq_export.rewrite.lowering import dialects
from lsq_export.rewrite.lowering.keep_pairs_apart import keep_pairs_apart
from lsq_export.targets import get
from lsq_export.verification.checking import Subject, check
from support import networks
from support.networks import Case, Conv, Wired, inputs, quick_capture, train
from support.old_runtime import refused_before_1_27


def network(offset: str) -> Any:
    """8-bit quantizers of training, and low-bit ones behind them whose codes need no clip."""

    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        x = F.silu(s.deep(F.silu(s.a(x))))
        gate = torch.sigmoid(s.expand(F.silu(s.reduce(x.mean((2, 3), keepdim=True)))))
        return s.b(x * gate)

    def build() -> Any:
        wide = {"a": Conv(3, 12, 3, padding=1), "deep": Conv(12, 12, 3, groups=12, padding=1), "b": Conv(12, 5, 1)}
        return Wired(forward, reduce=Conv(12, 4, 1), expand=Conv(4, 12, 1), **wide)

    return train(
        Case(
            build,
            {"weight_bits": 4, "activation_bits": 4, "first_last_bits": None, "offset": offset, "edges": "trained"},
        )
    )


@cache
def folded(offset: str) -> tuple[Any, Folded]:
    model = network(offset)
    return model, fold(quick_capture(model), [inputs(16, 1)])


def clips(file: onnx.ModelProto) -> int:
    return sum(node.op_type == "Clip" and "lowest" in node.input[1] for node in file.graph.node)


@pytest.mark.parametrize("offset", ["real", "integer", "container"])
def test_qdq_has_the_outputs_of_the_integer_reference(offset: str):
    model, made = folded(offset)
    files = emit_all(made, ("qdq", "qoperator"), get("ort-cpu"))
    parity = check(Subject.of(made, files, "ort-cpu"), [inputs(16, 2, spread=3.0)], model=model)
    assert parity.ok and parity.formats["qdq"].reference_mismatch == 0, parity.failures
    assert clips(files["qoperator"]) == 0
    assert all(
        layer.name in {v.name for node in made.model.graph for v in node.outputs}
        for layer in parity.formats["qdq"].layers
    )
    assert {d.codes for d in made.tensors if d.levels == 16} <= {layer.name for layer in parity.formats["qdq"].layers}


@refused_before_1_27("wants scalars as the scales of a QLinearMul")
def test_without_it_the_optimizer_takes_codes_away(monkeypatch: pytest.MonkeyPatch):
    """Sabotage, and what the Clip is for: an ONNX Runtime that merges no pairs any more would let this test fail."""
    _, made = folded("integer")
    assert clips(emit_all(made, ("qdq",), get("ort-cpu"))["qdq"]) > 0
    monkeypatch.setattr(dialects, "keep_pairs_apart", lambda graph: graph)
    file = emit_all(made, ("qdq",), get("ort-cpu"))["qdq"]
    x = inputs(16, 2, spread=3.0).numpy()
    found = []
    for disabled in ([], ["DoubleQDQPairsRemover"]):
        session = onnxruntime.InferenceSession(
            file.SerializeToString(), providers=["CPUExecutionProvider"], disabled_optimizers=disabled
        )
        found.append(session.run(None, {session.get_inputs()[0].name: x})[0])
    assert np.abs(found[0] - found[1]).max() > 0.01 * np.abs(found[1]).max()


@pytest.mark.parametrize("second", [(0.3, 7), (0.5, 3)])
def test_two_pairs_in_a_row(second: tuple[float, int]):
    graph = chain((0.5, 3), (0.5, 3), second, second)
    assert [n.op_type for n in keep_pairs_apart(graph).graph].count("Clip") == 1
    assert [n.op_type for n in graph.graph].count("Clip") == 0  # a copy


def test_pairs_that_no_optimizer_merges_are_left_alone():
    for grids in (
        ((0.5, 3), (0.5, 1), (0.3, 7), (0.3, 7)),
        ((0.5, 3), (0.5, 3), (0.3, 7), (0.3, 8)),
        ((0.5, 3), (0.25, 3), (0.3, 7), (0.3, 7)),
    ):
        assert [n.op_type for n in keep_pairs_apart(chain(*grids)).graph].count("Clip") == 0


def chain(*grids: tuple[float, int]) -> ir.Model:
    """x -> QuantizeLinear, DequantizeLinear, QuantizeLinear, … on these (scale, zero point)."""
    nodes, constants, last = [], [], "x"
    for index, (scale, zero_point) in enumerate(grids):
        constants += [
            onnx.numpy_helper.from_array(np.float32(scale), f"s{index}"),
            onnx.numpy_helper.from_array(np.uint8(zero_point), f"z{index}"),
        ]
        op, name = ("DequantizeLinear" if index % 2 else "QuantizeLinear"), f"t{index}"
        nodes.append(onnx.helper.make_node(op, [last, f"s{index}", f"z{index}"], [name], name=name))
        last = name
    value = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [2, *networks.SHAPE]) for n in ("x", last)]
    return ir.from_proto(onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", value[:1], value[1:], constants)))
