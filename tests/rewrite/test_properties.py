"""The promises hold on random networks, or export refuses with a reason that names the place."""

from __future__ import annotations

import os

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings

from calib.errors import QuantizationError
from lsq_export.graph.capture import capture
from lsq_export.rewrite.emit import emit_all
from lsq_export.rewrite.fold import fold
from lsq_export.targets import get
from lsq_export.verification.checking import Subject, check
from support.random_networks import BLOCKS, ISLANDS, OPERATORS, Spec, build, specs

EXAMPLES = int(os.environ.get("LSQ_EXPORT_EXAMPLES", "6"))
UNSHRUNK = settings(
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)
# torch's, of what the networks do
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
REASONS = ("real zero is off the grid", "leaves one code of the grid", "beyond int32", "underflows float32")


@settings(UNSHRUNK, max_examples=EXAMPLES)
@given(specs())
def test_promises_hold_or_export_refuses(spec: Spec) -> None:
    torch.set_num_threads(1)
    holds_or_refuses(spec, "strided")


@settings(UNSHRUNK, max_examples=EXAMPLES)
@given(specs(("conv", "residual", "se", *OPERATORS, *ISLANDS)))
def test_promises_hold_with_operators(spec: Spec) -> None:
    torch.set_num_threads(1)
    holds_or_refuses(spec, "strided")


@pytest.mark.slow
@settings(UNSHRUNK, max_examples=8 * EXAMPLES)
@given(specs((*BLOCKS, "se", *OPERATORS, *ISLANDS)))
def test_many_networks_with_operators(spec: Spec) -> None:
    holds_or_refuses(spec, "strided")
    holds_or_refuses(spec, "integer")


@pytest.mark.slow
@settings(UNSHRUNK, max_examples=4 * EXAMPLES)
@given(specs())
def test_many_networks(spec: Spec) -> None:
    holds_or_refuses(spec, "strided")
    holds_or_refuses(spec, "integer")


def holds_or_refuses(spec: Spec, how: str) -> None:
    model, x = build(spec)
    try:
        folded = fold(capture(model, x), [x], how)
    except QuantizationError as error:
        assert any(reason in str(error) for reason in REASONS), error
        assert "\n" not in str(error) and "." in str(error).split(":")[0], (
            "the reason begins with a layer's or quantizer's name"
        )
        return
    files = emit_all(folded, ("qdq", "qoperator"), get("ort-cpu"))
    parity = check(Subject.of(folded, files, "ort-cpu"), [x], model=model)
    # promises 1 and 2; 3 is a number, and these networks are not trained
    assert all(found.ok for found in parity.formats.values()), parity.failures
    exact = parity.formats["qoperator"]
    assert exact.reference_mismatch == 0 and exact.accumulator_mismatch == 0
    assert all(
        abs(t.offset_carried - t.offset) <= 0.5 * t.scale / t.stride * 1.001
        for t in folded.tensors
        if t.stride > 1 and t.border
    )
