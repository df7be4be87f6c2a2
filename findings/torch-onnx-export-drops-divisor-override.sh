#!/usr/bin/env bash
# torch 2.13.0, onnxscript 0.7.2, ONNX Runtime 1.32.0: torch.onnx.export (dynamo) of avg_pool2d with divisor_override
# writes an AveragePool that divides by the size of its window. Nothing is warned of, and the outputs are others.
# Expected: an output that is the sum of the window divided by the given number, or an error: ONNX has no such attribute.
# Seen: windows of four ones with divisor_override=1 give 4 in torch and 1 in the file.
# The script fails if that changes.
set -euo pipefail
export ORT_DISABLE_TELEMETRY=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 onnxscript==0.7.2 onnx==1.23.2 onnxruntime==1.32.0
"$work/env/bin/python" -W ignore - "$work/net.onnx" <<'PYTHON'
import sys

import onnxruntime
import torch
from torch import nn

net, x = nn.AvgPool2d(2, divisor_override=1).eval(), torch.ones(1, 1, 4, 4)
torch.onnx.export(net, (x,), sys.argv[1], dynamo=True, verbose=False)
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
(found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
print("torch", net(x).unique().tolist(), "ONNX Runtime", sorted(set(found.ravel().tolist())))
assert net(x).unique().tolist() == [4.0] and set(found.ravel().tolist()) == {1.0}
print("as described: divisor_override is lost")
PYTHON
