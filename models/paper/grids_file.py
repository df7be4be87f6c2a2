"""The file of first grids: what each initialization makes of a float model's activations.

`first_grids` measures it, RESULTS.md shows it.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from calib.errors import QuantizationError
from lsq_export.files.atomic import replacing

from .plan import INITS, Settings

NAME = "first-grids.json"  # beside the record in models/results


@dataclass(frozen=True, kw_only=True)
class FirstGrids:
    """The first grids of one configuration and initialization, as means over layers.

    layers     how many: activation quantizers with inputs of four dimensions that vary
    step       s in units of the tensor's σ
    error      squared error of x̂ in units of the tensor's variance
    constant   share (0-1) of channels that vary in float and have one code only
    """

    network: str
    bits: int
    configuration: str
    init: str
    layers: int
    step: float
    error: float
    constant: float


@dataclass(frozen=True)
class GridsFile:
    """All that was measured. settings: {network: those of its runs}. commit: None outside of git."""

    rows: tuple[FirstGrids, ...]
    settings: dict[str, Settings]
    commit: str | None
    versions: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def write(self, path: Path) -> None:
        """Write the file. Errors (QuantizationError): it cannot be written."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as unfinished:
                unfinished.write_text(json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        except OSError as error:
            raise QuantizationError(f"{path} cannot be written ({error.strerror}): give another file") from error


def read(path: Path) -> GridsFile:
    """The inverse of `GridsFile.write`.

    Errors (QuantizationError): the file cannot be read, or is another kind of file.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        rows = tuple(FirstGrids(**row) for row in values["rows"])
        settings = {network: Settings.from_dict(each) for network, each in values["settings"].items()}
        file = GridsFile(**{**values, "rows": rows, "settings": settings})
        if not all(math.isfinite(number) for row in rows for number in (row.step, row.error, row.constant)):
            raise ValueError("numbers that are not finite")
        if unknown := {row.init for row in rows} - set(INITS):
            raise ValueError(f"unknown initializations: {', '.join(map(str, unknown))}")
        if missing := {row.network for row in rows} - settings.keys():
            raise ValueError(f"no settings of {', '.join(map(str, missing))}")
    except OSError as error:
        raise QuantizationError(f"{path} cannot be read ({error.strerror})") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise QuantizationError(
            f"{path} holds no first grids ({error}): make it again with `python -m models.first_grids --out {path}`"
        ) from error
    return file


def check_settings(file: GridsFile, settings: dict[str, Settings]) -> None:
    """Check that first grids and runs have the same settings. Errors (QuantizationError): a network with other ones."""
    for network, each in file.settings.items():
        if settings.get(network, each) != each:
            change = f"the first grids of {network} were measured with other settings than its runs"
            raise QuantizationError(f"{change}: measure them again, or remove {NAME}")
