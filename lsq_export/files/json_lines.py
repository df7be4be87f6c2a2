"""A file of one line of text for each measurement; an interrupted series goes on after the last whole line."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

from calib.errors import QuantizationError


class JsonLines:
    """The lines of a file.

    lines: what the file holds, each with its newline; none if there is no file. A last line that an interruption cut is
    left out.
    """

    def __init__(self, path: Path) -> None:
        """Read the file.

        Errors: OSError and ValueError (no UTF-8, or a last line that is no start of JSON) are raised as they are.
        """
        self.path = path
        content = path.read_bytes() if path.exists() else b""
        *whole, torn = content.split(b"\n")  # bytes: an interruption may cut a character; and "\n" alone ends a line
        codecs.getincrementaldecoder("utf-8")().decode(torn)  # of a text file, cut at most within its last character
        if torn and not torn.startswith(b"{"):
            raise ValueError("its last line is none of ours")  # it would be replaced
        self._torn = bool(torn)
        self.lines = [line.decode("utf-8") + "\n" for line in whole]

    def append(self, line: str) -> None:
        """Write one line, in place of a torn one. Errors (QuantizationError): the file cannot be written."""
        try:
            if self._torn:
                os.truncate(self.path, self.path.read_bytes().rfind(b"\n") + 1)  # whole lines are never written again
                self._torn = False
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            raise QuantizationError(f"{self.path} cannot be written: {error.strerror}") from error
