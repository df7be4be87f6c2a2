"""magika: the type of a file from its first and last 1,024 bytes, on the files of this machine."""

from __future__ import annotations

import os
import shutil
import sysconfig
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .network import Network, Samples, folder_of, same

ROOTS = (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), "/usr/share", "/usr/lib", "/etc")
BLOCK, ENDS, PADDING = 4096, 1024, 256
CALIBRATION, EVALUATION, OF_A_KIND = 128, 300, 20


class Magika(Network):
    name, metric, batch = "magika", "same type as float", 64

    def model(self, path: Path) -> None:
        shutil.copyfile(folder_of("magika") / "models/standard_v3_3/model.onnx", path)

    def samples(self, model: Path) -> Samples:
        found = list(_contents())
        order = np.random.default_rng(0).permutation(len(found))[: CALIBRATION + EVALUATION]
        codes = np.stack([found[index] for index in order])
        return Samples({"bytes": codes[:CALIBRATION]}, {"bytes": codes[CALIBRATION:]})

    def score(self, outputs: list[np.ndarray], expected: list[np.ndarray], truth: np.ndarray | None) -> float:
        return same(outputs[0], expected[0])


def _contents() -> Iterator[np.ndarray]:
    """int32 [2048] of different files, not too many with one ending."""
    kinds: Counter[str] = Counter()
    seen: set[bytes] = set()
    for root in ROOTS:
        for folder, folders, names in os.walk(root):
            folders.sort()
            for path in (Path(folder) / name for name in sorted(names)):
                if kinds[path.suffix] == OF_A_KIND or path.is_symlink() or not path.is_file():
                    continue
                codes = _codes(path.read_bytes())
                if codes is not None and codes.tobytes() not in seen:
                    seen.add(codes.tobytes())
                    kinds[path.suffix] += 1
                    yield codes


def _codes(content: bytes) -> np.ndarray | None:
    """As magika makes them: both ends without white space; None for a file that is too short."""
    first, last = content[:BLOCK].lstrip()[:ENDS], content[-BLOCK:].rstrip()[-ENDS:]
    if len(first) < 8:
        return None
    codes = np.full(2 * ENDS, PADDING, np.int32)
    codes[: len(first)] = np.frombuffer(first, np.uint8)
    codes[2 * ENDS - len(last) :] = np.frombuffer(last, np.uint8)
    return codes
