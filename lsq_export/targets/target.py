"""What a deployment target can read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """A place where an exported file runs.

    name         of `--target`
    description  one line
    formats      of the files that it reads and that are written unless others are asked for: "qdq", "qoperator"
    on_request   formats that it reads, too
    opset        least ONNX operator set of those files (narrow types need a newer one)
    containers   integer types that carry codes there, activations first
    folds        how real offsets get onto integer zero points there (`lsq_export.rewrite.fold`), the default first
    optimization ONNX Runtime's graph optimization that the files are verified with: "default", or "disabled" where its
                 default cannot load them
    """

    name: str
    description: str
    formats: tuple[str, ...]
    opset: int
    containers: tuple[str, ...]
    folds: tuple[str, ...]
    optimization: str
    on_request: tuple[str, ...] = ()

    @property
    def readable(self) -> tuple[str, ...]:
        """All formats that it reads."""
        return (*self.formats, *self.on_request)

    @property
    def narrow(self) -> bool:
        """Codes of fewer than 8 bits have types of their own."""
        return any(name.endswith(("4", "2")) for name in self.containers)
