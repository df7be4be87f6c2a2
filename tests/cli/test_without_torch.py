"""The commands of those who receive a bundle, where PyTorch cannot be imported."""

from __future__ import annotations

import configparser
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.exported import Exported
from support.web_package import package

ROOT = Path(__file__).parents[2]
WITHOUT = """
import sys

class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "onnxscript"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name.split(".")[0])

sys.meta_path.insert(0, Nothing())
"""
COMMAND = WITHOUT + "from lsq_export.cli import main\nsys.argv[0] = 'lsq-export'\nmain()\n"


def run(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False, cwd=ROOT
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("verify", "{bundle}", "--data", "{data}", "--images", 4), "all that can be checked without PyTorch holds"),
        (("replay", "{bundle}", "--runtime", "onnxruntime", "--data", "{data}", "--images", 4), "0 of 30"),
        (("inspect", "{bundle}"), "conv2.weight.codes"),
        (("lint", "{bundle}/qdq/model.onnx"), "ort-cpu: passes"),
        (("report", "{bundle}", "--out", "{out}/page.html"), "wrote"),
        (("page", "{bundle}", "--out", "{out}/page", "--onnxruntime-web", "{npm}"), "python -m http.server"),
        (("targets",), "openvino"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_it_works(exported: Exported, tmp_path: Path, arguments: tuple[object, ...], said: str) -> None:
    places = {"bundle": exported.bundle.directory, "data": exported.data, "out": tmp_path, "npm": package(tmp_path)}
    done = run(COMMAND, *(str(word).format(**places) for word in arguments))
    assert done.returncode == 0 and said in done.stdout, done.stdout + done.stderr


def test_json_and_a_damaged_bundle(exported: Exported, tmp_path: Path) -> None:
    done = run(COMMAND, "verify", exported.bundle.directory, "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0 and found["ok"] and found["inside"][0] == 0 < found["inside"][1]
    bundle = exported.copy(tmp_path)
    (bundle.directory / "run.py").write_text("pass", encoding="utf-8")
    done = run(COMMAND, "verify", bundle.directory)
    assert done.returncode == 1 and "not what was exported: run.py" in done.stdout


@pytest.mark.parametrize("arguments", [("train", "--model", "tiny", "--data", "digits", "--out", "x.safetensors")])
def test_what_needs_it_says_so(arguments: tuple[str, ...]) -> None:
    done = run(COMMAND, *arguments)
    assert done.returncode == 2
    assert (
        done.stderr == "error: this command needs PyTorch, which is not installed here: pip install torch onnxscript\n"
    )


def test_other_data_need_it(exported: Exported) -> None:
    done = run(COMMAND, "verify", exported.bundle.directory, "--data", "digits")
    assert done.returncode == 2 and "use npz:FILE, or install torch" in done.stderr


def test_python_says_so() -> None:
    code = (
        f"{WITHOUT}\nimport lsq_export\nlsq_export.replay, lsq_export.lint, lsq_export.open_bundle\nlsq_export.export"
    )
    done = run(code)
    assert done.stderr.splitlines()[-1].endswith(
        "lsq_export.export needs PyTorch, which is not installed here: pip install torch onnxscript"
    )


def test_the_list_of_requirements_is_that_of_the_package_without_pytorch() -> None:
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    wanted = [line for line in setup["options"]["install_requires"].splitlines() if line]
    text = (ROOT / "requirements-slim.txt").read_text(encoding="utf-8")
    listed = [line for line in text.splitlines() if not line.startswith("#")]
    assert listed == [line for line in wanted if not re.match("torch|onnxscript", line)]
