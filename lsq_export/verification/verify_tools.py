"""The measuring tools of `verify`:

agreement of outputs, difference of codes layer by layer, altered parts of a file.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnx import numpy_helper

from calib.errors import QuantizationError
from calib.initialization.first_grids import inputs
from lsq_export.graph.evaluate import evaluate
from lsq_export.graph.layers import input_scale_of, weight_of
from lsq_export.graph.operators import LAYERS
from lsq_export.graph.read import constant_of, is_op
from lsq_export.integer.accumulators import accumulators

from .parity import LayerParity
from .reasons import TIE, UNKNOWN, near_tie
from .tally import Tally

FLOAT_ROUNDING = 1e-6  # relative: the last multiplication, and the accumulator as float32
FLOAT_SUMS = 1e-4  # of the largest output: what the sums of a float32 kernel may miss
NEAR_INTEGER = 0.05  # float64 sums of products of float32 numbers miss the accumulator's integer by far less


def pairs(batches: Iterable[object], graph: ir.Graph) -> Iterator[tuple[torch.Tensor, np.ndarray | None]]:
    """(input [N, …] float32 on the CPU, classes [N] or None) of each batch;

    checked as `calib.initialize` does, and against the graph's input.
    """
    expected = [size if isinstance(size, int) else None for size in graph.inputs[0].shape or ()][1:]
    if isinstance(batches, torch.Tensor) or not isinstance(batches, Iterable):
        raise QuantizationError(
            f"batches is {type(batches).__name__}: give an iterable of tensors or (input, target) pairs"
        )
    for index, batch in enumerate(batches):
        target = batch[1] if isinstance(batch, (tuple, list)) and len(batch) > 1 else None
        for x in inputs([batch], torch.device("cpu")):
            if not len(x):
                raise QuantizationError(f"batch {index} is empty: leave it out")
            if list(x.shape[1:]) != expected or not torch.isfinite(x).all():
                what = (
                    "holds NaN or infinity"
                    if list(x.shape[1:]) == expected
                    else f"has inputs of shape {list(x.shape[1:])}"
                )
                raise QuantizationError(
                    f"batch {index} {what}: the bundle takes finite numbers of shape {expected} (without the batch)"
                )
            yield x.detach().float(), None if target is None else np.asarray(target)


def capture_error(captured: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Per image: |captured - trained| / max |trained|, [N]."""
    if captured.shape != expected.shape:
        raise QuantizationError(
            f"the bundle's network has outputs of shape {list(captured.shape)}, the model of {list(expected.shape)}: "
            "is it another model's bundle?"
        )
    axes = tuple(range(1, expected.ndim))
    return np.abs(captured - expected).max(axis=axes) / max(float(np.abs(expected).max()), 1e-30)


class Agreement:
    """Outputs [N, classes, …] against the trained model's.

    Classes are those of the first output, the SQNR is that of the worst.
    """

    def __init__(self) -> None:
        self._powers: dict[int, list[float]] = {}  # {output: [signal, noise]}
        self.images = self._same = self._places = self._labelled = self._right = self._expected_right = 0

    def add(self, found: Sequence[np.ndarray], expected: Sequence[np.ndarray], classes: np.ndarray | None) -> None:
        """All outputs of a batch."""
        if found[0].shape != expected[0].shape:
            raise QuantizationError(
                f"the outputs have the shape {list(found[0].shape)}, the trained model's {list(expected[0].shape)}"
            )
        mine, theirs = found[0].argmax(axis=1), expected[0].argmax(axis=1)
        self.images += len(found[0])
        self._places += mine.size
        self._same += int((mine == theirs).sum())
        for index, (output, wanted) in enumerate(zip(found, expected, strict=True)):
            powers = self._powers.setdefault(index, [0.0, 0.0])
            powers[0] += float(np.square(wanted, dtype=np.float64).sum())
            powers[1] += float(np.square(output.astype(np.float64) - wanted).sum())
        if classes is not None and classes.shape == mine.shape:
            self._labelled += classes.size
            self._right += int((mine == classes).sum())
            self._expected_right += int((theirs == classes).sum())

    @property
    def top1(self) -> float:
        return self._same / max(1, self._places)

    @property
    def accuracy(self) -> float | None:
        return self._right / self._labelled if self._labelled else None

    @property
    def expected_accuracy(self) -> float | None:
        """Of the trained model."""
        return self._expected_right / self._labelled if self._labelled else None

    @property
    def sqnr_db(self) -> float:
        return min((_decibel(signal, noise) for signal, noise in self._powers.values()), default=math.inf)


def _decibel(signal: float, noise: float) -> float:
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal and not math.isinf(noise) else -math.inf


class Layers:
    """Codes of every tensor against the folded model, which is given the same codes as inputs of each layer.

    exact: the qoperator file, whose accumulators are compared as well; None for a file that runs in float32.
    """

    def __init__(self, folded: ir.Graph, exact: onnx.ModelProto | None) -> None:
        self._folded, self._exact = folded, exact
        self._tallies: defaultdict[str, Tally] = defaultdict(Tally)
        self._rounded = _rounded(folded)
        self._sums = {
            str(node.outputs[0].name): (_behind(node), _unit(node), _bias_excess(node))
            for node in folded
            if is_op(node, *LAYERS)
        }
        self.accumulator_mismatch = self.output_mismatch = 0

    def add(self, x: np.ndarray, codes: dict[str, np.ndarray]) -> None:
        """codes: {tensor: codes} of the file under test for the input x."""
        sums = accumulators(self._exact, codes) if self._exact is not None else {}
        rounded: dict[str, tuple[torch.Tensor, float]] = {}  # tensor of codes -> what was rounded to it, and the scale

        def compare(name: str, value: torch.Tensor) -> torch.Tensor | None:
            rounded.update({codes: (value, scale) for codes, scale in self._rounded.get(name, ())})
            if name in self._sums and self._sums[name][0] in sums:
                behind, unit, excess = self._sums[name]
                self._compare_sums(value, unit, excess, sums[behind])
            if name not in codes:
                return None
            if codes[name].dtype == np.float32:
                self._compare_output(name, value.numpy(), codes[name])
                return None
            if codes[name].shape != tuple(value.shape):
                self._tallies[name].add_other_shape(value.numel())
                return None
            found = torch.from_numpy(codes[name].astype(np.float64))
            before = rounded.pop(name, None)
            if torch.equal(found, value):
                self._tallies[name].elements += found.numel()
                return found
            difference = (found - value).numpy()
            self._tallies[name].add(difference)
            if before is not None:
                self._explain(name, difference != 0, (before[0] / before[1]).numpy())
            return found

        evaluate(self._folded, x, on_value=compare)

    def _compare_sums(self, value: torch.Tensor, unit: np.ndarray, excess: np.ndarray, found: np.ndarray) -> None:
        by_channel = (1, -1, *[1] * (value.dim() - 2))
        exact = value.numpy() / unit.reshape(by_channel) - excess.reshape(by_channel)
        same_shape = exact.shape == found.shape
        self.accumulator_mismatch += int((np.abs(exact - found) > NEAR_INTEGER).sum()) if same_shape else exact.size

    def _compare_output(self, name: str, value: np.ndarray, found: np.ndarray) -> None:
        """The float outputs, which are no codes: as the folded model computes them, but for float32 rounding."""
        if found.shape != value.shape:
            self.output_mismatch += value.size
            return
        if name in self._sums and self._exact is not None:
            _, unit, excess = self._sums[name]
            value = value - (unit * excess).reshape(1, -1, *[1] * (value.ndim - 2))
        largest = np.abs(value).max(initial=0.0)
        allowed = (
            FLOAT_ROUNDING * (np.abs(value) + 1e-3 * largest) if self._exact is not None else FLOAT_SUMS * largest
        )  # an output can cancel to 0
        self.output_mismatch += int((~(np.abs(found - value) <= allowed)).sum())

    def _explain(self, name: str, differs: np.ndarray, steps: np.ndarray) -> None:
        tie = int((differs & near_tie(steps)).sum())
        self._tallies[name].reasons.update({TIE: tie, UNKNOWN: int(differs.sum()) - tie})

    def result(self) -> tuple[LayerParity, ...]:
        return tuple(tally.result(name) for name, tally in self._tallies.items())


def _rounded(folded: ir.Graph) -> dict[str, list[tuple[str, float]]]:
    """{value: (tensor of codes that it is rounded to, scale)};

    with a clip of codes behind it, that tensor too: narrow types need no clip.
    """
    found: dict[str, list[tuple[str, float]]] = {}
    for node in folded:
        if is_op(node, "QuantizeLinear") and node.inputs[0] is not None:
            scale = float(constant_of(node.inputs[1], str(node.name)))
            clips = [n for n in node.outputs[0].consumers() if is_op(n, "Clip")]
            found.setdefault(str(node.inputs[0].name), []).extend(
                (str(n.outputs[0].name), scale) for n in [node, *clips]
            )
    return found


def _unit(node: ir.Node) -> np.ndarray:
    """S·s_w of a layer, float64 [C_out]: its accumulator is its output divided by that."""
    return input_scale_of(node) * constant_of(weight_of(node).inputs[1], str(node.name)).astype(np.float64)


def _bias_excess(node: ir.Node) -> np.ndarray:
    """The bias of a layer in units of S·s_w, less its codes, float64 [C_out].

    A file holds that unit as float32, which shows where codes pass 10^5.
    """
    bias = node.inputs[2].producer() if node.inputs[2] is not None else None
    assert bias is not None
    codes, scale = (constant_of(v, str(node.name)).astype(np.float64) for v in bias.inputs[:2])
    return codes * (scale / _unit(node) - 1)


def _behind(layer: ir.Node) -> str:
    """The tensor of codes that is made from a layer's output;

    the output itself where its accumulator leaves the network.
    """
    readers = list(layer.outputs[0].consumers())
    return str((readers[0] if readers else layer).outputs[0].name)


def _frame(proto: onnx.ModelProto) -> dict[str, object]:
    """What a file says beside its nodes and constants."""
    graph = proto.graph
    return {
        "inputs": [v.SerializeToString(deterministic=True) for v in graph.input],
        "outputs": [v.SerializeToString(deterministic=True) for v in graph.output],
        "versions": (proto.ir_version, {o.domain: o.version for o in proto.opset_import}),
        "functions": len(proto.functions) + len(graph.sparse_initializer),
    }


def altered_parts(file: onnx.ModelProto, prescribed: onnx.ModelProto) -> tuple[str, ...]:
    """Nodes and constants in which a file is not what the folded graph prescribes, one line each."""
    found = []
    nodes, wanted = (
        [n.SerializeToString(deterministic=True) for n in proto.graph.node] for proto in (file, prescribed)
    )
    if len(nodes) != len(wanted):
        found.append(f"the graph has {len(nodes)} nodes, the fold prescribes {len(wanted)}")
    found += [
        f"the file's {what} are not as the fold prescribes"
        for what, a in _frame(file).items()
        if a != _frame(prescribed)[what]
    ]
    altered = (
        n for n, a, b in zip(file.graph.node, nodes, wanted, strict=False) if a != b
    )  # strict=False: a difference in length is said above
    found += [f"node {n.name} ({n.op_type}) is not as the fold prescribes" for n in altered]
    mine, theirs = ({t.name: t for t in proto.graph.initializer} for proto in (file, prescribed))
    for name in [*theirs, *(n for n in mine if n not in theirs)]:
        if name not in mine or name not in theirs:
            found.append(f"constant {name} is {'missing' if name not in mine else 'not prescribed by the fold'}")
            continue
        a, b = numpy_helper.to_array(mine[name]), numpy_helper.to_array(theirs[name])
        if a.shape != b.shape or a.dtype != b.dtype:
            found.append(f"constant {name} is {a.dtype}{list(a.shape)}, the fold prescribes {b.dtype}{list(b.shape)}")
        elif not np.array_equal(a, b):
            found.append(f"constant {name} differs from the fold in {int((a != b).sum())} of {a.size} values")
    return tuple(found)
