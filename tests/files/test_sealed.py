"""sealed: the same content is the same bytes, and no byte can change unseen."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from lsq_export.files import sealed, tensor_file

TENSORS = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.ones(3, dtype=torch.int64), "é": torch.zeros(0)}
METADATA = {"z": '"quoted": 1', "a": f'"{sealed.DIGEST}":"{"0" * 64}"', "text": "β × 2\n", "empty": ""}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"".join(sealed.sealed(TENSORS, METADATA)))
    return path


def test_what_is_written_comes_back_and_is_a_safetensors_file(path: Path) -> None:
    tensors, metadata = sealed.read(path)
    digest = metadata.pop(sealed.DIGEST)
    assert (
        metadata == METADATA and len(digest) == 64 and sealed.read_metadata(path) == {**METADATA, sealed.DIGEST: digest}
    )
    for found in (tensors, load_file(path)):
        assert found.keys() == TENSORS.keys() and all(torch.equal(found[name], TENSORS[name]) for name in TENSORS)
    with safe_open(path, framework="pt") as file:
        assert file.metadata()["text"] == METADATA["text"]


def test_equal_content_is_equal_bytes_in_any_order_and_process(path: Path) -> None:
    turned = [dict(reversed(part.items())) for part in (TENSORS, METADATA)]
    assert b"".join(sealed.sealed(*turned)) == path.read_bytes()  # type: ignore[arg-type]
    code = (
        "import sys, torch; from lsq_export.files.sealed import sealed\n"
        "metadata = {name: name for name in 'abcdefgh'}\n"
        "sys.stdout.buffer.writelines(sealed({name: torch.ones(2) for name in 'xyz'}, metadata))"
    )
    wanted = b"".join(sealed.sealed({name: torch.ones(2) for name in "xyz"}, {name: name for name in "abcdefgh"}))
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    assert (
        subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True).stdout == wanted
    )


def test_a_changed_bit_is_noticed(path: Path) -> None:
    raw, draw = path.read_bytes(), random.Random(0)
    for place in range(len(raw)):
        damaged = bytearray(raw)
        damaged[place] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        try:
            metadata = sealed.read_metadata(path)
        except (ValueError, SafetensorError):
            continue
        assert sealed.DIGEST not in metadata, place  # its own name is damaged: what asks for it notices


def test_every_cut_and_more_is_noticed(path: Path) -> None:
    raw = path.read_bytes()
    draw = random.Random(0)
    for end in range(0, len(raw), 7):
        path.write_bytes(raw[:end])
        with pytest.raises((ValueError, SafetensorError)):
            sealed.read(path)
    for place in range(0, len(raw), 7):
        path.write_bytes(raw[:place] + bytes([draw.randrange(256)]) + raw[place:])
        with pytest.raises((ValueError, SafetensorError)):
            sealed.read(path)


def test_a_file_without_a_digest_is_read_as_it_is(path: Path) -> None:
    save_file(TENSORS, path, {"a": "b"})
    assert sealed.read(path)[1] == {"a": "b"}
    save_file(TENSORS, path)
    assert sealed.read_metadata(path) == {}


def test_others_may_read_what_the_umask_lets_them(tmp_path: Path) -> None:
    for mask in (0o022, 0o077, 0o002):
        before = os.umask(mask)
        try:
            tensor_file.write(tmp_path / "x.safetensors", TENSORS, METADATA, "checkpoint")
        finally:
            os.umask(before)
        assert (tmp_path / "x.safetensors").stat().st_mode & 0o777 == 0o666 & ~mask
        (tmp_path / "x.safetensors").unlink()
