"""Programs of child/ in processes of their own.

Their memory is theirs alone, and what libraries print or leave behind stays out of sight.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from calib.errors import QuantizationError

from .timing import Source

PROGRAMS = Path(__file__).parent / "child"


def run_child(program: str, request: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    """Run child/<program>.py with `directory` as its working and temporary directory; request and answer are JSON.

    A program reads the request from stdin and writes one line of JSON, the answer or {"error": why}, as the last one on
    stdout. Errors (QuantizationError): what the program reports, or the last line that it wrote before it died.
    """
    environment = {**os.environ, "TMPDIR": str(directory)}
    command = [sys.executable, "-W", "ignore", str(PROGRAMS / f"{program}.py")]
    done = subprocess.run(
        command, input=json.dumps(request), cwd=directory, env=environment, capture_output=True, text=True, check=False
    )
    try:
        answer = json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise QuantizationError(f"its process ended with exit code {done.returncode} ({last})") from None
    if not isinstance(answer, dict) or "error" in answer:
        raise QuantizationError(" ".join(str(answer["error"] if isinstance(answer, dict) else answer).split()))
    return answer


@contextmanager
def as_file(source: Source) -> Iterator[Path]:
    """The absolute path of a model; one that is only serialized is a file inside the block."""
    if not isinstance(source, bytes):
        yield Path(source).absolute()
        return
    with TemporaryDirectory(prefix="lsq-export-bench.") as directory:
        path = Path(directory) / "model.onnx"
        path.write_bytes(source)
        yield path
