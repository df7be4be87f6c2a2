"""The one error type of the project, and its warnings."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable
from difflib import get_close_matches

OURS = ("calib", "lsq_export")  # packages


class QuantizationError(ValueError):
    """Input that the tool cannot use.

    Its message is one line that says what, where (tensor, layer, option), the value, and what to do. The command line
    prints the line and exits with 2.
    """


class DamagedError(QuantizationError):
    """A bundle that is not what was exported: files that SHA256SUMS does not know, or that contradict each other.

    Nothing that is in it is believed then. The command line prints the line and exits with 1.
    """


class QuantizationWarning(UserWarning):
    """Something is done in another way than the best one, since the input does not allow it.

    One line that says what, why, and what to change. The command line prints it on stderr and goes on.
    """


class ParityWarning(QuantizationWarning):
    """The network that was exported answers otherwise than the trained one, or a promise is broken.

    The command line prints the verdict instead.
    """


def warn(message: str, category: type[QuantizationWarning] = QuantizationWarning) -> None:
    """A warning at the line of the user's code that called the package, however deep in the package this is."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in OURS:
        frame = frame.f_back
        level += 1
    warnings.warn(message, category, stacklevel=level)


def one_line(message: object) -> str:
    """The text of an error of somebody else, which may have several lines, as part of a message of one line."""
    try:
        return " ".join(str(message).split())
    except Exception:  # an error whose text cannot be made
        return type(message).__name__


def shown(text: object) -> str:
    """A text that somebody else may have written, as part of a line: what is not printable as its escape.

    Line ends, control characters that a terminal obeys, and marks that turn the direction of the text around.
    """
    plain = str(text)
    return plain if plain.isprintable() else "".join(map(_escaped, plain))


def _escaped(character: str) -> str:
    return character if character.isprintable() else ascii(character)[1:-1]


def near(name: object, known: Iterable[str]) -> str:
    """ " (did you mean NAME?)" for the end of a message about an unknown name; "" where none of the known is near."""
    lower = {word.lower(): word for word in known}
    found = get_close_matches(str(name).lower(), lower, n=1)
    return f" (did you mean {lower[found[0]]}?)" if found else ""
