"""Check and run a bundle where it is deployed, with numpy and onnxruntime alone: python 03_deploy.py DIR [FORMAT]

Neither PyTorch nor lsq-export is needed, and reading a tensor, all that is needed of the `onnx` package, is
written out below.
"""

import hashlib
import json
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime

RUNS = 100


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


def read_tensor(path: Path) -> np.ndarray:
    """A float32 tensor of a .pb file: dims (field 1), data_type (2) and raw_data (9) of an ONNX TensorProto."""
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
    if kind != 1:
        raise ValueError(f"{path} holds no float32 tensor")
    return np.frombuffer(raw, "<f4").reshape(dims)


def main(bundle: Path, name: str) -> int:
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    feed_name, outputs = manifest["input"]["name"], manifest["outputs"]
    print(f"made by lsq-export {manifest['lsq_export']} for {manifest['target']}")
    print(f"input {feed_name} {manifest['input']['shape']}, preprocessing {manifest['preprocessing']}")

    changed = changed_files(bundle)
    print(
        "checksums: " + ("as exported" if not changed else "these files are missing or changed: " + ", ".join(changed))
    )

    session = onnxruntime.InferenceSession(bundle / name / "model.onnx", providers=["CPUExecutionProvider"])
    vectors = bundle / name / "test_data_set_0"
    x = read_tensor(vectors / "input_0.pb")
    expected = [read_tensor(vectors / f"output_{i}.pb") for i in range(len(outputs))]
    results = session.run(outputs, {feed_name: x})
    differing = sum(int(np.count_nonzero(a != b)) for a, b in zip(results, expected, strict=True))
    print(f"golden vectors: {differing} of {sum(a.size for a in expected)} elements differ")
    print(f"top-1 of the golden inputs: {results[0].argmax(1).tolist()}")

    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        session.run(outputs, {feed_name: x[:1]})
        times.append(time.perf_counter() - start)
    print(f"latency: {1000 * np.median(times):.2f} ms, the median of {RUNS} runs of one input")

    # The bits of qoperator files are promised. In qdq files, a runtime may compute in float and round a tie elsewhere.
    return int(bool(changed) or (name == "qoperator" and differing > 0))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "qoperator"))
