"""Architectures, one in each file, with the parameter names of the usual public checkpoints.

    names()                                        -> ["efficientnet_b0", "mixnet_s", "resnet18", "tiny"]
    build("resnet18", num_classes=10)              -> nn.Module
    build("mixnet_s", width=0.5, stem_stride=1)    -> nn.Module
    build("models.net:build", num_classes=10)      -> what `build` of *your* models/net.py returns
    keywords("mixnet_s", 32)                       -> {"width": 0.5, "stem_stride": 1}, for small images

efficientnet_b0 and mixnet_s take width and stem_stride; blocks.py and inverted.py are what these two share. For a model
of your own the current directory is searched first. Each architecture is imported when it is built: listing the names
does not import torch.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any

from calib.errors import QuantizationError, near, one_line

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


def build(name: str, num_classes: int = 1000, in_channels: int = 3, **kw: Any) -> nn.Module:
    """A float model with fresh weights: images [N, in_channels, H, W] -> logits [N, num_classes].

    name: one of `names()`, or `package.module:factory`, imported from the current directory first.
    kw: keywords of the factory. A factory of yours gets num_classes and in_channels only where its signature has them.

    Errors (QuantizationError): an unknown name, a module or factory that cannot be found or fails, a factory that
    returns no nn.Module.
    """
    if ":" in name:
        return _build_user(name, num_classes, in_channels, kw)
    check_name(name)
    module, attribute = _REGISTRY[name]
    factory = getattr(importlib.import_module(module, __name__), attribute)
    return _call(name, factory, {"num_classes": num_classes, "in_channels": in_channels, **kw})


def check_name(name: str) -> None:
    """Whether `build` can find a network of that name, as far as that can be known without importing anything.

    Errors (QuantizationError): an unknown name, one that is not package.module:factory, a package that is not there.
    """
    if ":" not in name:
        if name not in _REGISTRY:
            file = " (that is a file: give the name of the network)" if os.path.exists(name) else _with_colon(name)
            raise QuantizationError(
                f"model {name!r} is unknown: use one of {', '.join(names())}, or package.module:factory for your own"
                f"{file or near(name, _REGISTRY)}"
            )
        return
    module_name = _parts(name)[0]
    top = module_name.partition(".")[0]
    if PathFinder.find_spec(top, [os.getcwd()]) is None and importlib.util.find_spec(top) is None:
        raise _no_module(name, module_name)


def _with_colon(name: str) -> str:
    """The hint for nets.own.Net, where it is nets.own:Net."""
    module_name, _, attribute = name.rpartition(".")
    if not all(part.isidentifier() for part in (*module_name.split("."), attribute)):
        return ""
    there = PathFinder.find_spec(module_name.partition(".")[0], [os.getcwd()]) is not None
    return f" (did you mean {module_name}:{attribute}?)" if there else ""


def _parts(name: str) -> tuple[str, str]:
    """package.module:factory -> ("package.module", "factory")."""
    module_name, _, attribute = name.partition(":")
    readable = all(part.isidentifier() for part in (*module_name.split("."), attribute))
    if not readable or module_name.endswith(".py"):
        raise QuantizationError(f"model {name!r} cannot be read: write package.module:factory{_written(name)}")
    return module_name, attribute


def _written(name: str) -> str:
    """A file name in its place, written as a module: nets/own.py:build is nets.own:build."""
    file, _, attribute = name.partition(":")
    module_name = ".".join(part for part in file.removesuffix(".py").split("/") if part not in ("", "."))
    readable = all(part.isidentifier() for part in module_name.split("."))
    return f" ({module_name}:{attribute or 'factory'}?)" if file != module_name and readable else ""


def _no_module(name: str, missing: str) -> QuantizationError:
    return QuantizationError(
        f"model {name!r}: there is no module {missing!r} in {os.getcwd()} or among the installed packages"
    )


def _build_user(name: str, num_classes: int, in_channels: int, kw: dict[str, Any]) -> nn.Module:
    factory = _import_factory(name)
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # some callables written in C have no signature
        parameters = {}.values()
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    accepted = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    offered = {"num_classes": num_classes, "in_channels": in_channels}
    return _call(name, factory, {**{k: v for k, v in offered.items() if takes_any or k in accepted}, **kw})


def _import_factory(name: str) -> Callable[..., Any]:
    module_name, attribute = _parts(name)
    if sys.path[:1] != [os.getcwd()]:
        sys.path.insert(0, os.getcwd())
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        if module_name == missing or module_name.startswith(missing + "."):
            raise _no_module(name, missing) from error
        raise QuantizationError(f"model {name!r}: {module_name} imports {missing!r}, which is not installed") from error
    except Exception as error:
        raise QuantizationError(f"model {name!r}: importing {module_name} failed: {_described(error)}") from error
    factory: Callable[..., Any] | None = getattr(module, attribute, None)
    if not callable(factory):
        where = getattr(module, "__file__", None) or module_name
        raise QuantizationError(f"model {name!r}: {where} has no function or class {attribute!r}")
    return factory


def _call(name: str, factory: Callable[..., Any], kw: dict[str, Any]) -> nn.Module:
    from torch import nn

    try:
        model = factory(**kw)
    except QuantizationError:
        raise
    except Exception as error:
        raise QuantizationError(f"model {name!r}: building it with {kw} failed: {_described(error)}") from error
    if not isinstance(model, nn.Module):
        raise QuantizationError(f"model {name!r}: the factory returned {type(model).__name__}, not a torch.nn.Module")
    return model


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {one_line(error)}"
