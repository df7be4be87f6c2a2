"""A network through prepare, initialize and export, and what came out, held against the fake-quant model from outside:
neither the product's verification nor its counts are believed.
"""

from __future__ import annotations

import contextlib
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
import torch.nn.functional as F
from torch import nn

import calib
import lsq_export
from lsq_export.bench.turns import torch_threads

from .multiplications import multiplications
from .registry import Inputs, Network

NUDGE = 1e-4
DRAWS = 6  # of noise, for the yardstick: a few hundred inputs flip so few codes that one draw is a matter of luck
NEAR = 3.0  # dB below the yardstick
GOOD = 60.0  # dB: nearer than that nobody asks for
LIMIT = 120  # seconds of a processor for one network


@dataclass(kw_only=True)
class Result:
    """What one network at one width came to.

    stage: the first that failed, "" if none. refusal: the line of a QuantizationError. crash: another error, with its
    place. failures: broken promises. sqnr: ONNX Runtime (qoperator) against the fake-quant model, decibels, the least
    of its outputs; yardstick: the model against itself on inputs larger by NUDGE, of that output, all draws together.
    parity_sqnr, parity_yardstick: what the product says. integer: the share of multiplications. islands: by operator.
    seconds: of a processor, by stage.
    """

    name: str
    family: str
    bits: str
    stage: str = ""
    refusal: str = ""
    crash: str = ""
    where: str = ""
    failures: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    edges: str = ""
    sqnr: float | None = None
    yardstick: float | None = None
    parity_sqnr: float | None = None
    parity_yardstick: float | None = None
    integer: float | None = None
    wanted: float = 0.0
    multiplications: dict[str, int] = field(default_factory=dict)
    islands: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    commit: str = ""

    @property
    def total(self) -> float:
        """Seconds, without those of the checks from outside."""
        return sum(self.seconds.get(stage, 0.0) for stage in ("prepare", "initialize", "export"))

    @property
    def kind(self) -> str:
        """What is wrong, in a word."""
        if self.crash:
            return "crash"
        if self.refusal:
            return "refused"
        if self.failures:
            return "promise"
        if self.sqnr is not None and self.sqnr < min(self.yardstick or GOOD, GOOD) - NEAR:
            return "far"
        if self.integer is not None and self.integer < self.wanted:
            return "float"
        return "good"


def run(network: Network, bits: int, *, method: str = "mse") -> Result:
    """One network at weights and activations of so many bits; nothing is raised. method: of `calib.initialize`."""
    result = Result(name=network.name, family=network.family, bits=f"W{bits}A{bits}", wanted=network.integer_share)
    with TemporaryDirectory() as temporary, torch_threads(1), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            with _time_limit(LIMIT):
                _run(network, bits, Path(temporary) / "out", result, method)
        except lsq_export.QuantizationError as error:
            result.refusal, result.where = str(error), _place(error)
        except Exception as error:  # a crash is what we look for
            result.crash, result.where = f"{type(error).__name__}: {str(error).strip()[:600]}", _place(error)
        else:
            result.stage = ""
    said = [
        str(w.message).splitlines()[0][:300]
        for w in caught
        if "lsq_export" in w.category.__module__ or "calib" in w.category.__module__
    ]
    result.warnings = list(dict.fromkeys(said))
    return result


def _run(network: Network, bits: int, out: Path, result: Result, method: str) -> None:
    stage = _Stages(result)
    with stage("build"):
        net = network.model()
        calibration = [_batch(network.inputs(seed)) for seed in range(10, 14)]
        test = [network.inputs(seed) for seed in range(20, 22)]
    with stage("prepare"):
        config = lsq_export.QATConfig(weight_bits=bits, activation_bits=bits)
        model = lsq_export.prepare(net, config, example=calibration[0])  # as the warning of untrained edges advises
        result.edges = getattr(getattr(model, "qat_config", None), "edges", "")
    with stage("initialize"):
        calib.initialize(model, calibration, method=method)
        model.eval()
    with stage("export"):
        bundle = lsq_export.export(model, _batch(network.inputs(10, 1)), out, calibration=calibration)
    with stage("verify"):
        parity = lsq_export.verify(model, bundle, [_batch(inputs) for inputs in test])
        result.failures = [*parity.failures]
        qoperator = parity.formats["qoperator"]
        result.parity_sqnr, result.parity_yardstick = qoperator.sqnr_db, parity.nudged_sqnr_db
        kinds = {str(operator) for island in qoperator.islands for operator in island.operators}
        result.islands = _counted(kind.rpartition("(")[2].rstrip(")") for kind in kinds)
    with stage("compare"):
        _compare(model, Path(bundle.models["qoperator"]), test, result)


def _compare(model: nn.Module, path: Path, test: list[Inputs], result: Result) -> None:
    """SQNR, yardstick and the share of integers."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    feeds = [dict(zip(names, (x.numpy() for x in inputs), strict=True)) for inputs in test]
    found = [session.run(None, feed) for feed in feeds]
    with torch.no_grad():
        expected = [[y.numpy() for y in flat(model(*inputs))] for inputs in test]
    yard = yardsticks(model, test)
    sqnr = [decibels(expected, found, index) for index in range(len(expected[0]))]
    worst = min(range(len(sqnr)), key=lambda index: sqnr[index] - min(yard[index], GOOD))
    result.sqnr, result.yardstick = round(sqnr[worst], 2), round(yard[worst], 2)
    counted, share = multiplications(path, feeds[0])
    result.integer, result.multiplications = round(share, 4), dict(counted.most_common())


def yardsticks(model: nn.Module, test: list[Inputs]) -> list[float]:
    """SQNR of each output for inputs that are larger by NUDGE.

    On the inputs as they are, and on these with noise of half a step of 8 bits: that does not change what is asked, how
    far the smallest of changes goes, but asks it of other values, of which other ones lie next to a tie.
    Tokens cannot be larger: the rows that they choose are, each number by itself larger or smaller, as it is drawn.
    """
    kept, nudged = [], []
    tokens = not any(x.is_floating_point() for inputs in test for x in inputs)
    with torch.no_grad():
        for draw in range(DRAWS):
            generator = torch.Generator().manual_seed(draw)
            for inputs in test:
                some = tuple(_with_noise(x, generator) for x in inputs) if draw else inputs
                kept.append([y.numpy() for y in flat(model(*some))])
                with _other_rows(model, generator) if tokens else contextlib.nullcontext():
                    nudged.append([y.numpy() for y in flat(model(*map(_larger, some)))])
    return [decibels(kept, nudged, index) for index in range(len(kept[0]))]


@contextlib.contextmanager
def _other_rows(model: nn.Module, generator: torch.Generator) -> Iterator[None]:
    """Embeddings give numbers that are larger or smaller by NUDGE."""

    def move(module: nn.Module, given: object, rows: torch.Tensor) -> torch.Tensor:
        signs = torch.randint(0, 2, module.weight.shape, generator=generator) * 2 - 1
        return rows * (1 + NUDGE * F.embedding(given[0], signs.float()))  # type: ignore[index]

    hooks = [part.register_forward_hook(move) for part in model.modules() if isinstance(part, nn.Embedding)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _with_noise(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Half a step of an 8-bit grid, up or down at most."""
    if not x.is_floating_point():
        return x
    return x + (x.max() - x.min()) / 255 * (torch.rand(x.shape, generator=generator) - 0.5)


def flat(outputs: Any) -> list[torch.Tensor]:
    """The tensors of nested outputs, in order."""
    if isinstance(outputs, torch.Tensor):
        return [outputs]
    if isinstance(outputs, dict):
        outputs = list(outputs.values())
    return [tensor for part in outputs for tensor in flat(part)]


def decibels(expected: list[list[np.ndarray]], found: list[list[np.ndarray]], index: int) -> float:
    """SQNR of one output over all batches; 200 where they are equal."""
    signal = sum(float((e[index].astype(np.float64) ** 2).sum()) for e in expected)
    pairs = zip(expected, found, strict=True)
    noise = sum(float(((e[index].astype(np.float64) - f[index]) ** 2).sum()) for e, f in pairs)
    return 200.0 if noise == 0 else float(10 * np.log10(max(signal, 1e-300) / noise))


def _larger(x: torch.Tensor) -> torch.Tensor:
    return x * (1 + NUDGE) if x.is_floating_point() else x


def _batch(inputs: Inputs) -> Any:
    """As users give it."""
    return inputs if len(inputs) > 1 else inputs[0]


class _Stages:
    def __init__(self, result: Result) -> None:
        self._result = result

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self._result.stage, start = name, time.process_time()
        try:
            yield
        finally:
            self._result.seconds[name] = round(time.process_time() - start, 2)


def _counted(kinds: Iterator[str]) -> dict[str, int]:
    counted: dict[str, int] = {}
    for kind in kinds:
        counted[kind] = counted.get(kind, 0) + 1
    return dict(sorted(counted.items()))


def _place(error: BaseException) -> str:
    """The last line of ours that the error went through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "/lsq_export/" in f.filename or "/calib/" in f.filename] or list(frames)
    last = ours[-1]
    parts = Path(last.filename).parts
    root = max((i for i, part in enumerate(parts) if part in ("lsq_export", "calib")), default=len(parts) - 1)
    return f"{'/'.join(parts[root:])}:{last.lineno} {last.name}"


@contextlib.contextmanager
def _time_limit(seconds: int) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError(f"not done after {seconds} s")

    before: Callable[..., Any] | int | None = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
