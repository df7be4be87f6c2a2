"""One network: its samples, the files of all ways to quantize it, and what each file is worth."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

import lsq_export

from .networks import NETWORKS
from .networks.network import Arrays, Network, Run

PEERS = ("minmax", "entropy", "percentile", "nncf")
OURS = ("qdq", "qoperator")
HERE = Path(__file__).parent
BATCH = 16


@dataclass(frozen=True)
class Way:
    """What one file is worth. score: of the network's metric, 0 … 1; None where there is no file, and why."""

    score: float | None
    sqnr_db: float | None
    seconds: float | None
    why: str = ""


@dataclass(frozen=True)
class Result:
    """ways: by name. operators: how many of the qoperator file are of which type. differing: of ONNX Runtime and the
    integer reference, in elements."""

    name: str
    samples: int
    ways: dict[str, Way]
    operators: dict[str, int]
    differing: int | None


def measured(name: str, folder: Path, networks: Path, peers: Path) -> Result:
    """folder: where the files of the network are kept; those that are there are not made again."""
    directory, network = folder / name, NETWORKS[name]
    environment = os.environ | {"PYTHONPATH": str(HERE.parent), "ORT_DISABLE_TELEMETRY": "1"}
    if not (directory / "evaluation.npz").exists():
        subprocess.run([networks, "-m", "real.make", name, directory], check=True, env=environment)
    whys: dict[str, str] = {}
    for method in PEERS:
        if not (directory / f"{method}.onnx").exists():
            command = [peers, HERE / "peers.py", method, directory]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            whys[method] = (done.stderr.strip().splitlines() or [""])[-1][:200] if done.returncode else ""
    try:
        differing = _ours(directory)
    except lsq_export.QuantizationError as error:
        whys |= dict.fromkeys(OURS, str(error)[:200])
        differing = None
    ways = _ways(directory, network, whys)
    return Result(name, _count(_load(directory / "calibration.npz")), ways, _operators(directory), differing)


def _ours(directory: Path) -> int:
    arrays = {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in _load(directory / "calibration.npz").items()}

    def batches() -> Iterator[Any]:
        for start in range(0, _count(arrays), BATCH):
            part = {name: array[start : start + BATCH] for name, array in arrays.items()}
            yield part if len(part) > 1 else next(iter(part.values()))

    before = time.perf_counter()
    network = lsq_export.calibrate(directory / "float.onnx", batches())
    bundle = lsq_export.export(network, None, directory / "ours", calibration=batches(), force=True, sample=False)
    seconds = time.perf_counter() - before
    for name in OURS:
        (directory / f"{name}.json").write_text(json.dumps({"seconds": seconds}))
    assert bundle.parity is not None
    return int(bundle.parity.formats["qoperator"].reference_mismatch)


def _ways(directory: Path, network: Network, whys: dict[str, str]) -> dict[str, Way]:
    inputs = _load(directory / "evaluation.npz")
    truth = inputs.pop("truth", None)
    expected = network.outputs(_run(directory / "float.onnx"), inputs)
    found = {}
    for name in (*OURS, *PEERS):
        path = directory / "ours" / name / "model.onnx" if name in OURS else directory / f"{name}.onnx"
        try:
            outputs = network.outputs(_run(path), inputs)
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            found[name] = Way(None, None, None, whys.get(name) or str(error)[:200])
            continue
        seconds = json.loads((directory / f"{name}.json").read_text())["seconds"]
        found[name] = Way(network.score(outputs, expected, truth), _decibel(outputs[0], expected[0]), seconds)
    return found


def _decibel(y: np.ndarray, expected: np.ndarray) -> float:
    wanted = expected.astype(np.float64)
    return float(10 * np.log10(np.square(wanted).sum() / max(np.square(y - wanted).sum(), 1e-300)))


def _run(path: Path) -> Run:
    """One thread; sample after sample where the file wants that; integers in the type that it takes."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    given = session.get_inputs()
    types = {value.name: np.int32 if value.type == "tensor(int32)" else None for value in given}
    alone = given[0].shape[0] == 1

    def run(inputs: Arrays) -> list[np.ndarray]:
        feeds = {k: v if types[k] is None else v.astype(types[k]) for k, v in inputs.items()}
        count = _count(feeds)
        if not alone or count == 1:
            return list(session.run(None, feeds))
        outputs = [session.run(None, {k: v[i : i + 1] for k, v in feeds.items()}) for i in range(count)]
        return [np.concatenate(parts) for parts in zip(*outputs, strict=True)]

    return run


def _operators(directory: Path) -> dict[str, int]:
    import onnx

    path, found = directory / "ours/qoperator/model.onnx", dict[str, int]()
    for node in onnx.load(path).graph.node if path.exists() else ():
        found[node.op_type] = found.get(node.op_type, 0) + 1
    return found


def _load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _count(arrays: Any) -> int:
    return len(next(iter(arrays.values())))


def as_json(result: Result) -> str:
    """One line."""
    return json.dumps(asdict(result))
