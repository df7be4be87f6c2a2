"""The batches that a user gives: the input of each, and in one line what is wrong with one.

`initialize`, `export`, `verify` and `drift` all read batches here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn

from .errors import QuantizationError, one_line
from .samples import Input, Samples, each, in_words, shape_of, tensors_of, with_tensors
from .signature import SINGLE, Takes, samples_of, takes_of

InputKey: TypeAlias = str | Callable[[Any], Any]
CALIBRATION = "calibration batch"
CLASSES = ("labels", "label")  # keys of the classes in a batch that is a mapping, as Hugging Face names them
_ASKED = "give (x, mask), ((x, mask), target) or mappings, by the names of the model's forward"
_FORMS = "give an iterable of tensors, arrays or (input, target) pairs"
_NAMELESS = "nothing says how its input is called: write forward(self, x) in place of forward(self, **kwargs)"


def read_batches(
    batches: object, input_key: InputKey | None = None, what: str = CALIBRATION, takes: Takes = SINGLE
) -> Iterator[tuple[Any, Any]]:
    """(input [N, …] of a float type, target or None) of each batch, one by one; a batch may be empty (N = 0).

    A batch is a tensor or array, an (input, target) pair, or what `input_key` makes one of: the key of the input in
    mappings (the target is then what they have under "labels" or "label"), or a function that takes a batch and returns
    its input, or such a pair. Of a network with several inputs (takes): (x, mask), (x, mask, target), ((x, mask),
    target), or mappings with their names; they become `Samples`. what: how messages call a batch.

    Errors (QuantizationError): no iterable, a batch without a tensor of floats in it, NaN or infinity.
    """
    for index, batch in enumerate(_iterable(batches)):
        name = f"{what} {index}"
        x, target = _parts(name, batch, input_key, takes)
        if isinstance(x, Samples):
            for of_input, tensor in x.by_name.items():
                _check_finite(f"{name}: {of_input}", tensor)
        else:
            _check_input(name, x, takes)
        yield takes.typed(x), target


def inputs(
    batches: Iterable[Any], device: torch.device, input_key: InputKey | None = None, takes: Takes = SINGLE
) -> Iterator[Any]:
    """The input of each batch, on the device: a tensor, or `Samples`. input_key: see `calib.initialize`."""
    count = 0
    for x, _ in read_batches(batches, input_key, takes=takes):
        yield each(x, lambda tensor: tensor.to(device))
        count += 1
    if not count:
        raise QuantizationError(f"no calibration batches: {nothing_in(batches)}")


def nothing_in(batches: object) -> str:
    """Why there was no batch, for a message."""
    if isinstance(batches, Iterator):
        return "the iterator is used up, it can be read once only; give a list or a DataLoader, or make it anew"
    return "the iterable is empty"


def varying(batches: Iterable[Any]) -> Iterator[Any]:
    """The inputs as they are. Errors (QuantizationError), at the end: all are empty, or every value is the same."""
    low, high, samples = math.inf, -math.inf, 0
    for x in batches:
        known = [tensor.detach() for tensor in tensors_of(x) if tensor.numel()]
        for least, most in map(torch.aminmax, known):
            low, high = min(low, float(least)), max(high, float(most))
        samples += len(x) if known else 0
        yield x
    if not samples:
        raise QuantizationError("the calibration data is empty: all its batches hold 0 samples")
    if low == high:
        raise QuantizationError(
            f"the calibration data is constant: every value of its {samples} samples is {low:g}; give real inputs, "
            "preprocessed as in training"
        )


def _iterable(batches: object) -> Iterable[Any]:
    if isinstance(batches, (torch.Tensor, np.ndarray, Mapping)):
        known = ((torch.Tensor, "tensor"), (np.ndarray, "numpy array"))
        kind = next((name for form, name in known if isinstance(batches, form)), type(batches).__name__)
        one = "batch" if isinstance(batches, Mapping) else "tensor"
        raise QuantizationError(f"batches is a {kind}: give an iterable of batches, [{one}] for a single one")
    if isinstance(batches, (str, bytes)) or not isinstance(batches, Iterable):
        advice = _FORMS
        if callable(getattr(batches, "batches", None)):
            advice = 'give data.batches("train"), which is one'
        elif hasattr(batches, "__getitem__") and hasattr(batches, "__len__") and not isinstance(batches, (str, bytes)):
            advice = "give DataLoader(dataset, batch_size=64), which makes batches of its samples"
        raise QuantizationError(f"batches is {type(batches).__name__}: {advice}")
    return batches


def _parts(name: str, batch: Any, input_key: InputKey | None, takes: Takes) -> tuple[Any, Any]:
    """(input, target or None), unchecked but for the form of several inputs."""
    if callable(input_key):
        try:
            batch = input_key(batch)
        except QuantizationError:
            raise
        except Exception as error:  # a user's function can raise anything
            raise QuantizationError(
                f"{name}: input_key failed on it ({type(error).__name__}: {one_line(error)}); it gets a "
                f"{type(batch).__name__}, and returns the input or (input, target)"
            ) from error
    batch = with_tensors(batch)
    if isinstance(input_key, str):
        return _from_mapping(name, batch, input_key)
    if isinstance(batch, Samples):
        return takes.ordered(batch), None
    if isinstance(batch, (tuple, list)) and batch and isinstance(batch[0], Samples):
        return takes.ordered(batch[0]), batch[1] if len(batch) > 1 else None
    if isinstance(batch, Mapping) and takes.any_names:
        takes = replace(takes, names=tuple(key for key, value in batch.items() if _is_input(key, value)))
    if isinstance(batch, Mapping) and all(torch.is_tensor(batch.get(key)) for key in takes.names[: takes.needed]):
        found = {key: batch[key] for key in takes.names if key in batch}
        return samples_of(takes.leading(found), name), next(
            (batch[key] for key in CLASSES if key in batch and key not in found), None
        )
    if isinstance(batch, (tuple, list)) and batch and _is_several(batch[0]):
        x, _ = _parts(name, batch[0], None, replace(takes, needed=max(takes.needed, len(batch[0]))))
        return x, batch[1] if len(batch) > 1 else None
    if takes.needed > 1:
        return _several(name, batch, takes)
    if isinstance(batch, Mapping):
        keys = ", ".join(map(str, batch))
        like = next((key for key, x in batch.items() if torch.is_tensor(x) and x.is_floating_point()), "pixel_values")
        raise QuantizationError(
            f"{name} is {type(batch).__name__} with the keys {keys}: say which one is the input, input_key={like!r}"
        )
    if isinstance(batch, (tuple, list)) and batch:
        return batch[0], batch[1] if len(batch) > 1 else None
    return batch, None


def _is_input(key: str, value: Any) -> bool:
    return torch.is_tensor(value) and key not in CLASSES


def _is_several(x: Any) -> bool:
    values = list(x.values()) if isinstance(x, Mapping) else x if isinstance(x, (tuple, list)) else ()
    return len(values) > 0 and all(isinstance(value, torch.Tensor) for value in values)


def _several(name: str, batch: Any, takes: Takes) -> tuple[Any, Any]:
    """The inputs, one after the other, and the target if there is one more."""
    if isinstance(batch, Mapping):
        missing = next(key for key in takes.names if key not in batch)
        raise QuantizationError(f"{name} has no {missing!r}, its keys are {', '.join(map(str, batch))}: {_ASKED}")
    parts = list(batch) if isinstance(batch, (tuple, list)) else [batch]
    if takes.needed > len(takes.names):
        raise QuantizationError(
            f"{name}: {len(parts)} tensors come as one {type(batch).__name__}, and the model's forward takes "
            f"{len(takes.names)} ({', '.join(takes.names)}): give it one argument for each tensor"
        )
    if len(parts) < takes.needed:
        what = f"has {len(parts)} parts" if isinstance(batch, (tuple, list)) else f"is one {type(batch).__name__}"
        raise QuantizationError(f"{name} {what}, the model takes {takes.several}: {_ASKED}")
    found = dict(zip(takes.names, parts[: takes.needed], strict=False))
    return samples_of(takes.leading(found), name), parts[takes.needed] if len(parts) > takes.needed else None


def _from_mapping(name: str, batch: Any, key: str) -> tuple[Any, Any]:
    if not isinstance(batch, Mapping):
        raise QuantizationError(
            f"{name} is {type(batch).__name__}, so it has no {key!r}: leave input_key={key!r} out, or give a function"
        )
    if key not in batch:
        raise QuantizationError(f"{name} has no {key!r}, its keys are {', '.join(map(str, batch))}: change input_key")
    return batch[key], next((batch[name] for name in CLASSES if name in batch), None)


def _check_input(name: str, x: Any, takes: Takes) -> None:
    if not isinstance(x, torch.Tensor):
        kind = f"an array of {x.dtype}" if isinstance(x, np.ndarray) else type(x).__name__
        raise QuantizationError(f"{name} is {kind}: give tensors, or (input, target) pairs")
    if x.dim() == 0:
        raise QuantizationError(f"{name} is a single number: inputs are floats [N, …]")
    if not x.is_floating_point() and not (takes.integers and x.dtype in (torch.int64, torch.int32)):
        form = f"{str(x.dtype).removeprefix('torch.')} of shape {list(x.shape)}"
        advice = "give floats, preprocessed as in training (such as x.float() / 255)"
        if x.dim() < 2:
            advice = "inputs are floats [N, …]; give [(images, classes)] where that pair is a single batch"
        raise QuantizationError(f"{name} is {form}: {advice}")
    _check_finite(name, x)


def _check_finite(name: str, x: torch.Tensor) -> None:
    if x.numel() and x.is_floating_point() and x.device.type != "meta":
        low, high = torch.aminmax(x.detach())  # each is NaN where one element is
        if not bool(torch.isfinite(low) & torch.isfinite(high)):
            bad = int((~torch.isfinite(x.detach()).flatten(1 if x.dim() > 1 else 0)).any(-1).sum())
            raise QuantizationError(f"{name} holds NaN or infinity in {bad} of its {len(x)} samples: check the data")


def hint_of_shape(shape: tuple[int, ...], expected: tuple[int, ...]) -> str:
    """What to do about an input [N, …] of this shape. expected: without the batch."""
    if shape == expected:
        return "the batch dimension is missing; give [images] where that tensor is one batch"
    if len(expected) == 3 and shape[1:] == (*expected[1:], expected[0]):
        return "the channels are last; give x.permute(0, 3, 1, 2)"
    return "use one shape"


def refusal(model: nn.Module, x: Input, error: BaseException, what: str = "") -> QuantizationError:
    """The error for a model whose forward raised `error` on x: one line, with what its first layer takes. what: names
    x, such as "calibration batch 0: ".
    """
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    nameless = takes_of(model).any_names and "positional argument" in reason
    advice = "" if isinstance(x, Samples) else _NAMELESS if nameless else hint(model, x)
    inputs = "inputs of the shapes" if isinstance(x, Samples) else "an input of shape"
    return QuantizationError(
        f"{what}the model does not take {inputs} {in_words(shape_of(x))} (without the batch): {reason}"
        + (f"; {advice}" if advice else "")
    )


def hint(model: nn.Module, x: torch.Tensor) -> str:
    """What to do about x where its shape is none for the model's first layer; "" where nothing is known."""
    first = next(((n, m) for n, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))), None)
    if first is None:
        return ""
    name, layer = first
    if isinstance(layer, nn.Linear):
        size, sample = layer.in_features, math.prod(x.shape[1:])
        wrong = x.shape[-1] != size and sample != size
        return f"{name} takes {size} features, a sample has {sample}" if wrong else ""
    channels = layer.in_channels
    if x.dim() == 3:
        return f"the batch dimension is missing: give [N, {channels}, H, W], such as x[None]"
    if x.dim() != 4:
        return f"{name} takes images [N, {channels}, H, W]"
    if x.shape[1] == channels:
        return ""
    if x.shape[3] == channels:
        return f"the channels are last here: {name} takes [N, {channels}, H, W], x.permute(0, 3, 1, 2)"
    return f"{name} takes {channels} channels, this has {x.shape[1]}"
