"""How HTML pages are made: whatever a variable holds is text and no markup, and what is not printable is escaped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib import resources
from typing import Any

import jinja2

from calib.errors import shown


def page(template: str, filters: Mapping[str, Callable[..., str]], **variables: Any) -> str:
    """HTML. template: the name of a file beside this one. Errors: those of jinja2, where it lacks a variable."""
    return _compiled(template, tuple(filters.items())).render(**variables)


@lru_cache(maxsize=4)
def _compiled(template: str, filters: tuple[tuple[str, Callable[..., str]], ...]) -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_printable
    )
    environment.filters.update(filters)
    text = resources.files(__package__).joinpath(template).read_text(encoding="utf-8")
    return environment.from_string(text)


def _printable(value: object) -> object:
    """A text with its lines; markup of ours and other values as they are."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return "\n".join(map(shown, value.split("\n")))
