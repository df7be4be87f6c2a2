"""One way to quantize one network, in a process of its own: `python -m untrained.run NETWORK BITS WAY FLOAT` -> JSON.

Seconds are those of the processor, of one thread, with all that the way imports; reading the float network and the
data is not counted.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

SEED = 0
IMAGES, EPOCHS = 512, 10


def main() -> None:
    name, bits, way, file = sys.argv[1:]
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    from lsq_export.data import load
    from lsq_export.training.checkpoint import restore
    from lsq_export.training.predict import evaluate

    data, net = load("digits"), restore(Path(file))[0].eval()
    begin = time.process_time()
    model = (
        net
        if way == "float"
        else _trained(net, data, int(bits))
        if way == "QAT"
        else _calibrated(net, data, int(bits), way)
    )
    seconds = time.process_time() - begin
    accuracy = evaluate(model, data.batches("test"))
    print(json.dumps({"network": name, "bits": int(bits), "way": way, "accuracy": accuracy, "seconds": seconds}))


def _calibrated(net: nn.Module, data: Any, bits: int, method: Any) -> nn.Module:
    from lsq_export.calibrating import DEFAULT, calibrate
    from lsq_export.cli.data_options import calibration_batches

    config = replace(DEFAULT, weight_bits=bits, activation_bits=bits)
    return calibrate(net, calibration_batches(data, IMAGES), config, method=method, seed=SEED)


def _trained(net: nn.Module, data: Any, bits: int) -> nn.Module:
    import calib
    from lsq_export import QATConfig, prepare
    from lsq_export.training import finetune

    model = prepare(net, QATConfig(weight_bits=bits, activation_bits=bits))
    calib.initialize(model, data.batches("train", limit=4), method="mse")
    finetune(model, data, EPOCHS, seed=SEED)
    return model


if __name__ == "__main__":
    main()
