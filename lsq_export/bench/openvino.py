"""OpenVINO beside ONNX Runtime: the same files, in a process of its own, whose threads sleep while others are timed.

Each model that OpenVINO can read gets a row "openvino NAME" at its default precision, which is bfloat16 on processors
that have it, and the float model another one in float32. Batch size and threads are those of the other rows. The
package openvino is optional.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from calib.errors import QuantizationError
from lsq_export.bundle.layout import LOOKUP
from lsq_export.verification.agreement import decibels

from .children import Conversation, as_file
from .sessions import STOCK, Source, open_session, random_inputs

OPENVINO = "openvino"  # the package, and the first word of the names of its rows
F32 = "f32"  # the last word, where a model is to run in float32
INSTALL = "pip install 'lsq-export[openvino]'"
MISSING = f"{OPENVINO} is not installed ({INSTALL}): it has no rows"
REFUSED = ("qoperator", LOOKUP, STOCK)  # files of ONNX Runtime's own operators, which OpenVINO lacks or misreads
Feeds = Mapping[str, Mapping[str, np.ndarray]]


def installed() -> str | None:
    """The version of the package, None without it. Nothing is imported."""
    try:
        return version(OPENVINO)
    except PackageNotFoundError:
        return None


def is_openvino(name: str) -> bool:
    """Whether the model of this name runs in OpenVINO."""
    return name.startswith(f"{OPENVINO} ")


class OpenVINO:
    """Models in a process with OpenVINO, until `close`.

    with OpenVINO({"openvino qdq": "qdq.onnx"}, {"openvino qdq": {"input": x}}, threads=2) as runtime:
        runtime.block("openvino qdq", warmup=5, runs=5, pause=0.1)      # five times in ms

    failed: {name: why} of the models that cannot be loaded or run. precisions: {name: "bf16", say} of the others.
    version: of the package, and where it takes fewer threads than it was given (no more than cores), how many.
    """

    def __init__(self, models: Mapping[str, Source], feeds: Feeds, threads: int) -> None:
        """Load the models. Errors (QuantizationError): the process ends, or cannot import openvino; why."""
        self._stack = ExitStack()
        try:
            self._directory = Path(self._stack.enter_context(TemporaryDirectory(prefix="lsq-export-bench.")))
            request = {}
            for number, (name, source) in enumerate(models.items()):
                path, inputs = self._stack.enter_context(as_file(source)), self._directory / f"{number}.npz"
                np.savez(inputs, allow_pickle=False, **dict(feeds[name]))
                precision = F32 if name.endswith(f" {F32}") else None
                request[name] = {"path": str(path), "inputs": str(inputs), "precision": precision}
            self._child = self._stack.enter_context(Conversation("openvino_runs", self._directory))
            answer = self._child.ask({"models": request, "threads": threads})
        except BaseException:
            self._stack.close()
            raise
        self.precisions: dict[str, str] = answer["precisions"]
        taken = answer["threads"]
        self.version = f"{installed()}" + (f" ({taken} threads, not {threads})" if taken != threads else "")
        self.failed = {name: " ".join(reason.split()) for name, reason in answer["failed"].items()}

    def __enter__(self) -> OpenVINO:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process and remove its files."""
        self._stack.close()

    @property
    def pid(self) -> int:
        """The process."""
        return self._child.pid

    def block(self, name: str, runs: int, warmup: int, pause: float) -> list[float]:
        """The times of the counted runs in ms. Errors (QuantizationError): the model cannot be run; why."""
        if name in self.failed:
            raise QuantizationError(f"model {name}: OpenVINO refuses it: {self.failed[name]}")
        try:
            answer = self._child.ask({"run": name, "warmup": warmup, "runs": runs, "pause": pause})
        except QuantizationError as error:
            raise QuantizationError(f"model {name}: OpenVINO cannot run it: {error}") from error
        return [float(ms) for ms in answer["ms"]]

    def outputs(self, name: str) -> list[np.ndarray]:
        """What the model gives for its inputs."""
        path = self._directory / "outputs.npz"
        self._child.ask({"save": name, "outputs": str(path)})
        with np.load(path) as file:
            return [file[key] for key in file.files]


def openvino_models(models: Mapping[str, Source]) -> tuple[dict[str, Source], tuple[str, ...]]:
    """({"openvino qdq": the model "qdq", …}, notes).

    models: those of ONNX Runtime. notes: a line for each model that OpenVINO refuses, which is not among the models
    then, one on precision, and one on how near its outputs are to those of ONNX Runtime; or that it is not installed.
    """
    found = installed()
    if found is None:
        return {}, (MISSING,)
    rows = {row: models[name] for row, name in row_names(models).items()}
    if not rows:
        return {}, ()
    works, near, precisions, notes = dict(rows), {}, {}, []
    for name, feed in feeds_of(rows, 1, 0, fixed=True).items():
        tried = _try_alone(name, rows[name], feed)
        if isinstance(tried, str):
            notes.append(f"{name} is left out: OpenVINO {found} {tried}")
            del works[name]
        else:
            precisions[name], near[name] = tried
    for name in [name for name in works if name.endswith(f" {F32}")]:
        default = precisions.get(name.removesuffix(f" {F32}"))
        if default is not None:
            notes.append(f"OpenVINO {found}: {default} by default here" + ("" if default != F32 else f", so no {name}"))
        if default == F32:
            del works[name]
    texts = ", ".join(f"{name.partition(' ')[2]} {near[name]}" for name in works)
    notes += [f"OpenVINO's outputs against ONNX Runtime's of the same file: {texts}"] if works else []
    return works, tuple(notes)


def _try_alone(name: str, source: Source, feed: Mapping[str, np.ndarray]) -> tuple[str, str] | str:
    """(precision, how near its outputs are), or why a model is left out.

    In a process of its own: OpenVINO 2026.4.1 dies while it compiles what quantize_static makes of MixNet-S.
    """
    try:
        with OpenVINO({name: source}, {name: feed}, threads=1) as runtime:
            if name in runtime.failed:
                return f"refuses it: {runtime.failed[name]}"
            return runtime.precisions[name], _nearness(source, feed, runtime.outputs(name))
    except QuantizationError as error:
        return f"fails on it: {error}"


def row_names(models: Iterable[str]) -> dict[str, str]:
    """{row: the model that it runs}, of those models that OpenVINO may be able to run."""
    rows: dict[str, str] = {}
    for name in models:
        if not name.endswith(REFUSED):
            rows |= {f"{OPENVINO} {name}": name}
            rows |= {f"{OPENVINO} {name} {F32}": name} if name.endswith("float") else {}
    return rows


def feeds_of(
    models: Mapping[str, Source], batch: int, seed: int, *, fixed: bool = False
) -> dict[str, dict[str, np.ndarray]]:
    """The inputs of each model, as `random_inputs` makes them. fixed: in the model's own batch size, if it has one."""
    feeds = {}
    for name, source in models.items():
        session = open_session(name, source, 1)
        sizes = [node.shape[0] for node in session.get_inputs() if node.shape and isinstance(node.shape[0], int)]
        feeds[name] = random_inputs(name, session, sizes[0] if fixed and sizes else batch, seed)
    return feeds


def _nearness(source: Source, feed: Mapping[str, np.ndarray], theirs: Iterable[np.ndarray]) -> str:
    """Such as: 40.1 dB (SQNR), or: equal."""
    ours = open_session(OPENVINO, source, 1).run(None, dict(feed))
    pairs = [(a.astype(np.float64), b.astype(np.float64)) for a, b in zip(ours, theirs, strict=True)]
    sqnr = decibels(sum(float((a**2).sum()) for a, _ in pairs), sum(float(((a - b) ** 2).sum()) for a, b in pairs))
    return f"{sqnr:.1f} dB" if not math.isinf(sqnr) else "equal" if sqnr > 0 else "not equal"
