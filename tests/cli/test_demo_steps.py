"""demo: an interrupted one goes on where it stopped, and nothing that a user has is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from safetensors.torch import load_file

from lsq_export import pipeline
from lsq_export.bundle.sums import write_sums
from lsq_export.data.dataset import Dataset, TensorSplit
from lsq_export.training import job_settings
from lsq_export.training.loop import Loop
from support.commands import invoke
from support.small_digits import small_digits

pytestmark = pytest.mark.usefixtures("one_thread")


def few_digits() -> Dataset:
    """What is learned is not the question."""
    data = small_digits(120)
    return replace(data, test=TensorSplit(*data.test.fetch(torch.arange(40))))


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_settings, "load", lambda spec, **how: few_digits())


def demo(out: Path, *more: str) -> Result:
    return invoke("demo", "--model", "tiny", "--epochs", 2, "--float-epochs", 2, "--runs", 1, "--out", out, *more)


@contextmanager
def interrupted_at(place: Any, name: str, call: int = 1) -> Iterator[None]:
    """Ctrl-C where that function of the place is called for the n-th time."""
    function, calls = getattr(place, name), []

    def called(*args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        if len(calls) == call:
            raise KeyboardInterrupt
        return function(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place, name, called)
        yield


def stopped(out: Path, *more: str) -> list[str]:
    """The titles of a demo that Ctrl-C ends."""
    result = demo(out, *more)
    assert result.exit_code == 130 and "the same command with --resume continues" in result.stderr, result.output
    return titles(result)


def titles(result: Result) -> list[str]:
    found = [line.split("  ")[0] for line in result.stderr.splitlines() if " of 5: " in line]
    return [title for title in dict.fromkeys(found) if "initializing" not in title]


FLOAT, LOW_BIT = "1 of 5: float training, 1 thread", "2 of 5: low-bit training"
REST = ["3 of 5: export", "4 of 5: verify", "5 of 5: time the models"]


@pytest.mark.slow
def test_interrupted_in_every_phase_it_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    out, straight = tmp_path / "demo", tmp_path / "straight"
    with interrupted_at(pipeline, "export"):
        assert stopped(straight) == [FLOAT, LOW_BIT]
    with interrupted_at(Loop, "run_epoch", 2):
        assert stopped(out) == [FLOAT]
    again = demo(out)
    assert again.exit_code == 2 and "--resume continues it, --force starts anew" in again.stderr
    with interrupted_at(Loop, "run_epoch", 3):  # one epoch of each phase is left out
        assert stopped(out, "--resume") == [FLOAT, LOW_BIT]
    with interrupted_at(pipeline, "export"):
        assert stopped(out, "--resume") == [LOW_BIT]
    with interrupted_at(Loop, "_step"), interrupted_at(pipeline, "verify"):  # nothing is trained again
        assert stopped(out, "--resume") == [REST[0]]
    made = (out / "bundle" / "manifest.json").stat().st_mtime_ns
    with interrupted_at(pipeline, "export"):  # nor exported
        result = demo(out, "--resume")
    assert result.exit_code in (0, 1) and titles(result) == REST[1:], result.output
    assert (out / "bundle" / "manifest.json").stat().st_mtime_ns == made
    assert {p.name for p in out.iterdir()} == {
        *("bundle", "demo.json", "float.safetensors"),
        *("trained.safetensors", "trained.jsonl"),
    }
    trained, expected = (load_file(directory / "trained.safetensors") for directory in (out, straight))
    assert all(torch.equal(trained[name], expected[name]) for name in expected)
    lines = [json.loads(line) for line in (out / "trained.jsonl").read_text().splitlines()]
    assert [(line["phase"], line["epoch"]) for line in lines] == [
        *(("float", 1), ("float", 2), ("low-bit", 1), ("low-bit", 2)),
    ]
    assert json.loads((out / "demo.json").read_text())["float_accuracy"] == lines[1]["test_accuracy"]


def test_resume_wants_the_same_demo_and_one_that_was_interrupted(tmp_path: Path) -> None:
    nothing = demo(tmp_path / "none", "--resume")
    assert nothing.exit_code == 2 and "no run was interrupted here" in nothing.stderr
    out = tmp_path / "demo"
    with interrupted_at(Loop, "run_epoch"):
        stopped(out)
    for more, says in (
        (("--seed", "7"), "the interrupted run had --seed 0, this one has 7"),
        (("--threads", "2"), "the interrupted run had --threads 1, this one has 2"),
        (("--force",), "give one of them"),
    ):
        other = demo(out, "--resume", *more)
        assert other.exit_code == 2 and says in other.stderr and other.stderr.count("\n") == 1


def test_force_removes_the_bundle_of_before(tmp_path: Path) -> None:
    """A bundle that --resume finds is then that of the interrupted run."""
    out = tmp_path / "demo"
    (out / "bundle").mkdir(parents=True)
    for name in ("float.safetensors", "bundle/manifest.json"):
        (out / name).write_text("of before")
    (out / "bundle" / "manifest.json").write_text('{"lsq_export": "1.0", "formats": {}}')
    write_sums(out / "bundle")
    (out / "bundle" / "thesis.txt").write_text("ten years of work")
    result = demo(out, "--force")
    assert result.exit_code == 2 and "also holds thesis.txt" in result.stderr and result.stderr.count("\n") == 1
    (out / "bundle" / "thesis.txt").unlink()
    with interrupted_at(Loop, "run_epoch"):
        stopped(out, "--force")
    assert not (out / "bundle").exists()
