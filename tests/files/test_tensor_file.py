"""files.tensor_file: what is written comes back, and places that cannot hold it are named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from calib.errors import QuantizationError
from lsq_export.files import sealed, tensor_file


def test_tensors_that_share_memory_or_have_another_format_come_back(tmp_path: Path) -> None:
    path, x = tmp_path / "a.safetensors", torch.arange(24.0).reshape(1, 2, 3, 4)
    tensors = {"whole": x, "part": x[:, 1], "last": x.contiguous(memory_format=torch.channels_last)}
    tensor_file.write(path, tensors, {"key": "text"}, "state")
    with safe_open(path, framework="pt") as file:
        assert {name: text for name, text in file.metadata().items() if name != sealed.DIGEST} == {"key": "text"}
        assert all(torch.equal(file.get_tensor(name), tensor) for name, tensor in tensors.items())


def test_places_that_cannot_hold_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path, says in ((tmp_path, "is a directory"), (tmp_path / "no" / "a", "no does not exist; create it first")):
        with pytest.raises(QuantizationError, match=f"^state .*{says}"):
            tensor_file.write(path, {}, {}, "state")

    def full(*arguments: object) -> None:
        raise OSError("no space\nleft on device")

    monkeypatch.setattr(tensor_file, "save_file", full)
    with pytest.raises(QuantizationError, match=r"cannot be written: no space left on device$"):
        tensor_file.write(tmp_path / "a", {}, {}, "state")
    assert not list(tmp_path.iterdir())
