"""What `make test-isa` compares, run on this machine: equal bits pass, and anything else is counted."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from isa.__main__ import main
from isa.cases import Case, sabotage, spreads, sums
from isa.compare import compare, count_different, prepare, sessions
from isa.machines import MACHINES, MissingError, Worker, host, wasm, x86
from isa.worker import read, write


@pytest.fixture(scope="module")
def every() -> list[Case]:
    return [next(sums()), *spreads(), *sabotage()]


@pytest.fixture(scope="module")
def jobs(every: list[Case], tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("isa") / "jobs"
    prepare(every, directory)
    host(directory).run(directory)
    return directory


@pytest.fixture
def done(jobs: Path, tmp_path: Path) -> Path:
    """What the worker wrote, to be read once."""
    return Path(shutil.copytree(jobs, tmp_path / "jobs"))


def test_here_all_is_as_it_must_be(every: list[Case], done: Path) -> None:
    for case in every:
        outcome = compare(case, done)
        assert (outcome.differing > 0) == ("host" in case.differs_on), case.name
        assert outcome.tensors == 2 * len(case.reference) + len(case.model.graph.output)


def test_one_other_code_is_found(every: list[Case], done: Path) -> None:
    case = every[0]
    name = sessions(case)[1][0]
    tensors = {key: value.copy() for key, value in read(done, name).items()}
    tensors["y"][3, 4] += 1
    write(done, name, tensors)
    outcome = compare(case, done)
    assert outcome.differing == 1 and outcome.first == f"y in {name}"


def test_a_missing_tensor_differs_everywhere(every: list[Case], done: Path) -> None:
    case = every[0]
    wider = replace(case, reference={**case.reference, "z": np.zeros(7, np.uint8)})
    assert compare(wider, done).differing == 14  # in both sessions that write every tensor


def test_another_machines_files_are_not_read_again(every: list[Case], done: Path) -> None:
    compare(every[0], done)
    with pytest.raises(FileNotFoundError):
        compare(every[0], done)


def test_bits_count() -> None:
    zero, other = np.zeros(2, np.float32), np.array([0, -0.0], np.float32)
    assert count_different(zero, zero.copy()) == 0
    assert count_different(zero, other) == 1
    assert count_different(zero, zero.astype(np.int32)) == 2
    assert count_different(zero, zero[None]) == 2


def test_tensors_survive_the_files(tmp_path: Path) -> None:
    tensors = {
        "a.b": np.arange(6, dtype=np.int8).reshape(2, 3),
        "c": np.array(2.5, np.float32),
        "d": np.zeros((0, 4), np.int64),
    }
    write(tmp_path, "x.y", tensors)
    for name, value in read(tmp_path, "x.y").items():
        assert (value.dtype, value.shape) == (tensors[name].dtype, tensors[name].shape)
        assert np.array_equal(value, tensors[name])


def test_an_unknown_machine_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["avx3"]) == 2
    assert capsys.readouterr().err == "error: unknown machine avx3: use host, avx, avx2, arm64, arm64-a72, wasm\n"


def test_help_lists_the_machines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert "python -m isa" in shown and all(f"\n{name} " in shown for name in MACHINES)


@pytest.mark.parametrize(("make", "message"), [(x86("Haswell-v4"), "qemu-x86_64 not found"), (wasm, "node not found")])
def test_without_the_programs_and_without_root_is_one_line(
    make: Callable[[Path], Worker], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(MissingError, match=f"^{message}: install Debian's package .*$"):
        make(tmp_path)
