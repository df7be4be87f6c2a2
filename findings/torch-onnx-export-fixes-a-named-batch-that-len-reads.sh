#!/usr/bin/env bash
# torch 2.13.0 with onnxscript 0.7.2: torch.onnx.export(dynamo=True) of a module whose forward has x.reshape(len(x), -1),
# with the batch named in dynamic_shapes as torch.export.Dim("batch").
# Expected: a file with the axis "batch", or the error that torch.export raises of the same call.
# Seen: no error, and a file whose batch is that of the example, 2: ONNX Runtime 1.32.0 refuses a batch of three. The
# same call of torch.export alone raises "Constraints violated (batch)". With Dim.DYNAMIC in place of the name, or with
# x.shape[0] in place of len(x), the batch varies.
# The script fails if that changes.
set -euo pipefail
export ORT_DISABLE_TELEMETRY=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check \
  torch==2.13.0 onnxscript==0.7.2 onnx==1.23.2 onnxruntime==1.32.0
"$work/env/bin/python" - 2> "$work/stderr" <<'PYTHON' || { tail -5 "$work/stderr" >&2; exit 1; }
import warnings

import numpy as np
import onnxruntime as ort
import torch
from torch import nn
from torch.export import Dim

warnings.simplefilter("ignore")


class ByLen(nn.Module):
    def forward(self, x):
        return x.reshape(len(x), -1)


class ByShape(nn.Module):
    def forward(self, x):
        return x.reshape(x.shape[0], -1)


def batch_of(model, dim):
    """(the batch that the file has, whether ONNX Runtime takes another one)"""
    program = torch.onnx.export(
        model, (torch.zeros(2, 3, 4),), dynamo=True, dynamic_shapes=({0: dim},), input_names=["x"], verbose=False
    )
    file = program.model_proto
    axis = file.graph.input[0].type.tensor_type.shape.dim[0]
    session = ort.InferenceSession(file.SerializeToString(), providers=["CPUExecutionProvider"])
    try:
        shape = session.run(None, {"x": np.zeros((3, 3, 4), np.float32)})[0].shape
    except Exception:
        return axis.dim_value or "named", False
    return axis.dim_value or "named", shape == (3, 12)


EXPECTED = {
    ("len(x)", "Dim('batch')"): (2, False),
    ("len(x)", "Dim.DYNAMIC"): ("named", True),
    ("x.shape[0]", "Dim('batch')"): ("named", True),
    ("x.shape[0]", "Dim.DYNAMIC"): ("named", True),
}
for (read, dim), expected in EXPECTED.items():
    model = ByLen() if read == "len(x)" else ByShape()
    found = batch_of(model, Dim("batch") if "batch" in dim else Dim.DYNAMIC)
    print(f"{read}, {dim}: batch {found[0]}, {'takes' if found[1] else 'refuses'} three")
    assert found == expected, (read, dim, found)
try:
    torch.export.export(ByLen(), (torch.zeros(2, 3, 4),), dynamic_shapes=({0: Dim("batch")},))
except Exception as error:
    said = str(error).strip().splitlines()[0]
    print("torch.export alone:", said[:60])
    assert "Constraints violated (batch)" in said
else:
    raise AssertionError("torch.export takes it")
print("as described: the named batch became that of the example, without a word")
PYTHON
