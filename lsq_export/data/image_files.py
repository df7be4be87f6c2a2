"""Image files as pillow reads them, whatever is in them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from calib.errors import QuantizationError, one_line

if TYPE_CHECKING:
    from PIL import Image

NARROWEST = 100  # times as long as high, or as high as long: the shorter side is scaled to the size of the crop


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """An image for the block. Errors (QuantizationError): what cannot be read, in the block, too; its shape."""
    from PIL import Image

    if not path.is_file():  # a pipe would wait, and a device has no end
        raise QuantizationError(f"image {path} is missing, or no regular file: replace or remove it")
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("ignore")  # of pillow, about what is in a file
            if max(image.size) > NARROWEST * min(image.size):
                raise QuantizationError(
                    f"image {path} has {image.width} × {image.height} pixels, too narrow to be scaled: cut it, or "
                    "remove it"
                )
            yield image
    except QuantizationError:
        raise
    except Exception as error:  # each format of pillow has errors of its own
        raise QuantizationError(f"image {path} cannot be read ({one_line(error)}): repair or remove it") from error
