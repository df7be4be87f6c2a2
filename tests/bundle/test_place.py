"""lsq_export/bundle/place.py: --out and --force in every form; nothing that a user has is lost."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from calib.errors import QuantizationError
from lsq_export.bundle.ours import foreign
from lsq_export.bundle.place import check_target, remove, remove_bundle, resolved
from lsq_export.bundle.sums import write_sums
from lsq_export.bundle.whole_directory import new_directory
from support.commands import invoke
from support.exported import Exported, content
from support.moments import moments

NEW = {
    *("manifest.json", "SHA256SUMS", "reference/trained.onnx", "reference/folded.onnx"),
    *("qdq/model.onnx", "qdq/test_data_set_0/input_0.pb"),
}


def fill(directory: Path) -> None:
    """A bundle, as far as this module looks."""
    for name in NEW - {"SHA256SUMS"}:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(f"new {name}")


def make(out: str | Path, *, force: bool = True) -> None:
    with new_directory(out, force=force) as directory:
        fill(directory)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A bundle that is there, alone in its folder."""
    (tmp_path / "at").mkdir()
    make(tmp_path / "at" / "out")
    for path in (tmp_path / "at" / "out").rglob("*"):
        if path.is_file() and path.name != "SHA256SUMS":
            path.write_text("old")
    return tmp_path / "at" / "out"


@pytest.mark.parametrize(
    "out",
    ["out", "out/", "./out", "out/../out", "out/qdq/../../out", "../at/out", "link", "link/../out", "deep/../link"],
)
def test_any_way_to_name_the_bundle_replaces_it(out: str, old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that leads through it. Nothing else changes, and a link stays one."""
    monkeypatch.chdir(old.parent)
    Path("link").symlink_to("out")
    Path("deep").mkdir()
    make(out)
    assert set(content(old)) == NEW and (old / "manifest.json").read_text() == "new manifest.json"
    assert sorted(os.listdir(old.parent)) == ["deep", "link", "out"] and os.readlink("link") == "out"


def test_a_link_to_nothing_leads_to_the_new_bundle(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("there/out")
    make(tmp_path / "link", force=False)
    assert (tmp_path / "link").is_symlink() and set(content(tmp_path / "there" / "out")) == NEW


def test_a_link_to_itself_is_named(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("link")
    with pytest.raises(QuantizationError, match="is a link that leads to itself"):
        make(tmp_path / "link")


def test_a_path_that_nothing_takes_is_named(tmp_path: Path) -> None:
    for out in (tmp_path / ("n" * 300), f"{tmp_path}/a\0b"):
        with pytest.raises(QuantizationError, match="the output directory"):
            make(out)
    assert os.listdir(tmp_path) == []


def test_the_current_folder_if_it_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays the same folder, so that who is in it sees the files."""
    monkeypatch.chdir(tmp_path)
    before = tmp_path.stat().st_ino
    make(".", force=False)
    assert set(content(Path())) == NEW and tmp_path.stat().st_ino == before
    with pytest.raises(QuantizationError, match="is not empty"):
        make(".", force=False)
    with pytest.raises(QuantizationError, match="holds the current folder, which would vanish"):
        make(tmp_path)
    assert set(content(tmp_path)) == NEW


def test_an_error_leaves_the_current_folder_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ZeroDivisionError), new_directory(".", force=False) as directory:
        fill(directory)
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == []


def test_a_current_folder_that_is_gone_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(QuantizationError, match="the output directory 'out' cannot be used"):
        make("out")
    make(tmp_path / "out")


def a_file(out: Path) -> str:
    (out / "thesis.txt").write_text("ten years of work")
    return "thesis.txt"


def a_file_deep_down(out: Path) -> str:
    (out / "qdq" / "mine.npz").write_text("measured")
    return "qdq/mine.npz"


def a_folder(out: Path) -> str:
    (out / "results").mkdir()
    (out / "results" / "1.csv").write_text("1")
    return "results/1.csv"


def an_empty_folder(out: Path) -> str:
    (out / "plans" / "of mine").mkdir(parents=True)
    return "plans/of mine"


def beside_what_python_made(out: Path) -> str:
    (out / "__pycache__").mkdir()
    for name in ("notes.txt", "run.cpython-311.pyc"):
        (out / "__pycache__" / name).write_text("mine")
    return "__pycache__/notes.txt"


def a_folder_called_as_pythons(out: Path) -> str:
    (out / "qdq" / "__pycache__").mkdir()
    (out / "qdq" / "__pycache__" / "run.cpython-311.pyc").write_text("mine")
    return "qdq/__pycache__/run.cpython-311.pyc"


def a_file_that_is_listed(out: Path) -> str:
    """As `sha256sum * > SHA256SUMS` does it."""
    (out / "manifest.json").write_text('{"lsq_export": "1.0", "formats": {}}')
    a_file(out)
    write_sums(out)
    return "thesis.txt"


def a_link_to_a_folder(out: Path) -> str:
    (out.parent / "elsewhere").mkdir()
    (out / "more").symlink_to(out.parent / "elsewhere")
    return "more"


PUT = [
    *(a_file, a_file_deep_down, a_file_that_is_listed, a_folder, an_empty_folder, a_link_to_a_folder),
    *(beside_what_python_made, a_folder_called_as_pythons),
]


@pytest.mark.parametrize("put", PUT)
def test_what_no_bundle_wrote_is_named_and_stays(put: Callable[[Path], str], old: Path) -> None:
    name = put(old)
    before = content(old.parent)
    assert foreign(old) == [name]
    with pytest.raises(QuantizationError, match=f"also holds {name}, which no bundle wrote"):
        make(old)
    assert content(old.parent) == before


def test_what_came_meanwhile_stays(old: Path) -> None:
    with pytest.raises(QuantizationError, match=r"also holds thesis\.txt"), new_directory(old, force=True) as directory:
        fill(directory)
        a_file(old)
    assert (old / "manifest.json").read_text() == "old" and (old / "thesis.txt").exists()
    assert os.listdir(old.parent) == ["out"]


def test_what_came_in_the_last_moment_is_kept_and_named(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lsq_export.bundle.whole_directory.check_target", lambda *args, **options: None)
    with (
        pytest.raises(QuantizationError, match=r"is replaced, but thesis\.txt came into the old bundle") as error,
        new_directory(old, force=True) as directory,
    ):
        fill(directory)
        a_file(old)
    kept = Path(str(error.value).rpartition(" in ")[2])
    assert sorted(os.listdir(kept)) == ["SHA256SUMS", "thesis.txt"]
    assert set(content(old)) == NEW
    monkeypatch.undo()
    make(old)  # the sweep of the next start does not take it
    assert (kept / "thesis.txt").read_text() == "ten years of work"


def test_what_python_and_records_leave_does_not_count(old: Path) -> None:
    (old / "__pycache__").mkdir()
    for name in ("__pycache__/run.cpython-311.pyc", "bench.json", "parity.json"):
        (old / name).write_text("")
    make(old)
    assert set(content(old.parent)) == {f"out/{name}" for name in NEW}


@pytest.mark.parametrize("sums", [None, "junk\n", f"{'0' * 64}  thesis.txt\n", f"{'0' * 64}  manifest.json\n", "right"])
def test_a_folder_that_only_looks_like_a_bundle_stays(sums: str | None, tmp_path: Path) -> None:
    """Also one with the right sums of all its files, as others release them."""
    out = tmp_path / "out"
    (out / "data").mkdir(parents=True)
    (out / "manifest.json").write_text('{"name": "my web page"}')
    if sums == "right":
        for name in ("README.md", "thesis.tex", "data/1.csv"):
            (out / name).write_text("ten years of work")
        write_sums(out)
    elif sums is not None:
        (out / "SHA256SUMS").write_text(sums)
    before = content(tmp_path)
    with pytest.raises(QuantizationError, match="holds no bundle, so it is not replaced"):
        make(out)
    assert content(tmp_path) == before


@pytest.mark.parametrize("name", ["README.md", "run.py", "report.html", "lookup/kernels/table.c"])
def test_a_text_that_somebody_edited_stays(name: str, old: Path) -> None:
    """Until it is put elsewhere. Damage to files that nobody edits is no reason to keep them."""
    (old / name).parent.mkdir(parents=True, exist_ok=True)
    (old / name).write_text("as exported")
    write_sums(old)
    (old / name).write_text("with notes of mine")
    (old / "qdq" / "model.onnx").write_text("damaged")
    before = content(old.parent)
    with pytest.raises(QuantizationError, match=f"also holds {name}, changed since its export, so it is not replaced"):
        make(old)
    assert content(old.parent) == before
    (old / name).unlink()
    make(old)
    assert set(content(old)) == NEW


@pytest.mark.parametrize("manifest", ['{"lsq_export": "1.0", "formats": {}}', "damaged", None])
def test_a_damaged_bundle_is_replaced(manifest: str | None, old: Path) -> None:
    (old / "manifest.json").unlink()
    (old / "qdq" / "model.onnx").unlink()
    if manifest is not None:
        (old / "manifest.json").write_text(manifest)
    make(old)
    assert set(content(old)) == NEW and (old / "manifest.json").read_text() == "new manifest.json"


def test_sums_that_name_files_elsewhere_harm_nothing(old: Path) -> None:
    """A hostile bundle: what it lists outside of itself, or behind links, is not removed."""
    (old.parent / "mine.txt").write_text("mine")
    (old.parent / "folder").mkdir()
    (old.parent / "folder" / "model.onnx").write_text("mine")
    shutil.rmtree(old / "qdq")
    (old / "qdq").symlink_to(old.parent / "folder")
    (old / "manifest.json").write_text('{"lsq_export": "1.0", "formats": {}}')
    listed = ("../mine.txt", str(old.parent / "mine.txt"), "qdq")
    with (old / "SHA256SUMS").open("a") as file:
        file.writelines(f"{'0' * 64}  {name}\n" for name in listed)
    before = content(old.parent)
    with pytest.raises(QuantizationError, match="also holds qdq, which no bundle wrote"):
        make(old)
    assert content(old.parent) == before
    (old / "qdq").unlink()
    make(old)
    assert (old.parent / "mine.txt").read_text() == "mine" and (
        old.parent / "folder" / "model.onnx"
    ).read_text() == "mine"
    assert set(content(old)) == NEW


def test_files_that_are_still_needed_stay(old: Path) -> None:
    (old / "bench.json").write_text("needed")
    with pytest.raises(QuantizationError, match=r"since bench\.json in it is needed"):
        check_target(old.parent / "out", force=True, keep=[old / "bench.json"])
    check_target(old.parent / "out", force=True, keep=[old.parent / "bench.json"])


def test_the_checkpoint_that_is_exported_stays(exported: Exported, tmp_path: Path) -> None:
    bundle = exported.copy(tmp_path).directory
    checkpoint = bundle / "trained.safetensors"
    shutil.copy(exported.checkpoint, checkpoint)
    before = content(tmp_path)
    result = invoke("export", checkpoint, "--out", bundle, "--force")
    assert result.exit_code == 2 and "trained.safetensors in it is needed" in result.stderr
    assert result.stderr.count("\n") == 1 and content(tmp_path) == before


def test_a_bundle_is_removed_and_a_link_to_it_stays(old: Path) -> None:
    (old.parent / "link").symlink_to("out")
    remove_bundle(old.parent / "link")
    assert sorted(os.listdir(old.parent)) == ["link"]
    remove_bundle(old)  # which is gone


def test_a_removal_that_is_killed_goes_on(old: Path, tmp_path: Path) -> None:
    """The sums go last: until then it is known what may go."""
    a_file(old)
    found = moments(old, tmp_path / "moments", lambda: remove(old))
    assert len(found) > 3
    for at in found:
        assert set(foreign(at)) == {"thesis.txt"}
        remove(at)
        assert set(content(at)) == {"SHA256SUMS", "thesis.txt"}


def test_a_path_is_resolved_once(old: Path) -> None:
    assert resolved(old / "qdq" / "..") == old == resolved(f"{old}/")
