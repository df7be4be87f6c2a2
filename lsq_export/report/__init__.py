"""report: a bundle's manifest and parity as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any

import jinja2

from calib.errors import QuantizationError
from lsq_export.verification.numbers import number, percent, share

from .contents import contents
from .page import page

__all__ = ["render"]


def render(
    manifest: dict[str, Any],
    parity: dict[str, Any],
    bench: Mapping[str, Any] | None = None,
    replay: Mapping[str, Any] | None = None,
    against_float: Mapping[str, Any] | None = None,
) -> str:
    """HTML, from what manifest.json and parity.json hold.

    bench: latencies, as `bench --json` writes them. replay: {"runs": …}, as `replay --record` writes them.
    against_float: as `calibrate` writes it.

    Errors (QuantizationError): one of them lacks something that the report shows.
    """
    style, script = (resources.files(__name__).joinpath(f"bundle.{kind}").read_text("utf-8") for kind in ("css", "js"))
    try:
        return page(
            "bundle.html",
            {"percent": percent, "number": number, "share": share},
            manifest=manifest,
            parity=parity,
            bench=bench,
            style=style,
            script=script,
            **contents(manifest, parity, bench, replay, against_float),
        )
    except (jinja2.UndefinedError, AttributeError, KeyError, TypeError) as error:
        raise QuantizationError(
            f"manifest.json or parity.json lacks what the report shows ({error}): run lsq-export verify on the bundle"
        ) from error
