"""qat-speed: rows and ratios of a small run, the peak of memory against a known one, refusal without a GPU."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lsq_export import models
from lsq_export.bench import qat_step
from lsq_export.bench.qat_step import CPU, FLOAT, StepSettings, measure_qat_step, peak_bytes
from support.commands import invoke

# torch's profiler warns of whatever was allocated before it started.
pytestmark = pytest.mark.filterwarnings("ignore:.*profil.*")


@pytest.mark.slow
def test_rows_and_ratios() -> None:
    settings = StepSettings(batch=4, size=32, blocks=2, steps=1, threads=1, fused=False)
    result = measure_qat_step("tiny", settings)
    assert [row.name for row in result.rows] == [variant.name for variant in CPU]
    first = result.rows[0]
    assert first.ratio == first.memory_ratio == 1 and first.spread == (1, 1)
    for row in result.rows:
        assert row.ratio == pytest.approx(row.median_ms / first.median_ms)
        assert row.memory_ratio == row.peak_bytes / first.peak_bytes
        assert row.spread[0] <= row.spread[1]


def test_peak_memory_counts_parameters_gradients_and_momentum() -> None:
    parameters = sum(p.numel() for p in models.build("resnet18", num_classes=1000).parameters()) * 4
    peak = peak_bytes("resnet18", FLOAT, "cpu", batch=2, size=32)
    assert 3 * parameters < peak < 4 * parameters  # activations of two small images: well below one more copy


@pytest.mark.slow
def test_peak_memory_of_a_step_is_within_its_limits() -> None:
    """Batch 16 of 64×64: activations and weights both count. 1.5 and 1.2: what this project promises."""
    base, plain, saving = (peak_bytes("resnet18", variant, "cpu", batch=16, size=64) for variant in CPU)
    assert saving < plain
    assert plain <= 1.5 * base and saving <= 1.2 * base


@pytest.mark.slow
def test_peaks_do_not_depend_on_what_was_measured_before() -> None:
    """Trainers are garbage in cycles: one that is collected during the next measurement would lower its peak."""
    first = [peak_bytes("tiny", FLOAT, "cpu", batch=8, size=32) for _ in range(4)]
    assert max(first) == min(first)


def test_the_peak_sees_a_tensor_that_is_gone_before_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def trainer(*arguments: object) -> Callable[[], None]:
        return lambda: torch.empty(10_000_000).fill_(0).sum() and None

    monkeypatch.setattr(qat_step, "trainer", trainer)
    assert 40_000_000 <= peak_bytes("tiny", FLOAT, "cpu", 2, 32) < 41_000_000


@pytest.mark.slow
def test_command(tmp_path: Path) -> None:
    options = ["--model=tiny", "--batch=4", "--size=32", "--blocks=1", "--steps=1", "--threads=1", "--no-fused"]
    result = invoke("qat-speed", *options, "--json", str(tmp_path / "speed.json"))
    assert result.exit_code == 0, result.output
    assert "tiny W4A4, batch 4, 32×32, float32, cpu" in result.stdout and "qat, saving memory" in result.stdout
    (written,) = json.loads((tmp_path / "speed.json").read_text())
    assert written["model"] == "tiny" and len(written["rows"]) == len(CPU)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_cuda_is_refused_in_one_line() -> None:
    result = invoke("qat-speed", "--device", "cuda")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: there is no CUDA GPU") and result.stderr.count("\n") == 1
