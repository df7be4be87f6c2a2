"""`lsq-export folds`: the table, its JSON, and files that cannot be written."""

from __future__ import annotations

import json
from pathlib import Path

from lsq_export.verification.fold_costs import FOLDS
from support.commands import invoke
from support.exported import Exported


def test_command(exported: Exported, tmp_path: Path) -> None:
    out = tmp_path / "folds.json"
    arguments = [
        "folds",
        str(exported.checkpoint),
        str(exported.checkpoint),
        "--data",
        exported.data,
        "--out",
        str(out),
    ]
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    found = json.loads(out.read_text())
    assert [row["fold"] for row in found] == [*FOLDS, *FOLDS] and {row["bits"] for row in found} == {"W4A4"}
    assert {row["float_accuracy"] for row in found} == {None} and "float" in result.stdout  # its checkpoint knows none
    for row in found:
        assert f"{row['accuracy']:.2%}" in result.stdout and f"{row['codes_differing']:.2%}" in result.stdout
    assert result.stderr.count(f"{exported.checkpoint}  strided") == 2  # the bar's last line, no terminal here
    printed = invoke(*arguments[:2], "--data", exported.data, "--json")
    assert json.loads(printed.stdout) == found[:3]
    refused = invoke(*arguments[:-1], str(tmp_path / "nowhere" / "folds.json"))
    assert refused.exit_code == 2 and "nowhere" in refused.stderr.strip().splitlines()[-1]
