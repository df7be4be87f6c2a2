"""Notes on a prepared model that nobody trained here: its grids were calibrated, or adopted from another tool."""

from __future__ import annotations

import hashlib

from torch import nn

from .origins import KEY, TRAINED

ATTRIBUTE = "lsq_export_grids"
PARTS = ("scale", "offset")  # parameters of quantizers


def note_origin(model: nn.Module, origin: str) -> None:
    """Note where the grids of the model come from. A training that moves them afterwards makes the note void."""
    setattr(model, ATTRIBUTE, (origin, _digest(model)))


def noted_source(model: nn.Module) -> dict[str, str]:
    """What was noted, for the source of a manifest, as long as the grids are the same; {} for trained ones."""
    origin, digest = getattr(model, ATTRIBUTE, (TRAINED, ""))
    return {KEY: str(origin)} if origin != TRAINED and digest == _digest(model) else {}


def _digest(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        if name.rpartition(".")[2] in PARTS:
            digest.update(name.encode())
            digest.update(value.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()
