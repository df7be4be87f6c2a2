"""Two exports of a checkpoint, in two fresh virtual environments, have the same bytes.

    python tests/support/two_environments.py CHECKPOINT [--python NAME]      (make test-environments)

Each environment has the versions of constraints.txt, and its own home, time zone, language, hash seed and folder. Exit
code 0: all files are the same, 1: some are not, which are named.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WAYS = (
    {"TZ": "UTC", "LANG": "C", "PYTHONHASHSEED": "1", "USER": "one", "OMP_NUM_THREADS": "1"},
    {"TZ": "Asia/Tokyo", "LANG": "C.UTF-8", "PYTHONHASHSEED": "2", "USER": "two", "OMP_NUM_THREADS": "2"},
)


def exported(folder: Path, checkpoint: Path, python: str, way: dict[str, str], options: list[str]) -> dict[str, str]:
    """{file: SHA-256} of the bundle. folder: of its own, which has all of it."""
    source, home, bundle = folder / "source", folder / "home", folder / "bundle"
    home.mkdir(parents=True)
    source.mkdir()
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", "HEAD"], check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", str(source)], input=archive, check=True)
    subprocess.run([python, "-m", "venv", str(folder / "venv")], check=True)
    program = str(folder / "venv" / "bin" / "python")
    install = [program, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
    subprocess.run([*install, "-c", str(source / "constraints.txt"), f"{source}[data]"], check=True, cwd=folder)
    shutil.rmtree(source)
    copy = folder / checkpoint.name
    shutil.copy(checkpoint, copy)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | way
    command = [program, "-m", "lsq_export", "export", str(copy), "--out", str(bundle), *options]
    subprocess.run(command, check=True, cwd=folder, env={**environment, "HOME": str(home)})
    files = (path for path in bundle.rglob("*") if path.is_file())
    return {str(path.relative_to(bundle)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def main() -> int:
    parser = argparse.ArgumentParser(prog="two_environments", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--python", default=sys.executable, help="an interpreter that makes virtual environments")
    given, options = parser.parse_known_args()
    found = []
    for number, way in enumerate(WAYS):
        with tempfile.TemporaryDirectory(prefix=f"lsq-export-{'x' * 9 * number}") as folder:
            found.append(exported(Path(folder) / "there", given.checkpoint.resolve(), given.python, way, options))
    one, other = found
    different = sorted(name for name in {*one, *other} if one.get(name) != other.get(name))
    print(f"SHA256SUMS: {one['SHA256SUMS']} and {other['SHA256SUMS']}; {len(different)} of {len(one)} files differ")
    print(*different, sep="\n")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
