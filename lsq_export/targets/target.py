"""What a deployment target can read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """A place where an exported file runs.

    name         of `--target`
    description  one line
    formats      of the files that it reads: "qdq", "qoperator"
    opset        ONNX operator set of those files
    containers   integer types that carry codes there, activations first
    """

    name: str
    description: str
    formats: tuple[str, ...]
    opset: int
    containers: tuple[str, ...]
