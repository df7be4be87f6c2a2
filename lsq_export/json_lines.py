"""A file of one line of text for each measurement, so that a series goes on behind the last whole line when it was interrupted."""

from __future__ import annotations

from pathlib import Path

from calib.errors import QuantizationError


class JsonLines:
    """lines: what the file holds, each with its newline; none if there is no file. A last line that an interruption cut is left out."""

    def __init__(self, path: Path) -> None:
        """Errors: OSError, ValueError (no UTF-8), as they come."""
        self.path = path
        found = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        self._torn = bool(found) and not found[-1].endswith("\n")
        self.lines = found[:-1] if self._torn else found

    def append(self, line: str) -> None:
        """Write one line, in place of a torn one. Errors (QuantizationError): the file cannot be written."""
        try:
            if self._torn:
                whole = self.path.read_text(encoding="utf-8")
                self.path.write_text(whole[: whole.rfind("\n") + 1], encoding="utf-8")
                self._torn = False
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            raise QuantizationError(f"{self.path} cannot be written: {error.strerror}") from error
