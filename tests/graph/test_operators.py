"""The table of operators agrees with what else knows of them: the integer reference, the passes, the lowering."""

from __future__ import annotations

import pytest

from lsq_export.graph.kept_float import SAID
from lsq_export.graph.operators import OPERATORS, Kind, Operator, named
from lsq_export.integer.any_operator import ON_PURPOSE
from lsq_export.integer.float_island import ISLANDS as FLOAT_ISLANDS
from lsq_export.integer.node import OPERATORS as INTEGER
from lsq_export.rewrite.folding.tie_values import VALUES
from lsq_export.rewrite.folding.ties import SUMS
from lsq_export.rewrite.normalizing.decompose import RULES
from lsq_export.rewrite.normalizing.no_integer_form import KNOWN


@pytest.mark.parametrize("row", OPERATORS.values(), ids=lambda row: row.name)
def test_a_row_says_what_becomes_of_the_operator_on_codes(row: Operator) -> None:
    if row.kind in (Kind.LAYER, Kind.ARITHMETIC):
        assert row.integer is not None or row.note
    else:
        assert row.integer is None
    assert row.note or row.kind is not Kind.REWRITTEN


@pytest.mark.parametrize("row", OPERATORS.values(), ids=lambda row: row.name)
def test_the_integer_reference_knows_all_that_lowering_writes(row: Operator) -> None:
    if row.integer is not None:
        domain = f"{row.integer.domain}." if row.integer.domain else ""
        assert domain + row.integer.op_type in INTEGER
    elif row.kind in (Kind.MOVES, Kind.ISLAND):
        assert row.name in INTEGER


def test_rules_and_tie_values_are_of_the_table() -> None:
    assert all(OPERATORS[name].note or OPERATORS[name].kind is Kind.MOVES for name in RULES)
    assert set(SUMS) | set(VALUES) <= set(named(Kind.ARITHMETIC))
    assert not set(KNOWN) & set(named(Kind.REWRITTEN, Kind.GRID))


def test_an_increasing_operator_is_pointwise() -> None:
    assert [row.name for row in OPERATORS.values() if row.increasing and not row.pointwise] == []


def test_both_know_how_a_file_says_that_a_layer_is_kept_float() -> None:
    assert SAID.startswith(ON_PURPOSE)


def test_the_integer_reference_knows_no_island_that_is_not_in_the_table() -> None:
    assert {*FLOAT_ISLANDS, "Erf", "Gelu"} == set(named(Kind.ISLAND))


def test_kinds_share_out_the_table() -> None:
    assert sorted(name for kind in Kind for name in named(kind)) == sorted(OPERATORS)
