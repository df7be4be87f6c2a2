"""The page of receivers, from runs that were made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from receivers.__main__ import refused
from receivers.plan import Job
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


def inside(differing: int, alone: int, largest: float, names: list[str]) -> dict[str, Any]:
    found = {"elements": 1_000_000, "differing": differing, "largest": largest, "sqnr_db": None}
    return {"images": 8, "tensors": 54, "difference": found, "alone": {**found, "differing": alone}, "differing": names}


def test_test_images_have_a_table_of_their_own(tmp_path: Path) -> None:
    none = {"differing": 0, "elements": 3610, "sqnr_db": None}
    some = {"differing": 120, "elements": 3610, "sqnr_db": 52.0}
    entries = [
        run("onnxruntime", "same", data=359, difference=none, inside=inside(0, 0, 0.0, [])),
        run("onnxruntime", "same", data=359, difference=none, inside=inside(0, 0, 0.0, []), network="mixnet_s-w8a8"),
        run("tract", "differs", data=359, difference=some, inside=inside(9, 4, 1.0, ["conv1.codes"])),
        run("tvm", "differs", data=359, difference=some, inside=inside(9, 40, 1.0, ["conv1.codes"])),
        run("emx", "same", data=359, difference=none, inside=None),
        run("iree", "refused", data=359, why="no", inside=None),
        run("openvino", "differs", data=359, difference=some, inside=None, target="openvino"),
        run("openvino", "same", data=359, difference=none, inside=None, target="openvino-float"),
        run("onnxruntime", "same"),
        {**refused(Job("tiny-w4a4", "opencv", ("opencv",), 359), "opencv", "no Sigmoid")},
    ]
    write_docs(entries, tmp_path)
    lines = (tmp_path / "receivers.md").read_text(encoding="utf-8").splitlines()
    assert "| opencv, opencv qdq | not exported |  |" in lines
    assert "| opencv, opencv qdq | no Sigmoid | tiny-w4a4 |" in lines
    assert "| runtime, file | tiny-w4a4 | mixnet_s-w8a8 |" in lines
    assert "| onnxruntime 1.0, ort-cpu qdq | = | = |" in lines
    assert "| tract 1.0, ort-cpu qdq | 120 of 3,610; inside 4 of 1,000,000, by 1 |  |" in lines
    assert "| emx 1.0, ort-cpu qdq | = (outputs) |  |" in lines and "| iree 1.0, ort-cpu qdq | refused |  |" in lines
    assert "| openvino 1.0, openvino qdq | 120 of 3,610 (outputs) |  |" in lines
    assert "| openvino 1.0, openvino-float qdq | = (outputs) |  |" in lines
    assert "| tract, ort-cpu qdq | codes next to ties | tiny-w4a4: conv1.codes |" in lines
    assert "| tvm, ort-cpu qdq | integers differ by 1 | tiny-w4a4: conv1.codes |" in lines
    assert "| onnxruntime 1.0 | = |  |  |  |" in lines  # the golden vectors
