"""Architectures, one in each file, with the parameter names of the usual public checkpoints.

    names()                                        -> ["efficientnet_b0", "mixnet_s", "resnet18", "tiny"]
    build("resnet18", num_classes=10)              -> nn.Module
    build("mixnet_s", width=0.5, stem_stride=1)    -> nn.Module
    build("mixnet_s", variant="small")             -> the same, as --variant small does
    build("models.net:build", num_classes=10)      -> what `build` of *your* models/net.py returns
    keywords("mixnet_s", 32)                       -> {"width": 0.5, "stem_stride": 1}, for small images

efficientnet_b0 and mixnet_s take width and stem_stride; blocks.py and inverted.py are what these two share. A model of
your own (own.py) is looked for in the current directory first. Each architecture is imported when it is built: listing
the names does not import torch.
"""

from __future__ import annotations

import importlib
import inspect
import os
from typing import TYPE_CHECKING, Any

from calib.errors import QuantizationError, near

from .in_source import hint
from .own import USUAL, build_own, called, check_found, is_own, with_colon

if TYPE_CHECKING:
    from torch import nn

# name -> (module beside this file, factory in it); every factory takes num_classes and in_channels
_REGISTRY = {
    "efficientnet_b0": (".efficientnet", "efficientnet_b0"),
    "mixnet_s": (".mixnet", "mixnet_s"),
    "resnet18": (".resnet18", "resnet18"),
    "tiny": (".tiny", "Tiny"),
}

# Below this many pixels a side these networks are half as wide, and keep the resolution in the stem.
SMALL_IMAGE = 64
_SMALL = {name: {"width": 0.5, "stem_stride": 1} for name in ("efficientnet_b0", "mixnet_s")}


def variants(name: str) -> tuple[str, ...]:
    """The variants of a network that `keywords` knows."""
    return ("published", "small") if name in _SMALL else ("published",)


def keywords(name: str, size: int, variant: str | None = None) -> dict[str, Any]:
    """What `build` should get besides classes and channels, for images of size × size pixels.

    variant: "published" or "small"; None is small below SMALL_IMAGE, where the network has such a variant. Errors
    (QuantizationError): the network does not have that variant.
    """
    if variant is not None and variant not in variants(name):
        raise QuantizationError(
            f"variant {variant!r} (--variant) is not one of model {name!r}: use {' or '.join(variants(name))}"
        )
    small = variant == "small" if variant is not None else size < SMALL_IMAGE
    return dict(_SMALL.get(name, {})) if small else {}


def names() -> list[str]:
    """Names that `build` knows, sorted."""
    return sorted(_REGISTRY)


def build(
    name: str, num_classes: int | None = None, in_channels: int | None = None, variant: str | None = None, **kw: Any
) -> nn.Module:
    """A float model with fresh weights: images [N, in_channels, H, W] -> logits [N, num_classes]; else 1000 and 3.

    name: one of `names()`, or `package.module:factory`, imported from the current directory first.
    variant: "published" or "small", as `--variant`; None is as published.
    kw: keywords of the factory, which come before those of the variant. A factory of yours gets num_classes and
    in_channels only where its signature has them, and a variant if you give one.

    Errors (QuantizationError): an unknown name or variant, a keyword that the network does not have, a module or
    factory that cannot be found or fails, a factory that returns no nn.Module.
    """
    if is_own(name):
        own = {"variant": variant} if variant is not None else {}
        return build_own(name, num_classes, in_channels, **own, **kw)
    check_name(name)
    module, attribute = _REGISTRY[name]
    factory = getattr(importlib.import_module(module, __name__), attribute)
    known = [key for key in inspect.signature(factory).parameters if key not in ("num_classes", "in_channels")]
    for key in kw:
        if key not in known:
            takes = ", ".join(["num_classes", "in_channels", "variant", *known])
            raise QuantizationError(f"model {name!r} has no keyword {key!r}: it takes {takes}{near(key, known)}")
    adapted = keywords(name, SMALL_IMAGE, variant)
    given = {"num_classes": num_classes, "in_channels": in_channels}
    sizes = {key: USUAL[key] if value is None else value for key, value in given.items()}
    return called(name, factory, {**sizes, **adapted, **kw})


def check_name(name: str) -> None:
    """Whether `build` can find a network of that name, as far as that can be known without importing anything.

    Errors (QuantizationError): an unknown name, one that is not package.module:factory, a package that is not there.
    """
    if is_own(name):
        check_found(name)
    elif name not in _REGISTRY:
        file = " (that is a file: give the name of the network)" if os.path.exists(name) else with_colon(name)
        file = hint(name) or file
        raise QuantizationError(
            f"model {name!r} is unknown: use one of {', '.join(names())}, or package.module:factory for your own"
            f"{file or near(name, _REGISTRY)}"
        )
