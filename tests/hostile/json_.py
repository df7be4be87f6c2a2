"""Damage of values in JSON."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

STRANGE: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 255, 256, 2**31, 2**63, -(2**63), 10**30, 0.5, -0.0, 1e-300, 1e300, 1e38),
    *("", "a", "batch", "../../outside", "/etc/hostname", "\x1b[2J\n", "<b>x</b>", "\ud800", "qdq", "x" * 5000),
    *([], {}, [[]], [0], {"": 0}, [None], ["batch"], {"a": {"b": []}}),
)
RAW = ("NaN", "Infinity", "-Infinity", "1e999", "9" * 400, "[" * 3000 + "]" * 3000, "{", "", "nul", '"\\ud800"')


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places of all values in a value, itself first."""
    yield place
    if isinstance(value, dict):
        for key, part in value.items():
            yield from places(part, (*place, key))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from places(part, (*place, index))


def damage(text: str, rng: random.Random) -> tuple[str, str]:
    """(JSON text with one thing changed, what was done)."""
    while True:
        found, what = _damaged(text, rng)
        try:
            same = _same(json.loads(found), json.loads(text)) and what != "json: twice"
        except (ValueError, RecursionError):
            same = False
        if not same and found != json.dumps(json.loads(text)):
            return found, what


def _same(a: Any, b: Any) -> bool:
    """0 and 0.0 are one number in JSON, and -0.0, which no reader tells from it; 0 and false are not."""
    if isinstance(a, dict) and isinstance(b, dict):
        return list(a) == list(b) and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    return isinstance(a, bool) == isinstance(b, bool) and bool(a == b)


def _damaged(text: str, rng: random.Random) -> tuple[str, str]:
    value = json.loads(text)
    place = rng.choice([p for p in places(value) if p] or [()])
    if not place:
        return rng.choice(RAW), "json: raw"
    inner = value
    for key in place[:-1]:
        inner = inner[key]
    key, kind = (
        place[-1],
        rng.choice(("number", "number", "strange", "strange", "remove", "twice", "raw", "add", "swap")),
    )
    old = inner[key]
    if kind == "number" and isinstance(old, (int, float)) and not isinstance(old, bool):
        inner[key] = rng.choice((old * 2, -old, old + 1, old * (1 + 1e-4), type(old)(old / 2)))
    elif kind == "remove":
        del inner[key]
    elif kind == "add" and isinstance(inner, list):
        inner.insert(key, old)
    elif kind == "add":
        inner[f"{key}2"] = old
    elif kind == "swap":
        other = rng.choice(list(inner) if isinstance(inner, dict) else range(len(inner)))
        inner[key], inner[other] = inner[other], inner[key]
    elif kind in ("raw", "twice"):
        inner[key] = "@here@"
        raw = rng.choice(RAW) if kind == "raw" else json.dumps(old)
        whole = json.dumps(value).replace('"@here@"', raw)
        if kind == "twice" and isinstance(inner, dict):
            whole = whole.replace(f"{json.dumps(key)}: {raw}", f"{json.dumps(key)}: {raw}, {json.dumps(key)}: 1", 1)
        return whole, f"json: {kind}"
    else:
        kind = "strange"
        inner[key] = rng.choice(STRANGE)
    return json.dumps(value), f"json: {kind}"
