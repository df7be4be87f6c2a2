"""The runtimes as data."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest

import lsq_export
from calib.errors import QuantizationError
from lsq_export import targets
from lsq_export.replaying import runtime
from lsq_export.replaying.processes import PROGRAM

SETUP = Path(lsq_export.__file__).parent.parent / "setup.cfg"


def test_each_has_an_adapter_and_a_target() -> None:
    for one in runtime.everything():
        assert (PROGRAM.parent / f"run_{one.adapter}.py").is_file()
        assert one.target in targets.names() and one.packages and one.what
        assert runtime.get(one.name) is one
    assert len({file.name for file in PROGRAM.parent.glob("run_*.py")}) == len(runtime.names())


def test_extras_pin_the_versions_that_it_was_tried_with() -> None:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(SETUP, encoding="utf-8")
    extras = {name: text.split() for name, text in parser["options.extras_require"].items() if name != "runtimes"}
    for one in runtime.everything():
        if one.extra and one.extra != "openvino":  # which `bench` takes in any newer version
            wanted = [package for package in one.packages if not package.startswith("onnx==")]
            assert "".join(extras[one.extra]) == "".join(wanted)
    together = parser["options.extras_require"]["runtimes"].split()
    assert {f"%({one.extra})s" for one in runtime.everything() if one.extra not in ("", "litert")} == {*together}


def test_the_line_that_installs_it() -> None:
    assert runtime.get("tract").install == "pip install tract==0.23.9"
    assert runtime.get("onnxruntime-web").install == "npm install onnxruntime-web@1.30.0"


def test_an_unknown_name() -> None:
    with pytest.raises(QuantizationError, match=r"^runtime 'openvin' is unknown: .*did you mean openvino\?\)$"):
        runtime.get("openvin")
