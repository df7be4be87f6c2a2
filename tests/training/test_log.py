"""training.log: each epoch stands in the file once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from calib.errors import QuantizationError
from lsq_export.training.log import Log
from support.made_up_epochs import HISTORY


def test_log_appends_each_epoch_once(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"phase": "float", "epoch": 1, "lo')  # a line that a kill cut, as a resumed run finds it
    log = Log(path)
    log.update({"float": HISTORY[:1]})
    reader = path.open()  # somebody follows it
    log.update({"float": HISTORY[:1]})
    log.update({"float": HISTORY[:2], "low-bit": HISTORY[:1]})
    lines = [json.loads(line) for line in reader]
    assert [(line["phase"], line["epoch"]) for line in lines] == [("float", 1), ("float", 2), ("low-bit", 1)]
    assert lines[1]["loss"] == 0.5
    reader.close()
    with pytest.raises(QuantizationError, match=r"log .* cannot be written: "):
        Log(tmp_path / "no" / "a.jsonl").update({})
