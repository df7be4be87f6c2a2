"""Reading JSON of others strictly: what is ambiguous, or no number, is an error and no guess.

Refused: two values for a key, NaN, Infinity and numbers beyond float64 or int64, text that is no Unicode, lists in
lists in lists without end.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

DEPTH = 32  # of lists and objects in each other; ours have 6
_DIGITS = 20  # more are beyond int64, and slow to read


def parse(content: bytes | str) -> Any:
    """The value. Errors (ValueError): no JSON, or none of the kind above."""
    try:
        text = content.decode("utf-8") if isinstance(content, bytes) else content
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_float=_float,
            parse_int=_integer,
            parse_constant=_constant,
        )
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    _check(value, DEPTH)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it has two values for {twice!r:.80}")
    return found


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text:.40} is beyond float64")
    return value


def _integer(text: str) -> int:
    if len(text) > _DIGITS or not -(2**63) <= int(text) < 2**63:
        raise ValueError(f"the number {text:.40} is beyond int64")
    return int(text)


def _constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def _check(value: object, depth: int) -> None:
    """Errors (ValueError): text with half a surrogate pair, which no file can hold; too deep."""
    if isinstance(value, str):
        value.encode("utf-8")
    elif isinstance(value, (dict, list)):
        if depth == 0:
            raise ValueError(f"lists and objects are nested deeper than {DEPTH}")
        for part in (*value.keys(), *value.values()) if isinstance(value, dict) else value:
            _check(part, depth - 1)
