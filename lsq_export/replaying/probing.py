"""The first tensor inside that a runtime computes otherwise than the integer reference.

All codes are asked for at once, as further outputs of the file. Where that changes what the runtime does (it fuses
fewer operators then), they are asked for one at a time, halving what is left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from lsq_export.verification.readable import integer_tensors, readable_codes, with_outputs

from .difference import Difference, difference
from .expected import Reference, Task
from .integers import made_by
from .processes import Place, Ran
from .runtime import Runtime

INTEGERS = "iu"


@dataclass(frozen=True, kw_only=True)
class First:
    """The first tensor that differs, in the order of the file.

    tensor: of codes. made_by: the operator that computes it. difference: how much of it. before: the tensor before it,
    which is equal; "" where there is none. alone: it was asked for alone, since all at once change what is run.
    """

    tensor: str
    made_by: str
    difference: Difference
    before: str
    alone: bool


class Probe:
    """A task in a runtime, with tensors inside as further outputs."""

    def __init__(self, place: Place, runtime: Runtime, task: Task, reference: Reference) -> None:
        self._place, self._runtime, self._task = place, runtime, task
        shown = _shown(task.file)
        known = {*integer_tensors(reference.proto())}
        self._shown = {name: tensor for name, tensor in shown.items() if name in known}
        self._expected = reference.tensors(task.feeds, list(self._shown)) if self._shown else {}
        self._read = readable_codes(task.file)

    @property
    def sees_codes(self) -> bool:
        """Whether a tensor of codes there has the name of one of the bundle's."""
        return bool(self._shown)

    def first(self, plain: Mapping[str, np.ndarray]) -> First | None:
        """plain: the outputs without further ones, which differ. None: nothing inside can be seen that differs."""
        if not self._shown:
            return None
        ran = self._run(list(self._shown))
        if ran.how == "ran" and _are_equal(ran.outputs, plain):
            found = self._differences(ran)
            name = next((name for name, one in found.items() if one.differing), None)
            return None if name is None else self._first(name, found[name], alone=False)
        return self._halved()

    def differences(self) -> dict[str, Difference]:
        """{tensor: difference} of all codes at once; nothing where the runtime does not run that."""
        return self._differences(self._run(list(self._shown)))

    def seen(self) -> tuple[Ran | None, dict[str, np.ndarray]]:
        """(how the run with all codes at once went, {tensor: its codes}); (None, {}): there are no codes to see."""
        if not self._shown:
            return None, {}
        ran = self._run(list(self._shown))
        return ran, self._codes(ran)

    def expected(self, name: str) -> np.ndarray:
        """The codes of a tensor, by the integer reference."""
        return self._expected[name]

    def _halved(self) -> First | None:
        names = list(self._shown)
        low, high, known = 0, len(names), None  # all before `low` are equal
        while low < high:
            middle = (low + high) // 2
            ran = self._run([names[middle]])
            one = self._differences(ran).get(names[middle]) if ran.how == "ran" else None
            if one is None:
                return None
            if one.differing:
                high, known = middle, one
            else:
                low = middle + 1
        return None if known is None else self._first(names[low], known, alone=True)

    def _first(self, name: str, found: Difference, *, alone: bool) -> First:
        names = list(self._shown)
        before = names[names.index(name) - 1] if names.index(name) else ""
        return First(tensor=name, made_by=made_by(self._task.file, name), difference=found, before=before, alone=alone)

    def _run(self, names: list[str]) -> Ran:
        file = with_outputs(self._task.file, [self._shown[name] for name in names])
        return self._place.run(self._runtime, _typed(file), self._task.feeds, self._task.batch)

    def _differences(self, ran: Ran) -> dict[str, Difference]:
        return {name: difference(codes, self._expected[name]) for name, codes in self._codes(ran).items()}

    def _codes(self, ran: Ran) -> dict[str, np.ndarray]:
        found = {}
        for name, tensor in self._shown.items():
            if tensor in ran.outputs:
                value = ran.outputs[tensor]
                found[name] = value if value.dtype.kind in INTEGERS else self._read[name].codes(np.nan_to_num(value))
        return found


def _are_equal(some: Mapping[str, np.ndarray], others: Mapping[str, np.ndarray]) -> bool:
    return all(name in some and np.array_equal(some[name], value) for name, value in others.items())


def _shown(file: onnx.ModelProto) -> dict[str, str]:
    """{tensor of codes: tensor that shows it}: its values in float where a DequantizeLinear makes them of it."""
    readable = readable_codes(file)
    types = _types(file)
    order = {name: index for index, node in enumerate(file.graph.node) for name in node.output}
    found = {name: one.values for name, one in readable.items() if name in order}
    integers = {name: name for name in order if types.get(name) in (onnx.TensorProto.UINT8, onnx.TensorProto.INT8)}
    return dict(sorted({**integers, **found}.items(), key=lambda pair: order[pair[0]]))


def _types(file: onnx.ModelProto) -> dict[str, int]:
    return {value.name: value.type.tensor_type.elem_type for value in _inferred(file).graph.value_info}


def _inferred(file: onnx.ModelProto) -> onnx.ModelProto:
    try:
        return onnx.shape_inference.infer_shapes(file)
    except (ValueError, RuntimeError, onnx.shape_inference.InferenceError):  # too large, unknown operators, wrong types
        return file


def _typed(file: onnx.ModelProto) -> onnx.ModelProto:
    """The types and shapes of further outputs, where they can be known: some runtimes want them."""
    inferred = _inferred(file)
    known = {value.name: value for value in inferred.graph.value_info}
    for output in file.graph.output:
        if not output.type.tensor_type.elem_type:
            output.type.CopyFrom(known[output.name].type if output.name in known else _FLOAT)
    return file


_FLOAT = onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, None)
