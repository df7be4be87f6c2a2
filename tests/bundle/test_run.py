"""lsq_export/bundle/run.py, as the receiver of a bundle runs it: from the bundle, with numpy and onnxruntime alone."""

from __future__ import annotations

import ast
import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import lsq_export
from lsq_export.bundle import run
from lsq_export.data.sample import Sample
from support.bundles import export
from support.exported import SHAPE, Exported

NOT_THERE = ["torch", "onnx", "lsq_export", "calib", "jinja2", "PIL"]
HOW = {"resize": 18, "interpolation": "bilinear", "crop": 16, "divide_by": 255.0, "mean": [0.4], "std": [0.3]}
NAMES = ["zero", "one", "two", "three", "four"]


def pixels(height: int, width: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """uint8 [H, W] or [H, W, C]."""
    drawn = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return drawn[..., 0] if channels == 1 else drawn


@pytest.fixture(scope="module")
def bundle(model: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> lsq_export.Bundle:
    """With a picture as its sample."""
    source = pixels(20, 30)
    x = torch.from_numpy(run.preprocess(source, HOW, SHAPE))
    out = tmp_path_factory.mktemp("run") / "out"
    return export(model, out, preprocessing=HOW, sample=Sample(source, x, 3), classes=NAMES)


class Ran:
    """Exit code, and what was printed."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str], *arguments: object) -> None:
        before, sys.argv = sys.argv, ["run.py", *map(str, arguments)]
        try:
            self.code = runpy.run_path(str(directory / "run.py"))["main"]()
        finally:
            sys.argv = before
        self.out, self.err = capsys.readouterr()


def test_it_imports_numpy_and_onnxruntime_and_pillow_where_it_is_needed() -> None:
    imported: set[str] = set()
    tree = ast.parse(Path(run.__file__).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
    assert imported - sys.stdlib_module_names == {"numpy", "onnxruntime", "PIL"}
    assert not any(isinstance(node, ast.ImportFrom) and node.module == "PIL" for node in tree.body)


def test_without_arguments_it_runs_the_sample(exported: Exported, tmp_path: Path) -> None:
    """From any directory, where none of our packages is installed; nothing is left behind."""
    code = f"import runpy, sys; sys.modules.update(dict.fromkeys({NOT_THERE!r})); sys.argv = sys.argv[1:]; "
    code += "runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-c", code, str(exported.bundle.directory / "run.py")]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    expected = exported.bundle.manifest["sample"]["class"]
    assert f"expected {expected}, found {expected}; its label is not known\n0 of 5 outputs differ" in done.stdout
    assert done.stdout.count("logit") == 5 and list(tmp_path.iterdir()) == []


def test_a_reader_that_has_gone_ends_it_quietly(exported: Exported, tmp_path: Path) -> None:
    """As `python run.py DIR | head` does."""
    for number in range(3):
        np.save(tmp_path / f"{number}.npy", np.zeros(SHAPE, np.float32))
    command = [sys.executable, "-u", exported.bundle.directory / "run.py", tmp_path, "--prepared"]
    for unbuffered in (True, False):
        reader, writer = os.pipe()
        os.close(reader)
        flags = command if unbuffered else [command[0], *command[2:]]
        done = subprocess.run(flags, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
        os.close(writer)
        assert (done.returncode, done.stderr) == (141, "")


def test_a_bundle_of_one_other_format_runs_it(
    exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = exported.copy(tmp_path).directory
    (copied / "qoperator").rename(copied / "lookup")
    manifest = json.loads((copied / "manifest.json").read_text())
    entry = manifest["formats"]["qoperator"]
    manifest["formats"] = {"lookup": {**entry, "file": "lookup/model.onnx"}}
    (copied / "manifest.json").write_text(json.dumps(manifest))
    ran = Ran(copied, capsys)
    assert (ran.code, ran.err) == (0, "") and ", lookup\n" in ran.out


@pytest.mark.parametrize("name", ["qoperator", "qdq"])
def test_it_says_names_and_the_label(name: str, bundle: lsq_export.Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    ran, found = Ran(bundle.directory, capsys, "--format", name), bundle.manifest["sample"]["class"]
    assert bundle.manifest["sample"]["file"] == "sample/input.png"
    assert (ran.code, ran.err) == (0, "") and f"sample/input.png, {name}" in ran.out
    assert f"expected {found} ({NAMES[found]}), found {found} ({NAMES[found]}); labeled 3 (three)" in ran.out


def test_files_of_ones_own(bundle: lsq_export.Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same pixels as an image, as an array, and preprocessed, give the same outputs; another image others."""
    source = pixels(40, 25, seed=1)
    Image.fromarray(source).save(tmp_path / "a.png")
    Image.fromarray(np.stack([source] * 3, -1)).save(tmp_path / "b.bmp")
    np.save(tmp_path / "c.npy", source)
    np.save(tmp_path / "d.npy", run.preprocess(source, HOW, SHAPE))
    shown = []
    for file, *more in (("a.png",), ("b.bmp",), ("c.npy",), ("d.npy", "--prepared")):
        ran = Ran(bundle.directory, capsys, tmp_path / file, *more)
        assert (ran.code, ran.err) == (0, "") and ran.out.startswith(f"{tmp_path / file}, qoperator\n")
        shown.append(ran.out.split("\n", 1)[1])
    assert len(set(shown)) == 1 and "expected" not in shown[0]
    Image.fromarray(pixels(40, 25, seed=2)).save(tmp_path / "e.png")
    assert Ran(bundle.directory, capsys, tmp_path / "e.png").out.split("\n", 1)[1] != shown[0]


def other_output(directory: Path) -> None:
    wanted = np.load(directory / "sample/output.npy")
    np.save(directory / "sample/output.npy", np.nextafter(wanted, np.float32(np.inf)))


def far_output(directory: Path) -> None:
    wanted = np.load(directory / "sample/output.npy")
    np.save(directory / "sample/output.npy", wanted + 0.2 * np.abs(wanted).max() * (-1) ** np.arange(wanted.size))


def integer_output(directory: Path) -> None:
    wanted = np.load(directory / "sample/output.npy")
    np.save(directory / "sample/output.npy", wanted.astype(np.int64))


def other_class(directory: Path) -> None:
    manifest = json.loads((directory / "manifest.json").read_text())
    manifest["sample"]["class"] = (manifest["sample"]["class"] + 1) % 5
    (directory / "manifest.json").write_text(json.dumps(manifest))


def other_sample(directory: Path) -> None:
    np.save(directory / "sample/input.npy", -np.load(directory / "sample/input.npy"))


@pytest.mark.parametrize(
    ("damage", "name", "code", "says"),
    [
        (other_output, "qoperator", 1, "at most: they have to be THE SAME"),
        (other_output, "qdq", 0, "at most: no more than float rounding, as expected"),  # its bits are not promised
        (far_output, "qdq", 1, "dB, 20.0 or more is expected"),
        (integer_output, "qdq", 1, "at most: they have to be THE SAME"),
        (other_class, "qoperator", 1, "expected 1, found"),
        (other_class, "qdq", 1, ""),
        (other_sample, "qoperator", 1, "THE SAME"),
    ],
)
def test_a_sample_that_comes_out_wrong(
    damage: Callable[[Path], None],
    name: str,
    code: int,
    says: str,
    exported: Exported,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    directory = exported.copy(tmp_path).directory
    damage(directory)
    ran = Ran(directory, capsys, "--format", name)
    assert ran.code == code and says in ran.out, ran.out


def test_float_operators_round_and_that_is_no_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A softmax at the end: other machines make other last bits of it; a code that flipped before it is in the SQNR."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(784, 5), nn.Softmax(1)).eval()
    images = torch.randn(8, *SHAPE)
    prepared = lsq_export.calibrate(net, [images])
    directory = lsq_export.export(prepared, images[:1], tmp_path / "out", calibration=[images]).directory
    for change, code, says in (
        (1 + 2e-7, 0, "no more than float rounding, as expected"),
        (1.01, 0, "an SQNR of 40"),
        (2, 1, "an SQNR of"),
    ):
        wanted = np.load(directory / "sample/output.npy")
        np.save(directory / "sample/output.npy", (wanted * np.float32(change)).astype(np.float32))
        ran = Ran(directory, capsys, "--format", "qoperator")
        np.save(directory / "sample/output.npy", wanted)
        assert ran.code == code and says in ran.out, ran.out


@pytest.mark.parametrize(
    ("file", "more", "says"),
    [
        ("nowhere.png", (), "No such file or directory"),
        ("text.png", (), "cannot identify image file"),
        ("text.npy", (), "error: "),
        ("wide.npy", (), "an array [9, 9] becomes [1, 9, 9], but the input is [1, 16, 16]"),
        ("wide.npy", ("--format", "tables"), "there is no format 'tables' here: use "),
    ],
)
def test_bad_input_is_one_line(
    file: str,
    more: tuple[str, ...],
    says: str,
    exported: Exported,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("text.png", "text.npy"):
        (tmp_path / name).write_text("not what it seems")
    np.save(tmp_path / "wide.npy", np.zeros((9, 9), np.float32))
    ran = Ran(exported.bundle.directory, capsys, tmp_path / file, *more)
    assert ran.code == 2 and says in ran.err and ran.err.count("\n") == 1 and ran.out == ""


def changed(exported: Exported, tmp_path: Path, **entries: Any) -> Path:
    directory = exported.copy(tmp_path).directory
    manifest = {**exported.bundle.manifest, **entries}
    (directory / "manifest.json").write_text(json.dumps({k: v for k, v in manifest.items() if v != "away"}))
    return directory


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({"preprocessing": None}, "manifest.json has no preprocessing: give the input itself"),
        ({"preprocessing": {"gamma": 2.2}}, "preprocessing has 'gamma', which run.py does not know: use --prepared"),
        ({"preprocessing": {"resize": 16, "interpolation": "magic"}}, "the interpolation magic is unknown"),
        ({"sample": "away"}, "manifest.json lacks 'sample'"),
    ],
)
def test_a_manifest_that_does_not_help(
    entries: dict[str, Any], says: str, exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(pixels(16, 16)).save(tmp_path / "x.png")
    ran = Ran(changed(exported, tmp_path, **entries), capsys, tmp_path / "x.png")
    assert ran.code == 2 and says in ran.err and ran.err.count("\n") == 1


def test_a_missing_pillow_is_named_where_it_is_needed(
    bundle: lsq_export.Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(pixels(20, 30)).save(tmp_path / "x.png")
    with_it = Ran(bundle.directory, capsys)
    monkeypatch.setitem(sys.modules, "PIL", None)
    without = Ran(bundle.directory, capsys)
    assert without.code == with_it.code == 0 and without.out == with_it.out
    assert without.err == "note: Pillow is not here, so the sample is taken as it was preprocessed\n"
    ran = Ran(bundle.directory, capsys, tmp_path / "x.png")
    assert ran.code == 2 and ran.err.endswith(": pip install pillow\n") and ran.err.count("\n") == 1


def test_several_files_and_folders_get_a_line_each(
    bundle: lsq_export.Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "mine").mkdir()
    for number in range(3):
        Image.fromarray(pixels(20, 30, seed=number)).save(tmp_path / "mine" / f"{number}.png")
    one = Ran(bundle.directory, capsys, tmp_path / "mine" / "1.png").out.splitlines()
    ran = Ran(bundle.directory, capsys, tmp_path / "mine", tmp_path / "mine" / "1.png")
    lines = ran.out.splitlines()
    assert (
        ran.code == 0
        and len(lines) == 4
        and [line.split()[0][-5:] for line in lines[:3]] == ["0.png", "1.png", "2.png"]
    )
    assert lines[1] == lines[3] and lines[1].endswith(one[1])
    none = Ran(bundle.directory, capsys, tmp_path / "empty")
    assert none.code == 2 and none.err == f"error: {tmp_path / 'empty'} holds no images and no .npy files\n"


def test_folders_of_classes_are_counted(
    bundle: lsq_export.Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = Image.fromarray(pixels(20, 30))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        image.save(tmp_path / name / "x.png")
    lines = Ran(bundle.directory, capsys, tmp_path).out.splitlines()
    assert [Path(line.split()[0]).parent.name for line in lines[:2]] == ["one", "two"]
    right = sum(f"({name})" in line for name, line in zip(("one", "two"), lines, strict=False))
    assert lines[2:] == [f"{right} of 2 got the class that is the name of their folder ({right / 2:.2%})"]
    image.save(tmp_path / "x.png")
    assert "got the class" not in Ran(bundle.directory, capsys, tmp_path).out  # one has no class


def test_an_image_for_a_network_of_arrays_gets_a_note(
    model: nn.Module, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pixels are 0 … 255, and nobody knows whether its arrays were."""
    source = np.linspace(0, 16, 256, dtype=np.float32).reshape(16, 16)
    bundle = export(model, tmp_path / "out", preprocessing={"divide_by": 16}, sample=Sample(source, source[None] / 16))
    Image.fromarray(pixels(16, 16)).save(tmp_path / "x.png")
    ran = Ran(bundle.directory, capsys, tmp_path / "x.png")
    assert ran.code == 0 and ran.err.startswith("note: ") and ran.err.count("\n") == 1
    assert Ran(bundle.directory, capsys).err == ""
    missing = Ran(bundle.directory, capsys, tmp_path / "y.png")
    assert missing.err.startswith("error: ") and missing.err.count("\n") == 1  # no advice on an image that is not there


@pytest.mark.parametrize("sizes", [(8, 32), (8, 24), (10, 7), (5, 5), (1, 4)])
def test_arrays_are_resized_as_torch_does_it(sizes: tuple[int, int]) -> None:
    old, new = sizes
    x = np.random.default_rng(0).normal(size=(old, old + 2, 3)).astype(np.float32)
    found = run.resized(x, [new, new + 1], "bilinear")
    planes = torch.from_numpy(x).permute(2, 0, 1)[None]
    expected = torch.nn.functional.interpolate(planes, (new, new + 1), mode="bilinear", align_corners=False)
    assert found.dtype == np.float32
    # torch finds the centers in float32: up to 1e-6 of a pixel beside ours, times the step from pixel to pixel
    np.testing.assert_allclose(found, expected[0].permute(1, 2, 0).numpy(), rtol=0, atol=1e-5)


def test_layouts_of_arrays() -> None:
    x = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    assert np.array_equal(run.preprocess(x, {}, [3, 4, 5]), x)
    assert np.array_equal(run.preprocess(np.moveaxis(x, 0, -1), {}, [3, 4, 5]), x)
    assert np.array_equal(run.preprocess(x[0], {}, [3, 4, 5]), np.stack([x[0]] * 3))
    vector = np.arange(4.0)
    halved = run.preprocess(vector, {"divide_by": 2, "mean": [0, 0, 1, 1], "std": None}, [4])
    assert halved.dtype == np.float32 and halved.tolist() == [0, 0.5, 0, 0.5]
