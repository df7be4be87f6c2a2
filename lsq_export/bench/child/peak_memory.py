"""Load a model, run it, and tell how much memory this process needed at most.

    {"model": path, "inputs": npz file, "threads": 2, "runs": 3} -> {"peak_bytes": …}
    {"model": null} -> {"peak_bytes": …}, what the process needs without a model

Where it fails, the answer is {"error": why}.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort


def peak_bytes() -> int:
    """Largest resident set of this program.

    On Linux it is VmHWM: ru_maxrss also counts the larger parent that this process was forked from.
    """
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    """Answer one request."""
    request = json.load(sys.stdin)
    try:
        if request["model"] is not None:
            with np.load(request["inputs"]) as file:
                feed = dict(file)
            options = ort.SessionOptions()
            options.intra_op_num_threads, options.log_severity_level = request["threads"], 4
            session = ort.InferenceSession(request["model"], options, providers=["CPUExecutionProvider"])
            for _ in range(request["runs"]):
                session.run(None, feed)
        answer: dict[str, object] = {"peak_bytes": peak_bytes()}
    except Exception as error:  # the parent makes one line of it
        answer = {"error": f"{type(error).__name__}: {error}"}
    sys.stdout.write(f"\n{json.dumps(answer)}\n")


if __name__ == "__main__":
    main()
