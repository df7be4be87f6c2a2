"""The version of the installed package; setup.cfg is its home."""

from __future__ import annotations

from importlib import metadata

try:
    VERSION = metadata.version("lsq-export")
except metadata.PackageNotFoundError:  # a checkout on the path, not installed
    VERSION = "0+unknown"
