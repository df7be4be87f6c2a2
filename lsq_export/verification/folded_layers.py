"""A file against the folded model, layer by layer: the folded model (float64) is given the file's codes as inputs of
each layer, so that a flipped tie neither hides another difference nor multiplies.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import onnx
import onnx_ir as ir
import torch

from calib.samples import Arrays
from lsq_export.graph import lockstep
from lsq_export.graph.islands import has_rounding
from lsq_export.graph.layers import input_scale_of, weight_of
from lsq_export.graph.lockstep import Made
from lsq_export.graph.operators import LAYERS
from lsq_export.graph.read import constant_of, is_op
from lsq_export.integer.accumulators import accumulators

from .cause import near_tie
from .layer_parity import LayerParity, float_rounding
from .reasons import Reason
from .tail_rounding import added
from .tally import Tally

FLOAT_ROUNDING = 1e-6  # relative: the last multiplication, and the accumulator as float32
NEAR_INTEGER = 0.05  # float64 sums of products of float32 numbers miss the accumulator's integer by far less
CANCELED = 1e-3  # of the largest output: an output may cancel to 0, and then this is what its rounding is relative to


class FoldedLayers:
    """Codes of every tensor of a file against the folded model, batch by batch.

    exact: the qoperator file, whose accumulators are compared as well; None for a file that runs in float32.
    """

    def __init__(self, folded: ir.Graph, exact: onnx.ModelProto | None) -> None:
        self._folded, self._exact = folded, exact
        self._accumulators = {str(node.outputs[0].name): _accumulator(node) for node in folded if is_op(node, *LAYERS)}
        self._roundings = {
            str(node.outputs[0].name): _rounding(node) for node in folded if is_op(node, "QuantizeLinear")
        }
        self._tallies: defaultdict[str, Tally] = defaultdict(Tally)
        self.accumulator_mismatch = self.output_mismatch = 0

    def add(self, x: Arrays, codes: Mapping[str, np.ndarray]) -> None:
        """codes: {tensor: codes} of the file under test for the input x [N, …]."""
        sums = accumulators(self._exact, codes) if self._exact is not None else {}
        compare = partial(self._compare, _Batch(codes, sums))
        lockstep.run(self._folded, x, dict.fromkeys({*codes, *self._accumulators, *self._roundings}, compare))

    def _compare(self, batch: _Batch, made: Made) -> torch.Tensor | None:
        """What the file has in place of a tensor of codes, as soon as the two are compared."""
        rounding = self._roundings.get(made.name)
        if rounding:
            batch.rounded.update({name: (made.read, rounding.scale) for name in rounding.codes if name in batch.codes})
        accumulator = self._accumulators.get(made.name)
        if accumulator and accumulator.codes in batch.sums:
            self._compare_sums(accumulator.sums(made.value.numpy()), batch.sums[accumulator.codes])
        codes = batch.codes.get(made.name)
        if codes is None:
            return None
        if codes.dtype == np.float32:
            self._compare_output(accumulator, made, codes)
            return None
        return self._compare_codes(made, codes, batch.rounded.pop(made.name, None))

    def _compare_codes(
        self, made: Made, codes: np.ndarray, rounded: tuple[torch.Tensor, float] | None
    ) -> torch.Tensor | None:
        """rounded: the values that became these codes, and the scale."""
        tally = self._tallies[made.name]
        if codes.shape != tuple(made.value.shape):
            tally.add_other_shape(made.value.numel())
            return None
        ours, theirs = torch.from_numpy(codes.astype(np.float64)), made.value.double()  # outputs may be integers
        if torch.equal(ours, theirs):
            tally.add_equal(ours.numel())
            return ours
        difference = (ours - theirs).numpy()
        tally.add(difference)
        if rounded is not None:
            differs = difference != 0
            ties = int((differs & near_tie((rounded[0] / rounded[1]).numpy())).sum())
            tally.reasons.update({Reason.TIE: ties, Reason.UNKNOWN: int(differs.sum()) - ties})
        return ours

    def _compare_sums(self, expected: np.ndarray, sums: np.ndarray) -> None:
        if expected.size != sums.size:
            self.accumulator_mismatch += expected.size
            return
        sums = sums.reshape(expected.shape)  # of an output of one channel, they may have been reshaped before
        self.accumulator_mismatch += int((np.abs(expected - sums) > NEAR_INTEGER).sum())

    def _compare_output(self, accumulator: _Accumulator | None, made: Made, output: np.ndarray) -> None:
        """The float outputs, which are no codes: as the folded model computes them, but for float32 rounding."""
        expected = made.value.numpy()
        if output.shape != expected.shape:
            self.output_mismatch += expected.size
            return
        if accumulator and self._exact is not None:
            expected = accumulator.with_coded_bias(expected)
        largest = np.abs(expected).max(initial=0.0)
        if self._exact is not None and not has_rounding(made.output):
            allowed = FLOAT_ROUNDING * (np.abs(expected) + max(CANCELED * largest, added(made.output)))
        else:
            allowed = float_rounding(expected)
        self.output_mismatch += int((~(np.abs(output - expected) <= allowed)).sum())

    def result(self) -> tuple[LayerParity, ...]:
        """One entry for each tensor of codes, in the order of the graph."""
        return tuple(tally.result(name) for name, tally in self._tallies.items())


@dataclass(frozen=True)
class _Batch:
    """What is compared.

    codes: of the file. sums: {tensor of codes: accumulators that became it}. rounded: {tensor of codes: (values that
    became it, scale)}, until it is compared.
    """

    codes: Mapping[str, np.ndarray]
    sums: Mapping[str, np.ndarray]
    rounded: dict[str, tuple[torch.Tensor, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Rounding:
    """A QuantizeLinear.

    codes: the tensor that it makes, and those of clips of codes after it, which narrow types do not need. scale: of the
    grid.
    """

    codes: tuple[str, ...]
    scale: float


def _rounding(node: ir.Node) -> _Rounding:
    clips = [reader for reader in node.outputs[0].consumers() if is_op(reader, "Clip")]
    codes = tuple(str(maker.outputs[0].name) for maker in (node, *clips))
    return _Rounding(codes, float(constant_of(node.inputs[1], str(node.name))))


@dataclass(frozen=True, kw_only=True)
class _Accumulator:
    """How the output of a Conv or Gemm of the folded model belongs to the integers that are summed in a file.

    codes: the tensor of codes that is made from the output; the output itself where it leaves the network. unit: S·s_w,
    float64 [C_out], by which the output is divided. bias_excess: float64 [C_out], the bias in these units, less its
    codes. A file holds that unit as float32, which shows where codes pass 10^5.
    """

    codes: str
    unit: np.ndarray
    bias_excess: np.ndarray

    def sums(self, output: np.ndarray) -> np.ndarray:
        """The accumulators [N, C_out, …] of an output."""
        by_channel = (1, -1, *[1] * (output.ndim - 2))
        return np.asarray(output / self.unit.reshape(by_channel) - self.bias_excess.reshape(by_channel))

    def with_coded_bias(self, output: np.ndarray) -> np.ndarray:
        """The output as it is with the codes of the bias in units of S·s_w."""
        by_channel = (1, -1, *[1] * (output.ndim - 2))
        return np.asarray(output - (self.unit * self.bias_excess).reshape(by_channel))


def _accumulator(node: ir.Node) -> _Accumulator:
    readers = list(node.outputs[0].consumers())
    unit = input_scale_of(node) * constant_of(weight_of(node).inputs[1], str(node.name)).astype(np.float64)
    bias = node.inputs[2].producer() if node.inputs[2] is not None else None
    assert bias is not None
    bias_codes, bias_scale = (constant_of(v, str(node.name)).astype(np.float64) for v in bias.inputs[:2])
    return _Accumulator(
        codes=str((readers[0] if readers else node).outputs[0].name),
        unit=np.asarray(unit),
        bias_excess=np.asarray(bias_codes * (bias_scale / unit - 1)),
    )
