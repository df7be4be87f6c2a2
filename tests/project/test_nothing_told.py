"""No command looks up a host, and none writes outside of what it is told to write and of the caches that are named.

The caches are in SECURITY.md. ONNX Runtime would write more, and look up its maker, but for one variable.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.exported import Exported
from support.watched import Watched, needs_strace, python, watch

ROOT = Path(__file__).parents[2]
FOLDERS = ("lsq_export", "examples", "docs", "findings")  # calib and models: see below; tests: see conftest.py
VARIABLE = "ORT_DISABLE_TELEMETRY"
CACHES = (".cache/matplotlib", ".config/matplotlib")  # in HOME
SHORT = "--epochs 1 --float-epochs 1"
# Those of the README, on the smallest network; t.safetensors, out and demo-out come one from the other.
COMMANDS = (
    f"demo --model tiny {SHORT} --runs 2 --threads 1 --out demo-out",
    f"train --model tiny --data digits --image-size 16 {SHORT} --curve t.svg --out t.safetensors",
    "export t.safetensors --out out --images 64",
    "verify out --images 64",
    "inspect out",
    "lint out/qdq/model.onnx",
    "replay out --runtime onnxruntime",
    "bench out --runs 2 --threads 1 --pause 0",
    "folds t.safetensors --images 64",
    "drift t.safetensors --data digits --batches 2 --max-clipped 1 --min-codes 0 --max-error 1000",
    "report out --out page.html",
    "targets",
)


def without_variable() -> dict[str, str]:
    return {name: text for name, text in os.environ.items() if name != VARIABLE}


@pytest.mark.parametrize("module", ["lsq_export", "lsq_export.models", "lsq_export.cli"])
def test_whatever_is_imported_sets_the_variable(module: str) -> None:
    code = f"import os, {module}; print(os.environ['{VARIABLE}'])"
    for given, wanted in (({}, "1"), ({VARIABLE: "0"}, "0")):  # what the user says, holds
        done = subprocess.run(
            [sys.executable, "-c", code], env=without_variable() | given, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == wanted


def test_files_that_run_alone_set_it_before_they_import_onnxruntime() -> None:
    """The others are in lsq_export, or in tests, whose conftest.py imports that first, or are children of these."""
    alone = []
    kinds = (".py", ".sh", ".ipynb", ".md")
    found_in = (file for folder in FOLDERS for file in (ROOT / folder).rglob("*"))
    for file in (file for file in (*ROOT.glob("*.md"), *found_in) if file.suffix in kinds):
        where, text = file.relative_to(ROOT).as_posix(), file.read_text(encoding="utf-8")
        found = re.search(r'^[\s"]*(?:import|from) onnxruntime\b', text, re.MULTILINE)
        inside = where.startswith("lsq_export/") and where != "lsq_export/bundle/run.py"
        if found is None or inside:
            continue
        alone.append(where)
        before = text[: found.start()]
        assert VARIABLE in before or re.search(r'^[\s"]*import lsq_export\b', before, re.MULTILINE), where
    assert {"lsq_export/bundle/run.py", "examples/03_deploy.py"} <= set(alone) and len(alone) >= 4


def test_modules_of_calib_and_models_do_not_import_onnxruntime() -> None:
    """They could come without lsq_export."""
    for file in (*(ROOT / "calib").rglob("*.py"), *(ROOT / "models").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] == "onnxruntime" for name in names), file


@needs_strace
def test_the_watch_sees_what_it_is_for(tmp_path: Path) -> None:
    code = (
        "import pathlib, socket, subprocess, sys\n"
        "pathlib.Path('inside').write_text('')\n"
        "(pathlib.Path.home() / 'id').write_text('')\n"
        "subprocess.run([sys.executable, '-c', 'import os; os.mkdir(\"../beside\")'])\n"
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
    )
    found = watched(tmp_path, "-c", code)
    assert found.outside(tmp_path / "work") == [str(tmp_path / "beside"), str(tmp_path / "home" / "id")]
    assert str(tmp_path / "work" / "inside") in found.changed and len(found.network) == 1
    found = watched(tmp_path, "-c", "import pathlib; print(pathlib.Path('inside').read_text())")
    assert (found.code, found.network, found.changed) == (0, [], [])


@needs_strace
def test_onnxruntime_alone_would_keep_more_and_does_not_beside_lsq_export(tmp_path: Path) -> None:
    import onnxruntime

    found = watched(tmp_path, "-c", "import lsq_export, onnxruntime; print(onnxruntime.get_available_providers())")
    assert (found.code, found.network, found.changed) == (0, [], []), found.output
    if tuple(map(int, onnxruntime.__version__.split(".")[:2])) == (1, 32):  # if this fails for newer ones: say so
        assert any("onnxruntime" in path for path in watched(tmp_path, "-c", "import onnxruntime").changed)


@needs_strace
@pytest.mark.slow
def test_the_commands_write_what_they_are_told_to_and_look_up_nobody(tmp_path: Path) -> None:
    for line in COMMANDS:
        quiet(watched(tmp_path, "-m", "lsq_export", *line.split()), tmp_path, line)
    for script in ("out/run.py", ROOT / "examples" / "03_deploy.py"):
        quiet(watched(tmp_path, script, *(["out"] if script != "out/run.py" else [])), tmp_path, str(script))
    caches = [path.relative_to(tmp_path / "home").as_posix() for path in (tmp_path / "home").rglob("*")]
    assert all(path in (".cache", ".config") or path.startswith(CACHES) for path in caches), caches
    left = [path.name for path in (tmp_path / "temporary").iterdir()]
    assert all(name.startswith("torchinductor_") for name in left), left


@needs_strace
@pytest.mark.slow
def test_python_looks_up_nobody(exported: Exported, tmp_path: Path) -> None:
    code = (
        "import torch, lsq_export\nfrom lsq_export.training.checkpoint import restore\n"
        f"model, _ = restore({str(exported.checkpoint)!r})\nx = torch.rand(8, 1, 16, 16)\n"
        "bundle = lsq_export.export(model, x[:1], 'out', calibration=[x])\nlsq_export.verify(model, bundle, [x])\n"
    )
    quiet(watched(tmp_path, "-c", code), tmp_path, "Python")


def watched(tmp_path: Path, *arguments: object) -> Watched:
    """python …, in tmp_path/work, with tmp_path/home and tmp_path/temporary."""
    places = [tmp_path / name for name in ("work", "home", "temporary")]
    for place in places:
        place.mkdir(exist_ok=True)
    return watch(python(*arguments), *places, PYTHONPATH=os.pathsep.join((str(ROOT), *filter(None, sys.path[1:]))))


def quiet(found: Watched, tmp_path: Path, what: str) -> None:
    caches = [tmp_path / "home" / name for name in CACHES]
    parents = {str(path.parent) for path in caches}
    outside = found.outside(tmp_path / "work", tmp_path / "temporary", *caches)
    assert found.code in (0, 1), f"{what}: {found.output[-1000:]}"  # 1: it has hardly learned anything
    assert (found.network, [path for path in outside if path not in parents]) == ([], []), what
