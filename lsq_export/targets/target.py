"""What a deployment target can read."""

from __future__ import annotations

from dataclasses import dataclass

from .rule import Rule


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
    versions     of the software that the rules are of
    rules        what `lsq-export lint` checks, and export before it writes
    dialect      rewrites of the qdq file for it, by name (`lsq_export.rewrite.lowering.dialects`), in order
    batch        of its files; None: any
    quantized    outputs are codes: the last DequantizeLinear is left out of the files that are written
    advice       what those who run the file there have to know; "" where there is nothing
    """

    name: str
    description: str
    formats: tuple[str, ...]
    opset: int
    containers: tuple[str, ...]
    folds: tuple[str, ...]
    optimization: str
    on_request: tuple[str, ...] = ()
    versions: str = ""
    rules: tuple[Rule, ...] = ()
    dialect: tuple[str, ...] = ()
    batch: int | None = None
    quantized: bool = False
    advice: str = ""

    @property
    def readable(self) -> tuple[str, ...]:
        """All formats that it reads."""
        return (*self.formats, *self.on_request)

    @property
    def narrow(self) -> bool:
        """Codes of fewer than 8 bits have types of their own."""
        return any(name.endswith(("4", "2")) for name in self.containers)
