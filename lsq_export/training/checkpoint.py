"""Checkpoints: one safetensors file, whose metadata holds model, config, input shape and preprocessing as JSON.

    spec = {"name": "resnet18", "num_classes": 10, "in_channels": 3}
    save("r18.safetensors", model, model_spec=spec, config=config.to_dict(), input_shape=(3, 32, 32),
         preprocessing=data.preprocessing)
    model, checkpoint = restore("r18.safetensors")

Nothing is unpickled. A network of the user's own is in it by the name of its factory, which runs only where the user
names it, too: restore("net.safetensors", model="net:Net").
"""

from __future__ import annotations

import copy
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from calib.errors import QuantizationError, one_line
from calib.samples import in_words, plain_shape
from calib.words import counted
from lsq_export import models
from lsq_export.files import sealed, tensor_file
from lsq_export.models.own import build_own, is_own
from lsq_export.qat.bit_widths import bit_widths
from lsq_export.qat.config import QATConfig
from lsq_export.qat.prepare_model import config_of, prepare

from .checkpoint_header import FIELDS, FORMAT, FORMAT_KEY, fields_of, metadata_of
from .named_code import builder, check_spec

EARLIER = {"offset": "real", "edges": "calibrated"}  # what checkpoints without these options were trained with

LARGEST_INPUT = 1 << 28  # numbers of one input: a gigabyte in float32


@dataclass(frozen=True, kw_only=True, repr=False)
class Checkpoint:
    """What a checkpoint file holds.

    model_spec: the keywords of `lsq_export.models.build`.
    config: the keywords of `QATConfig`; None for a float model.
    input_shape: (C, H, W); {name: shape} of inputs by name.
    preprocessing: as in `lsq_export.data.Dataset`.
    extra: what else the writer wanted to keep.
    """

    path: Path
    state: dict[str, torch.Tensor]
    model_spec: dict[str, Any]
    config: dict[str, Any] | None
    input_shape: Any
    preprocessing: dict[str, Any]
    extra: dict[str, Any]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W). Errors (QuantizationError): a network that takes inputs by name."""
        if isinstance(self.input_shape, Mapping):
            raise QuantizationError(
                f"checkpoint {self.path} takes inputs by name ({', '.join(self.input_shape)}), and this command is for "
                "networks that take one image: use Python"
            )
        channels, height, width = self.input_shape
        return channels, height, width

    def __repr__(self) -> str:
        bits = (
            bit_widths(self.config.get("weight_bits"), self.config.get("activation_bits")) if self.config else "float"
        )
        data = f", trained on {self.extra['data']}" if "data" in self.extra else ""
        numbers = sum(tensor.numel() for tensor in self.state.values())
        return (
            f"Checkpoint {self.path}: {self.model_spec.get('name')} {bits}, inputs {in_words(self.input_shape)}, "
            f"{counted(len(self.state), 'tensor')} with {numbers} numbers{data}"
        )


def save(
    path: str | os.PathLike[str],
    model: nn.Module,
    *,
    model_spec: dict[str, Any],
    config: dict[str, Any] | None,
    input_shape: Any,
    preprocessing: dict[str, Any],
    extra: dict[str, Any] | None = None,
) -> Path:
    """Write the state of a model and how to rebuild it. The file appears whole or not at all.

    The keywords are the fields of `Checkpoint`; extra must be JSON-able. The file keeps what edges="auto" became, so
    that `restore` does not depend on a trace.

    Errors (QuantizationError): a directory that does not exist or cannot be written, a model_spec that `restore` would
    refuse.
    """
    path = Path(path)
    check_spec(path, model_spec)
    got = config_of(model)
    if config is not None and got is not None and config.get("edges") == "auto":
        config = {**config, "edges": got.edges}
    metadata = {FORMAT_KEY: FORMAT}
    values = (model_spec, config, plain_shape(input_shape), preprocessing, extra or {})
    metadata.update({field: json.dumps(value) for field, value in zip(FIELDS, values, strict=True)})
    tensor_file.write(path, model.state_dict(), metadata, "checkpoint")
    return path


def load(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a file that `save` wrote.

    Errors (QuantizationError): missing, damaged, a pickle, no safetensors file, metadata that are missing or cannot be
    used.
    """
    path = Path(path)
    metadata = metadata_of(path)
    spec, config, shape, preprocessing, extra = fields_of(path, metadata).values()
    check_spec(path, spec)
    by_name = isinstance(shape, dict) and all(map(_is_shape, shape.values()))
    if not (by_name and shape) and not (_is_shape(shape) and len(shape) == 3):
        raise QuantizationError(
            f"checkpoint {path}: input_shape is {shape}, it must be [channels, height, width], or a shape for each "
            "input by name; write it again"
        )
    if sum(map(math.prod, shape.values() if by_name else [shape])) > LARGEST_INPUT:
        raise QuantizationError(
            f"checkpoint {path}: input_shape is {shape}, more than {LARGEST_INPUT} numbers; write it again"
        )
    for field, value in (("config", config), ("preprocessing", preprocessing), ("extra", extra)):
        if not isinstance(value, dict) and not (field == "config" and value is None):
            raise QuantizationError(
                f"checkpoint {path}: {field} is {value!r}, it must be a table of names and values; write it again"
            )
    return Checkpoint(
        path=path,
        state=_state(path),
        model_spec=spec,
        config=None if config is None else {**EARLIER, **config},
        input_shape={name: tuple(sizes) for name, sizes in shape.items()} if by_name else tuple(shape),
        preprocessing=preprocessing,
        extra=extra,
    )


def example_for(input_shape: Any) -> torch.Tensor | None:
    """Two inputs for `prepare`; None of inputs by name, whose types a shape does not tell."""
    return None if isinstance(input_shape, Mapping) else torch.zeros(2, *input_shape)


def _is_shape(value: object) -> bool:
    return isinstance(value, list) and all(type(n) is int and n > 0 for n in value)


def is_checkpoint(path: str | os.PathLike[str]) -> bool:
    """Whether `save` wrote the file, in any version."""
    try:
        with safe_open(path, framework="pt") as file:
            return FORMAT_KEY in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def restore(
    path: str | os.PathLike[str],
    *,
    model: str | Callable[..., nn.Module] | nn.Module | None = None,
    trust: bool = False,
) -> tuple[nn.Module, Checkpoint]:
    """The model of a checkpoint in eval mode, with its state; prepared for QAT where the checkpoint has a config.

    A checkpoint of a network of your own only names `package.module:factory`. That is imported and called if you name
    it, too: model="package.module:factory", the factory or class itself, or the float network (which stays as it is).
    trust: import and call whatever the checkpoint names.

    Errors (QuantizationError): those of `load`, of `models.build` and of `prepare`, a network that you did not name,
    and a state that does not fit the model.
    """
    checkpoint = load(path)
    spec = checkpoint.model_spec
    # Fresh weights are drawn, then overwritten: leave the caller's random numbers alone.
    with torch.random.fork_rng(devices=[]):
        if model is None or isinstance(model, str):
            checkpoint = replace(checkpoint, model_spec={**spec, "name": builder(path, spec["name"], model, trust)})
            _check_size(checkpoint)
            net = models.build(**checkpoint.model_spec)
        elif isinstance(model, nn.Module):
            net = copy.deepcopy(model)
        else:
            net = build_own(model, spec.get("num_classes"), spec.get("in_channels"))
    if checkpoint.config is not None:
        net = prepare(net, QATConfig.from_dict(checkpoint.config), example=example_for(checkpoint.input_shape))
    _load_state(net, checkpoint)
    return net.eval(), checkpoint


def _state(path: Path) -> dict[str, torch.Tensor]:
    try:
        return sealed.read(path)[0]
    except (SafetensorError, OSError, ValueError) as error:
        raise QuantizationError(f"checkpoint {path} is damaged ({one_line(error)}): copy or train it again") from error


def _check_size(checkpoint: Checkpoint) -> None:
    """A few letters can ask for a network that no memory holds. Errors (QuantizationError): larger than the file."""
    spec = checkpoint.model_spec
    if is_own(spec["name"]):
        return
    with torch.device("meta"):
        wanted = sum(tensor.numel() for tensor in models.build(**spec).state_dict().values())
    found = sum(tensor.numel() for tensor in checkpoint.state.values())
    if wanted > 2 * found:
        raise QuantizationError(
            f"checkpoint {checkpoint.path} has {found} numbers, and {spec} is a network of {wanted}: the file is of "
            "another model"
        )


def _load_state(model: nn.Module, checkpoint: Checkpoint) -> None:
    expected, state = model.state_dict(), checkpoint.state
    advice = "the model's code has changed since, or the file is of another model"
    missing, unexpected = [k for k in expected if k not in state], [k for k in state if k not in expected]
    if missing or unexpected:
        what = f"lacks {missing[0]!r}" if missing else f"has {unexpected[0]!r}, which the model has not"
        raise QuantizationError(
            f"checkpoint {checkpoint.path} {what} ({len(missing)} missing, {len(unexpected)} unexpected in all): "
            f"{advice}"
        )
    for name, tensor in expected.items():
        if tensor.shape != state[name].shape:
            shapes = f"{list(state[name].shape)}, the model's {list(tensor.shape)}"
            raise QuantizationError(f"checkpoint {checkpoint.path}: {name!r} has the shape {shapes}: {advice}")
    try:
        model.load_state_dict(state, strict=True)
    except (RuntimeError, ValueError) as error:
        raise QuantizationError(
            f"checkpoint {checkpoint.path} does not fit its model ({one_line(error)}): {advice}"
        ) from error
