"""Up to which accuracy a network is hardly better than guessing."""

from __future__ import annotations

import math


def guessing_limit(classes: int, images: int) -> float:
    """The accuracy, 0-1, up to which answers for so many images are hardly better than guesses among the classes.

    That is 15 % of the way from 1 / classes to 1, or two standard deviations of guesses where that is more.
    """
    share = 1 / classes
    return share + max(0.15 * (1 - share), 2 * math.sqrt(share * (1 - share) / max(1, images)))
