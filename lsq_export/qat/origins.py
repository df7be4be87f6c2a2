"""What a network is called after the way in which its grids came to be: trained, calibrated without training, or
adopted from another tool. Sentences about it take their words from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TRAINED, CALIBRATED, ADOPTED = "trained", "calibrated", "adopted"
ORIGINS = (TRAINED, CALIBRATED, ADOPTED)
KEY = "grids"  # in the source of a manifest, and in parity.json; neither has it of networks that were trained here


def origin_of(said: object) -> str:
    """said: the source of a manifest, or what parity.json holds. Where it says nothing, the network was trained."""
    found = said.get(KEY) if isinstance(said, Mapping) else None
    return str(found) if found in ORIGINS else TRAINED


def is_trained(said: object) -> bool:
    """Whether options of a training are of use; not for who calibrates, or adopts what was trained elsewhere."""
    source: Mapping[str, Any] = said if isinstance(said, Mapping) else {}
    return origin_of(source) == TRAINED and not ("file" in source and not source.get("config"))


def grids_called(origin: str) -> str:
    """learned, of trained grids; calibrated grids, adopted grids."""
    return "learned" if origin == TRAINED else origin


def before_the_fold(origin: str) -> str:
    """What had other grids than the file: training, or the calibrated network."""
    return "training" if origin == TRAINED else f"the {origin} network"
