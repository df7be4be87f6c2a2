"""bench: what ONNX models cost, against each other and against what else one could deploy, in one run on one machine.

    models = {"float": "float.onnx", "qoperator": "out/qoperator/model.onnx"}
    result = compare(models, RunOptions(batch=1, threads=2))
    result.rows[1].speedup                             # how many times faster than float it is: 2.9, say

    measurement = measure(subject_of_bundle("out"))    # the same, and operator shares, peak memory, int8 peak
    measurement.speedups["float"]                      # how many times faster qoperator is than float

Latency in alternating blocks                                        timing.py, sessions.py, openvino.py
Intervals of ratios, and whether the machine was too busy for any    ratios.py, load.py
What is compared: files and bundles                                  sources.py
    networks by name or checkpoint, ONNX Runtime's own quantization  network.py, float_model.py, peer.py
Share of each operator type, peak memory, int8 peak, arithmetic      operators.py, memory.py, peak.py, work.py
All of it as one measurement; these as JSON lines, and medians       measurement.py, journal.py
Programs that run in processes of their own                          children.py, child/
The cost of training steps and of the initialization                 qat_step.py, initialization.py, turns.py
"""

from __future__ import annotations

from .measurement import Measurement, measure
from .sources import FLOAT, Subject, collect, subject_of_bundle
from .timing import BenchResult, Latency, RunOptions, compare

__all__ = [
    "FLOAT",
    "BenchResult",
    "Latency",
    "Measurement",
    "RunOptions",
    "Subject",
    "collect",
    "compare",
    "measure",
    "subject_of_bundle",
]
