"""lsq_export/bundle/whole_directory.py: all or nothing on the disk, and nothing is overwritten unasked."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from calib.errors import QuantizationError
from lsq_export.bundle import whole_directory
from lsq_export.bundle.whole_directory import new_directory
from support.bundles import export
from support.exported import Exported, content


class Interrupt(Exception):
    """Whatever can happen in the middle of an export."""


def raising(at: str) -> Callable[[str], None]:
    def on_stage(stage: str) -> None:
        if stage == at:
            raise Interrupt(stage)

    return on_stage


@pytest.mark.parametrize("stage", ["capture", "bundle"])
@pytest.mark.parametrize("force", [False, True])
def test_an_exception_leaves_nothing_behind(
    stage: str, force: bool, model: nn.Module, exported: Exported, tmp_path: Path
) -> None:
    """With force, the bundle that was there stays as it was."""
    if force:
        exported.copy(tmp_path)
    before = content(tmp_path)
    with pytest.raises(Interrupt, match=stage):
        export(model, tmp_path / "bundle", force=force, on_stage=raising(stage))
    assert content(tmp_path) == before


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_exception_in_the_last_step_leaves_nothing_behind(
    error: BaseException, model: nn.Module, exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def render(*args: Any) -> str:
        raise error

    monkeypatch.setattr("lsq_export.report.recording.render", render)
    exported.copy(tmp_path)
    before = content(tmp_path)
    with pytest.raises((KeyboardInterrupt, QuantizationError)) as caught:
        export(model, tmp_path / "bundle", force=True)
    assert content(tmp_path) == before
    assert isinstance(caught.value, KeyboardInterrupt) or "bundle cannot be written: No space left on device" in str(
        caught.value
    )


def fill(path: Path) -> None:
    (path / "manifest.json").write_text("{}")


def test_a_new_directory_appears_when_it_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "down" / "out"
    with new_directory(out, force=False) as directory:
        fill(directory)
        assert not out.exists() and directory.parent == out.parent
    assert set(content(out.parent)) == {"out/manifest.json", "out/SHA256SUMS"}


def test_an_empty_directory_is_taken(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with new_directory(tmp_path / "out", force=False) as directory:
        fill(directory)
    assert set(content(tmp_path)) == {"out/manifest.json", "out/SHA256SUMS"}


def test_force_replaces_all_of_an_old_bundle(exported: Exported, tmp_path: Path) -> None:
    exported.copy(tmp_path)
    with new_directory(tmp_path / "bundle", force=True) as directory:
        fill(directory)
        assert (tmp_path / "bundle" / "qdq").exists()
    assert set(content(tmp_path)) == {"bundle/manifest.json", "bundle/SHA256SUMS"}


@pytest.mark.parametrize("failing", [1, 2])
def test_the_old_bundle_comes_back_if_the_swap_fails(
    failing: int, exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported.copy(tmp_path)
    before, replace, calls = content(tmp_path), os.replace, []

    def fails_once(source: Any, target: Any) -> None:
        calls.append(target)
        if len(calls) == failing:
            raise OSError(5, "no luck")
        replace(source, target)

    with (
        pytest.raises(QuantizationError, match="bundle cannot be replaced: no luck"),
        new_directory(tmp_path / "bundle", force=True) as directory,
    ):
        (directory / "manifest.json").write_text("{}")
        monkeypatch.setattr(
            whole_directory.os,
            "replace",
            lambda a, b: replace(a, b) if Path(b).name == "SHA256SUMS" else fails_once(a, b),
        )
    assert content(tmp_path) == before


def not_empty(path: Path) -> Path:
    (path / "out").mkdir()
    (path / "out" / "thesis.txt").write_text("ten years of work")
    return path / "out"


def a_file(path: Path) -> Path:
    (path / "out").write_text("a file")
    return path / "out"


def below_a_file(path: Path) -> Path:
    return a_file(path) / "deeper"


def where_nobody_can_write(path: Path) -> Path:
    return Path("/proc/lsq-export-test/out")


@pytest.mark.parametrize(
    ("where", "force", "says"),
    [
        (not_empty, False, "is not empty: give another, or use --force"),
        (not_empty, True, "is not empty and holds no bundle, so it is not replaced"),
        (a_file, False, "is a file: give a directory"),
        (a_file, True, "is a file: give a directory"),
        (below_a_file, False, "cannot be written: "),
        (where_nobody_can_write, False, "cannot be written: "),
    ],
)
def test_a_place_that_cannot_be_used_is_named(
    where: Callable[[Path], Path], force: bool, says: str, model: nn.Module, tmp_path: Path
) -> None:
    """Before any work is done; and nothing there is touched."""
    out = where(tmp_path)
    before = content(tmp_path)
    stages: list[str] = []
    with pytest.raises(QuantizationError, match=says) as error:
        export(model, out, force=force, on_stage=stages.append)
    assert str(out) in str(error.value) and stages == [] and content(tmp_path) == before


def test_a_bundle_is_not_replaced_unasked(exported: Exported, model: nn.Module, tmp_path: Path) -> None:
    exported.copy(tmp_path)
    before = content(tmp_path)
    with pytest.raises(QuantizationError, match="is not empty"):
        export(model, tmp_path / "bundle")
    assert content(tmp_path) == before


def test_what_arrived_in_the_meantime_is_not_overwritten(tmp_path: Path) -> None:
    with (
        pytest.raises(QuantizationError, match="is not empty"),
        new_directory(tmp_path / "out", force=False) as directory,
    ):
        fill(directory)
        not_empty(tmp_path)
    assert set(content(tmp_path)) == {"out/thesis.txt"}
