"""OpenVINO's CPU plugin, with the precision f32: by default it computes floats in bfloat16 where the processor can."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # it is optional, and would tell its maker

import openvino  # noqa: E402

Arrays = dict[str, np.ndarray]


def version() -> str:
    """Of the package."""
    return str(openvino.__version__).split("-")[0]


def opened(path: str, feeds: Arrays, names: list[str]) -> Callable[[Arrays], Arrays]:
    """The model, compiled."""
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = openvino.Core().compile_model(path, "CPU", options)

    def run(batch: Arrays) -> Arrays:
        found = compiled([batch[port.any_name] for port in compiled.inputs])
        return {name: np.array(found[index]) for index, name in enumerate(names)}

    return run
