#!/usr/bin/env bash
# torch 2.13.0: FusedMovingAvgObsFakeQuantize, which the default QAT configurations use, and FakeQuantize make other
# scales of the same observer, the same ranges and the same codes, where the scheme is symmetric.
# Expected: the same scales: it is documented as a fused module of the same two steps.
# Seen: of weights from -1 to 0.5 with codes -128 … 127 the one has 1/127.5 (the largest magnitude lies between two
# codes), the other 1/128 (the lowest code is the lowest weight); of a channel of zeros 1.2e-7, and 0.1 with the
# zero point 127; a channel from 0.5 to 1 gets 1/255 and the zero point -128 from the other, in a symmetric scheme. Which of them made a checkpoint
# shows in its flags alone: fake_quant_enabled is a byte in one and an int64 in the other.
# The script fails if that changes.
set -euo pipefail
export ORT_DISABLE_TELEMETRY=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$work/env/bin/python" -W ignore - <<'PYTHON'
import torch
from torch.ao.quantization import FakeQuantize, FusedMovingAvgObsFakeQuantize, MovingAveragePerChannelMinMaxObserver

weight = torch.tensor([[-1.0, 0.0, 0.5], [0.0, 0.0, 0.0], [0.5, 0.75, 1.0]])
found = {}
for kind in (FakeQuantize, FusedMovingAvgObsFakeQuantize):
    quantizer = kind(
        observer=MovingAveragePerChannelMinMaxObserver,
        quant_min=-128,
        quant_max=127,
        dtype=torch.qint8,
        qscheme=torch.per_channel_symmetric,
    )
    quantizer(weight)
    state = quantizer.state_dict()
    ranges = [state[f"activation_post_process.{name}_val"].tolist() for name in ("min", "max")]
    scales, zero_points = state["scale"].tolist(), state["zero_point"].tolist()
    found[kind.__name__] = (ranges, scales, state["fake_quant_enabled"].dtype, zero_points)
    print(kind.__name__, "ranges", ranges, "scales", scales, "zero points", zero_points)
apart, fused = found.values()
assert apart[0] == fused[0], "the ranges are the same"
assert abs(apart[1][0] - 1 / 127.5) < 1e-9 and abs(fused[1][0] - 1 / 128) < 1e-9
assert apart[1][1] < 1e-6 and abs(fused[1][1] - 0.1) < 1e-7
assert abs(apart[1][2] - 1 / 127.5) < 1e-9 and abs(fused[1][2] - 1 / 255) < 1e-9
assert (apart[3], fused[3]) == ([0, 0, 0], [0, 127, -128])
assert (apart[2], fused[2]) == (torch.uint8, torch.int64)
print("as described: other scales of the same ranges")
PYTHON
