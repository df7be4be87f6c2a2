"""The fold "symmetric": no zero point but 0, codes as trained, and what grids of 8 bits cost."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from onnx import numpy_helper

import lsq_export
from lsq_export.rewrite.emit import emit, emit_all
from lsq_export.rewrite.fold import Folded, fold
from lsq_export.targets import get
from lsq_export.verification.checking import Subject, check
from lsq_export.verification.fold_costs import fold_costs
from support.networks import captured, folded, inputs, trained

NETWORKS = ("residual", "chain", "symmetric", "geometry", "perceptron", "chain2")


@cache
def symmetric(network: str) -> Folded:
    return fold(captured(network), [inputs(16, 1)], "symmetric")


@pytest.mark.parametrize("network", NETWORKS)
def test_the_integers_are_those_of_the_reference(network: str) -> None:
    """The exact file of the fold too; with the trained model, by what the third promise measures."""
    made = symmetric(network)
    files = emit_all(made, ("qdq",), get("tensorrt"))
    assert lsq_export.lint(files["qdq"], "tensorrt").ok
    parity = check(Subject.of(made, files, "tensorrt"), [inputs(16, 2, spread=3.0)], model=trained(network))
    assert parity.ok, parity.failures
    assert sum(sum(layer.histogram.values()) for layer in parity.formats["qdq"].layers) <= 2  # ties of float sums
    exact = emit_all(made, ("qoperator",), get("ort-cpu"))
    found = check(Subject.of(made, exact, "ort-cpu"), [inputs(16, 2, spread=3.0)])
    assert found.ok and found.formats["qoperator"].reference_mismatch == 0, found.failures


@pytest.mark.parametrize("network", NETWORKS)
def test_all_codes_are_signed_and_around_zero(network: str) -> None:
    """Read from the file, without lint: INT8 codes, zero points 0, float biases."""
    file = emit(symmetric(network).model, "qdq", get("tensorrt"))
    constants = {t.name: numpy_helper.to_array(t) for t in file.graph.initializer}
    for node in file.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero = constants[node.input[2]]
            assert zero.dtype == np.int8 and not zero.any()
        if node.op_type in ("Conv", "Gemm"):
            assert constants[node.input[2]].dtype == np.float32
        assert node.op_type not in ("Clip",) or constants[node.input[1]].dtype == np.float32


def test_offsets_of_low_bit_grids_are_not_lost() -> None:
    """β' is within s/(2k) of β, k at least 8 at 4 bits: layer by layer the codes are the trained ones, but for few."""
    made = symmetric("chain")
    low = [d for d in made.tensors if d.kind == "activation" and d.levels <= 16]
    assert low and all(abs(d.error_steps) <= 0.5 / 8 for d in low) and any(d.offset for d in low)
    test = [(inputs(32, 3), None)]
    cost, naive = fold_costs([made, fold(captured("chain"), [inputs(16, 1)], "naive")], test)
    assert cost.fold == "symmetric" and cost.sqnr_db > naive.sqnr_db + 6
    files = emit_all(made, ("qdq",), get("tensorrt"))
    layers = check(Subject.of(made, files, "tensorrt"), [inputs(16, 2)], model=trained("chain")).trained_layers
    names = {d.name for d in low}
    assert names <= {layer.name for layer in layers}
    assert all(layer.differing < 0.02 for layer in layers if layer.name in names)


def test_grids_of_eight_bits_become_coarser_and_the_manifest_says_so() -> None:
    """At most twice, and the trained step stays in the decision."""
    strided, made = {d.name: d for d in folded("chain").tensors}, symmetric("chain").tensors
    wide = [d for d in made if d.levels > 16]
    assert wide
    for decision in wide:
        assert 1 - 1e-6 <= decision.container_scale / strided[decision.name].container_scale <= 2.02
        if decision.kind == "activation":
            assert decision.scale == pytest.approx(strided[decision.name].scale, rel=1e-6)


def test_real_zero_is_a_code_where_convolutions_pad() -> None:
    """What a padded convolution reads outside of the image is 0 on the grid."""
    made = symmetric("residual")
    file = emit(made.model, "qdq", get("tensorrt"))
    names = {n.input[0] for n in file.graph.node if n.op_type == "Conv" and any(a.name == "pads" for a in n.attribute)}
    zeros = {n.output[0]: n.input[2] for n in file.graph.node if n.op_type == "DequantizeLinear"}
    constants = {t.name: numpy_helper.to_array(t) for t in file.graph.initializer}
    assert names and all(int(constants[zeros[name]]) == 0 for name in names)
