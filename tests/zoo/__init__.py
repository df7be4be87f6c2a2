"""A zoo: small networks, wired like published architectures, that whatever users bring should look like.

`python -m zoo` runs them (tests/ is on the path), `NETWORKS` has them by name.
"""

from . import (
    audio,
    convnets,
    convnets_light,
    convnets_wide,
    detection,
    detection_dense,
    hybrids,
    misc,
    pairs,
    segmentation,
    segmentation_context,
    sequence,
    vision_transformers,
    windows,
)
from .registry import NETWORKS, Network

__all__ = [
    "NETWORKS",
    "Network",
    "audio",
    "convnets",
    "convnets_light",
    "convnets_wide",
    "detection",
    "detection_dense",
    "hybrids",
    "misc",
    "pairs",
    "segmentation",
    "segmentation_context",
    "sequence",
    "vision_transformers",
    "windows",
]
