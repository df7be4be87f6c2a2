"""lsq_export/bundle/whole_directory.py: all or nothing on the disk, and nothing is overwritten unasked."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from calib.errors import QuantizationError
from lsq_export.bundle import whole_directory
from lsq_export.bundle.place import check_target
from lsq_export.bundle.sums import read_sums
from lsq_export.bundle.whole_directory import new_directory
from support.bundles import export
from support.exported import Exported, content
from support.moments import full_disk, moments


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
    def render(*args: Any, **added: Any) -> str:
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
    monkeypatch.setattr(whole_directory, "exchange", lambda first, second: False)  # a file system that cannot do it

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
        (not_empty, False, "is not empty: give another, or force=True"),
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


def bundle_at(directory: Path) -> str:
    """ "old", "new" or "none": which whole bundle a folder holds."""
    files = content(directory) if directory.exists() else {}
    files = {name: data for name, data in files.items() if not name.startswith(".")}
    for name, manifest in (("old", b"old"), ("new", b"new")):
        if files.get("manifest.json") == manifest:
            done = {name: hashlib.sha256(data).hexdigest() for name, data in files.items() if name != "SHA256SUMS"}
            assert read_sums(directory) == {name: (digest,) for name, digest in done.items()}
            return name
    assert "manifest.json" not in files
    return "none"


def make(out: Path, text: str) -> None:
    with new_directory(out, force=True) as directory:
        (directory / "reference").mkdir()
        for name in ("manifest.json", "reference/trained.onnx", "reference/folded.onnx"):
            (directory / name).write_text(text)


@pytest.fixture(params=["exchange", "two steps"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How names change places: at once, or where the file system cannot do that."""
    if request.param == "two steps":
        monkeypatch.setattr(whole_directory, "exchange", lambda first, second: False)
    return str(request.param)


def test_a_kill_at_any_moment_leaves_the_old_bundle_or_the_new_one(way: str, tmp_path: Path) -> None:
    """The next start finds one of them in its place, whole, and leaves nothing beside it."""
    out = tmp_path / "at" / "out"
    out.parent.mkdir()
    make(out, "old")
    found = moments(out.parent, tmp_path / "moments", lambda: make(out, "new"))
    states = []
    for at in found:
        states.append(bundle_at(at / "out"))
        check_target(at / "out", force=True)
        assert bundle_at(at / "out") in ("old", "new") and os.listdir(at) == ["out"], at.name
    assert states[0] == "old" and states[-1] == "new" and len(states) > 10
    assert ("none" in states) is (way == "two steps")


def test_a_full_disk_at_any_moment_leaves_the_old_bundle_or_the_new_one(way: str, tmp_path: Path) -> None:
    for call in range(1, 100):
        out = tmp_path / str(call) / "out"
        out.parent.mkdir()
        make(out, "old")
        try:
            with full_disk(call):
                make(out, "new")
        except (QuantizationError, OSError) as error:  # an OSError of the block itself, as it is
            assert "No space left on device" in str(error)
        else:
            break
        check_target(out, force=True)
        assert bundle_at(out) in ("old", "new") and os.listdir(out.parent) == ["out"], call
    assert 10 < call < 99 and bundle_at(out) == "new"


def test_a_kill_at_any_moment_of_a_first_export(tmp_path: Path) -> None:
    out = tmp_path / "at" / "out"
    out.parent.mkdir()
    for at in moments(out.parent, tmp_path / "moments", lambda: make(out, "new")):
        state = bundle_at(at / "out")
        check_target(at / "out", force=True)
        assert bundle_at(at / "out") == state and os.listdir(at) == ([] if state == "none" else ["out"])


def test_a_kill_at_any_moment_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of a bundle are no bundle, and the next start takes them away."""
    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.chdir(out)
    found = moments(out, tmp_path / "moments", lambda: make(Path(), "new"))
    states = []
    for at in found:
        states.append(bundle_at(at))
        check_target(at, force=states[-1] == "new")
        assert bundle_at(at) == states[-1] and [p for p in at.iterdir() if p.name.endswith(".tmp")] == []
        assert states[-1] == "new" or os.listdir(at) == []
    assert states[0] == "none" and states[-1] == "new" and len(states) > 8


def test_what_another_process_still_writes_is_not_swept(tmp_path: Path) -> None:
    with new_directory(tmp_path / "out", force=False) as first:
        (first / "manifest.json").write_text("first")
        make(tmp_path / "out", "second")
        assert first.exists() and bundle_at_text(tmp_path / "out") == "second"
        shutil.rmtree(tmp_path / "out")
    assert bundle_at_text(tmp_path / "out") == "first" and os.listdir(tmp_path) == ["out"]


def bundle_at_text(directory: Path) -> str:
    return (directory / "manifest.json").read_text()


def test_an_old_bundle_that_cannot_be_put_back_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the next start puts it back."""
    out, replace, calls = tmp_path / "out", os.replace, []
    make(out, "old")

    def fails(source: Any, target: Any) -> None:
        calls.append(target)
        if len(calls) > 1:
            raise OSError(5, "no luck")
        replace(source, target)

    monkeypatch.setattr(whole_directory, "exchange", lambda first, second: False)
    with (
        pytest.raises(QuantizationError, match="nor the old bundle put back") as error,
        new_directory(out, force=True) as directory,
    ):
        (directory / "manifest.json").write_text("new")
        monkeypatch.setattr(whole_directory, "write_sums", lambda directory: None)
        monkeypatch.setattr(whole_directory.os, "replace", fails)
    (left,) = tmp_path.iterdir()
    assert str(left) in str(error.value) and bundle_at(left) == "old"
    monkeypatch.undo()
    check_target(out, force=True)
    assert bundle_at(out) == "old" and os.listdir(tmp_path) == ["out"]


def test_folders_that_were_made_on_the_way_go_again(tmp_path: Path) -> None:
    with pytest.raises(Interrupt), new_directory(tmp_path / "deep" / "down" / "out", force=False):
        raise Interrupt
    assert os.listdir(tmp_path) == []
    with pytest.raises(FileNotFoundError, match="of the user"), new_directory(tmp_path / "out", force=False):
        raise FileNotFoundError("of the user")  # an error of the block is not one of the directory
