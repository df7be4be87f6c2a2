"""replay: files of a bundle in runtimes, against the integer reference."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from calib.arrays import Arrays
from calib.errors import QuantizationError, near
from lsq_export.bundle.directory import Bundle, open_bundle
from lsq_export.files.kinds import ONNX
from lsq_export.linting.lint_file import lint
from lsq_export.targets import get as get_target

from .difference import Difference, joined, output_difference
from .expected import Reference, Task
from .inside import NO_CODES, inside_of
from .probing import First, Probe
from .processes import Place, Ran
from .result import DIFFERS, MISSING, SAME, Replay, Replayed
from .runtime import Runtime, everything, get


def replay(
    bundle: Bundle | str | os.PathLike[str],
    runtimes: str | Iterable[str] | None = None,
    *,
    formats: str | Iterable[str] | None = None,
    inputs: Arrays | None = None,
    inside: bool | int = True,
    timeout: float = 300.0,
    python: str | os.PathLike[str] | None = None,
    on_run: Callable[[Replayed], None] = lambda run: None,
) -> Replay:
    """Run the golden vectors of a bundle in real runtimes, and compare integers with the integer reference.

    runtimes: names (`lsq-export replay --help`); None: all. formats: of the files; None: all that the bundle has.
    A path of an ONNX file (`….onnx`) among them is a file that another tool made of one of the bundle's.
    inputs: [N, …], or {name: [N, …]}, prepared as the network takes them, which are run besides. inside: where outputs
    differ, the first tensor of codes that does is looked for; a number: the integers of all tensors inside are compared
    on so many samples, and the first is looked for only where all of these are equal. timeout: seconds that one run may
    take, in a process of its own. python: an interpreter that has the packages of the runtimes; None: this one.
    on_run: is given each run.
    PyTorch is needed only for a bundle without a qoperator file, and only for what is inside or for `inputs`.

    Errors (QuantizationError): unknown names, inputs that do not fit; of these a DamagedError: files that are not what
    was exported. What a runtime does is in the result, whatever it is.
    """
    bundle = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
    chosen = everything() if runtimes is None else [get(name) for name in _several(runtimes)]
    names = _formats(bundle, formats)
    if not timeout > 0:
        raise QuantizationError(f"timeout is {timeout}: give seconds, more than 0")
    place = Place(str(Path(python).absolute()) if python is not None else sys.executable, timeout)
    if not os.access(place.python, os.X_OK):
        raise QuantizationError(f"python is {place.python}, which is no program: give an interpreter")
    if not isinstance(inside, bool) and inside < 1:
        raise QuantizationError(f"inside is {inside}: give a number of samples of at least 1, True or False")
    reference = Reference(bundle)
    tasks = [(reference.task if name in bundle.models else reference.task_of)(name, inputs) for name in names]
    runs = []
    for runtime in chosen:
        for task in tasks:
            runs.append(_replayed(place, runtime, task, reference, inside))
            on_run(runs[-1])
    return Replay(bundle=bundle.directory, runs=tuple(runs))


def _several(names: str | Iterable[str]) -> list[str]:
    return list(dict.fromkeys([names] if isinstance(names, str) else names))


def _formats(bundle: Bundle, formats: str | Iterable[str] | None) -> list[str]:
    chosen = list(bundle.models) if formats is None else _several(formats)
    for name in chosen:
        if name not in bundle.models and not name.endswith(ONNX):
            raise QuantizationError(
                f"bundle {bundle.directory} has no format {name!r}: use {', '.join(bundle.models)}"
                f"{near(name, bundle.models)}"
            )
    return chosen


def _replayed(place: Place, runtime: Runtime, task: Task, reference: Reference, inside: bool | int) -> Replayed:
    file = Path(task.name) if task.name.endswith(ONNX) else None
    ran = place.run(runtime, task.file, task.feeds, task.batch, file)
    found, why = (None, ran.why) if ran.how != "ran" else outputs_of(task, ran, reference)
    first = whole = None
    if found and not isinstance(inside, bool):
        whole = inside_of(place, runtime, task, reference, inside)
    is_same = found and not found.differing and not (whole and whole.difference and whole.difference.differing)
    verdict = ran.how if ran.how != "ran" else SAME if is_same else DIFFERS
    if inside and found and found.differing and not (whole and whole.differing):
        first, why = _first(place, runtime, task, reference, ran)
    return Replayed(
        runtime=runtime.name,
        version=ran.version,
        file=task.name,
        target=reference.target,
        verdict=verdict,
        images=task.images,
        difference=found,
        first=first,
        inside=whole,
        why=f"{why}: {runtime.install}" if verdict == MISSING else why,
        instead="" if verdict in (SAME, MISSING) else _instead(runtime, task, reference),
        seconds=ran.seconds,
    )


def outputs_of(task: Task, ran: Ran, reference: Reference) -> tuple[Difference | None, str]:
    """(difference of all outputs together, "") or (None, why there is none)."""
    if missing := sorted({*task.golden} - {*ran.outputs}):
        return None, f"it gives no output {missing[0]}, but {', '.join(ran.outputs)}"
    parts = [
        output_difference(ran.outputs[name], expected, reference.scale(task, name))
        for name, expected in task.golden.items()
    ]
    return joined(parts), ""


def _first(place: Place, runtime: Runtime, task: Task, reference: Reference, ran: Ran) -> tuple[First | None, str]:
    """(first tensor inside that differs, "") or (None, why none can be named)."""
    try:
        probe = Probe(place, runtime, task, reference)
        if not probe.sees_codes:
            return None, NO_CODES
        first = probe.first(ran.outputs)
    except QuantizationError as error:
        return None, str(error)
    return first, "" if first else "all tensors inside that it shows are equal, where they are asked for"


def _instead(runtime: Runtime, task: Task, reference: Reference) -> str:
    """What the rules of the runtime's target say of the file, or which target is for it."""
    target = reference.target
    if runtime.name == "onnxruntime" and reference.is_right_unoptimized_alone(task.name):
        return "optimization disabled (ORT_DISABLE_ALL), as the manifest says, or the file of export --target ort-cpu"
    if task.name.endswith(ONNX):
        return "the file of the bundle that it was made of"
    wanted = get_target(runtime.target)
    file = f"the file {' or '.join(wanted.readable)}"
    if wanted.name != target:
        return f"{file} of lsq-export export --target {wanted.name}"
    if task.name not in wanted.readable:
        return file
    found = sorted(lint(task.file, wanted.name).findings, key=lambda one: one.is_note)
    return found[0].instead if found else ""
