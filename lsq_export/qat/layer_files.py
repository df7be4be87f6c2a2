"""Wishes for layers from the command line and from files (JSON, or TOML where Python or tomli reads it)."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calib.errors import QuantizationError, one_line
from lsq_export.files import strict_json

from .layer_settings import CHOICES, FLOAT, SETTINGS, checked

Wishes = dict[str, "dict[str, Any] | str"]
EXAMPLE = "head=float, head=8 or 'features.0*=weight_bits:8,activation_bits:4'"


def read_file(path: Path) -> Wishes:
    """The wishes in a file: a table of patterns, each with a table of settings, a number of bits, or
    "float".

    Errors (QuantizationError): a file that cannot be read or has other contents.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise QuantizationError(f"--layers {path} cannot be read ({one_line(error)})") from error
    try:
        content = toml_module(path, "--layers").loads(text) if path.suffix == ".toml" else strict_json.parse(text)
        return checked(content)
    except QuantizationError as error:
        raise error if str(error).startswith("--layers") else QuantizationError(f"--layers {path}: {error}") from error
    except (ValueError, RecursionError) as error:
        kind = "TOML" if path.suffix == ".toml" else "JSON"
        raise QuantizationError(f"--layers {path} is no {kind} ({one_line(error)})") from error


def toml_module(path: Path, what: str) -> Any:
    """What reads TOML. Errors (QuantizationError): nothing does. path, what: of the file, for the message."""
    for module in ("tomllib", "tomli"):  # the first from Python 3.11 on
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError:
            continue
    raise QuantizationError(f"{what} {path}: Python 3.10 reads no TOML; install tomli, or write the table as .json")


def parse(options: Sequence[str]) -> Wishes:
    """PATTERN=SETTING:VALUE,…, PATTERN=BITS or PATTERN=float, in this order. Errors (QuantizationError): others."""
    found: Wishes = {}
    for option in options:
        pattern, equals, wish = option.rpartition("=")
        if not equals or not wish:
            raise QuantizationError(f"--layer {option!r}: write {EXAMPLE}")
        try:
            found |= _later(found, checked({pattern: _wish(option, wish)}))
        except QuantizationError as error:
            raise error if str(error).startswith("--layer") else QuantizationError(f"--layer {error}") from error
    return found


def _wish(option: str, text: str) -> object:
    return FLOAT if text == FLOAT else int(text) if text.isdecimal() else _settings(option, text)


def joined(first: Wishes, later: Wishes) -> Wishes:
    """Both, in this order; a pattern of both takes its later place."""
    result = dict(first)
    result |= _later(result, later)
    return result


def _later(found: Wishes, more: Wishes) -> Wishes:
    for pattern in more:
        found.pop(pattern, None)
    return more


def _settings(option: str, text: str) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for part in text.split(","):
        name, colon, value = part.partition(":")
        if not colon:
            raise QuantizationError(f"--layer {option!r}: {part!r} is no SETTING:VALUE; write {EXAMPLE}")
        number = name in SETTINGS and name not in CHOICES and value.isdecimal()
        settings[name.strip()] = int(value) if number else value.strip()
    return settings
