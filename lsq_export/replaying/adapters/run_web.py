"""onnxruntime-web: ONNX Runtime in WebAssembly, in node. It is looked for in NODE_PATH and in node_modules here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np

Arrays = dict[str, np.ndarray]
PACKAGE, WORKER = "onnxruntime-web", Path(__file__).parent / "web_worker.mjs"


def package(start: Path) -> Path | None:
    """The folder of the package, in NODE_PATH or in node_modules of `start`; None: it is in neither."""
    places = [place for place in os.environ.get("NODE_PATH", "").split(os.pathsep) if place]
    found = next((path for place in [*places, "node_modules"] if (path := start / place / PACKAGE).is_dir()), None)
    return found and found.absolute()


def home() -> Path:
    """The folder of the package. Errors (ModuleNotFoundError): there is none, or no node."""
    if shutil.which("node") is None:
        raise ModuleNotFoundError("there is no node", name="node")
    found = package(Path(os.environ.get("REPLAY_FROM", ".")))  # where the command was started
    if found is None:
        raise ModuleNotFoundError(f"there is no {PACKAGE}", name=PACKAGE)
    return found


def version() -> str:
    """Of the package."""
    return str(json.loads((home() / "package.json").read_text(encoding="utf-8"))["version"])


def opened(path: str, feeds: Arrays, names: list[str]) -> Callable[[Arrays], Arrays]:
    """A process of node for each batch."""

    def run(batch: Arrays) -> Arrays:
        Path("inputs.bin").write_bytes(b"".join(value.tobytes() for value in batch.values()))
        tensors = [{"name": name, "type": str(x.dtype), "shape": list(x.shape)} for name, x in batch.items()]
        request = {"home": str(home()), "model": path, "inputs": tensors}
        done = subprocess.run(
            ["node", str(WORKER)], input=json.dumps(request), capture_output=True, text=True, check=False
        )
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if "rror" in line]
            raise RuntimeError((lines or [f"node ends with {done.returncode}"])[0])
        bytes_, found, offset = Path("outputs.bin").read_bytes(), {}, 0
        for entry in json.loads(done.stdout.splitlines()[-1]):
            kind, shape = np.dtype(entry["type"]), entry["shape"]
            count = int(np.prod(shape, dtype=np.int64))
            found[entry["name"]] = np.frombuffer(bytes_, kind, count, offset).reshape(shape)
            offset += count * kind.itemsize
        return found

    return run
