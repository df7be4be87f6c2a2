"""The yardstick: how many 8-bit operations per second ONNX Runtime does on this machine at best."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from .sessions import open_session

SIZES = (512, 1024, 2048)  # which is fastest depends on the caches
RUNS, WARMUP = 10, 2


def int8_peak(threads: int = 2, *, sizes: Sequence[int] = SIZES, runs: int = RUNS) -> float:
    """GOP/s (10^9 multiplications and additions a second) of MatMulInteger, in the fastest run of the fastest size n.

    It multiplies uint8 [n, n] with a constant int8 [n, n].
    """
    return max(_speed(size, threads, runs) for size in sizes)


def _speed(size: int, threads: int, runs: int) -> float:
    rng = np.random.default_rng(0)
    a = rng.integers(0, 255, (size, size), dtype=np.uint8, endpoint=True)
    b = rng.integers(-64, 64, (size, size), dtype=np.int8, endpoint=True)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["y"])],
        "int8_peak",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, [size, size])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [size, size])],
        [numpy_helper.from_array(b, "b")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = open_session("int8 peak", proto.SerializeToString(), threads)
    seconds = []
    for _ in range(WARMUP + runs):
        start = time.perf_counter()
        session.run(None, {"a": a})
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds[WARMUP:]) / 1e9
