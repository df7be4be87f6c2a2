"""Verification of the small exported network and of damaged copies of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import torch

from lsq_export.bundle.directory import TRAINED
from lsq_export.verification.checking import Subject, check
from lsq_export.verification.format_parity import FormatParity
from lsq_export.verification.layer_parity import QDQ_TIES, TIES
from lsq_export.verification.parity import Parity
from support import sabotage
from support.exported import Exported

FORMATS = ("qdq", "qoperator")


def run_check(exported: Exported, files: dict[str, onnx.ModelProto], **changes: Any) -> Parity:
    """`check` on graphs in memory, without SHA256SUMS.

    changes: other graphs or another model instead of the bundle's; images: how many to run on.
    """
    count = changes.pop("images", 12)
    x, y = (torch.cat(parts)[:count] for parts in zip(*exported.batches, strict=True))
    model = changes.pop("model", exported.model)
    graphs = {"trained": exported.graph(TRAINED), "folded": exported.graph(), **changes}
    return check(Subject(**graphs, files=files, target="ort-cpu"), [(x, y)], model=model)


def broken(parity: FormatParity) -> set[str]:
    """The promises that a format breaks, by name."""
    exact = parity.name == "qoperator"
    promises = {
        "reference_mismatch": exact and parity.reference_mismatch > 0,
        "accumulator_mismatch": parity.accumulator_mismatch > 0,
        "output_mismatch": parity.output_mismatch > 0,
        "layers": not all(layer.within(TIES if exact else QDQ_TIES) for layer in parity.layers),
        "altered": bool(parity.altered),
    }
    assert parity.ok == (not any(promises.values())) == (not parity.failures)
    return {name for name, is_broken in promises.items() if is_broken}


def damaged(exported: Exported, name: str, damage: Callable[[onnx.ModelProto], None]) -> onnx.ModelProto:
    file = exported.file(name)
    damage(file)
    return file


def scale(role: str, place: int, proto: onnx.ModelProto) -> None:
    sabotage.change(proto, getattr(sabotage.layers(proto)[place], role), sabotage.doubled)


def zero_point(role: str, place: int, proto: onnx.ModelProto) -> None:
    sabotage.change(proto, getattr(sabotage.layers(proto)[place], role), sabotage.moved)


def bias(place: int, proto: onnx.ModelProto) -> None:
    sabotage.change(proto, sabotage.layers(proto)[place].bias, sabotage.one_moved)


def weight(place: int, proto: onnx.ModelProto) -> None:
    sabotage.change(proto, sabotage.layers(proto)[place].weight, sabotage.one_flipped)


def channels(place: int, proto: onnx.ModelProto) -> None:
    columns = any(
        node.op_type == "MatMulInteger" and sabotage.layers(proto)[place].weight in node.input
        for node in proto.graph.node
    )
    sabotage.change(
        proto, sabotage.layers(proto)[place].weight, sabotage.columns_swapped if columns else sabotage.rows_swapped
    )


def resave(path: Path, damage: Callable[[onnx.ModelProto], None]) -> None:
    proto = onnx.load(path)
    damage(proto)
    onnx.save(proto, path)
