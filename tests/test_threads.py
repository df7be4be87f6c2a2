"""threads: what the user says holds, else what the machine has and what it is busy with."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from calib.errors import QuantizationError
from lsq_export import threads
from lsq_export.threads import available_cores, most_threads, others_wait, spin_briefly, using_threads

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system of 8 cores without limits that tells nothing of its load but the average."""
    monkeypatch.setattr(threads, "CGROUP", tmp_path)
    monkeypatch.setattr(threads, "PRESSURE", tmp_path / "pressure")
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr(threads.os, "getloadavg", lambda: (3.0, 0.0, 0.0))
    return tmp_path


def test_more_threads_than_can_be_meant_are_refused() -> None:
    """OpenMP would end the process."""
    for count in (0, most_threads() + 1, 100_000):
        with pytest.raises(QuantizationError, match=f"threads is {count}: use 1 to"), using_threads(count):
            pass
    with using_threads(most_threads()) as count:
        assert count == most_threads() >= 64


def old_quota(system: Path, quota: str) -> None:
    (system / "cpu").mkdir()
    (system / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (system / "cpu" / "cpu.cfs_period_us").write_text("100000\n")


def test_cores_are_those_of_the_affinity(system: Path) -> None:
    assert available_cores() == 8


@pytest.mark.parametrize(
    ("limit", "cores"), [("max 100000", 8), ("250000 100000", 3), ("50000 100000", 1), ("1600000 100000", 8), ("?", 8)]
)
def test_a_container_has_no_more_than_its_quota(limit: str, cores: int, system: Path) -> None:
    (system / "cpu.max").write_text(limit)
    assert available_cores() == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1", 8), ("200000", 2)])
def test_a_quota_of_the_first_kind_of_cgroups(quota: str, cores: int, system: Path) -> None:
    old_quota(system, quota)
    assert available_cores() == cores


def test_busy_is_where_processes_wait(system: Path) -> None:
    assert not others_wait()
    (system / "pressure").write_text("some avg10=55.60 avg60=1.00 avg300=1.00 total=9\nfull avg10=0.00\n")
    assert others_wait()
    (system / "pressure").write_text("some avg10=1.20 avg60=99.00 avg300=99.00 total=9\n")
    assert not others_wait()


def test_without_pressure_the_load_counts(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads.os, "getloadavg", lambda: (9.0, 0.0, 0.0))
    assert others_wait()


def test_threads_sleep_sooner_on_a_busy_machine(system: Path) -> None:
    idle: dict[str, str] = {}
    spin_briefly(idle)
    (system / "pressure").write_text("some avg10=50.00 avg60=0 avg300=0 total=0\n")
    busy: dict[str, str] = {}
    spin_briefly(busy)
    assert 0 < int(busy["GOMP_SPINCOUNT"]) < int(idle["GOMP_SPINCOUNT"])


@pytest.mark.parametrize("asked", [{"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "7"}])
def test_what_the_user_says_about_waiting_stays(asked: dict[str, str]) -> None:
    environment = dict(asked)
    spin_briefly(environment)
    assert environment == asked


def test_threads_are_given_back() -> None:
    with pytest.raises(ZeroDivisionError), using_threads(3) as count:
        assert count == torch.get_num_threads() == 3
        raise ZeroDivisionError
    assert torch.get_num_threads() == 1


def test_by_default_no_more_than_torch_has_and_no_more_than_cores(
    system: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with using_threads() as count:  # as OMP_NUM_THREADS=1 says
        assert count == 1
    (system / "cpu.max").write_text("200000 100000")
    with using_threads(5), using_threads() as count:
        assert count == 2
    assert os.sched_getaffinity(0) == set(range(8))
