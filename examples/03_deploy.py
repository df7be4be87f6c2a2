"""Check a bundle where it is deployed, with numpy and onnxruntime alone: python 03_deploy.py DIR [FORMAT]

This holds checksums and golden vectors to what is promised, and times the network. DIR/run.py runs it on your own data.

Neither PyTorch nor lsq-export is needed, and reading a tensor, all that is needed of the `onnx` package, is
written out below. Exit code 1: a file is missing or changed, or the golden vectors do not come out as they have to.
"""

import hashlib
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before the import: nothing is kept of this run, nobody is told
import onnxruntime

RUNS = 100
ROUNDING = 1e-5  # of the largest output: float32 arithmetic in another order differs by less
CLOSE_DB = 20.0  # a tenth of the outputs' amplitude, where a runtime may round a code the other way


def changed_files(bundle: Path) -> list[str]:
    """Names of files that are missing, or have another checksum than SHA256SUMS says."""
    lines = (bundle / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    digests = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    return [
        name
        for name, digest in digests.items()
        if not (bundle / name).is_file() or hashlib.sha256((bundle / name).read_bytes()).hexdigest() != digest
    ]


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of protobuf's variable length, 7 bits a byte, and where the next one begins."""
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 0x80:
            return value, at


TYPES = {1: "<f4", 7: "<i8", 9: "?"}  # of TensorProto: FLOAT, INT64, BOOL


def read_tensor(path: Path) -> np.ndarray:
    """A tensor of a .pb file: dims (field 1), data_type (2) and raw_data (9) of an ONNX TensorProto."""
    data, at, dims, kind, raw = path.read_bytes(), 0, [], 0, b""
    while at < len(data):
        key, at = varint(data, at)
        field, is_bytes = key >> 3, key & 7 == 2
        value, at = varint(data, at)  # a number, or how many bytes follow
        content, at = (data[at : at + value], at + value) if is_bytes else (b"", at)
        if field == 1 and is_bytes:  # dims, packed
            position = 0
            while position < len(content):
                dim, position = varint(content, position)
                dims.append(dim)
        elif field == 1:
            dims.append(value)
        elif field == 2:
            kind = value
        elif field == 9:
            raw = content
    if kind not in TYPES:
        raise ValueError(f"{path} holds a tensor of the type {kind}")
    return np.frombuffer(raw, TYPES[kind]).reshape(dims)


def sqnr_db(found: list[np.ndarray], expected: list[np.ndarray]) -> float:
    """10·log10 of the sum of squares of the expected outputs over that of the differences; infinite if equal."""
    noise = sum(float(np.sum((a.astype(np.float64) - b) ** 2)) for a, b in zip(found, expected, strict=True))
    signal = sum(float(np.sum(b.astype(np.float64) ** 2)) for b in expected)
    return 10 * float(np.log10(signal / noise)) if noise > 0 else float("inf") if noise == 0 else float("-inf")


def judge(
    found: list[np.ndarray], expected: list[np.ndarray], *, same_bits: bool, close_db: float = CLOSE_DB
) -> tuple[bool, str]:
    """Whether golden outputs are good, and why.

    same_bits: every bit has to be the same. Otherwise float rounding may differ, and so may single codes that lie next
    to a rounding tie: the classes then have to be the same, and the SQNR no lower than close_db.
    """
    elements = sum(b.size for b in expected)
    differing = sum(int(np.count_nonzero(a != b)) for a, b in zip(found, expected, strict=True))
    counted = f"{differing} of {elements} elements differ"
    if differing == 0 or same_bits:
        return differing == 0, counted
    if all(np.abs(a - b).max() <= ROUNDING * np.abs(b).max() for a, b in zip(found, expected, strict=True)):
        return True, f"{counted}, by no more than float rounding"
    decibels = sqnr_db(found, expected)
    same_class = all(np.array_equal(a.argmax(1), b.argmax(1)) for a, b in zip(found, expected, strict=True))
    classes = "the same classes" if same_class else "other classes"
    return same_class and decibels >= close_db, f"{counted}, {classes}, SQNR {decibels:.1f} dB of {close_db:.1f} needed"


def close_enough(bundle: Path) -> float:
    """The SQNR in dB that golden outputs need: what the trained network gives on inputs × 1.0001, CLOSE_DB at most."""
    nudged = json.loads((bundle / "parity.json").read_text(encoding="utf-8"))["nudged_sqnr_db"]
    return CLOSE_DB if nudged is None else min(CLOSE_DB, nudged)  # None: infinite


def main(bundle: Path, name: str) -> int:
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    inputs, outputs = manifest.get("inputs") or [manifest["input"]], manifest["outputs"]
    print(f"made by lsq-export {manifest['lsq_export']} for {manifest['target']}")
    shapes = ", ".join(f"{one['name']} {one['shape']}" for one in inputs)
    print(f"input {shapes}, preprocessing {manifest['preprocessing']}")

    changed = changed_files(bundle)
    print(
        "checksums: " + ("as exported" if not changed else "these files are missing or changed: " + ", ".join(changed))
    )

    options = onnxruntime.SessionOptions()
    if manifest["formats"][name]["optimization"] == "disabled":  # ONNX Runtime's optimizations would change the codes
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(bundle / name / "model.onnx", options, providers=["CPUExecutionProvider"])
    vectors = bundle / name / "test_data_set_0"
    x = {one["name"]: read_tensor(vectors / f"input_{i}.pb") for i, one in enumerate(inputs)}
    expected = [read_tensor(vectors / f"output_{i}.pb") for i in range(len(outputs))]
    results = session.run(outputs, x)
    # Promised are the bits of qoperator files without float islands. Elsewhere a runtime, or another machine, may round
    # a tie the other way.
    islands = [island["name"] for island in manifest["islands"]]
    if islands:
        print(f"float islands: {', '.join(islands)}")
    same_bits = name == "qoperator" and not islands
    good, why = judge(results, expected, same_bits=same_bits, close_db=close_enough(bundle))
    print(f"golden vectors: {'good' if good else 'WRONG'}, {why}")
    print(f"top-1 of the golden inputs: {results[0].argmax(1).tolist()}")

    times, first = [], {key: array[:1] for key, array in x.items()}
    for _ in range(RUNS):
        start = time.perf_counter()
        session.run(outputs, first)
        times.append(time.perf_counter() - start)
    print(f"latency: {1000 * np.median(times):.2f} ms, the median of {RUNS} runs of one input")

    return int(bool(changed) or not good)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "qoperator"))
