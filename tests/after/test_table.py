"""The table of tools, from entries that were made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from after.table import FIRST, LAST, cell, write_docs

SAME = {"outputs": 0, "largest": 0.0, "inside": 0, "of": 1000}
NEAR = {**SAME, "outputs": 9, "largest": 2e-7}
OTHER = {**SAME, "outputs": 9, "largest": 0.0123, "inside": 54}


def entry(default: dict[str, Any] = SAME, disabled: dict[str, Any] = SAME, **more: Any) -> dict[str, Any]:
    return {"tool": "t", "network": "n", "file": "ort-cpu qdq", "default": default, "disabled": disabled, **more}


def test_a_cell_is_the_worst_of_its_networks() -> None:
    """How many, where it is not all of them."""
    assert cell([entry(), entry()]) == "="
    assert cell([entry(), entry(disabled=NEAR)]) == "≈"
    assert cell([entry(), entry(disabled={**NEAR, "inside": 1})]) == "≈"
    assert (
        cell([entry(default={**NEAR, "inside": 1})]) == "differs: outputs by less than 0.1 %, 0.1 % of the codes inside"
    )
    assert cell([entry(OTHER, OTHER)]) == "differs: outputs by 1.2 %, 5.4 % of the codes inside"
    wide = entry({**OTHER, "inside": 700}, OTHER)
    assert cell([entry(OTHER, OTHER), wide]) == "differs: outputs by 1.2 %, 5.4 to 70 % of the codes inside"
    assert cell([entry(), entry({"error": "no"}, {"error": "no"})]) == "does not load (1 of 2)"
    assert cell([{"refused": "no"}]) == "refused"
    assert cell([{"refused": "RuntimeError: not asked: fixed"}]) == cell([]) == ""


def test_the_page_keeps_what_stands_around_its_table(tmp_path: Path) -> None:
    (tmp_path / "after.md").write_text(f"before\n\n{FIRST}\nold\n{LAST}\n\nbehind\n", encoding="utf-8")
    for _ in range(2):
        write_docs([entry()], {"t": ("a | tool", "package 1.0")}, tmp_path)
    text = (tmp_path / "after.md").read_text(encoding="utf-8")
    assert text.startswith("before\n") and text.endswith("\nbehind\n") and "old" not in text
    assert "| a \\| tool | package 1.0 | = |  |  |  |" in text
