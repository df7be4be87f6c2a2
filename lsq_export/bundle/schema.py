"""manifest.json and parity.json held against their JSON Schemas, which lie beside this file."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import Any

import fastjsonschema

from calib.errors import shown

_RULES = {  # how messages say what the schema wants
    "const": "must be {!r}",
    "enum": "must be one of {!r}",
    "type": "must be of the type {}",
    "minimum": "must be {} or more",
    "exclusiveMinimum": "must be more than {}",
    "maximum": "must be {} or less",
    "minItems": "must have {} entries or more",
    "maxItems": "must have {} entries or fewer",
    "minLength": "must not be empty",
    "minProperties": "must not be empty",
    "propertyNames": "must have other names",
}


def check(kind: str, value: Any) -> None:
    """kind: "manifest", "parity", or "preprocessing", which is a part of a manifest.

    Errors (ValueError): the place, its value and what has to be there.
    """
    try:
        _validator(kind)(value)
    except fastjsonschema.JsonSchemaValueException as error:
        place = str(error.name).removeprefix("data").removeprefix(".") or "it"
        raise ValueError(f"{shown(place):.200} {_wish(error)}") from error


def _wish(error: fastjsonschema.JsonSchemaValueException) -> str:
    wanted = error.rule_definition
    if error.rule == "required":
        missing = next(key for key in wanted if key not in error.value)
        return f"has no {missing!r}" if error.name != "data" else f"has no {missing}"
    wish = _RULES.get(str(error.rule), "must be as the schema says")
    wanted = " or ".join(wanted) if isinstance(wanted, list) and error.rule == "type" else wanted
    found = error.value if isinstance(error.value, (int, float, str, bool, type(None))) else type(error.value).__name__
    return f"is {shown(str(found)):.80}: it {wish.format(wanted)}"


@cache
def _validator(kind: str) -> Callable[[Any], Any]:
    part = kind == "preprocessing"
    name = f"{'manifest' if part else kind}.schema.json"
    schema = json.loads(resources.files(__package__).joinpath(name).read_text(encoding="utf-8"))
    schema = schema["definitions"][kind] if part else schema
    compiled: Callable[[Any], Any] = fastjsonschema.compile(schema)
    return compiled
