"""A model that torch.fx cannot trace, as a graph all the same: along an example, and held against the model itself.

The graph is what the forward called for the example (watching.py). That it computes the same for other inputs is tried:
with other numbers, samples in another order, and another batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx, nn

from calib.errors import one_line
from calib.samples import Input, called, each, each_float

from .lengths import lengths_as_sizes
from .modes import warn_of_branches
from .plain import copied
from .torch_calls import Depends
from .watching import watched

BATCHES = (2, 1)  # what a batch of one does may be special
TOLERANCE = 1e-4  # of the largest value: sums of float32 in another order


class NoGraph(Exception):
    """why: in words, without an end."""


def graph_by_example(model: nn.Module, example: Input) -> fx.Graph:
    """The graph of the model, which is left as it was, but for modules that take the place of functions with a mode.

    example: [N, …], on the model's device.

    Errors (NoGraph): what it computes depends on values, or on the batch.
    """
    original = copied(model)
    batches = [size for size in BATCHES if _takes(original, batch_of(example, size))]
    if not batches:
        raise NoGraph("it does not take the example")
    try:
        graph, asked = _watched(model, batch_of(example, batches[0]))
    except Depends as error:
        raise NoGraph(f"{error}{error.place}") from error
    except Exception as error:  # a user's forward can raise anything
        raise NoGraph(f"its forward fails while it is watched ({one_line(error)})") from error
    _check_same(original, fx.GraphModule(model, graph), example, batches[0])
    warn_of_branches(asked)
    return graph


def _watched(model: nn.Module, x: Any) -> tuple[fx.Graph, list[str]]:
    """Where the forward branches on values, it may do without when it knows that torch.export runs it."""
    with lengths_as_sizes(model):
        try:
            return watched(model, x)
        except Depends as error:
            with _as_exported():
                try:
                    return watched(model, x)
                except Exception:  # the first error says more
                    raise error from None


@contextmanager
def _as_exported() -> Iterator[None]:
    """Within this block torch.compiler.is_exporting() is true."""
    flags = ("_is_compiling_flag", "_is_exporting_flag")
    before = {flag: getattr(torch.compiler, flag) for flag in flags}
    try:
        for flag in flags:
            setattr(torch.compiler, flag, True)
        yield
    finally:
        for flag, value in before.items():
            setattr(torch.compiler, flag, value)


def batch_of(example: Input, size: int) -> Any:
    """So many samples of the example, the first of them again where it has too few."""
    return each(example, lambda x: torch.cat([x, x[:1].expand(size, *x.shape[1:])])[:size].contiguous())


def _takes(model: nn.Module, x: Input) -> bool:
    try:
        with _evaluating(model):
            called(model, x)
    except Exception:  # a user's forward can raise anything
        return False
    return True


def _check_same(model: nn.Module, graph: nn.Module, example: Input, batch: int) -> None:
    """Errors (NoGraph): the graph gives something else than the model."""
    other = each_float(example, lambda x: 0.7 * x.flip(0) + 0.1)
    tried = {"the example": batch_of(example, batch), "other numbers": batch_of(other, batch)}
    if batch > 1 and _takes(model, batch_of(other, batch + 1)):
        tried["another batch"] = batch_of(each(other, lambda x: x.flip(0)), batch + 1)
    for what, x in tried.items():
        with _evaluating(model), _evaluating(graph):
            wanted = _tensors(called(model, x))
            try:
                found = _tensors(called(graph, x))
            except Exception as error:  # whatever torch raises on shapes that do not fit
                raise NoGraph(f"a graph of it fails with {what} ({one_line(error)})") from error
        if len(found) != len(wanted) or not all(map(_same, found, wanted)):
            raise NoGraph(f"a graph of it gives something else with {what}")


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if not a.is_floating_point():
        return torch.equal(a, b)
    largest = float(b.abs().nan_to_num(0, 0, 0).amax()) if b.numel() else 0.0
    return torch.allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE * largest, equal_nan=True)


def _tensors(value: Any) -> list[torch.Tensor]:
    """All tensors of a nested result."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = tuple(value.values())
    elif hasattr(value, "__dataclass_fields__"):
        value = tuple(getattr(value, name) for name in value.__dataclass_fields__)
    return [tensor for part in value for tensor in _tensors(part)] if isinstance(value, (tuple, list)) else []


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """In eval mode, without gradients, and with the same random numbers each time."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model.eval()
            yield
    finally:
        for module, training in modes:
            module.training = training
