"""The campaign itself: what it makes is damaged, and what it counts is counted."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from hostile import json_
from hostile.base import ARRAYS, BUNDLE, CHECKPOINT, KEY, PICTURES, WEB, make_key, make_pictures, make_web
from hostile.cases import FAMILIES
from hostile.judge import judged, print_result
from hostile.worker import Outcome
from support.commands import invoke
from support.exported import Exported

GOOD = Outcome(0, "sums: order", "verify", 0, "", 0.5, 0.5)


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({}, None),
        ({"code": 1, "text": "error: damaged"}, None),
        ({"code": 2, "text": "verify\nerror: bad"}, None),
        ({"code": 2, "text": ""}, "a refusal without a line"),
        ({"code": 70}, "exit 70"),
        ({"code": 1, "text": "Traceback (most recent call last)"}, "exit 70"),
        ({"code": "hang"}, "hang"),
        ({"code": "signal 11"}, "signal 11"),
        ({"gigabytes": 4.5}, "4.5 GB"),
        ({"foreign": ("open /etc/passwd",)}, "opened open /etc/passwd"),
        ({"kind": "old sums, manifest.json: bytes: flip"}, "accepted"),
    ],
)
def test_what_is_a_finding(changed: dict[str, object], found: str | None) -> None:
    outcome = replace(GOOD, **changed)  # type: ignore[arg-type]
    assert judged(outcome) == found and print_result([outcome], []) == (found is not None)


def test_json_is_always_changed() -> None:
    text = json.dumps({"a": [1, 2, {"b": "x"}], "c": None})
    for seed in range(300):
        found, what = json_.damage(text, random.Random(seed))
        assert found != text and what.startswith("json: ")


def test_each_family_makes_a_case(exported: Exported, tmp_path: Path) -> None:
    """Two of each, given to the commands: nothing is found, whatever they are."""
    base = tmp_path / "base"
    base.mkdir()
    exported.copy(base)
    (base / CHECKPOINT).write_bytes(exported.checkpoint.read_bytes())
    (base / ARRAYS).write_bytes(Path(exported.data.partition(":")[2]).read_bytes())
    make_pictures(base / PICTURES)
    make_key(base / KEY)
    make_web(base / WEB)
    assert (base / BUNDLE).is_dir()
    for make, _ in FAMILIES:
        folder = tmp_path / make.__name__
        folder.mkdir()
        case = make(base, folder, random.Random(5))
        if case.arguments[0] in ("inspect", "report", "page", "sign"):
            assert invoke(*case.arguments).exit_code in (0, 1, 2), case
