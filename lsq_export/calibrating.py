"""calibrate: a float network, PyTorch or ONNX, gets grids from data, without labels and without training."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, overload

from torch import nn

from calib.batches import InputKey, read_batches
from calib.initialization.first_grids import initialize
from calib.initialization.rules import Method
from calib.samples import parts_of
from calib.signature import Takes, takes_of
from calib.statistics.counting_observer import CountingObserver
from lsq_export.adoption.network import OnnxNetwork, takes_of_graph
from lsq_export.ptq.float_file import fix_sizes, read_float, with_quantizers
from lsq_export.ptq.leading_axes import lead
from lsq_export.qat.config import QATConfig
from lsq_export.qat.prepare_model import prepare

# Without training: 8 bits, a scale for each channel, and no quantizers on edges, whose grids export calibrates.
DEFAULT = QATConfig(weight_bits=8, activation_bits=8, weight_granularity="channel", edges="calibrated")


@overload
def calibrate(
    model: nn.Module,
    batches: Iterable[object],
    config: QATConfig = ...,
    *,
    method: Method = ...,
    input_key: InputKey | None = ...,
    progress: Callable[[str], None] = ...,
) -> nn.Module: ...


@overload
def calibrate(
    model: str | os.PathLike[str],
    batches: Iterable[object],
    config: QATConfig = ...,
    *,
    method: Method = ...,
    input_key: InputKey | None = ...,
    progress: Callable[[str], None] = ...,
) -> OnnxNetwork: ...


def calibrate(
    model: nn.Module | str | os.PathLike[str],
    batches: Iterable[object],
    config: QATConfig = DEFAULT,
    *,
    method: Method = "mse",
    input_key: InputKey | None = None,
    progress: Callable[[str], None] = lambda name: None,
) -> nn.Module | OnnxNetwork:
    """Quantize a float network after its training; the result is ready for `lsq_export.export`.

    model: a PyTorch module, which stays as it is, or the path of a float ONNX file of any maker. batches: inputs
    [N, …], or (input, target) pairs whose targets are not looked at, read once: any batch size and order gives the
    same grids. Where a file has inputs whose first axis is not the batch (a state [2, 1, 128]), a batch is a mapping of
    one sample, each input as the file takes it.
    method: "minmax" (the range), "lsq" or "mse" (scale and real offset of the least squared error; the best of these).
    Weights get the scale of the least squared error.

    Errors (QuantizationError): those of `prepare` and `calib.initialize`; a file that is no float ONNX network.
    """
    if isinstance(model, nn.Module):
        prepared = prepare(model, config)
        ones = _one_by_one(batches, input_key, takes_of(prepared))
        initialize(prepared, ones, method, "mse", CountingObserver, progress)
        return prepared
    graph_model = read_float(model)
    led = lead(graph_model.graph)
    takes = replace(takes_of_graph(graph_model.graph), led=led)
    rest = iter(batches)
    first = next(rest, None)
    for x, _ in read_batches([] if first is None else [first], input_key, takes=takes):
        fix_sizes(graph_model.graph, x, model)
    file = with_quantizers(graph_model, config)
    every = [] if first is None else chain([first], rest)
    initialize(file.network, _one_by_one(every, input_key, takes), method, "mse", CountingObserver, progress)
    return OnnxNetwork(Path(model).name, file.network.captured(model), file.left, file.plain, trained=False, led=led)


def _one_by_one(batches: Iterable[object], key: InputKey | None, takes: Takes) -> Iterator[Any]:
    """Sample after sample, [1, …]: no kernel then rounds otherwise in another batch."""
    for x, _ in read_batches(batches, key, takes=takes):
        yield from parts_of(x, 1)
