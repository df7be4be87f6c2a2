"""Whether tensors of a file fit a network. What does not is one line that names it, and says what to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import nn

from calib.errors import QuantizationError
from calib.words import counted

from .weights_choice import Choice, first

Tensors = Mapping[str, torch.Tensor]
COUNTER = "num_batches_tracked"
_OF_LAYERS = ("weight", "bias", "running_mean", "running_var")
NEW_HEAD = "new_head (--new-head) leaves it as freshly drawn"


def missing(state: Tensors, found: Tensors) -> list[str]:
    """Names of the network's tensors that get no value, directly or through one that they share memory with."""
    given = {_memory(state[name]) for name in found}
    return [name for name, tensor in state.items() if name not in found and _memory(tensor) not in given]


def fresh_head(net: nn.Module, state: Tensors, found: Tensors) -> tuple[str, ...]:
    """Names of the tensors of the last layer.

    That is the only one that does not fit, if it is convolution or linear; else the last of these that the network
    registers.
    """
    wrong = _layers(name for name in state if name in found and found[name].shape != state[name].shape)
    absent = _layers(name for name in missing(state, found) if not name.endswith(COUNTER))
    layers = [name for name, module in net.named_modules() if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd))]
    named = wrong or absent
    head = next(iter(named)) if len(named) == 1 and set(named) <= set(layers) else layers[-1] if layers else None
    return tuple(name for name in state if head is not None and _layer(name) == head)


def refuse_missing(
    source: str, net: nn.Module, state: Tensors, found: Tensors, head: tuple[str, ...], left_over: tuple[str, ...]
) -> None:
    """Errors (QuantizationError): tensors without a value, counters of batch norms and the fresh head aside."""
    lacking = [n for n in missing(state, found) if n not in head and not n.endswith(COUNTER)]
    if not lacking:
        return
    needed = sum(not name.endswith(COUNTER) for name in state)
    layers = _layers(lacking)
    advice = "the file is of another network, or of another version of its code"
    if not head and len(layers) == 1 and isinstance(_module(net, next(iter(layers))), nn.Linear):
        advice = f"where the file has no such layer, {NEW_HEAD}"
    rest = f"; left over: {first(left_over)}" if left_over else ""
    raise QuantizationError(f"{source} lacks {first(lacking)} of the network's {needed} tensors{rest}: {advice}")


def refuse_shapes(source: str, net: nn.Module, state: Tensors, found: Tensors) -> None:
    """Errors (QuantizationError): tensors of another shape."""
    wrong = [name for name, tensor in found.items() if tensor.shape != state[name].shape]
    if not wrong:
        return
    name = wrong[0]
    theirs, ours = list(found[name].shape), list(state[name].shape)
    module = _module(net, _layer(name))
    more = f" ({first(wrong)} differ)" if len(wrong) > 1 else ""
    advice = "the file is of another network, or of one of another width"
    conv = isinstance(module, nn.Conv2d) and len(theirs) == len(ours) == 4
    if conv and len(wrong) <= 3 and theirs[:1] + theirs[2:] == ours[:1] + ours[2:]:
        channels = theirs[1]
        advice = f"its network takes {channels} input channels and this one {ours[1]}: give such images (--channels)"
    elif conv and theirs[:2] == ours[:2]:
        advice = "the kernels have another size: give --model a network with those of the file"
    elif len(_layers(wrong)) == 1 and isinstance(module, (nn.Linear, nn.Conv2d)) and theirs[1:] == ours[1:]:
        advice = f"the file has {counted(theirs[0], 'class', 'classes')} and this network {ours[0]}: {NEW_HEAD}"
    raise QuantizationError(f"{source}: {name!r} has the shape {theirs}, the network's {ours}{more}: {advice}")


def refuse_left_over(source: str, state: Tensors, choice: Choice) -> None:
    """Errors (QuantizationError): a tensor that a layer of the network does not have, such as another bias.

    What is left over of other layers (a loss, another head) does no harm.
    """
    layers = {_layer(name) for name in state}
    start = f"{choice.prefix}." if choice.prefix else ""
    for name in choice.left_over:
        layer, _, tensor = name.removeprefix(start).rpartition(".")
        if not choice.naming and name.startswith(start) and layer in layers and tensor in _OF_LAYERS:
            raise QuantizationError(
                f"{source} has {name!r}, which this layer of the network has not: the file is of another network"
            )


def converted(source: str, state: Tensors, found: Tensors) -> dict[str, torch.Tensor]:
    """The tensors in the data types of the network. Errors (QuantizationError): quantized ones, NaN, infinity."""
    values, wrong, bad = {}, [], []
    for name, tensor in found.items():
        target = state[name]
        is_float = tensor.dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
        if tensor.is_quantized or tensor.layout != torch.strided or is_float != target.is_floating_point():
            wrong.append(name)
            continue
        values[name] = tensor.to(target.dtype)
        if is_float and not torch.isfinite(values[name]).all():
            bad.append(name)
    if wrong:
        kind = str(found[wrong[0]].dtype).removeprefix("torch.")
        raise QuantizationError(
            f"{source}: {first(wrong)} {'is' if len(wrong) == 1 else 'are'} {kind}, quantized or packed: give the "
            "weights of the float network"
        )
    if bad:
        raise QuantizationError(f"{source}: NaN or infinity in {first(bad)}: give weights of a training that went well")
    return values


def _memory(tensor: torch.Tensor) -> tuple[int, ...]:
    """The same for tensors that are the same one."""
    return (tensor.data_ptr() or id(tensor), tensor.storage_offset(), *tensor.shape)


def _layers(names: Iterable[str]) -> dict[str, None]:
    return dict.fromkeys(map(_layer, names))


def _layer(name: str) -> str:
    return name.rpartition(".")[0]


def _module(net: nn.Module, name: str) -> nn.Module | None:
    return dict(net.named_modules()).get(name)
