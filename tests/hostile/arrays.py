"""Damage of checkpoints, arrays and images that still are such files."""

from __future__ import annotations

import io
import random
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from . import json_


def damage_checkpoint(path: Path, rng: random.Random) -> str:
    """Change a tensor or a value of the metadata; what was done."""
    tensors = load_file(path)
    with safe_open(path, framework="np") as file:
        metadata = dict(file.metadata())
    kind = rng.choice(("metadata", "metadata", "metadata", "number", "type", "shape", "missing", "more", "no metadata"))
    name = rng.choice(sorted(tensors))
    done = kind
    if kind == "metadata":
        key = rng.choice(sorted(metadata))
        metadata[key], what = json_.damage(metadata[key], rng)
        metadata[key] = metadata[key].encode("utf-8", "replace").decode()
        done = f"{kind} {what}"
    elif kind == "number" and tensors[name].is_floating_point():
        flat = tensors[name].reshape(-1)
        flat[rng.randrange(len(flat))] = rng.choice((float("nan"), float("inf"), -1.0, 0.0, 1e38, 1e-45))
    elif kind == "type":
        tensors[name] = tensors[name].to(rng.choice((torch.int64, torch.float64, torch.float16, torch.bool)))
    elif kind == "shape":
        tensors[name] = rng.choice((tensors[name][None], tensors[name].reshape(-1)[:1], torch.zeros(0)))
    elif kind == "missing":
        del tensors[name]
    elif kind == "more":
        tensors[f"{name}.\x1b[31m"] = torch.zeros(3)
    elif kind == "no metadata":
        metadata = {}
    save_file(tensors, path, metadata or None)
    return f"checkpoint: {done}"


def damage_arrays(path: Path, rng: random.Random) -> str:
    """Change what the arrays are; what was done."""
    arrays = dict(np.load(path))
    kind = rng.choice(
        ("type", "shape", "number", "labels", "missing", "objects", "names", "no array", "giant", "nested")
    )
    name = rng.choice(sorted(arrays))
    if kind == "type":
        types = ("float16", "float64", "int8", "uint8", "int64", "uint64", "complex64", "U3", "bool", "datetime64[s]")
        arrays[name] = arrays[name].astype(rng.choice(types))
    elif kind == "shape":
        array = arrays[name]
        arrays[name] = rng.choice((array[:0], array[None], array.reshape(-1), array[:1], array[..., :1], np.array(3.0)))
    elif kind == "number":
        arrays["x_test"][0].flat[0] = rng.choice((np.nan, np.inf, 1e38, -1e38))
    elif kind == "labels":
        labels = (np.uint64(2**64 - 1), np.int64(2**62), np.int64(-1), np.float64(1e300), np.float64(0.5), np.nan)
        arrays["y_test"] = np.full(len(arrays["y_test"]), rng.choice(labels))
    elif kind == "missing":
        del arrays[name]
    elif kind == "objects":
        arrays[name] = np.array([{"a": 1}] * len(arrays[name]), dtype=object)
    elif kind == "names":
        arrays["classes"] = np.array(rng.choice((["a\x1b[2J"] * 5, ["a"], [""] * 5, [1, 2, 3, 4, 5])))
    np.savez(path, **arrays, allow_pickle=True) if kind == "objects" else np.savez(path, **arrays)
    if kind in ("no array", "giant", "nested"):
        _strange_member(path, name, kind)
    return f"npz: {kind}"


def _strange_member(path: Path, name: str, kind: str) -> None:
    """A member that is no array, or says that it is a very large one."""
    with zipfile.ZipFile(path) as archive:
        members = {info: archive.read(info) for info in archive.namelist()}
    if kind == "giant":
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (2**40, 16)})
        members[f"{name}.npy"] = header.getvalue()
    elif kind == "no array":
        members[f"{name}.npy"] = b"just text"
        members["notes.txt"] = b"just text"
    else:
        members[f"../{name}.npy"] = members.pop(f"{name}.npy")
    with zipfile.ZipFile(path, "w") as archive:
        for info, content in members.items():
            archive.writestr(info, content)


def damage_pictures(folder: Path, rng: random.Random, outside: Path) -> str:
    """Change one image, or a folder of a class; what was done."""
    files = sorted(folder.rglob("*.png"))
    file = rng.choice(files)
    kind = rng.choice(
        ("one pixel", "mode", "text", "bomb", "names", "class", "empty class", "link", "long name", "wide")
    )
    if kind == "one pixel":
        Image.new("L", (1, 1)).save(file)
    elif kind == "mode":
        Image.new(rng.choice(("1", "RGBA", "P", "I;16", "F", "CMYK")), (16, 16)).save(file.with_suffix(".tiff"))
        file.unlink()
    elif kind == "text":
        file.write_text("no image")
    elif kind == "bomb":
        content = bytearray(file.read_bytes())
        content[16:24] = (100_000).to_bytes(4, "big") * 2  # the header says so
        file.write_bytes(content)
    elif kind == "names":
        file.parent.rename(file.parent.with_name("x\x1b[2J\n"))
    elif kind == "class":
        (file.parent.parent / "more").mkdir()
    elif kind == "empty class":
        for other in file.parent.iterdir():
            other.unlink()
    elif kind == "link":
        file.unlink()
        file.symlink_to(rng.choice((str(outside), "/dev/zero", file.name, ".")))
    elif kind == "long name":
        file.rename(file.with_name("n" * 240 + ".png"))
    else:
        Image.new("L", (5000, 1)).save(file)
    return f"pictures: {kind}"
