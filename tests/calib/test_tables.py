"""Tables as text and as HTML."""

from __future__ import annotations

from xml.etree import ElementTree

from calib.tables import SHOWN, Table, Tabular, decibel, megabytes, percent, span

TABLE = Table("Some <things>", ("name", ">number", "empty"), [("<b>&co", 3, None), ("two\nlines", 10.5, "")], ["done"])


def test_text_is_aligned_and_without_empty_columns() -> None:
    assert TABLE.text().splitlines() == [
        "Some <things>",
        "  name       number",
        "  <b>&co          3",
        "  two lines    10.5",
        "done",
    ]


def test_a_long_table_is_cut_in_text_alone() -> None:
    table = Table("long", ("n",), [(n + 1,) for n in range(SHOWN + 3)])
    assert table.text().splitlines()[-1] == "  … and 3 more" and len(table.text().splitlines()) == SHOWN + 3
    assert table.html().count("<tr>") == SHOWN + 4


def test_without_rows() -> None:
    assert Table("none", ("a", "b"), []).text() == "none"
    assert "<table>" not in Table("none", ("a", "b"), []).html()


def test_html_is_sound_and_escapes_all() -> None:
    tree = ElementTree.fromstring(f"<html>{TABLE.html()}</html>")
    assert [cell.text for cell in tree.iter("td")] == ["<b>&co", "3", "two lines", "10.5"]
    assert [cell.text for cell in tree.iter("th")] == ["name", "number"]
    sides = [str(cell.get("style")).rpartition(":")[2] for cell in tree.iter("th")]
    assert sides == ["left", "right"]
    assert next(tree.iter("strong")).text == "Some <things>" and "<things>" not in TABLE.html()


def test_objects_are_shown_as_their_table() -> None:
    class Thing(Tabular):
        table = TABLE

    assert repr(Thing()) == TABLE.text() and Thing()._repr_html_() == TABLE.html()


def test_numbers() -> None:
    assert (percent(0.98051), percent(None)) == ("98.05%", "")
    assert (decibel(32.71), decibel(None)) == ("32.7 dB", "inf dB")
    assert megabytes(30294) == "0.03 MB"
    assert [span([0.5]), span([0.5, 0.5]), span([2.0, 0.25])] == ["0.5", "0.5 (2)", "0.25 … 2 (2)"]
