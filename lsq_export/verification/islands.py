"""Float islands under verification: the integers around them are held to the bit, what they compute themselves to
float32 rounding.

Each session's own codes after an island take the place of the reference's, so that a tie which its float32 functions
round the other way does not spread: every other tensor must then equal the integer reference exactly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
from onnx import numpy_helper

from calib.samples import Arrays, named
from lsq_export import integer
from lsq_export.graph.islands import Island, has_rounding, is_island, islands

from .cause import near_tie
from .layer_parity import IslandParity, float_rounding
from .runtime import inputs_of
from .tally import NOT_A_CODE


@dataclass(frozen=True)
class _Run:
    """The reference on the codes that a session gave. reference: its tensors without them, of the same batch."""

    reference: dict[str, np.ndarray]
    given: dict[str, np.ndarray]
    tensors: dict[str, np.ndarray]
    computed: dict[str, np.ndarray]


class IslandCheck:
    """The islands of a folded graph while the batches go by; without islands there is nothing to do.

    A file with tables has none of those that are functions of single codes; a longer table goes on from their codes.
    """

    def __init__(self, folded: ir.Graph, reference: onnx.ModelProto) -> None:
        self._islands: dict[str, list[Island]] = {}  # by the tensor of codes that they make
        for island in islands(folded):
            for codes in island.codes:
                self._islands.setdefault(codes, []).append(island)
        made = [value for node in folded if is_island(node) for value in node.outputs]
        self._inside = {str(value.name) for value in made if has_rounding(value)}
        self._reference = reference
        constants = {tensor.name: tensor for tensor in reference.graph.initializer}
        self._sources = {
            node.output[0]: (node.input[0], float(numpy_helper.to_array(constants[node.input[1]])))
            for node in reference.graph.node
            if node.op_type == "QuantizeLinear"
        }
        self._elements: Counter[str] = Counter()
        self._differing: Counter[str] = Counter()
        self._largest: dict[str, int] = {}
        self._last: _Run | None = None

    @property
    def codes(self) -> list[str]:
        """The tensors of codes that islands make."""
        return list(self._islands)

    def expected(
        self, x: Arrays, reference: dict[str, np.ndarray], session: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """The reference's tensors on the codes that a session has after its islands.

        x: the input [N, …]. reference: the reference's own tensors for it. session: the session's.
        """
        if not self._islands:
            return reference
        given = {name: session[name] for name in self._islands if name in session}  # tables hold others
        tensors, computed = self._run(x, reference, given)
        for name, value in given.items():
            self._count(name, value, computed[name], self._ties(name, computed))
        return self.outside(tensors)

    def _run(
        self, x: Arrays, reference: dict[str, np.ndarray], given: dict[str, np.ndarray]
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """(tensors on the given codes, what the reference makes where these stand). Sessions mostly agree: once for all
        that do."""
        if _equal(given, reference):
            return reference, reference
        last = self._last
        if last is None or last.reference is not reference or not _equal(given, last.given):
            computed: dict[str, np.ndarray] = {}
            feeds = named(x, inputs_of(self._reference))
            tensors = integer.run(self._reference, feeds, given=given, on_tensor=computed.__setitem__)
            last = self._last = _Run(reference, given, tensors, computed)
        return last.tensors, last.computed

    def outside(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Without the float tensors inside islands."""
        return {name: value for name, value in tensors.items() if name not in self._inside}

    def _ties(self, name: str, computed: Mapping[str, np.ndarray]) -> np.ndarray | bool:
        """Where what becomes these codes lies so near to a tie that float32 rounds it to either side."""
        source, scale = self._sources.get(name, ("", 1.0))
        return near_tie(computed[source].astype(np.float64) / scale) if source in computed else False

    def _count(self, name: str, codes: np.ndarray, expected: np.ndarray, ties: np.ndarray | bool) -> None:
        self._elements[name] += expected.size
        if codes.shape != expected.shape:
            self._differing[name] += expected.size
            self._largest[name] = NOT_A_CODE
            return
        if codes.dtype == np.int64 or codes.dtype == np.bool_:  # places, classes or masks, as outputs of the network
            self._differing[name] += int((codes != expected).sum())
            return
        if codes.dtype == np.float32:  # a float output of the network
            self._differing[name] += int((~(np.abs(codes - expected) <= float_rounding(expected))).sum())
            return
        difference = np.abs(codes.astype(np.int64) - expected)
        self._differing[name] += int(((difference != 0) & ~(ties & (difference == 1))).sum())
        self._largest[name] = max(self._largest.get(name, 0), int(difference.max(initial=0)))

    def result(self) -> tuple[IslandParity, ...]:
        """One entry for each tensor of codes that islands make and that a session had."""
        return tuple(
            IslandParity(
                codes=codes,
                operators=tuple(map(str, makers)),
                elements=self._elements[codes],
                differing=self._differing[codes],
                largest=self._largest.get(codes, 0),
            )
            for codes, makers in self._islands.items()
            if codes in self._elements
        )


def _equal(given: Mapping[str, np.ndarray], tensors: Mapping[str, np.ndarray]) -> bool:
    """To the bit, and of the same types."""
    return all(
        name in tensors and value.dtype == tensors[name].dtype and np.array_equal(value, tensors[name])
        for name, value in given.items()
    )
