"""lsq_export/cli/option_names.py: what an error asks for is what can be typed."""

from __future__ import annotations

from lsq_export.cli.option_names import in_options


def test_arguments_of_python_are_options_on_the_command_line() -> None:
    said = "x is not empty: give another, or force=True to replace it; or edges='trained' and offset=\"real\""
    assert (
        in_options(said)
        == "x is not empty: give another, or --force to replace it; or --edges trained and --offset real"
    )
    assert in_options("layers['c*'] matches no layer: a, b; lsq_export.layer_names(model) lists them") == (
        "--keep c* matches no layer: a, b"
    )
    assert in_options("layers['a b']=9: use 2 to 8") == "--keep a b=9: use 2 to 8"
    assert in_options("strict_integer=True allows no float") == "--strict-integer allows no float"


def test_other_texts_stay() -> None:
    for said in ("layer enforce=True", "edges.add='x y'", "force = True"):
        assert in_options(said) == said
