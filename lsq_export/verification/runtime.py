"""ONNX Runtime as verification uses it: one session a file, optionally with every tensor as an output."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import onnx
import onnxruntime as ort
import torch

from calib.errors import QuantizationError, one_line
from calib.samples import Arrays, named
from lsq_export.files import large_onnx
from lsq_export.kernels import register
from lsq_export.rewrite.fixed_batch import batch_of

from .readable import Readable as Readable
from .readable import inputs_of as inputs_of
from .readable import integer_tensors as integer_tensors
from .readable import readable_codes as readable_codes
from .readable import with_outputs

LEVELS: Mapping[str, ort.GraphOptimizationLevel] = {
    "default": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "disabled": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}


_LAYER = re.compile(
    r"[Nn]ode:? ?\(([^()\"]+)\)|In Node, \(\"([^\"]+)\"|[Nn]ode name \(([^()]+)\)|[Nn]ame:'([^']+)'|[Nn]ode:([^ :]+) "
)
_NOISE = (
    re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : "),  # the code, as a number and as a word
    re.compile(r"^\S+\.(?:cc|h|cpp):\d+ (?:\w+ (?=[A-Z])|.*?\) (?=[A-Z]))?"),  # where in its sources
    re.compile(r"^(?:This is an invalid model|Invalid model)\. "),
    re.compile(r"^In Node, \(.*\) -> \(.*?\) , (?=Error)"),  # a signature, with all types
)
_LONGEST = 300  # characters of a reason
_ADVICE = {
    "load": "export the network again, or use a newer ONNX Runtime",
    "run": "check the shape of the inputs, or export the network again",
}


class RefusedError(QuantizationError):
    """A file that ONNX Runtime does not load or run."""


class Session:
    """An ONNX Runtime CPU session. run(x) gives {name: array} of the model's outputs, and of `tensors` besides.

    library: with our operators for tables (`lsq_export.kernels`). The session of a model whose constants are large is
    opened for each run anew: several of them do not fit into memory beside each other.
    """

    def __init__(
        self,
        proto: onnx.ModelProto,
        level: str = "default",
        tensors: Sequence[str] = (),
        what: str = "model",
        library: bool = False,
    ) -> None:
        self.what = what
        self._batch = batch_of(proto)
        self._open = partial(_session, proto, level, tuple(tensors), what, library)
        self._opened = self._open() if large_onnx.is_light(proto) else None

    def run(self, x: Arrays) -> dict[str, np.ndarray]:
        """x: [N, …], or {name: array} of several inputs; in portions where the file has another batch."""
        session, _constants = self._opened or self._open()
        inputs, batch = named(x, [value.name for value in session.get_inputs()]), self._batch
        count = len(next(iter(inputs.values()))) if inputs else 0
        if batch is None or count == batch:
            return self._run(session, inputs)
        parts = [
            self._run(
                session,
                {name: array[np.minimum(np.arange(start, start + batch), count - 1)] for name, array in inputs.items()},
            )
            for start in range(0, count, batch)
        ]
        whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return {name: value[: len(value) * count // (len(parts) * batch)] for name, value in whole.items()}

    def _run(self, session: ort.InferenceSession, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        names = [output.name for output in session.get_outputs()]
        try:
            return dict(zip(names, session.run(None, dict(inputs)), strict=True))
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise RefusedError(f"{self.what}: {refusal(error, 'run')}") from error


def _session(
    proto: onnx.ModelProto, level: str, tensors: Sequence[str], what: str, library: bool
) -> tuple[ort.InferenceSession, list[ort.OrtValue]]:
    """(session, constants that it reads where they are, for as long as it lives).

    Errors (RefusedError): ONNX Runtime does not load it.
    """
    options = ort.SessionOptions()
    options.graph_optimization_level = LEVELS[level]
    options.log_severity_level = 4  # what fails is raised
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # several sessions take turns here
    if library:
        register(options)
    constants: list[ort.OrtValue] = []
    if not large_onnx.is_light(proto):
        proto, arrays = large_onnx.split(proto)
        constants = [ort.OrtValue.ortvalue_from_numpy(array) for array in arrays.values()]
        options.add_external_initializers(list(arrays), constants)
    proto = with_outputs(proto, tensors) if tensors else proto
    try:
        content = proto.SerializeToString()
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"]), constants
    except Exception as error:  # see above
        raise RefusedError(f"{what}: {refusal(error, 'load')}") from error


def refusal(error: Exception, what: str) -> str:
    """What ONNX Runtime says, as the end of a line: the layer first, the reason without codes and source files, advice.

    what: "load" or "run".
    """
    text = one_line(error)
    layer = _LAYER.search(text)
    name = next((part for part in layer.groups() if part), "") if layer else ""
    reason = text
    for noise in _NOISE:
        reason = noise.sub("", reason)
    reason = f"{reason[:_LONGEST]}…" if len(reason) > _LONGEST else reason
    at = f" at the layer {name}" if name else ""
    return f"ONNX Runtime {ort.__version__} cannot {what} it{at} ({reason.strip(' :')}): {_ADVICE[what]}"
