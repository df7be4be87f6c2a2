"""files.weights_file: every format is told by its content; nothing is executed; what is no file of weights is named."""

from __future__ import annotations

import argparse
import pathlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from calib.errors import QuantizationError
from lsq_export.files.weights_file import read

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.tensor([1.0, 2.0])}


def saved(path: Path, content: Any, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


def same(content: Any) -> bool:
    return content.keys() == STATE.keys() and all(torch.equal(content[name], STATE[name]) for name in STATE)


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors", "w"])
def test_the_content_counts_and_not_the_name(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    assert same(read(saved(path, STATE))[0])
    assert same(read(saved(path, STATE, _use_new_zipfile_serialization=False))[0])
    save_file(STATE, path, {"format": "pt"})
    content, metadata = read(path)
    assert same(content) and metadata == {"format": "pt"}


def test_settings_of_a_training_are_read_with_the_weights(tmp_path: Path) -> None:
    """What timm and torchvision save beside the weights: their options, and the best accuracy as a NumPy number."""
    options = argparse.Namespace(lr=0.1, out=pathlib.Path("runs/1"))
    content = {"state_dict": STATE, "args": options, "best": np.float64(0.5), "epoch": np.int64(3), "seen": {1, 2}}
    for zipped in (True, False):
        found = read(saved(tmp_path / "w.pth", content, _use_new_zipfile_serialization=zipped))[0]
        assert same(found["state_dict"]) and found["best"] == 0.5 and found["args"].lr == 0.1


class Trap:
    """An object whose unpickling writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_is_executed(zipped: bool, tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    path = saved(tmp_path / "w.pth", {"a": Trap(sprung), **STATE}, _use_new_zipfile_serialization=zipped)
    with pytest.raises(QuantizationError, match=r"would run their code: .* torch.save\(model.state_dict\(\), FILE\)"):
        read(path)
    assert not sprung.exists()
    torch.load(path, weights_only=False)
    assert sprung.exists()  # the trap works


def test_a_whole_model_says_what_to_save_instead(tmp_path: Path) -> None:
    with pytest.raises(QuantizationError, match=r"holds a whole model .*\(torch.nn.modules.linear.Linear\)"):
        read(saved(tmp_path / "w.pth", nn.Linear(2, 2)))


def _cut(path: Path, count: int) -> None:
    path.write_bytes(path.read_bytes()[:-count])


def _archive(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, a=np.zeros(2))


def _program(path: Path) -> None:
    """A TorchScript archive, as far as it shows in the names."""
    import zipfile

    with zipfile.ZipFile(path, "w") as archive:
        for name in ("data.pkl", "constants.pkl"):
            archive.writestr(f"net/{name}", b"")


UNUSABLE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (lambda path: None, "does not exist"),
    "a directory": (Path.mkdir, "is a directory: name the file in it"),
    "empty": (Path.touch, "is damaged, or neither"),
    "text": (lambda path: path.write_text("thesis, chapter 1"), "is damaged, or neither"),
    "a page": (lambda path: path.write_text("<!DOCTYPE html>"), "is a web page"),
    "a pointer": (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1"), "Git LFS pointer"),
    "a pickle": (lambda path: path.write_bytes(pickle.dumps({"w": 1})), "is damaged, or neither"),
    "an archive": (_archive, "a ZIP archive that torch.save did not write"),
    "a program": (_program, "is a TorchScript program"),
    "cut zip": (lambda path: _cut(saved(path, STATE), 40), "is damaged"),
    "cut old": (lambda path: _cut(saved(path, STATE, _use_new_zipfile_serialization=False), 8), "unexpected EOF"),
    "cut safetensors": (lambda path: (save_file(STATE, path), _cut(path, 8)), "is damaged"),
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_what_is_no_file_of_weights_is_named_in_one_line(kind: str, tmp_path: Path) -> None:
    make, says = UNUSABLE[kind]
    path = tmp_path / "w.pth"
    make(path)
    with pytest.raises(QuantizationError) as caught:
        read(path)
    message = str(caught.value)
    assert says in message and str(path) in message and "\n" not in message and "\x1b" not in message
    assert "weights_only" not in message
