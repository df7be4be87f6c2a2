"""A bundle as one who received it can check it, without PyTorch: files, golden vectors, and ONNX Runtime's integers.

What `verify` checks besides (the folded and the trained model, layer by layer) is evaluated by PyTorch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calib.arrays import Arrays
from calib.errors import QuantizationError
from lsq_export.bundle.directory import Bundle
from lsq_export.bundle.reading import Files

from .difference import Difference, joined
from .expected import EXACT, Reference, Task
from .probing import Probe
from .processes import Place
from .replaying import outputs_of
from .runtime import get

RUNTIME = "onnxruntime"


@dataclass(frozen=True, kw_only=True)
class Received:
    """What was found.

    changed: files that are not what SHA256SUMS says. golden: {format: elements of its golden outputs that the integer
    reference gives otherwise}, where there is one. outputs: {format: of ONNX Runtime, against what has to come out}.
    inside: all tensors of the exact file, likewise; None: there is none. has_islands: floats inside, whose last bits
    are those of a machine; qdq files have them everywhere.
    """

    images: int
    changed: tuple[str, ...]
    golden: dict[str, int]
    outputs: dict[str, Difference]
    inside: Difference | None
    has_islands: bool

    @property
    def ok(self) -> bool:
        """Whether all that is promised holds. The bits of qdq files, and of files with islands, are not."""
        exact = [self.outputs[EXACT]] if EXACT in self.outputs else []
        exact += [self.inside] if self.inside else []
        bits = self.has_islands or not any([*self.golden.values(), *(one.differing for one in exact)])
        return not self.changed and bits


def check_received(bundle: Bundle, inputs: Arrays | None = None, timeout: float = 600.0) -> Received:
    """Hold a bundle against what it says of itself, on its golden vectors and on `inputs` [N, …].

    Errors (QuantizationError): ONNX Runtime does not run a file, inputs that do not fit; of these a DamagedError: files
    that are needed are not what was exported.
    """
    reference, manifest = Reference(bundle), bundle.manifest
    golden: dict[str, int] = {}
    outputs: dict[str, Difference] = {}
    inside, images = None, 0
    for name in bundle.models:
        task = reference.task(name, inputs)
        place = Place(seconds=timeout, options={"optimization": manifest["formats"][name]["optimization"]})
        if EXACT in bundle.models:
            golden[name] = _differing_golden(reference, reference.task(name, None))
        ran = place.run(get(RUNTIME), task.file, task.feeds, task.batch)
        found, why = (None, ran.why) if ran.how != "ran" else outputs_of(task, ran, reference)
        if found is None:
            raise QuantizationError(f"{name}/model.onnx: ONNX Runtime {ran.version}: {why}")
        outputs[name], images = found, task.images
        if name == EXACT:
            inside = joined([*Probe(place, get(RUNTIME), task, reference).differences().values()] or [found])
    return Received(
        images=images,
        changed=tuple(Files(bundle.directory).changed()),
        golden=golden,
        outputs=outputs,
        inside=inside,
        has_islands=bool(manifest["islands"]),
    )


def _differing_golden(reference: Reference, task: Task) -> int:
    found = reference.outputs(task.name, task.feeds, list(task.golden))
    return sum(
        int(np.count_nonzero(found[name] != value)) if found[name].shape == value.shape else value.size
        for name, value in task.golden.items()
    )
