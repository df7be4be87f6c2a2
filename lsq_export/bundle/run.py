"""Run the network of this directory: python run.py [FILE …] [--format NAME] [--prepared]

FILE is an image, a folder of images, or a .npy array as the data are before preprocessing: [H, W], [H, W, C], or the
shape of the input without its batch. With --prepared it is the input itself, a .npy that is preprocessed already.
Of a network with several inputs it is a .npz with each of them by its name, prepared, without the batch.
Without FILE, the sample that came with the network is run and held against what has to come out.

Needs numpy and onnxruntime, and Pillow for images of yours. Exit code 0: done, 1: the sample came out wrong, 2: bad
input, 141: the reader of the output has gone.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

TOP = 5  # classes that are shown
ROUNDING, LEAST = 1e-5, 20.0  # what float operators round otherwise, of the largest output; dB, where codes flip
STEPS = ("resize", "interpolation", "crop", "divide_by", "mean", "std")  # in this order; one that is null is left out
SUFFIXES = (".npy", ".npz", ".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
NAMES = ("data", "classes")  # in the preprocessing of manifest.json, and no steps


def fits(found: Sequence[int], shape: Sequence[Any]) -> bool:
    """Whether an array has this shape, in which names are sizes that vary."""
    return len(found) == len(shape) and all(isinstance(b, str) or a == b for a, b in zip(found, shape, strict=True))


def preprocess(source: np.ndarray, how: Mapping[str, Any], shape: Sequence[int]) -> np.ndarray:
    """Do what `preprocessing` of manifest.json says: float32 of `shape`, the input's without its batch."""
    if unknown := sorted(set(how) - {*STEPS, *NAMES}):
        raise ValueError(f"preprocessing has {unknown[0]!r}, which run.py does not know: use --prepared")
    step = {key: value for key, value in how.items() if value is not None}
    x = source
    if "resize" in step:
        x = resized(x, step["resize"], step.get("interpolation", "bilinear"))
    if "crop" in step:  # of the center
        top, left = ((side - step["crop"]) // 2 for side in x.shape[:2])
        x = x[top : top + step["crop"], left : left + step["crop"]]
    if len(shape) == 3 and not fits(x.shape, shape):  # [H, W] or [H, W, C] -> [C, H, W]
        x = x[None] if x.ndim == 2 else np.moveaxis(x, -1, 0)
        x = np.repeat(x, shape[0], axis=0) if len(x) == 1 else x
    if not fits(x.shape, shape):
        raise ValueError(f"an array {list(source.shape)} becomes {list(x.shape)}, but the input is {list(shape)}")
    channel = (-1, *[1] * (len(shape) - 1))
    x = x.astype(np.float32) / np.float32(step.get("divide_by", 1))
    x = x - np.array(step.get("mean", 0), np.float32).reshape(channel)
    return np.ascontiguousarray(x / np.array(step.get("std", 1), np.float32).reshape(channel))


def resized(x: np.ndarray, size: int | Sequence[int], interpolation: str) -> np.ndarray:
    """To [height, width], or the shorter side to one number. Pixels (uint8) by Pillow, other arrays bilinearly."""
    if isinstance(size, int):
        size = [max(size, round(side * (size / min(x.shape[:2])))) for side in x.shape[:2]]
    if x.dtype == np.uint8:
        from PIL import Image

        if interpolation.upper() in Image.Resampling.__members__:
            return np.asarray(Image.fromarray(x).resize((size[1], size[0]), Image.Resampling[interpolation.upper()]))
    if interpolation != "bilinear":
        raise ValueError(f"the interpolation {interpolation} is unknown for arrays of {x.dtype}")
    for axis in (0, 1):
        old, new = x.shape[axis], size[axis]
        at = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)  # where the centers of the new pixels lie
        low = at.astype(int)
        part = (at - low).astype(np.float32).reshape(-1, *[1] * (x.ndim - 1 - axis))
        x = x.take(low, axis) * (1 - part) + x.take(np.minimum(low + 1, old - 1), axis) * part
    return x


def several(path: Path, manifest: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """A .npz -> the inputs by name, without their batch."""
    if path.suffix != ".npz":
        raise ValueError(f"{path}: the network takes {len(manifest['inputs'])} inputs, give them as a .npz by name")
    found = {}
    with np.load(path, allow_pickle=False) as arrays:
        for entry in manifest["inputs"]:
            name, shape = entry["name"], entry["shape"][1:]
            if name not in arrays.files:
                raise ValueError(f"{path} lacks the input {name}; it has {', '.join(arrays.files)}")
            x = arrays[name]
            if not fits(x.shape, shape):
                raise ValueError(f"{path}: {name} is {list(x.shape)}, but the input is {shape}")
            found[name] = x.astype(entry["type"])
    return found


def read(path: Path, manifest: Mapping[str, Any], prepared: bool) -> Any:
    """A file -> the input of the network, without its batch; {name: input} of several."""
    if "inputs" in manifest:
        return several(path, manifest)
    shape, how = manifest["input"]["shape"][1:], {} if prepared else manifest["preprocessing"]
    if how is None:
        raise ValueError("manifest.json has no preprocessing: give the input itself, a .npy, and --prepared")
    if path.suffix == ".npy":
        return preprocess(np.load(path, allow_pickle=False), how, shape)
    from PIL import Image

    with Image.open(path) as image:
        if not prepared and manifest["sample"]["file"].endswith(".npy") and not manifest["sample"]["prepared"]:
            print("note: this network knows arrays like the sample; are pixels the same?", file=sys.stderr)
        return preprocess(np.asarray(image.convert("L" if shape[0] == 1 else "RGB")), how, shape)


def files_of(paths: Sequence[Path]) -> list[Path]:
    """The files themselves, and those in folders and their folders, by name."""
    found: list[Path] = []
    for path in paths:
        inside = sorted(f for f in path.rglob("*") if f.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
        if not inside:
            raise ValueError(f"{path} holds no images and no .npy files")
        found += inside
    return found


def sample_of(bundle: Path, manifest: Mapping[str, Any]) -> Any:
    """The sample, preprocessed; without Pillow, as it was preprocessed when the bundle was made."""
    sample = manifest["sample"]
    try:
        return read(bundle / sample["file"], manifest, sample["prepared"])
    except ImportError:
        print("note: Pillow is not here, so the sample is taken as it was preprocessed", file=sys.stderr)
        return preprocess(np.load(bundle / sample["input"], allow_pickle=False), {}, manifest["input"]["shape"][1:])


def session_of(bundle: Path, name: str, manifest: Mapping[str, Any]) -> Any:
    """name: of the format."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # nothing is kept of this run, and nobody is told
    import onnxruntime

    entry, options = manifest["formats"][name], onnxruntime.SessionOptions()
    if entry["optimization"] == "disabled":
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(bundle / entry["file"], options, providers=["CPUExecutionProvider"])


def run(session: Any, manifest: Mapping[str, Any], x: Any, grids: Mapping[str, Any] | None = None) -> np.ndarray:
    """The first output, with a batch of one, as values. x: the input, or {name: input} of several."""
    inputs = x if isinstance(x, Mapping) else {manifest["input"]["name"]: x}
    batch = manifest["input"]["shape"][0]  # a name: any
    size = batch if isinstance(batch, int) else 1
    output: np.ndarray = session.run(None, {name: np.repeat(value[None], size, 0) for name, value in inputs.items()})[0]
    if grid := (grids or {}).get(session.get_outputs()[0].name):  # of the format, in manifest.json: it gives codes
        output = (output.astype(np.int32) - grid["zero_point"]).astype(np.float32) * np.float32(grid["scale"])
    return output if size == 1 else output[:1]


def plain(text: object) -> str:
    """Without anything that a terminal would obey."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in str(text))


def show(output: np.ndarray, name_of: Any, top: int) -> None:
    """Print the likeliest classes of logits [1, N], or what else the output is."""
    if output.ndim != 2 or output.size == 1 or output.dtype.kind != "f":
        print(f"output {list(output.shape)} from {output.min():.6g} to {output.max():.6g}")
        return
    powers = np.exp(output[0].astype(np.float64) - output.max())
    for number in np.argsort(-output[0], kind="stable")[:top]:
        print(f"{powers[number] / powers.sum():8.2%}  logit {output[0, number]:10.4f}  {name_of(number)}")


def judge(bundle: Path, name: str, manifest: Mapping[str, Any], output: np.ndarray, name_of: Any) -> bool:
    """Print what the sample has to give and what it gave; return whether that is good."""
    sample, good = manifest["sample"], True
    if sample["class"] is not None:
        found, label = int(output[0].argmax()), sample["label"]
        print(f"expected {name_of(sample['class'])}, found {name_of(found)}", end="; ")
        print("its label is not known" if label is None else f"labeled {name_of(label)}")
        good = found == sample["class"]
    wanted = np.load(bundle / sample["output"], allow_pickle=False)
    off = np.abs(wanted.astype(np.float64) - output.astype(np.float64))
    differing = int(np.count_nonzero(wanted != output))
    said = f", by {off.max():.3g} at most" if differing else ""
    if differing and ((name != "qdq" and not manifest["islands"]) or wanted.dtype.kind != "f"):
        good, said = False, f"{said}: they have to be THE SAME"
    elif differing and off.max() <= ROUNDING * np.abs(wanted).max():
        said += ": no more than float rounding, as expected"
    elif differing:
        parity = bundle / "parity.json"
        yardstick = json.loads(parity.read_text(encoding="utf-8") if parity.exists() else "{}").get("nudged_sqnr_db")
        least = min(LEAST, yardstick or LEAST)
        sqnr = 10 * np.log10((wanted.astype(np.float64) ** 2).sum() / (off**2).sum())
        good, said = bool(good and sqnr >= least), f"{said}: an SQNR of {sqnr:.1f} dB, {least:.1f} or more is expected"
    print(f"{differing} of {wanted.size} outputs differ from the integer reference{said}")
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="*", type=Path)
    parser.add_argument("--format", help="qoperator (the default, if it is here), qdq, or lookup if it is here")
    parser.add_argument("--prepared", action="store_true", help="FILE is preprocessed already")
    given, bundle = parser.parse_args(), Path(__file__).resolve().parent
    try:
        manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
        formats, classes = manifest["formats"], manifest["classes"]
        name = given.format or next((name for name in ("qoperator", "qdq") if name in formats), next(iter(formats)))
        if name not in formats:
            raise ValueError(f"there is no format {name!r} here: use {' or '.join(formats)}")
        session, files = session_of(bundle, name, manifest), files_of(given.file)
        grids = formats[name].get("outputs")

        def name_of(number: int) -> str:
            return plain(f"{number} ({classes[number]})" if classes and classes[number] != str(number) else number)

        right, known = 0, [path.parent.name in (classes or ()) for path in files]
        for path, has_class in zip(files, known, strict=True):
            output = run(session, manifest, read(path, manifest, given.prepared), grids)
            right += has_class and output.ndim == 2 and classes[int(output[0].argmax())] == path.parent.name
            print(plain(f"{path}, {name}" if len(files) == 1 else path), end="\n" if len(files) == 1 else "  ")
            show(output, name_of, TOP if len(files) == 1 else 1)
        if len(files) > 1 and all(known):
            print(f"{right} of {len(files)} got the class that is the name of their folder ({right / len(files):.2%})")
        if files:
            return 0
        output = run(session, manifest, sample_of(bundle, manifest), grids)
    except BrokenPipeError:
        raise
    except Exception as error:  # of files, arrays, Pillow and ONNX Runtime, in one line
        why = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, ImportError):
            why += f": pip install {'pillow' if error.name == 'PIL' else error.name}"
        print(f"error: {'manifest.json lacks ' if isinstance(error, KeyError) else ''}{plain(why)}", file=sys.stderr)
        return 2
    print(plain(f"{bundle / manifest['sample']['file']}, {name}"))
    show(output, name_of, TOP)
    return 0 if judge(bundle, name, manifest, output, name_of) else 1


def ended() -> int:
    """The exit code of main, quietly 141 where the reader of the output has gone (`python run.py DIR | head`)."""
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
        return 141
    return code


if __name__ == "__main__":
    sys.exit(ended())
