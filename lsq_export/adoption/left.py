"""What of a file stays as it is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Left:
    """Something that is computed in float as the file has it. name: of the node or tensor."""

    name: str
    why: str
