"""A model in a runtime, in a process of its own: one that crashes, hangs or lacks a package is a line here."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx

from calib.errors import one_line
from lsq_export.files import large_onnx

from .runtime import Runtime

PROGRAM = Path(__file__).parent / "adapters" / "child.py"
LONGEST = 300  # characters of what a runtime says


@dataclass(frozen=True)
class Ran:
    """What a run gave.

    outputs: {name: array}; none unless `how` is "ran". how: "ran", "refused" (the runtime says why), "missing" (a
    package), "crashed", "out of time". why: the reason, as a line. version: of the runtime, where it was found.
    """

    how: str
    outputs: Mapping[str, np.ndarray] = field(default_factory=dict)
    version: str = ""
    why: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Place:
    """Where runtimes run: the interpreter that has their packages, and the seconds that one run may take.

    options: "optimization" of ONNX Runtime, as the manifest of a bundle has it; "default" if it is left out.
    """

    python: str = sys.executable
    seconds: float = 300.0
    options: Mapping[str, str] = field(default_factory=dict)

    def run(
        self,
        runtime: Runtime,
        model: onnx.ModelProto,
        feeds: Mapping[str, np.ndarray],
        batch: int,
        file: Path | None = None,
    ) -> Ran:
        """Run a model on {input: [N, …]}, so many at a time. Whatever happens is in what comes back.

        file: it is this one, and run byte for byte as it lies there.
        """
        with TemporaryDirectory(prefix="lsq-export-replay.", ignore_cleanup_errors=True) as directory:
            folder = Path(directory)
            if file is None:
                large_onnx.save(model, folder / "model.onnx")
            else:
                _copy(file, folder / "model.onnx")
            np.savez(folder / "feeds.npz", allow_pickle=False, **feeds)
            request: dict[str, Any] = {"model": str(folder / "model.onnx"), "feeds": "feeds.npz", "batch": batch}
            request["names"] = [value.name for value in model.graph.output]
            start = time.monotonic()
            code, answer, said = self._asked(runtime, {**request, "results": "results.npz"}, folder)
            return _read(code, answer, said, folder, time.monotonic() - start)

    def _asked(self, runtime: Runtime, request: Mapping[str, Any], folder: Path) -> tuple[int | None, str, str]:
        """(exit code, None: it took too long; last line of stdout; stderr)."""
        environment = {**os.environ, "TMPDIR": str(folder), "REPLAY_FROM": os.getcwd()}
        environment |= {"OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
        environment |= {f"REPLAY_{name.upper()}": value for name, value in self.options.items()}
        environment.pop("PYTHONPATH", None)  # adapters need nothing of ours
        with (folder / "stderr").open("w+b") as errors:
            process = subprocess.Popen(
                [self.python, "-W", "ignore", str(PROGRAM), runtime.adapter],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=folder,
                env=environment,
                start_new_session=True,
            )
            try:
                output, _ = process.communicate(json.dumps(request).encode(), timeout=self.seconds)
                code: int | None = process.returncode
            except subprocess.TimeoutExpired:
                code, output = None, b""
            finally:
                _end(process)
            errors.seek(0)
            lines = output.decode("utf-8", "replace").strip().splitlines()
            return code, lines[-1] if lines else "", errors.read().decode("utf-8", "replace")


def _copy(file: Path, to: Path) -> None:
    """A model and the files that it has constants in; runtimes may write into theirs."""
    shutil.copyfile(file, to)
    for name in large_onnx.other_files(onnx.load_model(file, load_external_data=False)):
        (to.parent / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file.parent / name, to.parent / name)


def _end(process: subprocess.Popen[bytes]) -> None:
    """The process and all that it started: its session is its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


def _read(code: int | None, line: str, said: str, folder: Path, seconds: float) -> Ran:
    if code is None:
        return Ran("out of time", why=f"it was ended after {seconds:.0f} s", seconds=seconds)
    try:
        answer = json.loads(line)
        version = str(answer.get("version", ""))
    except (ValueError, AttributeError):
        return Ran("crashed", why=_ended(code, said), seconds=seconds)
    if "missing" in answer:
        return Ran("missing", version=version, why=f"{answer['missing']} is not installed", seconds=seconds)
    if "outputs" not in answer:
        return Ran(
            "refused", version=version, why=_short(str(answer["error"]).replace(f"{folder}/", "")), seconds=seconds
        )
    with np.load(folder / "results.npz", allow_pickle=False) as file:
        outputs = {name: file[f"output_{index}"] for index, name in enumerate(answer["outputs"])}
    return Ran("ran", outputs=outputs, version=version, seconds=seconds)


def _ended(code: int, said: str) -> str:
    """How a process ended that gave no answer."""
    lines = [line for line in said.splitlines() if line.strip()]
    last = f" ({_short(lines[-1])})" if lines else ""
    if code < 0:
        names = {number.value: number.name for number in signal.Signals}
        return f"its process was ended by {names.get(-code, -code)}{last}"
    return f"its process ended with exit code {code}{last}"


def _short(text: object) -> str:
    line = one_line(text)
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}…"
