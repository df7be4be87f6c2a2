"""Packages whose names are imported at first use: `--help` must not wait for PyTorch."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


def install(package: str, homes: dict[str, str]) -> None:
    """Give `package` the attributes `homes`: {name: module that defines it, relative to the package}.

    Stages are functions and modules of one name (calib.initialize, lsq_export.export): importing the module must not hide the function.
    """

    class LazyPackage(ModuleType):
        def __getattr__(self, name: str) -> Any:
            if name not in homes:
                raise AttributeError(f"module {package!r} has no attribute {name!r}")
            return getattr(import_module(homes[name], package), name)

        def __setattr__(self, name: str, value: Any) -> None:
            if not (name in homes and isinstance(value, ModuleType)):
                super().__setattr__(name, value)

        def __dir__(self) -> list[str]:
            return sorted({*super().__dir__(), *homes})

    sys.modules[package].__class__ = LazyPackage
