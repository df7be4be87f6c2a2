"""Text and JSON files that appear whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from calib.errors import QuantizationError

from .atomic import replacing


def write_text(path: Path, text: str, *, follow: bool = True) -> None:
    """Write UTF-8. follow: as in `atomic.replacing`. Errors (QuantizationError): a file that cannot be written."""
    try:
        with replacing(path, follow=follow) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise QuantizationError(f"{path} cannot be written: {error.strerror}") from error


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON; NaN and infinity are refused. Errors: as `write_text`."""
    write_text(path, json_text(content))


def json_text(content: Any) -> str:
    """Indented JSON; NaN and infinity are refused."""
    return json.dumps(content, indent=1, allow_nan=False) + "\n"
