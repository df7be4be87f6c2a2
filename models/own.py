"""Networks of the user's own, `package.module:factory`: imported and called, so only what the user named comes here.

    parts("nets.own:build")                        -> ("nets.own", "build"), without importing anything
    build_own("nets.own:build", 10, 3)             -> what build(num_classes=10, in_channels=3) returns

Whatever that code raises is one line, SystemExit included: it must not end the program as if all were done.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any

from calib.errors import QuantizationError, one_line

if TYPE_CHECKING:
    from torch import nn


USUAL = {"num_classes": 1000, "in_channels": 3}  # of ImageNet


def is_own(name: str) -> bool:
    """Whether the name is that of a callable, and not of a network of lsq-export."""
    return ":" in name


def parts(name: str, what: str = "model") -> tuple[str, str]:
    """package.module:factory -> ("package.module", "factory"). Errors (QuantizationError): another form.

    what: messages call it.
    """
    module_name, _, attribute = name.partition(":")
    if not reads_as_name(module_name, attribute) or module_name.endswith(".py"):
        raise QuantizationError(f"{what} {name!r} cannot be read: write package.module:factory{_written(name)}")
    return module_name, attribute


def reads_as_name(module_name: str, attribute: str) -> bool:
    """Whether Python could import them."""
    return all(part.isidentifier() for part in (*module_name.split("."), attribute))


def with_colon(name: str) -> str:
    """The hint for nets.own.Net, where it is nets.own:Net; else nothing."""
    module_name, _, attribute = name.rpartition(".")
    if not reads_as_name(module_name, attribute):
        return ""
    there = PathFinder.find_spec(module_name.partition(".")[0], [os.getcwd()]) is not None
    return f" (did you mean {module_name}:{attribute}?)" if there else ""


def check_found(name: str, what: str = "model") -> None:
    """Whether the package is there, without importing it. Errors (QuantizationError): as `parts`, and no package."""
    module_name = parts(name, what)[0]
    if not is_there(module_name):
        raise _no_module(name, module_name, what)


def is_there(module_name: str) -> bool:
    """Whether the package of a module is in the current directory or installed."""
    top = module_name.partition(".")[0]
    return PathFinder.find_spec(top, [os.getcwd()]) is not None or importlib.util.find_spec(top) is not None


def build_own(
    name: str | Callable[..., Any], num_classes: int | None = None, in_channels: int | None = None, **kw: Any
) -> nn.Module:
    """A network of the user's own, in float.

    name: `package.module:factory`, looked for in the current directory first, or the factory itself. It gets
    num_classes and in_channels only where its signature has them; those that are not known only where it has no default
    of its own. Errors (QuantizationError): it cannot be found, is neither a module class nor a function, fails, or
    returns no nn.Module.
    """
    factory = imported(name) if isinstance(name, str) else name
    shown = name if isinstance(name, str) else getattr(name, "__qualname__", None) or repr(name)
    _check_factory(shown, factory)
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # a class without a signature of its own
        parameters = {}.values()
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    accepted = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    needed = {p.name for p in parameters if p.default is p.empty}
    given = {"num_classes": num_classes, "in_channels": in_channels}
    offered = {k: v for k, v in given.items() if k in accepted or (takes_any and v is not None)}
    known = {k: USUAL[k] if v is None else v for k, v in offered.items() if v is not None or k in needed}
    return called(shown, factory, {**known, **kw})


def called(name: str, factory: Callable[..., Any], kw: dict[str, Any]) -> nn.Module:
    """factory(**kw). Errors (QuantizationError): it fails, ends the program, or returns something else."""
    from torch import nn

    try:
        model = factory(**kw)
    except (KeyboardInterrupt, QuantizationError):
        raise
    except BaseException as error:
        raise QuantizationError(f"model {name!r}: building it with {kw} failed: {_described(error)}") from error
    if not isinstance(model, nn.Module):
        raise QuantizationError(f"model {name!r}: the factory returned {type(model).__name__}, not a torch.nn.Module")
    return model


def imported(name: str, what: str = "model") -> Any:
    """What package.module:attribute names, which can be called. Errors (QuantizationError): it cannot be found."""
    module_name, attribute = parts(name, what)
    if sys.path[:1] != [os.getcwd()]:
        sys.path.insert(0, os.getcwd())
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(module_name)
        factory = getattr(module, attribute, None)
    except KeyboardInterrupt:
        raise
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        if module_name == missing or module_name.startswith(missing + "."):
            raise _no_module(name, missing, what) from error
        raise QuantizationError(
            f"{what} {name!r}: {module_name} imports {missing!r}, which is not installed"
        ) from error
    except BaseException as error:
        raise QuantizationError(f"{what} {name!r}: importing {module_name} failed: {_described(error)}") from error
    if not callable(factory):
        where = getattr(module, "__file__", None) or module_name
        raise QuantizationError(f"{what} {name!r}: {where} has no function or class {attribute!r}")
    return factory


def _check_factory(name: str, factory: Any) -> None:
    """Only what can make a network is called. Errors (QuantizationError)."""
    from torch import nn

    made = factory
    while isinstance(made, functools.partial):
        made = made.func
    if isinstance(made, type):
        if not issubclass(made, nn.Module):
            raise QuantizationError(f"model {name!r} is the class {made.__name__}, which is no torch.nn.Module")
    elif isinstance(made, nn.Module):
        raise QuantizationError(f"model {name!r} is a network already: name its class, or a function that returns one")
    elif not inspect.isfunction(inspect.unwrap(made)):
        kind = type(made).__name__
        raise QuantizationError(f"model {name!r} is a {kind}: name a class of torch.nn.Module, or a Python function")


def _written(name: str) -> str:
    """A file name in its place, written as a module: nets/own.py:build is nets.own:build."""
    file, _, attribute = name.partition(":")
    module_name = ".".join(part for part in file.removesuffix(".py").split("/") if part not in ("", "."))
    readable = all(part.isidentifier() for part in module_name.split("."))
    return f" ({module_name}:{attribute or 'factory'}?)" if file != module_name and readable else ""


def _no_module(name: str, missing: str, what: str) -> QuantizationError:
    return QuantizationError(
        f"{what} {name!r}: there is no module {missing!r} in {os.getcwd()} or among the installed packages"
    )


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {one_line(error)}".rstrip(": ")
