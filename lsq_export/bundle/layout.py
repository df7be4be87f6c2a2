"""The names of the files in a bundle (`directory.py` says what they are), and how large they may be."""

from __future__ import annotations

from pathlib import Path

MANIFEST, PARITY, REPORT, SUMS = "manifest.json", "parity.json", "report.html", "SHA256SUMS"
SIGNATURE = "SHA256SUMS.minisig"  # of a bundle that somebody signed
BENCH = "bench.json"  # latencies, where a demo or `bench --json` put them
REPLAY = "replay.json"  # what runtimes made of it, where `replay --record` put it
AGAINST_FLOAT = "against_float.json"  # what quantization cost, where `calibrate` measured it
MODEL, README, RUN = "model.onnx", "README.md", "run.py"
EXAMPLES = ("example.cpp", "example.mjs")  # that run the golden vectors
SCHEMA = "manifest.schema.json"
LOOKUP, KERNELS = "lookup", "kernels"  # a format, and in its folder the source of the operators that make it fast
TRAINED, FOLDED = Path("reference/trained.onnx"), Path("reference/folded.onnx")
ADDED = (BENCH, REPLAY, AGAINST_FLOAT)  # records that an export does not write
RECORDS = (PARITY, REPORT, *ADDED)  # what may change after the export
AGAIN = "copy or export the bundle again"

LARGEST = 2**31 - 1  # bytes of any file: protobuf, and with it an ONNX file, ends there
LARGEST_DATA = 2**40  # of the second file of a large one
LARGEST_JSON = 32 * 2**20
LARGEST_SUMS = 2**20
