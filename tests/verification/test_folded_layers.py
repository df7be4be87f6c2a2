"""lsq_export/verification/folded_layers.py: every difference between a file's tensors and the folded model, each where
it is made.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn

import lsq_export
from lsq_export import integer
from lsq_export.graph.kept_float import TAIL
from lsq_export.graph.notes import FLOAT
from lsq_export.rewrite.emit import emit
from lsq_export.rewrite.fold import Folded
from lsq_export.targets import ORT_CPU
from lsq_export.verification.folded_layers import FoldedLayers
from lsq_export.verification.reasons import Reason
from lsq_export.verification.tail_rounding import added
from lsq_export.verification.tally import NOT_A_CODE
from support import networks
from support.networks import inputs

NAMES = ("chain", "residual3", "concat")


def codes_of(file: onnx.ModelProto, x: np.ndarray) -> dict[str, np.ndarray]:
    return integer.run(file, {file.graph.input[0].name: x})


def compared(made: Folded, codes: dict[str, np.ndarray], x: np.ndarray, *, exact: bool = True) -> FoldedLayers:
    layers = FoldedLayers(made.model.graph, emit(made.model, "qoperator", ORT_CPU) if exact else None)
    layers.add(x, codes)
    return layers


@pytest.fixture(params=NAMES)
def case(request: pytest.FixtureRequest) -> tuple[Folded, np.ndarray, dict[str, np.ndarray]]:
    """A folded network, an input, and all tensors of its integer reference."""
    made, x = networks.folded(request.param), inputs(8, 2, spread=3.0).numpy()
    return made, x, codes_of(emit(made.model, "qoperator", ORT_CPU), x)


Case = tuple[Folded, np.ndarray, dict[str, np.ndarray]]


def learned(made: Folded) -> list[str]:
    """Tensors of codes of activations, in order."""
    return [d.codes for d in made.tensors if d.kind == "activation"]


def test_the_integer_reference_differs_by_ties_alone(case: Case) -> None:
    made, x, codes = case
    layers = compared(made, codes, x)
    assert layers.accumulator_mismatch == layers.output_mismatch == 0
    found = {layer.name: layer for layer in layers.result()}
    assert found.keys() >= set(learned(made)) and all(layer.within(1e-5) for layer in found.values())
    assert all(layer.reasons.keys() <= {Reason.TIE} for layer in found.values())


def test_batches_add_up(case: Case) -> None:
    made, x, codes = case
    layers = compared(made, codes, x)
    layers.add(x, codes)
    assert [layer.elements for layer in layers.result()] == [
        2 * layer.elements for layer in compared(made, codes, x).result()
    ]


def test_a_code_that_is_off_shows_in_its_tensor_alone_and_is_not_explained(case: Case) -> None:
    """What follows was computed from the right codes, and is given the wrong ones: it differs by what that one does."""
    made, x, codes = case
    name = learned(made)[-1]
    changed = codes[name].copy()
    changed.flat[5] ^= 2  # two codes up or down
    before = {layer.name: layer for layer in compared(made, codes, x).result()}
    after = {layer.name: layer for layer in compared(made, codes | {name: changed}, x).result()}
    assert sum(after[name].histogram.values()) == sum(before[name].histogram.values()) + 1 and after[name].largest == 2
    assert after[name].reasons[Reason.UNKNOWN] == 1
    upstream = [layer for layer in after if list(after).index(layer) < list(after).index(name)]
    assert upstream and all(after[layer] == before[layer] for layer in upstream)


def test_a_tensor_of_another_shape_differs_everywhere(case: Case) -> None:
    made, x, codes = case
    name = learned(made)[0]
    (layer,) = (r for r in compared(made, codes | {name: codes[name][:-1]}, x).result() if r.name == name)
    assert layer.differing == 1 and layer.largest == NOT_A_CODE and layer.elements == codes[name].size


def test_an_output_that_is_off_is_counted_within_float_rounding(case: Case) -> None:
    made, x, codes = case
    output = made.model.graph.outputs[0].name
    assert output is not None and codes[output].dtype == np.float32
    for step, wrong in ((1e-8, 0), (1e-3, 1)):
        changed = codes[output].copy()
        changed.flat[3] += np.float32(step) * np.abs(changed).max()
        assert compared(made, codes | {output: changed}, x).output_mismatch == wrong
    assert compared(made, codes | {output: codes[output][:2]}, x).output_mismatch == codes[output].size
    nan = np.full_like(codes[output], np.nan)
    assert compared(made, codes | {output: nan}, x).output_mismatch == nan.size


def test_sums_of_float32_kernels_have_room(case: Case) -> None:
    """A qdq file: an output may miss by 1e-4 of the largest one, and there are no accumulators to compare."""
    made, x, codes = case
    output = str(made.model.graph.outputs[0].name)
    for step, wrong in ((5e-5, 0), (2e-4, 1)):
        changed = codes[output].copy()
        changed.flat[3] += np.float32(step) * np.abs(changed).max()
        layers = compared(made, codes | {output: changed}, x, exact=False)
        assert (layers.output_mismatch, layers.accumulator_mismatch) == (wrong, 0)


def test_a_bias_off_by_one_moves_every_accumulator_of_its_channel(case: Case) -> None:
    made, x, codes = case
    file = emit(made.model, "qoperator", ORT_CPU)
    conv = next(node for node in file.graph.node if node.op_type == "QLinearConv")
    (tensor,) = (t for t in file.graph.initializer if t.name == conv.input[8])
    bias = onnx.numpy_helper.to_array(tensor).copy()
    bias[1] += 1
    tensor.CopyFrom(onnx.numpy_helper.from_array(bias, tensor.name))
    layers = FoldedLayers(made.model.graph, file)
    layers.add(x, codes_of(file, x))
    made_by = codes[conv.output[0]]
    assert layers.accumulator_mismatch == made_by[:, 1].size


class Corners(nn.Module):
    """Boxes that end close to 0, as differences of anchors and distances that are a thousand times as large."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.anchors = nn.Linear(4, 64), nn.Parameter(torch.linspace(0, 800, 64).reshape(32, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.anchors - 800 * torch.sigmoid(self.layer(x)).reshape(-1, 32, 2)


def test_what_cancels_after_the_last_codes_may_miss_the_last_bits_of_what_was_added(tmp_path: Path) -> None:
    torch.manual_seed(0)
    batches = [torch.randn(64, 4) for _ in range(16)]
    model = lsq_export.calibrate(Corners(), batches)
    parity = lsq_export.export(model, batches[0], tmp_path / "bundle", calibration=batches).parity
    assert parity is not None and parity.ok, parity.failures


@pytest.mark.parametrize(("operators", "expected"), [("Sub", 3.0), ("Sub Mul", 6.0), ("Mul Sub", 3.0), ("Mul", 0.0)])
def test_what_a_tail_adds(operators: str, expected: float) -> None:
    x = value = ir.val("x", dtype=ir.DataType.FLOAT, shape=[1, 2])
    numbers = {"Sub": [1.0, -3.0], "Mul": [2.0, 0.5]}
    nodes = []
    for kind in operators.split():
        operand = ir.val("c", const_value=ir.tensor(np.array(numbers[kind], np.float32), name="c"))
        nodes.append(ir.node(kind, [operand, value]))
        FLOAT.write(nodes[-1], TAIL)
        value = nodes[-1].outputs[0]
    assert added(value) == expected and added(x) == 0
