"""What calibration takes in memory does not grow with the number of samples.

Every layer sees more values of 100 samples than statistics have points (4096), so that the search is as large as ever.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PEAK = """
import resource, sys
import torch
from torch import nn
import lsq_export

method, count = sys.argv[1], int(sys.argv[2])
torch.manual_seed(0)
net = nn.Sequential(
    nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
    nn.Flatten(), nn.Linear(64, 10),
).eval()

def batches():
    generator = torch.Generator().manual_seed(1)
    for _ in range(count // 50):
        yield torch.randn(50, 3, 16, 16, generator=generator)

config = lsq_export.QATConfig(weight_bits=4, activation_bits=4, edges="calibrated")
lsq_export.calibrate(net, batches(), config, method=method)
print(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def _peak(method: str, count: int) -> int:
    command = [sys.executable, "-c", PEAK, method, str(count)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize(("method", "few"), [("mse", 100), ("reconstruction", 300)])
def test_ten_thousand_samples_take_the_memory_of_a_hundred(method: str, few: int) -> None:
    """Reconstruction learns from 256 samples at most: it is compared from there on."""
    assert _peak(method, 10_000) <= 1.1 * _peak(method, few)
