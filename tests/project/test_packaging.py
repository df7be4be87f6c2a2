"""What the wheel carries, and what the installed package does beside a user's own code."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from lsq_export.kernels import find_compiler

ROOT = Path(__file__).parents[2]
DATA = (".json", ".html", ".css", ".js", ".mjs", ".cpp", ".jinja", ".c", ".h")
KERNELS = "lsq_export/kernels/liblsq_export_kernels.so"
HEAVY = {"torch", "numpy", "onnx", "onnxruntime", "onnx_ir", "onnxscript", "sklearn", "matplotlib"}


def run(*args: str, cwd: Path, path: Path | None = None) -> str:
    """Output of a Python process that sees no checkout, only what is installed and `path`."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "COV_", "LSQ_EXPORT_"))}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    done = subprocess.run(
        [sys.executable, *args], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built offline, from a copy: setuptools leaves build/ behind, and takes stale files from it."""
    tree = tmp_path_factory.mktemp("tree") / "copy"
    ignored = shutil.ignore_patterns(".*", "__pycache__", "build", "*.egg-info", "out*", "demo*")
    tree.mkdir()
    for name in ("calib", "lsq_export", "models", "tests"):
        shutil.copytree(
            ROOT / name, tree / name, ignore=ignored if name == "tests" else shutil.ignore_patterns("__pycache__")
        )
    for file in ROOT.iterdir():
        if file.is_file() and not file.name.startswith("."):
            shutil.copy(file, tree)
    out = tmp_path_factory.mktemp("wheel")
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index")
    run("-m", "pip", "wheel", *options, "-w", str(out), str(tree), cwd=out)
    (file,) = out.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked: a directory for sys.path. It comes before the development install there."""
    directory = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(directory)
    return directory


def test_wheel_carries_every_source_and_no_test(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    expected = {str(p.relative_to(ROOT)) for package in ("calib", "lsq_export") for p in (ROOT / package).rglob("*.py")}
    expected |= {f"lsq_export/models/{p.relative_to(ROOT / 'models')}" for p in (ROOT / "models").rglob("*.py")}
    data = (p for p in (ROOT / "lsq_export").rglob("*") if p.suffix in DATA)
    expected |= {str(p.relative_to(ROOT)) for p in data}
    assert {n for n in names if ".dist-info/" not in n and not n.endswith(("py.typed", ".so"))} == expected
    assert {n for n in names if n.endswith(".so")} == ({KERNELS} if find_compiler() else set())
    assert {n.split("/")[0] for n in names if ".dist-info/" not in n} == {"calib", "lsq_export"}
    assert any(n.endswith("licenses/LICENSE") for n in names)


def test_every_package_directory_is_listed() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = set(setup["options"]["packages"].split())
    files = [p for package in ("calib", "lsq_export") for p in (ROOT / package).rglob("*.py")]
    packages = {".".join(p.parent.relative_to(ROOT).parts) for p in files}
    packages |= {".".join(("lsq_export", *p.parent.relative_to(ROOT).parts)) for p in (ROOT / "models").rglob("*.py")}
    assert listed == packages, "list each directory with sources under [options] packages in setup.cfg"


def test_installed_command_answers_outside_the_checkout(site: Path, tmp_path: Path) -> None:
    code = (
        "import lsq_export, sys; sys.argv = ['lsq-export', '--help']; print(lsq_export.__file__); "
        "from lsq_export.cli import main; main()"
    )
    shown = run("-c", code, cwd=tmp_path, path=site)
    assert shown.startswith(str(site))
    assert "Usage: lsq-export" in shown
    assert "console_scripts" in next(site.glob("*.dist-info/entry_points.txt")).read_text()


@pytest.mark.slow
def test_the_wheel_does_the_main_job_outside_the_checkout(site: Path, tmp_path: Path) -> None:
    """A network and data of one's own, from an empty directory: train, export, verify, and run what was exported."""
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "def build(num_classes, in_channels):\n"
        "    first = nn.Conv2d(in_channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.SiLU()\n"
        "    return nn.Sequential(*first, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes))\n"
    )
    make = "import numpy as np; x = np.random.default_rng(0).integers(0, 256, (80, 1, 8, 8), dtype=np.uint8); "
    make += "np.savez('d.npz', x=x, y=np.arange(80) % 2, classes=np.array(['off', 'on']))"
    run("-c", make, cwd=tmp_path)
    few = ("--float-epochs", "1", "--epochs", "1")
    for command in (
        ("train", "--model", "net:build", "--data", "npz:d.npz", *few, "--out", "net.safetensors"),
        ("export", "net.safetensors", "--model", "net:build", "--out", "out", "--license", "MIT"),
        ("verify", "out"),
    ):
        shown = run("-m", "lsq_export", *command, cwd=tmp_path, path=site)
    assert "all promises hold" in shown
    assert "License: MIT" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    answer = run("out/run.py", cwd=tmp_path)
    assert "sample/input.png, qoperator" in answer and "0 of 2 outputs differ" in answer and "(off)" in answer
    assert run("-m", "lsq_export", "verify", "out", cwd=tmp_path, path=site)


def test_nothing_sends_users_to_an_index_where_the_project_is_not() -> None:
    """It is installed from a checkout or from a wheel; what is missing is named by the names of others."""
    sources = [p for top in ("calib", "lsq_export", "models") for p in (ROOT / top).rglob("*.py")]
    files = [
        *sources,
        *ROOT.glob("*.md"),
        *ROOT.glob("*.c*f*"),
        *(ROOT / "docs").rglob("*.md"),
        *ROOT.glob("examples/*"),
    ]
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert "pip install lsq" not in text and "pypi.org/project/lsq" not in text, file
    assert len(files) > 200


def test_no_top_level_models_is_installed(site: Path, tmp_path: Path) -> None:
    find = "import importlib.util as u; print(u.find_spec('models'), u.find_spec('lsq_export.models').origin)"
    nothing, ours = run("-c", find, cwd=tmp_path, path=site).split()
    assert nothing == "None" and Path(ours) == site / "lsq_export" / "models" / "__init__.py"


@pytest.mark.parametrize("installed", [pytest.param("wheel", marks=pytest.mark.slow), "development"])
def test_a_users_models_package_is_theirs(installed: str, site: Path, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "net.py").write_text("from torch import nn\ndef build():\n    return nn.Linear(3, 2)\n")
    code = (
        "from lsq_export.models import build; "
        "print(build('models.net:build').out_features, type(build('tiny')).__name__)"
    )
    assert run("-c", code, cwd=tmp_path, path=site if installed == "wheel" else None).split() == ["2", "Tiny"]


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["targets"], ["kernels", "--help"]])
def test_cheap_commands_import_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    code = f"""
import sys
from lsq_export.cli import cli
try:
    cli.main({arguments!r}, prog_name="lsq-export")
except SystemExit as stop:
    assert not stop.code, stop.code
print("modules:", *sys.modules)
"""
    loaded = run("-c", code, cwd=tmp_path).split("modules:")[1].split()
    assert "lsq_export.cli.group" in loaded
    assert HEAVY.intersection(loaded) == set()


def test_python_m_is_the_same_command(tmp_path: Path) -> None:
    assert "Usage: lsq-export" in run("-m", "lsq_export", "--help", cwd=tmp_path)


def parsed(lines: str) -> list[Requirement]:
    """The requirements of a list, without comments and without `%(other)s`."""
    return [Requirement(line) for line in lines.splitlines() if line and not line.startswith(("#", "%"))]


def applies(requirement: Requirement, python: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"python_version": python})


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
def test_lower_bounds_hold_for_the_pinned_versions(python: str) -> None:
    """For each Python, constraints.txt pins every direct dependency that setup.cfg names once, above its bound."""
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg")
    wanted = "\n".join([setup["options"]["install_requires"], *setup["options.extras_require"].values()])
    pinned: dict[str, str] = {}
    for pin in parsed((ROOT / "constraints.txt").read_text()):
        if applies(pin, python):
            assert canonicalize_name(pin.name) not in pinned, f"{pin.name} is pinned twice"
            pinned[canonicalize_name(pin.name)] = str(pin.specifier).removeprefix("==")
    for requirement in parsed(wanted):
        pinned_by_itself = str(requirement.specifier).startswith("==")  # a runtime, in an environment of its own
        if applies(requirement, python) and not pinned_by_itself:
            assert pinned[canonicalize_name(requirement.name)] in requirement.specifier, requirement.name
