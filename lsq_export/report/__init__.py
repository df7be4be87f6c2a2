"""report: a bundle's manifest and parity as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any

import jinja2

from calib.errors import QuantizationError
from lsq_export.qat.bit_widths import widths_of
from lsq_export.verification.parity import NUDGED

__all__ = ["render"]


def render(manifest: dict[str, Any], parity: dict[str, Any], bench: Mapping[str, Any] | None = None) -> str:
    """HTML, from what manifest.json and parity.json hold.

    Errors (QuantizationError): one of them lacks something that the report shows.
    """
    template = resources.files(__name__).joinpath("bundle.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(percent=_percent, number=_number)
    try:
        return environment.from_string(template).render(
            manifest=manifest, parity=parity, nudged=NUDGED, made_from=_made_from(manifest.get("source"))
        )
    except (jinja2.UndefinedError, TypeError) as error:
        raise QuantizationError(
            f"manifest.json or parity.json lacks what the report shows ({error}): run lsq-export verify on the bundle"
        ) from error


def _made_from(source: object) -> str:
    """resnet18 W4A4, checkpoint r18.safetensors, data digits: as far as the command line noted it."""
    known = _entries(source)
    model, config = _entries(known.get("model")), _entries(known.get("config"))
    bits = ""
    if {"weight_bits", "activation_bits"} <= config.keys():
        bits = widths_of(config)
    network = f"{model.get('name', '')} {bits}".strip()
    others = (f"{key} {known[key]}" for key in ("checkpoint", "data") if known.get(key))
    return ", ".join(part for part in (network, *others) if part)


def _entries(value: object) -> Mapping[str, Any]:
    """The object of JSON that this value is, or an empty one."""
    return value if isinstance(value, dict) else {}


def _percent(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def _number(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else f"{value:.{digits}g}"
