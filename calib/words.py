"""Counts in sentences: 1 image, 2 images."""

from __future__ import annotations


def counted(count: int, one: str, many: str | None = None) -> str:
    """The count with a noun, or with what is said of it.

    >>> counted(1, "image"), counted(0, "image"), counted(2, "code differs", "codes differ")
    ('1 image', '0 images', '2 codes differ')
    """
    return f"{count} {one if count == 1 else many or f'{one}s'}"
