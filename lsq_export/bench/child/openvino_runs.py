"""Load models into OpenVINO and run them as the parent asks: one line of JSON on stdin, one on stdout, until it ends.

    {"models": {name: {"path": …, "inputs": npz file, "precision": null | "f32"}}, "threads": 2}
    -> {"precisions": {name: "bf16"}, "failed": {name: why}, "threads": how many it takes, at most those}
    {"run": name, "warmup": 5, "runs": 5, "pause": 0.1} -> {"ms": [5 times]}
    {"save": name, "outputs": npz file} -> {}; the outputs of one run, in the order of the model

Where a request fails, the answer is {"error": why}.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import numpy as np


def quiet_openvino() -> Any:
    """The package, without what it would tell its maker: importing it writes an id into HOME and sends an event."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # it is optional for openvino itself
    import openvino

    return openvino


class Models:
    """The models that are loaded, each with its inputs."""

    def __init__(self) -> None:
        self._requests: dict[str, tuple[Any, list[np.ndarray]]] = {}

    def load(self, models: dict[str, dict[str, Any]], threads: int) -> dict[str, Any]:
        """Compile each model for the shapes of its inputs: OpenVINO is slower where it does not know them."""
        core, precisions, failed, taken = quiet_openvino().Core(), {}, {}, threads
        for name, entry in models.items():
            try:
                with np.load(entry["inputs"]) as file:
                    feed = dict(file)
                model = core.read_model(entry["path"])
                arrays = [feed[port.any_name] for port in model.inputs]
                model.reshape({port: list(array.shape) for port, array in zip(model.inputs, arrays, strict=True)})
                options = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
                if entry["precision"]:
                    options["INFERENCE_PRECISION_HINT"] = entry["precision"]
                compiled = core.compile_model(model, "CPU", options)
                if compiled.get_property("INFERENCE_NUM_THREADS") < threads:  # by default one on each physical core
                    compiled = core.compile_model(model, "CPU", {**options, "ENABLE_HYPER_THREADING": True})
                taken = min(taken, compiled.get_property("INFERENCE_NUM_THREADS"))
                self._requests[name] = compiled.create_infer_request(), arrays
                self.run(name, 1, 0, 0.0)
                precisions[name] = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
            except Exception as error:  # whatever it is, the other models may work
                failed[name] = f"{type(error).__name__}: {error}"
        return {"precisions": precisions, "failed": failed, "threads": taken}

    def run(self, name: str, warmup: int, runs: int, pause: float) -> dict[str, Any]:
        """One block, as `timing._block` does it."""
        request, arrays = self._requests[name]
        if pause > 0:
            time.sleep(pause)
        times = []
        for _ in range(warmup):
            request.infer(arrays, share_inputs=True, share_outputs=True)
        for _ in range(runs):
            start = time.perf_counter()
            request.infer(arrays, share_inputs=True, share_outputs=True)
            times.append((time.perf_counter() - start) * 1e3)
        return {"ms": times}

    def save(self, name: str, path: str) -> dict[str, Any]:
        """Write the outputs of one run."""
        request, arrays = self._requests[name]
        np.savez(path, *request.infer(arrays, share_inputs=True).values(), allow_pickle=False)
        return {}


def main() -> None:
    """Answer requests. What libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    models = Models()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "models" in request:
                answer = models.load(request["models"], request["threads"])
            elif "save" in request:
                answer = models.save(request["save"], request["outputs"])
            else:
                answer = models.run(request["run"], request["warmup"], request["runs"], request["pause"])
        except Exception as error:  # the parent makes one line of it
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
