"""lsq_export/bundle/sums.py: SHA256SUMS, as others check it."""

from __future__ import annotations

import hashlib
import shutil
import subprocess

from support.bundles import LAYOUT
from support.exported import Exported


def test_sums(exported: Exported) -> None:
    """One line `<digest>  <path>` for every other file, as `sha256sum -c` reads it."""
    directory = exported.bundle.directory
    lines = (directory / "SHA256SUMS").read_text().splitlines()
    assert {line[66:] for line in lines} == LAYOUT - {"SHA256SUMS"} and lines == sorted(
        lines, key=lambda line: line[66:]
    )
    for line in lines:
        assert line == f"{hashlib.sha256((directory / line[66:]).read_bytes()).hexdigest()}  {line[66:]}"
    if program := shutil.which("sha256sum"):
        done = subprocess.run(
            [program, "--check", "--strict", "SHA256SUMS"], cwd=directory, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0 and done.stdout.count(": OK") == len(lines), done.stderr
