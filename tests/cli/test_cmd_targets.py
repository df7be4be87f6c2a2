"""`lsq-export targets`: the table and its JSON."""

from __future__ import annotations

import json

from lsq_export import targets
from support.commands import invoke


def test_every_target_has_a_line() -> None:
    shown = invoke("targets").stdout
    for target in targets.everything():
        (line,) = (line for line in shown.splitlines() if line.split()[:1] == [target.name])
        assert ", ".join(target.formats) in line and ", ".join(target.containers) in line
        assert str(target.opset) in line.split() and line.rstrip().endswith(target.description)


def test_json() -> None:
    shown = json.loads(invoke("targets", "--json").stdout)
    assert [entry["name"] for entry in shown] == targets.names()
    assert shown[0]["containers"] == ["UINT8", "INT8"]
