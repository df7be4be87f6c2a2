"""Whether a network has an exact integer form: all promises hold, nothing stays float but what is expected to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from lsq_export.graph.islands import islands
from lsq_export.rewrite.fold import fold
from support import networks

FOUR: dict[str, Any] = {"weight_bits": 4, "activation_bits": 4, "first_last_bits": None}


def exact_form(
    build: Callable[[], nn.Module],
    shape: tuple[int, ...] = networks.SHAPE,
    *,
    islands_expected: Sequence[str] = (),
    least_db: float = 12.0,
    **config: Any,
) -> list[str]:
    """The operators of the `qoperator` file, between the first QuantizeLinear and the last DequantizeLinear.

    build: the network. Trained at 4 bits with real offsets, unless the configuration says otherwise.
    """
    torch.manual_seed(5)
    model = networks.train(networks.Case(build, {**FOUR, **config}, shape))
    made = fold(networks.quick_capture(model, shape), [networks.inputs(16, 1, shape)])
    parity, files = networks.verified(model, made, [networks.inputs(16, 2, shape, spread=3.0)])
    assert parity.ok, parity.failures
    exact = parity.formats["qoperator"]
    assert exact.reference_mismatch == exact.accumulator_mismatch == 0
    assert sorted(i.operator for i in islands(made.model.graph)) == sorted(islands_expected)
    assert parity.capture_error is not None and parity.capture_error < 1e-5  # evaluate's float meaning, against torch
    assert parity.folded_sqnr_db > least_db, parity.folded_sqnr_db
    return [node.op_type for node in files["qoperator"].graph.node][1:-1]
