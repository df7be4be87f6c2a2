"""bench: what ONNX models cost, against each other and against what else one could deploy, in one run on one machine.

    result = compare({"float": "float.onnx", "qoperator": "out/qoperator/model.onnx"}, batch=1, threads=2)
    result.rows[1].ratio                               # median time of qoperator / median time of float

    record = measure(subject_of_bundle("out"))         # the same, and operator shares, peak memory, the machine's int8 peak
    record.speedups["float"]                           # median time of float / median time of qoperator

| what | where |
|---|---|
| latency in alternating blocks | timing.py |
| what is compared: files and bundles; networks by name or checkpoint; ONNX Runtime's own quantization | sources.py, network.py, peer.py |
| share of each operator type, peak memory, int8 peak, arithmetic of a network | operators.py, memory.py, peak.py, work.py |
| all of it as one record; records as JSON lines, and medians of their ratios | record.py, journal.py |
| programs that run in processes of their own | children.py, child/ |
"""

from __future__ import annotations

from .record import Record, measure
from .sources import FLOAT, Subject, collect, subject_of_bundle
from .timing import BenchResult, Latency, compare

__all__ = ["FLOAT", "BenchResult", "Latency", "Record", "Subject", "collect", "compare", "measure", "subject_of_bundle"]
