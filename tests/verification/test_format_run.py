"""lsq_export/verification/format_run.py: a runtime that computes something else, in any session, is noticed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pytest

from support import sabotage
from support.exported import CLASSES, Exported
from support.verified import broken, run_check


class Liar:
    """An ONNX Runtime that changes one element of one tensor.

    It does so in the sessions that have the tensor, if `where` (the number of the session) says so.
    """

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        tensor: str,
        step: float = 1,
        where: Callable[[int], bool] = lambda session: True,
    ) -> None:
        self.told = 0
        self._sessions: dict[int, int] = {}
        honest = onnxruntime.InferenceSession.run

        def run(session: Any, names: Any, feed: Any, options: Any = None) -> list[np.ndarray]:
            number = self._sessions.setdefault(id(session), len(self._sessions))
            values = honest(session, names, feed, options)
            for output, value in zip(session.get_outputs(), values, strict=True):
                if output.name == tensor and where(number):
                    self.told += 1
                    element = value.flat[value.size // 2]
                    value.flat[value.size // 2] = (
                        element + step if element < 100 else element - np.asarray(step, value.dtype)
                    )
            return values

        monkeypatch.setattr(onnxruntime.InferenceSession, "run", run)


def qoperator_tensors(exported: Exported) -> list[str]:
    return [name for node in exported.file("qoperator").graph.node for name in node.output]


@pytest.mark.parametrize("place", [0, 5, -2, -1])
def test_a_runtime_that_computes_something_else_is_noticed(
    place: int, exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One element of one tensor, one code off: first, middle, the accumulator, the output."""
    tensor = qoperator_tensors(exported)[place]
    liar = Liar(monkeypatch, tensor)
    parity = run_check(exported, {"qoperator": exported.file("qoperator")})
    found = parity.formats["qoperator"]
    assert (
        broken(found) == {"reference_mismatch"}
        and found.reference_mismatch == liar.told > 0
        and found.first_mismatch == tensor
    )
    assert tensor in parity.failures[0]


@pytest.mark.parametrize(
    ("session", "tensor"),
    [(0, -1), (1, 5), (2, 5)],
    ids=["as deployed", "every tensor, optimized", "every tensor, not optimized"],
)
def test_every_session_is_compared(
    session: int, tensor: int, exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    Liar(monkeypatch, qoperator_tensors(exported)[tensor], where=lambda number: number == session)
    found = run_check(exported, {"qoperator": exported.file("qoperator")}).formats["qoperator"]
    assert broken(found) == {"reference_mismatch"} and found.reference_mismatch == 1


def test_a_runtime_that_gives_nan_is_noticed(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = onnxruntime.InferenceSession.run

    def run(session: Any, *args: Any) -> list[np.ndarray]:
        values = honest(session, *args)
        values[0][0] = np.nan
        return values

    monkeypatch.setattr(onnxruntime.InferenceSession, "run", run)
    parity = run_check(exported, {"qoperator": exported.file("qoperator")})
    assert parity.formats["qoperator"].reference_mismatch >= CLASSES and not parity.ok
    assert json.loads(json.dumps(parity.to_dict(), allow_nan=False))["formats"]["qoperator"]["sqnr_db"] is None


def test_a_code_that_is_two_off_in_qdq_is_no_tie(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes of a qdq file are read from the values after them."""
    proto = exported.file("qdq")
    made = {node.output[0]: node for node in proto.graph.node}
    values = next(
        n
        for n in proto.graph.node
        if n.op_type == "DequantizeLinear" and n.input[0] in made and made[n.input[0]].op_type == "QuantizeLinear"
    )
    liar = Liar(monkeypatch, values.output[0], step=2 * float(sabotage.constants(proto)[values.input[1]]))
    assert broken(run_check(exported, {"qdq": proto}).formats["qdq"]) == {"layers"} and liar.told == 1
