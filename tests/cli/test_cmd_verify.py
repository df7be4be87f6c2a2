"""`lsq-export verify`: bundles on disk, whole and damaged."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import lsq_export
from calib.errors import DamagedError
from lsq_export.bundle.claims import COPY
from lsq_export.bundle.directory import FOLDED, TRAINED
from lsq_export.bundle.sums import write_sums
from lsq_export.rewrite.fold import Folded
from lsq_export.verification.runtime import RefusedError
from support.bundles import export
from support.commands import invoke
from support.exported import Exported, content
from support.moments import full_disk
from support.verified import FORMATS, resave, scale

verify = partial(invoke, "verify")


def test_command(exported: Exported, tmp_path: Path) -> None:
    bundle = exported.copy(tmp_path)
    before = {
        name: (bundle.directory / name).read_bytes() for name in ("manifest.json", "qdq/model.onnx", "SHA256SUMS")
    }
    result = verify(bundle.directory, "--images", "10", "--batch-size", "4", "-v")
    assert result.exit_code == 0, result.output
    assert (
        "all promises hold" in result.stdout
        and "against folded: codes" in result.stdout
        and "10 images" in result.stdout
    )
    written = json.loads((bundle.directory / "parity.json").read_text())
    assert written["ok"] is True and written["images"] == 10
    assert (
        before["qdq/model.onnx"] == (bundle.directory / "qdq/model.onnx").read_bytes()
        and before["manifest.json"] == (bundle.directory / "manifest.json").read_bytes()
    )
    again = verify(bundle.directory, "--json")  # the sums of what verify wrote are new as well
    assert again.exit_code == 0 and json.loads(again.stdout)["images"] == 24
    assert json.loads(again.stdout) == json.loads((bundle.directory / "parity.json").read_text())


def with_new_sums(bundle: lsq_export.Bundle) -> None:
    (bundle.directory / "SHA256SUMS").unlink()
    write_sums(bundle.directory)


@pytest.mark.parametrize("sums", ["old sums", "new sums"])
@pytest.mark.parametrize("name", FORMATS)
def test_a_damaged_model_fails(name: str, sums: str, exported: Exported, tmp_path: Path) -> None:
    """Exit code 1: the sums name the file and nothing of it is believed, or, if that was covered up, the numbers."""
    bundle = exported.copy(tmp_path)
    before = content(bundle.directory)
    resave(bundle.models[name], partial(scale, "weight_scale", 2))
    if sums == "old sums":
        result = verify(bundle.directory)
        assert result.exit_code == 1 and result.stdout == "" and result.stderr.count("\n") == 1
        assert f"{name}/model.onnx: not what was exported (SHA256SUMS)" in result.stderr
        assert content(bundle.directory).items() - before.items() == {
            (f"{name}/model.onnx", bundle.models[name].read_bytes())
        }
        return
    with_new_sums(bundle)
    result = verify(bundle.directory)
    lines = [line for line in result.stderr.splitlines() if line.startswith("FAILED: ")]
    assert (
        result.exit_code == 1
        and lines
        and all(f"{name}" in line for line in lines)
        and "all promises hold" not in result.stdout
    )
    written = json.loads((bundle.directory / "parity.json").read_text())
    assert written["ok"] is False and written["failures"] == [line.removeprefix("FAILED: ") for line in lines]
    assert verify(bundle.directory).exit_code == 1  # verify does not bless what it found


@pytest.mark.parametrize("file", [TRAINED, FOLDED])
def test_a_foreign_reference_fails(file: Path, exported: Exported, other: Folded, tmp_path: Path) -> None:
    from lsq_export.rewrite.emit import serialize

    bundle = exported.copy(tmp_path)
    foreign = {TRAINED: other.trained, FOLDED: other.model}[file]
    onnx.save(serialize(foreign, 17, file.stem, notes=True), bundle.directory / file)
    result = verify(bundle.directory)
    assert result.exit_code == 1 and f"{file}: not what was exported (SHA256SUMS)" in result.stderr
    with_new_sums(bundle)
    result = verify(bundle.directory)
    assert result.exit_code == 1 and "manifest.json: tensors[" in result.stderr
    assert {FOLDED: ".container_scale is ", TRAINED: ".scale is "}[file] in result.stderr
    with pytest.raises(DamagedError, match=r"manifest\.json: tensors\["):
        lsq_export.verify(exported.model, bundle, exported.batches)


def test_a_reference_that_does_not_fit_is_named(exported: Exported, other: Folded, tmp_path: Path) -> None:
    from lsq_export.rewrite.emit import serialize

    bundle = exported.copy(tmp_path)
    onnx.save(serialize(other.model, 17, FOLDED.stem), bundle.directory / FOLDED)  # without notes: shapes do not fit
    result = verify(bundle.directory)
    assert result.exit_code == 1 and len(result.stderr.splitlines()) == 1
    assert f"{FOLDED}: not what was exported (SHA256SUMS)" in result.stderr
    with_new_sums(bundle)
    result = verify(bundle.directory)
    assert result.exit_code == 1 and result.stdout == "" and result.stderr.count("\n") == 1
    assert "manifest.json: tensors[" in result.stderr


def test_what_no_sum_lists_is_said_and_changes_nothing(exported: Exported, tmp_path: Path) -> None:
    bundle = exported.copy(tmp_path)
    (bundle.directory / "extra\x1b.txt").write_text("mine")
    result = verify(bundle.directory)
    assert result.exit_code == 0 and "all promises hold" in result.stdout
    assert "not checked, since no sum lists it: extra\\x1b.txt\n" in result.stderr


def _group(proto: onnx.ModelProto) -> None:
    """A convolution in two groups, which its weight has not."""
    node = next(node for node in proto.graph.node if node.op_type == "QLinearConv")
    next(attribute for attribute in node.attribute if attribute.name == "group").i = 2


def _copy(proto: onnx.ModelProto) -> None:
    next(entry for entry in proto.metadata_props if entry.key == COPY).value += "x"


def _scale(proto: onnx.ModelProto) -> None:
    """Scale and offset of a marker in each other's place."""
    node = next(node for node in proto.graph.node if node.op_type == "FakeQuantize")
    node.input[1], node.input[2] = node.input[2], node.input[1]


@pytest.mark.parametrize(
    ("file", "damage", "says"),
    [
        ("qoperator/model.onnx", _group, "2 groups"),
        ("reference/folded.onnx", _copy, "the copy of manifest.json in reference/folded.onnx is damaged"),
        ("reference/trained.onnx", _scale, "scale"),
    ],
)
def test_graphs_that_no_export_writes_are_said_of_the_bundle(
    file: str, damage: Callable[[onnx.ModelProto], None], says: str, exported: Exported, tmp_path: Path
) -> None:
    """Their sums are right. Exit code 1, since no other option helps."""
    bundle = exported.copy(tmp_path)
    resave(bundle.directory / file, damage)
    with_new_sums(bundle)
    result = verify(bundle.directory)
    assert result.exit_code == 1 and result.stderr.count("\n") == 1 and result.stdout == "", result.stderr
    assert f"error: bundle {bundle.directory}: " in result.stderr and says in result.stderr


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"input": {"name": "input", "shape": ["batch", 1, 17, 17]}}, "manifest.json: input.shape[2] is 17"),
        ({"source": {"data": "mnist"}}, 'manifest.json: source.data is "mnist"'),
        ({"preprocessing": {"data": "npz", "mean": [0.1, 0.2], "std": [1]}}, "manifest.json: preprocessing"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_data_that_a_forged_manifest_asks_for_are_its_fault(
    change: dict[str, Any], says: str, exported: Exported, tmp_path: Path
) -> None:
    bundle = exported.copy(tmp_path)
    (bundle.directory / "manifest.json").write_text(json.dumps(bundle.manifest | change))
    with_new_sums(bundle)
    result = verify(bundle.directory)
    assert result.exit_code == 1 and result.stderr.count("\n") == 1 and says in result.stderr, result.stderr
    assert f"error: bundle {bundle.directory}: " in result.stderr


def test_another_runtime_than_that_of_the_export_may_be_at_fault(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = exported.copy(tmp_path)

    def refused(*args: Any) -> None:
        raise RefusedError("qdq: ONNX Runtime 1.0 cannot load it: use a newer ONNX Runtime")

    monkeypatch.setattr("lsq_export.verification.runtime.Session.run", refused)
    assert verify(bundle.directory).exit_code == 1
    monkeypatch.setattr("onnxruntime.__version__", "0.1")
    result = verify(bundle.directory)
    assert result.exit_code == 2 and result.stderr.startswith("error: qdq: ONNX Runtime 1.0 cannot load it")


@pytest.mark.parametrize("part", ["input_0.pb", "output_0.pb"])
def test_wrong_golden_vectors_fail(part: str, exported: Exported, tmp_path: Path) -> None:
    bundle = exported.copy(tmp_path)
    path = bundle.directory / "qoperator" / "test_data_set_0" / part
    tensor = onnx.TensorProto.FromString(path.read_bytes())
    array = onnx.numpy_helper.to_array(tensor).copy()
    array.flat[0] += 1
    path.write_bytes(onnx.numpy_helper.from_array(array, tensor.name).SerializeToString())
    assert verify(bundle.directory).exit_code == 1
    with_new_sums(bundle)
    result = verify(bundle.directory)
    assert (
        result.exit_code == 1
        and "FAILED: qoperator: the golden vectors" in result.stderr
        and "qdq" not in result.stderr
    )


@pytest.mark.parametrize("damage", ["empty", "two bytes", "cut short", "half", "junk", "missing"])
@pytest.mark.parametrize(
    "file",
    ["qdq/model.onnx", "qoperator/model.onnx", "reference/trained.onnx", "reference/folded.onnx", "manifest.json"],
)
def test_an_unreadable_file_is_one_line_and_1(file: str, damage: str, exported: Exported, tmp_path: Path) -> None:
    path = exported.copy(tmp_path).directory / file
    whole = path.read_bytes()
    content = {
        "empty": b"",
        "two bytes": b"\x08\x07",
        "cut short": whole[:-40],
        "half": whole[: len(whole) // 2],
        "junk": b"junk" * 100,
    }
    path.unlink() if damage == "missing" else path.write_bytes(content[damage])
    for _ in ("old sums", "new sums"):
        result = verify(tmp_path / "bundle")
        assert result.exit_code == (2 if (file, damage, _) == ("manifest.json", "missing", "new sums") else 1)
        assert result.stdout == "" and result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
        assert file in result.stderr
        write_sums(tmp_path / "bundle")


@pytest.mark.parametrize("damage", ["cut short", "junk", "missing", "one digest changed"])
def test_damaged_sums_are_noticed(damage: str, exported: Exported, tmp_path: Path) -> None:
    path = exported.copy(tmp_path).directory / "SHA256SUMS"
    whole = path.read_text()
    changed = whole.replace(whole[:8], "00000000", 1)
    path.unlink() if damage == "missing" else path.write_text(
        {"cut short": whole[:-40], "junk": "junk\n", "one digest changed": changed}[damage]
    )
    result = verify(tmp_path / "bundle")
    assert result.exit_code == 1 and "Traceback" not in result.stderr
    assert ("FAILED: " if damage == "one digest changed" else "error: ") in result.stderr
    assert result.stderr.splitlines()[-1].count("SHA256SUMS") == 1


@pytest.mark.parametrize("key", ["target", "input", "formats", "outputs"])
def test_a_manifest_that_lacks_something_is_named(key: str, exported: Exported, tmp_path: Path) -> None:
    path = exported.copy(tmp_path).directory / "manifest.json"
    content = json.loads(path.read_text())
    del content[key]
    path.write_text(json.dumps(content))
    write_sums(tmp_path / "bundle")
    result = verify(tmp_path / "bundle")
    assert result.exit_code == 1 and result.stderr.count("\n") == 1
    assert f"manifest.json is damaged: it has no {key}" in result.stderr


def test_data_of_another_shape_is_one_line_and_2(exported: Exported, tmp_path: Path) -> None:
    x, y = np.zeros((8, 1, 9, 9), np.float32), np.arange(8) % 2
    np.savez(tmp_path / "d.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    result = verify(exported.bundle.directory, "--data", f"npz:{tmp_path / 'd.npz'}")
    assert result.exit_code == 2 and result.stderr.count("\n") == 1
    assert "has inputs of shape [1, 9, 9], the model takes [1, 16, 16]: give such data" in result.stderr


@pytest.mark.parametrize(
    ("where", "says"), [("nowhere", "does not exist: give a directory"), ("", "no readable manifest.json")]
)
def test_no_bundle_is_one_line_and_2(where: str, says: str, tmp_path: Path) -> None:
    result = verify(tmp_path / where)
    assert (
        result.exit_code == 2
        and result.stderr.count("\n") == 1
        and says in result.stderr
        and str(tmp_path) in result.stderr
    )


def test_unknown_data_is_named(exported: Exported, tmp_path: Path) -> None:
    bundle = exported.copy(tmp_path)
    assert "data 'mnist' is unknown" in verify(bundle.directory, "--data", "mnist").stderr
    result = verify(export(exported.model, tmp_path / "without source").directory)
    assert result.exit_code == 2 and result.stderr.count("\n") == 1 and "--data digits" in result.stderr


def test_the_answer_has_at_most_twelve_lines(exported: Exported, tmp_path: Path) -> None:
    bundle = exported.copy(tmp_path)
    result = verify(bundle.directory)
    assert result.exit_code == 0 and len(result.stdout.splitlines()) <= 12, result.stdout
    assert result.stdout.splitlines()[0].startswith("network W4A4 on 24 test images of npz:")
    for name in ("exact run", "exact rewrite", "measured fold"):
        assert f"\n{name} " in result.stdout
    assert "Against the trained model" not in result.stdout and "report.html" in result.stdout


def test_a_better_record_is_kept_unless_it_is_asked_for(exported: Exported, tmp_path: Path) -> None:
    bundle = exported.copy(tmp_path)
    recorded = bundle.directory / "parity.json"
    assert verify(bundle.directory).exit_code == 0
    result = verify(bundle.directory, "--images", 5)
    assert result.exit_code == 0 and "on 5 test images" in result.stdout
    assert "keep the verification on 24 test images" in result.stderr
    assert json.loads(recorded.read_text())["images"] == 24
    assert "replaced it" in verify(bundle.directory, "--images", 5, "--record").stderr
    assert json.loads(recorded.read_text())["images"] == 5


@pytest.mark.slow
def test_other_data_are_told(exported: Exported, tmp_path: Path) -> None:
    described = {"preprocessing": {"data": "npz", "divide_by": 16.0}, "classes": [*"abcde"]}
    bundle = export(exported.model, tmp_path / "out", source={"data": exported.data}, **described)
    x = np.random.default_rng(0).integers(0, 255, (8, 1, 16, 16), np.uint8)
    np.savez(tmp_path / "d.npz", x_train=x, y_train=np.arange(8) % 3, x_test=x, y_test=np.arange(8) % 3)
    assert verify(bundle.directory).exit_code == 0
    result = verify(bundle.directory, "--data", f"npz:{tmp_path / 'd.npz'}")
    assert result.exit_code == 0, result.output
    told = [line for line in result.stderr.splitlines() if line.startswith("other data: ")]
    assert told == [
        "other data: number of classes: 3 in these data, 5 in the manifest",
        "other data: preprocessing divide_by: 255.0 in these data, 16.0 in the manifest",
    ]
    assert "keep the verification on 24 test images" in result.stderr


def test_a_bundle_that_cannot_be_written_is_verified(exported: Exported, tmp_path: Path) -> None:
    """The result is printed, and one line says that it is not kept."""
    bundle = exported.copy(tmp_path)
    before = content(bundle.directory)
    for number, says in ((errno.EROFS, "Read-only file system"), (errno.ENOSPC, "No space left on device")):
        with full_disk(1, number):
            result = verify(bundle.directory)
        assert result.exit_code == 0 and "all promises hold" in result.stdout, result.output
        assert [line for line in result.stderr.splitlines() if "verify" not in line] == [
            f"the result is not kept in the bundle: {bundle.directory / 'SHA256SUMS'} cannot be written: {says}"
        ]
        assert content(bundle.directory) == before
    resave(bundle.models["qdq"], partial(scale, "weight_scale", 2))
    with_new_sums(bundle)
    with full_disk(1, errno.EROFS):
        result = verify(bundle.directory, "--json")
    assert result.exit_code == 1 and json.loads(result.stdout)["ok"] is False and "not kept" in result.stderr


def test_no_write_changes_nothing(exported: Exported, tmp_path: Path) -> None:
    bundle = exported.copy(tmp_path)
    (bundle.directory / f".parity.json.{'0' * 16}.tmp").write_text("of a killed process")
    before = {path: path.stat().st_mtime_ns for path in (bundle.directory, *bundle.directory.rglob("*"))}
    result = verify(bundle.directory, "--no-write")
    assert result.exit_code == 0 and "all promises hold" in result.stdout and "kept" not in result.stderr
    assert {path: path.stat().st_mtime_ns for path in (bundle.directory, *bundle.directory.rglob("*"))} == before
    both = verify(bundle.directory, "--no-write", "--record")
    assert both.exit_code == 2 and "give one of them" in both.stderr and both.stderr.count("\n") == 1


def test_what_a_kill_left_of_a_record_is_put_right(exported: Exported, tmp_path: Path) -> None:
    bundle = exported.copy(tmp_path)
    assert verify(bundle.directory).exit_code == 0
    sums, parity = bundle.directory / "SHA256SUMS", bundle.directory / "parity.json"
    (bundle.directory / f".parity.json.{'0' * 16}.tmp").write_text("half")
    (bundle.directory / "report.html").write_text("of the record before")
    old = hashlib.sha256(b"of the record before").hexdigest()
    sums.write_text(sums.read_text() + f"{old}  report.html\n")
    before = parity.read_bytes()
    result = verify(bundle.directory, "--images", 5)
    assert result.exit_code == 0 and "FAILED" not in result.stderr and "keep the verification" in result.stderr
    assert parity.read_bytes() == before and sums.read_text().count("report.html") == 1
    assert "of the record before" not in (bundle.directory / "report.html").read_text()
    assert content(bundle.directory).keys() == content(exported.bundle.directory).keys()
