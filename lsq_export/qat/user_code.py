"""Which lines are of the user's own code, and not of torch's or of this package."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import torch

LIBRARIES = (Path(torch.__file__).parent, Path(__file__).parent)


def user_frames() -> Iterator[FrameType]:
    """From the innermost on."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if not is_library(frame):
            yield frame
        frame = frame.f_back


def user_frame() -> FrameType:
    """The innermost."""
    return next(user_frames())


def is_library(frame: FrameType) -> bool:
    """Whether the frame is one of torch's or of this package."""
    return any(Path(frame.f_code.co_filename).is_relative_to(library) for library in LIBRARIES)


def place_in(frame: FrameType) -> str:
    """net.py:12"""
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


def lines() -> str:
    """The innermost line of the user's own, as Python writes it."""
    frame = user_frame()
    return "".join(traceback.format_list(traceback.extract_stack(frame, limit=1)))
