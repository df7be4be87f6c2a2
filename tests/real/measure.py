"""One network at some bits: its samples, the files of all ways to quantize it, and what each file is worth."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .files import EIGHT, PEERS, STATIC, Bits, file_of, folder_of, load, runner
from .latency import Latency, latencies
from .networks import NETWORKS
from .networks.network import Network

HERE = Path(__file__).parent
LIMIT = 1800  # seconds for each way


@dataclass(frozen=True)
class Way:
    """What one file is worth. score: of the network's metric, 0 … 1; None where there is no file, and why.

    cpu: seconds of processor time that it took to make the file.
    """

    score: float | None
    sqnr_db: float | None = None
    cpu: float | None = None
    why: str = ""


@dataclass(frozen=True)
class Result:
    """ways: by name. latency: of one sample, of the float file and of the best peers beside it.

    ours: what `ours.py` told of the bundle; None where there is none.
    """

    name: str
    samples: int
    ways: dict[str, Way]
    ours: dict[str, Any] | None
    latency: Latency | None


@dataclass(frozen=True)
class FewBits:
    """Fewer than 8 bits; ours: what `ours.py` told of the bundle of each method. Speeds are not measured.

    commit: of this project, as it was measured; "" outside a checkout.
    """

    name: str
    bits: str
    samples: int
    ways: dict[str, Way]
    ours: dict[str, dict[str, Any]]
    commit: str


def measured(name: str, folder: Path, networks: Path, peers: Path) -> Result:
    """folder: where the files of the network are kept; the samples and the files of peers are not made again."""
    directory, network = folder / name, NETWORKS[name]
    ways, told = _all_ways(directory, EIGHT, ("ours",), networks, peers)
    shown = [way for way in ("ours", best(ways, STATIC), best(ways, ("nncf",))) if way and ways[way].score is not None]
    timed = latencies({way: file_of(directory, way) for way in ("float", *shown)}, network.one(_inputs(directory)))
    return Result(name, _count(directory), ways, told.get("ours"), timed)


def few_bits(name: str, folder: Path, networks: Path, peers: Path, bits: Bits) -> FewBits:
    """The same with fewer bits, by both methods that are for it."""
    ways, told = _all_ways(folder / name, bits, ("mse", "reconstruction"), networks, peers)
    return FewBits(name, str(bits), _count(folder / name), ways, told, _commit())


def _commit() -> str:
    command = ["git", "-C", str(HERE), "describe", "--always", "--dirty"]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout.strip()


def _all_ways(
    directory: Path, bits: Bits, ours: tuple[str, ...], networks: Path, peers: Path
) -> tuple[dict[str, Way], dict[str, dict[str, Any]]]:
    """All that there is of one network, and what our program told of its own."""
    if not (directory / "evaluation.npz").exists():
        _started([str(networks), "-m", "real.make", directory.name, str(directory)], check=True)
    out = folder_of(directory, bits)
    out.mkdir(exist_ok=True)
    given = [str(directory), str(out), *bits.arguments]
    whys = {way: _made(out, way, [str(peers), str(HERE / "peers.py"), way, *given]) for way in PEERS}
    for way in ours:
        (out / f"{way}.json").unlink(missing_ok=True)
        whys[way] = _made(out, way, [sys.executable, "-m", "real.ours", way, *given])
    ways = _ways(directory, out, whys)
    return ways, {way: json.loads((out / f"{way}.json").read_text()) for way in ours if ways[way].score is not None}


def _count(directory: Path) -> int:
    return len(next(iter(load(directory / "calibration.npz").values())))


def best(ways: dict[str, Way], names: tuple[str, ...]) -> str | None:
    """The name of the way with the highest score; None where none has a file."""
    known = {name: ways[name].score for name in names if ways[name].score is not None}
    return max(known, key=lambda name: known[name] or 0.0) if known else None


def _made(out: Path, way: str, program: list[str]) -> str:
    """Run the program unless what it makes is there; why it failed, or nothing."""
    told = out / f"{way}.json"
    if told.exists() and "why" not in json.loads(told.read_text()):
        return ""
    done = _started(program)
    if done.returncode == 0:
        return ""
    last = (done.stderr.strip().splitlines() or ["it was killed"])[-1][:300]
    why = f"it takes more than {LIMIT} s" if done.returncode == 124 else last
    told.write_text(json.dumps({"why": why}))
    return why


def _started(command: list[str], check: bool = False) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(HERE.parent), os.environ.get("PYTHONPATH", "")))}
    environment |= {"ORT_DISABLE_TELEMETRY": "1", "TQDM_DISABLE": "1"}
    limited = ["timeout", "-k", "10", str(LIMIT), *command]
    if check:
        return subprocess.run(limited, env=environment, text=True, check=True)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    return subprocess.run(limited, env=environment, text=True, check=False, **quiet)


def _inputs(directory: Path) -> dict[str, np.ndarray]:
    return {name: array for name, array in load(directory / "evaluation.npz").items() if name != "truth"}


def _ways(directory: Path, out: Path, whys: dict[str, str]) -> dict[str, Way]:
    """What each file is worth. whys: by way, why there is no file."""
    network: Network = NETWORKS[directory.name]
    inputs, truth = _inputs(directory), load(directory / "evaluation.npz").get("truth")
    expected = network.outputs(runner(directory / "float.onnx"), inputs)
    found = {}
    for name, why in whys.items():
        way = Way(None, why=why)
        try:
            outputs = [] if why else network.outputs(runner(file_of(out, name)), inputs)
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            outputs, way = [], replace(way, why=str(error).splitlines()[0][:300])
        if outputs:
            cpu = json.loads((out / f"{name}.json").read_text()).get("cpu")
            way = Way(network.score(outputs, expected, truth), _decibel(outputs[0], expected[0]), cpu)
        found[name] = way
    return found


def _decibel(y: np.ndarray, expected: np.ndarray) -> float:
    wanted = expected.astype(np.float64)
    return float(10 * np.log10(np.square(wanted).sum() / max(np.square(y - wanted).sum(), 1e-300)))


def as_json(result: Result | FewBits) -> str:
    """One line."""
    return json.dumps(asdict(result))
