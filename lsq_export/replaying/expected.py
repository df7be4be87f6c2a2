"""What has to come out of a file of a bundle: outputs, and codes inside, by the integer reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx

from calib.arrays import Arrays
from calib.errors import QuantizationError
from lsq_export import integer
from lsq_export.bundle.directory import Bundle
from lsq_export.bundle.golden import read_golden
from lsq_export.bundle.layout import FOLDED, MODEL
from lsq_export.bundle.quantized_outputs import OutputGrid, grids_of, with_last
from lsq_export.bundle.reading import Files
from lsq_export.inspection.onnx_read import load_model
from lsq_export.rewrite.fixed_batch import batch_of
from lsq_export.targets import adjusted, get
from lsq_export.verification.readable import inputs_of

from .integers import Scale, scale_of_output

EXACT = "qoperator"
PORTION = 16  # samples that the integer reference takes at a time
NO_REFERENCE = (
    "the bundle has no qoperator file, and to make one of reference/folded.onnx lsq-export needs PyTorch: "
    "install torch, or take the golden vectors alone"
)


@dataclass(frozen=True, kw_only=True)
class Task:
    """A file, what to feed it, and what has to come out. name: its format, or its path where it is none of the bundle.

    feeds, golden: {name: [N, …]}.
    """

    name: str
    file: onnx.ModelProto
    feeds: Mapping[str, np.ndarray]
    golden: Mapping[str, np.ndarray]

    @property
    def batch(self) -> int:
        """How many samples are run at a time: as many as the file takes, or all."""
        return batch_of(self.file) or self.images

    @property
    def images(self) -> int:
        """How many samples it is fed."""
        return len(next(iter(self.feeds.values())))


class Reference:
    """The integer reference of a bundle."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle, self._files = bundle, Files(bundle.directory)
        self._proto: onnx.ModelProto | None = None
        self.target = str(bundle.manifest["target"])

    def is_right_unoptimized_alone(self, name: str) -> bool:
        """Whether the manifest wants ONNX Runtime without optimization for a file, by its format or its path."""
        formats = self._bundle.manifest["formats"]
        known = [formats[name]] if name in formats else formats.values()
        return any(entry.get("optimization") == "disabled" for entry in known)

    def file(self, name: str) -> onnx.ModelProto:
        """The file of a format. Errors (DamagedError): it is not what was exported."""
        return self._files.onnx(f"{name}/{MODEL}")

    def _grids(self, name: str) -> dict[str, OutputGrid]:
        """Of the outputs of a format that are codes."""
        return grids_of(self._bundle.manifest["formats"][name])

    def outputs(self, name: str, feeds: Mapping[str, np.ndarray], names: list[str]) -> dict[str, np.ndarray]:
        """{output: [N, …]} that a format has to give: codes where it gives codes."""
        found, grids = self.tensors(feeds, names), self._grids(name)
        return {key: grids[key].of_values(value) if key in grids else value for key, value in found.items()}

    def task(self, name: str, inputs: Arrays | None) -> Task:
        """What is run of a format: its golden vectors, and these inputs, [N, …] or {name: [N, …]}, if there are any.

        Errors (QuantizationError): inputs that do not fit, or files that cannot be read (DamagedError).
        """
        file = self.file(name)
        x, outputs = read_golden(self._files, name)
        feeds = _named(x, inputs_of(file))
        if inputs is None:
            return Task(name=name, file=file, feeds=feeds, golden=outputs)
        more = _named(inputs, inputs_of(file))
        _check(feeds, more)
        found = self.outputs(name, more, list(outputs))
        feeds = {key: np.concatenate([value, more[key].astype(value.dtype)]) for key, value in feeds.items()}
        golden = {key: np.concatenate([value, found[key]]) for key, value in outputs.items()}
        return Task(name=name, file=file, feeds=feeds, golden=golden)

    def task_of(self, path: str, inputs: Arrays | None) -> Task:
        """The same of a file that another tool made of one of the bundle. What its outputs are, the bundle says.

        Errors (QuantizationError): as `task`; no ONNX file, or one that takes other inputs.
        """
        task = self.task(next(iter(self._bundle.models)), inputs)
        file = load_model(path)
        names = inputs_of(file)
        if {*names} != {*task.feeds}:
            raise QuantizationError(
                f"{path} takes {', '.join(names) or 'nothing'}, the bundle's files take {', '.join(task.feeds)}: "
                "give a file that was made of one of them, with its inputs"
            )
        return replace(task, name=path, file=file, feeds={name: task.feeds[name] for name in names})

    def proto(self) -> onnx.ModelProto:
        """The qoperator file of the bundle, with values as outputs, or what the folded model prescribes.

        Errors (QuantizationError): there is no such file, and no torch to make it with.
        """
        if self._proto is None:
            has = EXACT in self._bundle.models
            self._proto = with_last(self.file(EXACT), self._grids(EXACT)) if has else self._prescribed()
        return self._proto

    def tensors(self, feeds: Mapping[str, np.ndarray], names: list[str]) -> dict[str, np.ndarray]:
        """{tensor: [N, …]} of the reference. Errors (QuantizationError): as `proto`."""
        proto, count = self.proto(), len(next(iter(feeds.values())))
        parts = [
            integer.run(proto, {key: value[start : start + PORTION] for key, value in feeds.items()}, outputs=names)
            for start in range(0, count, PORTION)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in names}

    def scale(self, task: Task, output: str) -> Scale | None:
        """Of the integers of an output, by the exact file where there is one; None: it is float."""
        models = self._bundle.models
        name = EXACT if EXACT in models else task.name if task.name in models else next(iter(models))
        return scale_of_output(self.file(name), output)

    def _prescribed(self) -> onnx.ModelProto:
        try:
            import onnx_ir as ir

            from lsq_export.rewrite.emit import emit
        except ModuleNotFoundError as error:
            raise QuantizationError(NO_REFERENCE) from error
        target = adjusted(get(self.target), **self._bundle.manifest.get("asked", {}))
        folded = self._files.onnx(str(FOLDED))
        return emit(ir.serde.deserialize_model(folded), EXACT, target)


def _named(x: Arrays, names: list[str]) -> dict[str, np.ndarray]:
    return dict(x) if isinstance(x, Mapping) else {names[0]: x}


def _check(known: Mapping[str, np.ndarray], given: Mapping[str, np.ndarray]) -> None:
    """Errors (QuantizationError): other inputs than the golden ones."""
    if {*known} != {*given}:
        raise QuantizationError(f"the network takes {', '.join(known)}: the data have {', '.join(given)}")
    for name, value in known.items():
        if given[name].shape[1:] != value.shape[1:] or not len(given[name]):
            raise QuantizationError(
                f"{name} is {list(given[name].shape)}, the network takes {['N', *value.shape[1:]]}: give at least one"
            )
