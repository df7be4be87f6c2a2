"""calibrate: a float network, PyTorch or ONNX, gets grids from data, without labels and without training."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal, overload

from torch import nn

from calib.batches import InputKey, read_batches
from calib.initialization.first_grids import evaluating, initialize
from calib.samples import parts_of
from calib.signature import Takes, takes_of
from calib.statistics.counting_observer import CountingObserver
from lsq_export.adoption.network import OnnxNetwork, takes_of_graph
from lsq_export.adoption.sizes import fix_sizes
from lsq_export.graph.evaluate import takes_one
from lsq_export.ptq.float_file import read_float, with_quantizers
from lsq_export.ptq.leading_axes import lead
from lsq_export.ptq.smoothing import Smoothing
from lsq_export.qat.config import QATConfig
from lsq_export.qat.origins import CALIBRATED
from lsq_export.qat.prepare_model import prepare
from lsq_export.qat.untrained import note_origin
from lsq_export.reconstruction.reconstruct import reconstruct
from lsq_export.reconstruction.sample_batches import kept_batches
from lsq_export.reconstruction.subjects import of_module, of_network

PtqMethod = Literal["minmax", "percentile", "lsq", "mse", "reconstruction"]
# Without training: 8 bits, a scale for each channel, and no quantizers on edges, whose grids export calibrates.
DEFAULT = QATConfig(weight_bits=8, activation_bits=8, weight_granularity="channel", edges="calibrated")


@overload
def calibrate(
    model: nn.Module,
    batches: Iterable[object],
    config: QATConfig = ...,
    *,
    method: PtqMethod = ...,
    seed: int = ...,
    input_key: InputKey | None = ...,
    progress: Callable[[str], None] = ...,
) -> nn.Module: ...


@overload
def calibrate(
    model: str | os.PathLike[str],
    batches: Iterable[object],
    config: QATConfig = ...,
    *,
    method: PtqMethod = ...,
    seed: int = ...,
    input_key: InputKey | None = ...,
    progress: Callable[[str], None] = ...,
) -> OnnxNetwork: ...


def calibrate(
    model: nn.Module | str | os.PathLike[str],
    batches: Iterable[object],
    config: QATConfig = DEFAULT,
    *,
    method: PtqMethod = "mse",
    seed: int = 0,
    input_key: InputKey | None = None,
    progress: Callable[[str], None] = lambda name: None,
) -> nn.Module | OnnxNetwork:
    """Quantize a float network after its training; the result is ready for `lsq_export.export`.

    model: a PyTorch module, which stays as it is, or the path of a float ONNX file of any maker. batches: inputs
    [N, …], or (input, target) pairs whose targets are not looked at, read once: any batch size and order gives the
    same grids. Where a file has inputs whose first axis is not the batch (a state [2, 1, 128]), a batch is a mapping of
    one sample, each input as the file takes it.
    method: "minmax" (the range), "percentile" (without 0.01 % on either side), "lsq" or "mse" (scale and real offset of
    the least squared error; the best of these four), or "reconstruction", which starts from these and then learns them
    and the rounding of weights, block by block, against what the float network makes of at most 256 samples. seed: of
    what reconstruction draws.
    Weights get the scale of the least squared error. progress: called with the name of each grid that was found, and
    with each block.

    Errors (QuantizationError): those of `prepare` and `calib.initialize`; a file that is no float ONNX network; with
    "reconstruction" those of `export` that show when a module is captured.
    """
    if isinstance(model, nn.Module):
        prepared = prepare(model, config)
        ones = _one_by_one(batches, input_key, takes_of(prepared))
        samples = _initialized(prepared, ones, method, progress)
        if samples is not None:
            _learned(prepared, samples, seed, progress)
        note_origin(prepared, CALIBRATED)
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
    smoothing = Smoothing(file.network.model, file.plain)
    ones = smoothing.smoothed(_one_by_one(every, input_key, takes))
    samples = _initialized(file.network, ones, method, progress, one=takes_one(file.network.model.graph))
    if method in ("mse", "reconstruction"):
        smoothing.choose_grids(file.network.quantizer)
    if samples is not None:
        reconstruct(of_network(file.network), samples, seed=seed, progress=progress)
    captured, name = file.network.captured(model), Path(model).name
    return OnnxNetwork(name, captured, file.left, file.plain, trained=False, led=led, origin=CALIBRATED)


def _initialized(
    network: nn.Module, ones: Iterable[Any], method: PtqMethod, progress: Callable[[str], None], *, one: bool = False
) -> list[Any] | None:
    """Give first grids. Returns the samples that reconstruction learns from, if it is wished.

    ones: samples, [1, …] each. one: the network takes no other batch.
    """
    if method != "reconstruction":
        initialize(network, ones, method, "mse", CountingObserver, progress)
        return None
    samples = kept_batches(ones, network, one=one)
    initialize(network, samples, "mse", "mse", CountingObserver, progress)
    return samples


def _learned(prepared: nn.Module, samples: list[Any], seed: int, progress: Callable[[str], None]) -> None:
    """Reconstruction of a PyTorch network; graphs are computed on the processor."""
    home = next(prepared.parameters()).device
    with evaluating(prepared):
        reconstruct(of_module(prepared.cpu(), samples[0]), samples, seed=seed, progress=progress)
    prepared.to(home)


def _one_by_one(batches: Iterable[object], key: InputKey | None, takes: Takes) -> Iterator[Any]:
    """Sample after sample, [1, …]: no kernel then rounds otherwise in another batch."""
    for x, _ in read_batches(batches, key, takes=takes):
        yield from parts_of(x, 1)
