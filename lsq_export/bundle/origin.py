"""What the user says about a network, for the bundle."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from calib.errors import QuantizationError, one_line
from calib.words import counted
from lsq_export.data.sample import Sample

from . import schema


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What only the user can know. None: not said.

    preprocessing: how a source image becomes an input (`lsq_export.data.Dataset`). source: model, config, checkpoint
    and data, by name. classes: their names, in the order of the outputs. license: of the network, an SPDX expression.
    sample: one of the data, before preprocessing; False: nothing of the data goes into the bundle.
    places: {tensor: where in the user's model it is, in words}.

    Errors (QuantizationError): names of classes or a license that are no text of one line, preprocessing whose steps
    are of other types than those of a manifest.
    """

    preprocessing: Mapping[str, Any] | None = None
    source: Mapping[str, Any] | None = None
    classes: Sequence[str] | None = None
    license: str | None = None
    sample: Sample | Literal[False] | None = None
    places: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in (("preprocessing", self.preprocessing), ("source", self.source)):
            if value is not None and not (isinstance(value, Mapping) and _is_json(value)):
                raise QuantizationError(
                    f"{name} is {one_line(value)!r:.100}: give a dict of numbers, texts and lists, or None"
                )
        try:
            schema.check("preprocessing", self.preprocessing)
        except ValueError as error:
            raise QuantizationError(f"preprocessing: {error}; see lsq_export.data.Dataset") from error
        names = self.classes
        if names is not None and (isinstance(names, str) or not names or not all(_is_line(name) for name in names)):
            raise QuantizationError("classes must be a list of names, one line of text each: classes=['cat', 'dog']")
        if self.license is not None and not _is_line(self.license):
            raise QuantizationError(
                f"license is {self.license!r}: give one line, an SPDX expression such as 'Apache-2.0', or None"
            )

    def check_outputs(self, shape: Sequence[int | None]) -> None:
        """Whether the names of classes fit the first output. shape: with the batch; None: not known.

        Errors (QuantizationError): another number of names.
        """
        if self.classes is None:
            return
        found = shape[1] if len(shape) == 2 else None
        if len(shape) != 2 or (found is not None and found != len(self.classes)):
            what = f"{found} numbers" if found else f"the shape {list(shape)}"
            raise QuantizationError(
                f"classes has {counted(len(self.classes), 'name')}, but the first output of the model has {what} for "
                "an input: give one name for each"
            )


def _is_json(value: object) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def _is_line(text: object) -> bool:
    return isinstance(text, str) and bool(text.strip()) and text.isprintable()
