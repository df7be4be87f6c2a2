"""What an export of a large network takes in memory, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MOST = 3.0  # times the parameters in float32, beyond what a small export takes
EXPORT = """
import resource, sys
import torch
from torch import nn
import calib, lsq_export

def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

def export(width, layers, out):
    torch.manual_seed(0)
    net = nn.Sequential(*(part for _ in range(layers) for part in (nn.Linear(width, width), nn.ReLU()))).eval()
    parameters = sum(p.numel() * p.element_size() for p in net.parameters())
    model = lsq_export.prepare(net)
    del net
    x = torch.randn(4, width)
    calib.initialize(model, [x], method="minmax")
    bundle = lsq_export.export(model, x[:1], out, calibration=[x])
    assert bundle.parity.ok, bundle.parity.verdict
    return parameters

export(8, 6, sys.argv[1] + "/small")
small = peak()
parameters = export(2600, 6, sys.argv[1] + "/large")
print((peak() - small) / parameters)
"""


@pytest.mark.slow
def test_three_times_the_parameters_are_enough(tmp_path: Path) -> None:
    command = [sys.executable, "-c", EXPORT, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.splitlines()[-1]) < MOST
