"""The log of a training: one line of JSON for each epoch.

{"phase": "low-bit", "epoch": 1, "loss": 0.31, "train_accuracy": 0.93, "test_accuracy": 0.95, "seconds": 2.1,
 "lr": 0.03}
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from calib.errors import QuantizationError
from lsq_export.files.atomic import replacing

from .recipe import Epoch

Histories = dict[str, tuple[Epoch, ...]]  # {phase: its epochs}


class Log:
    """Appends each epoch once.

    The first `update` writes the file anew, so that a resumed run repairs what a kill left behind.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._written: int | None = None  # lines

    def update(self, histories: Histories) -> None:
        """Write the epochs that are not in the file yet.

        histories: all epochs so far. Errors (QuantizationError): the file cannot be written.
        """
        lines = [
            json.dumps({"phase": phase, **asdict(epoch)}, allow_nan=False) + "\n"
            for phase, epochs in histories.items()
            for epoch in epochs
        ]
        try:
            if self._written is None:
                with replacing(self.path) as temporary:
                    temporary.write_text("".join(lines), encoding="utf-8")
            else:
                with self.path.open("a", encoding="utf-8") as file:
                    file.write("".join(lines[self._written :]))
        except OSError as error:
            raise QuantizationError(f"log {self.path} cannot be written: {error.strerror}") from error
        self._written = len(lines)
