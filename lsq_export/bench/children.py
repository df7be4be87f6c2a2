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

from .sessions import Source

PROGRAMS = Path(__file__).parent / "child"


def run_child(program: str, request: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    """Run child/<program>.py with `directory` as its working and temporary directory; request and answer are JSON.

    A program reads the request from stdin and writes one line of JSON, the answer or {"error": why}, as the last one on
    stdout. Errors (QuantizationError): what the program reports, or the last line that it wrote before it died.
    """
    done = subprocess.run(
        _command(program),
        input=json.dumps(request),
        cwd=directory,
        env=_environment(directory),
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        answer = json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        raise _ended(done.returncode, done.stderr) from None
    return _checked(answer)


def _command(program: str) -> list[str]:
    return [sys.executable, "-W", "ignore", str(PROGRAMS / f"{program}.py")]


def _environment(directory: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(directory)}


def _ended(code: int, said: str) -> QuantizationError:
    last = (said.strip().splitlines() or ["no message"])[-1]
    return QuantizationError(f"its process ended with exit code {code} ({last})")


def _checked(answer: Any) -> dict[str, Any]:
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


class Conversation:
    """A program of child/ that answers several requests, until the block ends.

    with Conversation("openvino_runs", directory) as child:
        child.ask({"run": …})
    """

    def __init__(self, program: str, directory: Path) -> None:
        """directory: as in `run_child`. What the program writes to stderr goes into a file there."""
        self._said = (directory / f"{program}.stderr").open("w+", encoding="utf-8", errors="replace")
        self._process = subprocess.Popen(
            _command(program),
            cwd=directory,
            env=_environment(directory),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
        )

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, *error: object) -> None:
        with self._process, self._said:
            self._process.kill()

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to one request. Errors (QuantizationError): as `run_child`."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._said.seek(0)
            raise _ended(self._process.wait(), self._said.read())
        return _checked(json.loads(line))
