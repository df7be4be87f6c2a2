"""lsq-export check, on a network of ours."""

from __future__ import annotations

import json

from support.commands import invoke


def test_it_says_what_becomes_integer_and_what_comes_out() -> None:
    result = invoke("check", "--model", "tiny", "--size", "32", "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert {entry["kind"] for entry in found["entries"]} == {"integer"}
    assert found["outputs"][0]["name"] == "output"


def test_a_network_that_is_not_there_is_bad_input() -> None:
    result = invoke("check", "--model", "nowhere:Net")
    assert result.exit_code == 2 and result.stderr.count("\n") == 1
