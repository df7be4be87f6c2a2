"""lookup: functions of one code become tables; the same codes, with our library and without it."""

from __future__ import annotations

from collections.abc import Callable

import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import nn

from lsq_export.rewrite.emit import emit
from lsq_export.rewrite.fold import Folded
from lsq_export.targets import ORT_CPU
from lsq_export.verification.checking import Subject, check
from lsq_export.verification.format_run import libraries
from lsq_export.verification.parity import Parity
from support.differing import differing
from support.networks import LOW, ZOO, Case, Wired, case_of, folded, inputs, norm

Function = Callable[[torch.Tensor], torch.Tensor]


def with_function(function: Function) -> Case:
    """A network with a function behind each of two convolutions."""
    return Case(
        lambda: Wired(
            lambda self, x: self.last(function(self.b(function(self.a(x)))).mean((2, 3))),
            a=nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), norm(8)),
            b=nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=2), norm(8)),
            last=nn.Linear(8, 4),
        ),
        LOW,
    )


FUNCTIONS: dict[str, Function] = {
    "silu": F.silu,
    "hardswish": F.hardswish,
    "leaky": lambda x: F.leaky_relu(x, 0.1),
    "gelu": F.gelu,
    "mish": F.mish,
    "softplus": F.softplus,
    "sine of gelu": lambda x: torch.sin(F.gelu(x)),
}
SOME = ("chain", "residual3", "concat", "pools", "transposed", "clamps", "two_outputs", "perceptron8")  # on each run
IN_FLOAT = ("gelu", "mish", "softplus", "sine of gelu")


@pytest.mark.parametrize("name", [name if name in SOME else pytest.param(name, marks=pytest.mark.slow) for name in ZOO])
def test_every_tensor_is_that_of_the_qoperator_file(name: str) -> None:
    assert differing(folded(name), inputs(8, 3, case_of(name).shape, spread=3.0).numpy()) == []


@pytest.fixture(scope="module", params=FUNCTIONS)
def function(request: pytest.FixtureRequest) -> tuple[str, Folded]:
    return request.param, folded(with_function(FUNCTIONS[request.param]))


def test_functions_are_tables(function: tuple[str, Folded]) -> None:
    name, made = function
    x = inputs(8, 3, spread=3.0).numpy()
    file = emit(made.model, "lookup", ORT_CPU)
    kinds = [node.op_type for node in file.graph.node]
    assert sum(kind.startswith("Lookup") for kind in kinds) >= 2
    assert not {"QLinearSigmoid", "QLinearLeakyRelu", "Gelu", "Mish", "Sin"} & set(kinds)
    bodies = [node for body in file.functions for node in body.node]
    reads_table = any(node.op_type == "Gather" and node.input[0] == "table" for node in bodies)
    assert reads_table == (name in IN_FLOAT) and not {"Gelu", "Mish", "Sin"} & {node.op_type for node in bodies}
    assert differing(made, x) == []


def parity_of(made: Folded, file: onnx.ModelProto) -> Parity:
    return check(Subject.of(made, {"lookup": file}, "ort-cpu"), [inputs(16, 2, spread=3.0)])


def test_all_promises_hold(function: tuple[str, Folded]) -> None:
    found = parity_of(function[1], emit(function[1].model, "lookup", ORT_CPU))
    assert found.ok and found.formats["lookup"].reference_mismatch == 0
    assert all(island.differing == 0 for island in found.formats["lookup"].islands)


def test_a_wrong_table_and_a_wrong_body_are_found() -> None:
    made = folded(with_function(F.silu))
    file = emit(made.model, "lookup", ORT_CPU)
    table = next(tensor for tensor in file.graph.initializer if tensor.name.endswith(".table"))
    table.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(table)[::-1].copy(), table.name))
    wrong = parity_of(made, file)
    assert any(f"constant {table.name} differs" in line for line in wrong.failures)
    if True in libraries():
        assert any("elements differ from the integer reference" in line for line in wrong.failures)
    file = emit(made.model, "lookup", ORT_CPU)
    nodes = [node for body in file.functions for node in body.node]
    next(node for node in nodes if node.op_type == "QLinearSigmoid").op_type = "QLinearLeakyRelu"
    wrong = parity_of(made, file)
    assert any("functions are not as the fold prescribes" in line for line in wrong.failures)
    assert any("elements differ from the integer reference" in line for line in wrong.failures)


def test_equal_chains_share_a_function() -> None:
    file = emit(folded("residual3").model, "lookup", ORT_CPU)
    used = [node.op_type for node in file.graph.node if node.domain == "lsq_export"]
    assert len(file.functions) < len(used) and {body.name for body in file.functions} == set(used)
