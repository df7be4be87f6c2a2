"""A folder like that of the npm package onnxruntime-web; its files only say which they are."""

from __future__ import annotations

from pathlib import Path

from lsq_export.webpage.web_runtime import MODULE, SCRIPT


def package(folder: Path) -> Path:
    """Made in a folder, once."""
    place = folder / "npm"
    (place / "dist").mkdir(parents=True, exist_ok=True)
    (place / "package.json").write_text('{"version": "9.8.7"}')
    for name in (SCRIPT, MODULE):
        (place / "dist" / name).write_text(name)
    return place
