"""The peer: what ONNX Runtime's own post-training quantization makes of the same float network.

quant_pre_process, then quantize_static per channel in both of its formats, with activation_type=QUInt8 and
weight_type=QInt8. Its default for activations, QInt8 (S8S8), runs 2.5 times slower on x86 than QUInt8 (U8S8): the peer
is measured at its best, not with its default.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from calib.errors import QuantizationError

from .children import as_file, run_child
from .sessions import Source

PEER = "quantize_static"
FORMATS = ("qdq", "qoperator")  # of the peer, and of our files


def peer_models(float_source: Source, x: np.ndarray) -> tuple[dict[str, Source], tuple[str, ...]]:
    """({"quantize_static qdq": serialized model, "quantize_static qoperator": …}, notes).

    x: float32 [N, …], what the peer is calibrated on. notes: a line for each format that ONNX Runtime cannot make, load
    or run; it is not among the models then. Errors (QuantizationError): no format can be made; why.
    """
    with TemporaryDirectory(prefix="lsq-export-bench.") as name, as_file(float_source) as path:
        directory = Path(name)
        inputs, files = directory / "inputs.npz", {kind: directory / f"{kind}.onnx" for kind in FORMATS}
        np.savez(inputs, x=x.astype(np.float32, copy=False))
        request = {"float": str(path), "inputs": str(inputs), **{kind: str(file) for kind, file in files.items()}}
        try:
            failed: Mapping[str, str] = run_child("peer_files", request, directory)["failed"]
        except QuantizationError as error:
            raise QuantizationError(
                f"ONNX Runtime's {PEER} cannot quantize the float network ({error}): leave it out with --no-peer"
            ) from error
        if len(failed) == len(FORMATS):
            reason = " ".join(failed[FORMATS[0]].split())
            raise QuantizationError(
                f"ONNX Runtime's {PEER} cannot quantize the float network ({reason}): leave it out with --no-peer"
            )
        notes = tuple(f"{PEER} {kind} does not work: {' '.join(reason.split())}" for kind, reason in failed.items())
        return {f"{PEER} {kind}": file.read_bytes() for kind, file in files.items() if kind not in failed}, notes
