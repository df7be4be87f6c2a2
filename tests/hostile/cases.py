"""One case: sound files of the base, copied, one thing of them changed, and a command that reads them."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lsq_export.bundle.sums import write_sums

from . import arrays, bytes_, json_, onnx_
from .base import ARRAYS, BUNDLE, CHECKPOINT, KEY, PICTURES, WEB

READERS = ("verify", "verify", "verify", "inspect", "report", "bench", "page", "sign")
OUTSIDE = "outside"  # a file beside the case, which nothing may read or change


@dataclass(frozen=True)
class Case:
    """kind: what was changed. arguments: of the command."""

    kind: str
    arguments: tuple[str, ...]


Make = Callable[[Path, Path, random.Random], Case]


def make_case(seed: int, base: Path, folder: Path) -> Case:
    """The case of a seed, in an empty folder."""
    rng = random.Random(seed)
    while True:
        make = rng.choices([family for family, _ in FAMILIES], [weight for _, weight in FAMILIES])[0]
        try:
            case = make(base, folder, rng)
        except Exception:  # what cannot be done to this file: something else is
            case = None
        if case is not None and not _is_sound(base, folder):
            return case
        shutil.rmtree(folder)
        folder.mkdir()


def _is_sound(base: Path, folder: Path) -> bool:
    """Whether all files are those of the base after all."""
    for path in folder.rglob("*"):
        original = base / path.relative_to(folder)
        if path.is_symlink() or (path.exists() and not path.is_file() and not path.is_dir()):
            return False
        if path.is_file() and (not original.is_file() or path.read_bytes() != original.read_bytes()):
            return False
    for folder_of in (BUNDLE, PICTURES):
        if (folder / folder_of).exists() and _count(folder / folder_of) != _count(base / folder_of):
            return False
    return True


def _count(folder: Path) -> int:
    return sum(1 for _ in folder.rglob("*"))


def _bundle(base: Path, folder: Path) -> Path:
    shutil.copytree(base / BUNDLE, folder / BUNDLE)
    return folder / BUNDLE


def _read(base: Path, bundle: Path, rng: random.Random, kind: str) -> Case:
    command = rng.choice(READERS)
    options = {
        "verify": ("--no-write", "--images", "4"),
        "bench": ("--runs", "1", "--warmup", "0", "--pause", "0"),
        "page": _page(bundle.parent, base / WEB),
        "sign": ("--key", str(base / KEY)),
    }
    more = ("--no-details", "--threads", "1") if command == "bench" else ()
    if command == "verify" and rng.random() < 0.2:
        options["verify"] = ("--images", "4")
    return Case(kind, (command, str(bundle), *options.get(command, ()), *more))


def _page(folder: Path, package: Path) -> tuple[str, ...]:
    return "--out", str(folder / "page"), "--onnxruntime-web", str(package)


def _files(bundle: Path) -> list[Path]:
    return sorted(path for path in bundle.rglob("*") if path.is_file())


def stale(base: Path, folder: Path, rng: random.Random) -> Case:
    """Damaged after its sums were made."""
    bundle = _bundle(base, folder)
    file = rng.choice(_files(bundle))
    name = file.relative_to(bundle)
    what = bytes_.damage(file, rng) if rng.random() < 0.7 else bytes_.replace(file, rng, base / OUTSIDE)
    return _read(base, bundle, rng, f"old sums, {name}: {what}")


def forged(base: Path, folder: Path, rng: random.Random) -> Case:
    """Changed, and the sums with it."""
    bundle = _bundle(base, folder)
    file = rng.choice([path for path in _files(bundle) if path.name != "SHA256SUMS"])
    if file.suffix == ".json" and rng.random() < 0.9:
        text, what = json_.damage(file.read_text(), rng)
        file.write_text(text)
    elif file.suffix == ".onnx" and rng.random() < 0.8:
        what = onnx_.damage(file, rng)
    else:
        what = bytes_.damage(file, rng)
    write_sums(bundle)
    return _read(base, bundle, rng, f"new sums, {file.relative_to(bundle)}: {what}")


def manifest(base: Path, folder: Path, rng: random.Random) -> Case:
    """The manifest or the parity changed, and the sums with them."""
    bundle = _bundle(base, folder)
    file = bundle / rng.choice(("manifest.json", "manifest.json", "parity.json"))
    text, what = json_.damage(file.read_text(), rng)
    file.write_text(text)
    write_sums(bundle)
    return _read(base, bundle, rng, f"new sums, {file.name}: {what}")


def graphs(base: Path, folder: Path, rng: random.Random) -> Case:
    """A graph changed, and the sums with it."""
    bundle = _bundle(base, folder)
    file = rng.choice(sorted(bundle.rglob("*.onnx")))
    what = onnx_.damage(file, rng)
    write_sums(bundle)
    return _read(base, bundle, rng, f"new sums, {file.relative_to(bundle)}: {what}")


def swapped(base: Path, folder: Path, rng: random.Random) -> Case:
    """Two files in each other's place."""
    bundle = _bundle(base, folder)
    suffix = rng.choice((".onnx", ".onnx", ".pb", ".json"))
    one, other = rng.sample([path for path in _files(bundle) if path.suffix == suffix], 2)
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    if fresh := rng.random() < 0.7:
        write_sums(bundle)
    kind = f"{'new' if fresh else 'old'} sums, swapped: {' and '.join(sorted((one.name, other.name)))}"
    return _read(base, bundle, rng, kind)


def sums(base: Path, folder: Path, rng: random.Random) -> Case:
    """SHA256SUMS itself."""
    bundle = _bundle(base, folder)
    path = bundle / "SHA256SUMS"
    lines = path.read_text().splitlines(True)
    at, kind = (
        rng.randrange(len(lines)),
        rng.choice(("remove", "twice", "digest", "outside", "absolute", "name", "order")),
    )
    name = lines[at][66:].strip()
    if kind == "remove":
        del lines[at]
        kind = f"remove {name}"
    elif kind == "twice":
        lines.append(lines[at])
    elif kind == "digest":
        lines[at] = f"{'0' * rng.choice((1, 63, 64, 65))}  {name}\n"
    elif kind == "outside":
        lines.append(f"{'0' * 64}  ../../{OUTSIDE}\n")
    elif kind == "absolute":
        place = rng.choice(("/etc/hostname", "/dev/zero", ".", "", "a\0b", "x" * 300))
        lines.append(f"{'0' * 64}  {place}\n")
    elif kind == "name":
        lines[at] = lines[at].replace(name, f"{name}\x1b[2J")
    else:
        rng.shuffle(lines)
    path.write_text("".join(lines))
    return _read(base, bundle, rng, f"sums: {kind}")


def lone_graph(base: Path, folder: Path, rng: random.Random) -> Case:
    """One ONNX file for `inspect` and `lint`."""
    source = rng.choice(sorted((base / BUNDLE).rglob("*.onnx")))
    path = folder / "model.onnx"
    shutil.copy(source, path)
    what = onnx_.damage(path, rng) if rng.random() < 0.7 else bytes_.damage(path, rng)
    command = rng.choice((("inspect",), ("lint", "--target", "all")))
    return Case(f"ONNX file: {what}", (*command, str(path), *(("--json",) if rng.random() < 0.3 else ())))


def checkpoint(base: Path, folder: Path, rng: random.Random) -> Case:
    """A checkpoint for `export`, `drift`, `folds` and `bench`."""
    path = folder / CHECKPOINT
    shutil.copy(base / CHECKPOINT, path)
    what = arrays.damage_checkpoint(path, rng) if rng.random() < 0.6 else f"checkpoint: {bytes_.damage(path, rng)}"
    out = ("--out", str(folder / "out"))
    command = rng.choice((("drift",), ("drift",), ("folds",), ("export", *out), ("inspect",), ("verify",)))
    data = ("--data", f"npz:{base / ARRAYS}") if command[0] in ("drift", "folds", "export") else ()
    against = ("--against", f"npz:{base / ARRAYS}") if command[0] == "drift" else ()
    return Case(what, (command[0], str(path), *command[1:], *data, *against))


def data(base: Path, folder: Path, rng: random.Random) -> Case:
    """Arrays for `verify` and `drift`."""
    path = folder / ARRAYS
    shutil.copy(base / ARRAYS, path)
    what = arrays.damage_arrays(path, rng) if rng.random() < 0.8 else f"npz: {bytes_.damage(path, rng)}"
    return _with_data(base, folder, rng, what, f"npz:{path}")


def pictures(base: Path, folder: Path, rng: random.Random) -> Case:
    """A folder of images for `verify` and `drift`."""
    path = folder / PICTURES
    shutil.copytree(base / PICTURES, path)
    if rng.random() < 0.7:
        what = arrays.damage_pictures(path, rng, base / OUTSIDE)
    else:
        what = f"pictures: {bytes_.damage(rng.choice(sorted(path.rglob('*.png'))), rng)}"
    return _with_data(base, folder, rng, what, f"imagefolder:{path}")


def key(base: Path, folder: Path, rng: random.Random) -> Case:
    """A secret key for `sign`."""
    path = folder / KEY
    shutil.copy(base / KEY, path)
    what = bytes_.damage(path, rng) if rng.random() < 0.8 else bytes_.replace(path, rng, base / OUTSIDE)
    return Case(f"key: {what}", ("sign", str(_bundle(base, folder)), "--key", str(path)))


def web(base: Path, folder: Path, rng: random.Random) -> Case:
    """A package of onnxruntime-web for `page`."""
    package = folder / WEB
    shutil.copytree(base / WEB, package)
    file = rng.choice(_files(package))
    if file.suffix == ".json" and rng.random() < 0.6:
        text, what = json_.damage(file.read_text(), rng)
        file.write_text(text)
    else:
        what = bytes_.damage(file, rng) if rng.random() < 0.5 else bytes_.replace(file, rng, base / OUTSIDE)
    return Case(f"package, {file.name}: {what}", ("page", str(_bundle(base, folder)), *_page(folder, package)))


def _with_data(base: Path, folder: Path, rng: random.Random, what: str, spec: str) -> Case:
    if rng.random() < 0.5:
        return Case(what, ("drift", str(base / CHECKPOINT), "--data", spec, "--against", f"npz:{base / ARRAYS}"))
    bundle = _bundle(base, folder)
    return Case(what, ("verify", str(bundle), "--no-write", "--data", spec))


FAMILIES: tuple[tuple[Make, float], ...] = (
    *((stale, 3), (forged, 3), (manifest, 4), (graphs, 4), (swapped, 1), (sums, 1)),
    *((lone_graph, 2), (checkpoint, 2), (data, 2), (pictures, 1)),
    *((key, 1), (web, 1)),
)
