"""The page of receivers, from runs that were made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from receivers.table import write_docs


def run(name: str, verdict: str, **more: Any) -> dict[str, Any]:
    known = {"network": "tiny-w4a4", "runtime": name, "version": "1.0", "file": "qdq", "target": "ort-cpu"}
    return {**known, "verdict": verdict, "difference": None, "first": None, "why": "", "seconds": 1.5, **more}


def test_each_verdict_has_a_cell(tmp_path: Path) -> None:
    one = {"differing": 3, "elements": 20, "sqnr_db": 26.31}
    first = {"made_by": "Add add_70", "tensor": "edges.relu"}
    entries = [
        run("onnxruntime", "same"),
        run("openvino", "differs", difference=one, first=first),
        run("tract", "refused", why="a | b"),
        run("tract", "same", target="tract"),
        run("tvm", "missing"),
    ]
    write_docs(entries, tmp_path)
    lines = (tmp_path / "receivers.md").read_text(encoding="utf-8").splitlines()
    assert "| onnxruntime 1.0 | = |  |  |  |" in lines
    assert "| openvino 1.0 | 3 of 20, 26 dB |  |  |  |" in lines
    assert "| tract 1.0 | refused |  |  | tract: = |" in lines
    assert "| openvino, ort-cpu qdq | Add | tiny-w4a4: edges.relu |" in lines
    assert "| tract, ort-cpu qdq | a \\| b | tiny-w4a4 |" in lines
    assert not any("tvm" in line for line in lines)
    runs = json.loads((tmp_path / "receivers.json").read_text(encoding="utf-8"))["runs"]
    assert len(runs) == 4 and all("seconds" not in entry for entry in runs)
