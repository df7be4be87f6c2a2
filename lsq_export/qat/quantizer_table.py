"""The quantizers of a model, and how they are shown."""

from __future__ import annotations

from calib.quantized import Quantized
from calib.tables import Table, Tabular, span
from calib.words import counted


class Quantizers(Tabular, dict[str, Quantized]):
    """{"<layer>.input" | "<layer>.weight": quantizer}, in the order of the layers."""

    @property
    def table(self) -> Table:
        """One row for each quantizer; scale and offset in units of its tensor."""
        without = sum(not bool(q.initialized) for q in self.values())
        notes = [f"{without} have no grid yet: call calib.initialize(model, batches)"] if without else []
        title = counted(len(self), "quantizer")
        columns = ("quantizer", ">bits", "codes", ">scale", ">offset")
        return Table(title, columns, [_row(name, q) for name, q in self.items()], notes)


def _row(name: str, quantizer: Quantized) -> tuple[object, ...]:
    codes = f"{quantizer.qmin} … {quantizer.qmax}"
    if not bool(quantizer.initialized):
        return name, quantizer.bits, codes, "no grid", ""
    offset = "" if quantizer.symmetric else span(quantizer.effective_offset.detach().flatten().tolist())
    return name, quantizer.bits, codes, span(quantizer.scale.detach().flatten().tolist()), offset
