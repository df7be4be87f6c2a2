"""The sound files that are damaged: a checkpoint, its bundle, arrays and a folder of images for it, a key, and a
package of onnxruntime-web that is made up.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from lsq_export.webpage.web_runtime import MODULE, SCRIPT
from support.commands import invoke
from support.exported import SHAPE, images, prepared, save
from support.minisign_keys import SECRET

CHECKPOINT, BUNDLE, ARRAYS, PICTURES = "t.safetensors", "bundle", "data.npz", "pictures"
KEY, WEB = "secret.key", "onnxruntime-web"


def make_base(folder: Path) -> None:
    """Write them, and hold them: every command of the campaign takes them as they are."""
    x, y = images(seed=1, count=8)
    data = folder / ARRAYS
    arrays = {"x_train": x.numpy(), "y_train": y.numpy(), "x_test": x.numpy(), "y_test": y.numpy()}
    np.savez(data, **arrays)
    save(prepared(seed=0), folder / CHECKPOINT, f"npz:{data}")
    make_pictures(folder / PICTURES)
    make_key(folder / KEY)
    make_web(folder / WEB)
    done = invoke("export", folder / CHECKPOINT, "--out", folder / BUNDLE)
    assert done.exit_code == 0, done.output


def make_key(path: Path) -> None:
    """A secret key without a password."""
    path.write_text(SECRET)


def make_web(folder: Path) -> None:
    """The files of onnxruntime-web that a page takes; what is in them is for a browser."""
    (folder / "dist").mkdir(parents=True)
    (folder / "package.json").write_text('{"name": "onnxruntime-web", "version": "1.30.0"}')
    for name in (SCRIPT, MODULE):
        (folder / "dist" / name).write_bytes(name.encode() * 20)


def make_pictures(folder: Path) -> None:
    """Five classes of two gray images, in a train and a test split."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in "abcde":
            (folder / split / name).mkdir(parents=True)
            for number in range(2):
                pixels = rng.integers(0, 256, SHAPE[1:], np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{number}.png")
