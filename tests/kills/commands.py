"""The commands that are killed, what has to be there after it, and how the next run goes on."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

import lsq_export
from calib.errors import QuantizationError
from lsq_export import pipeline
from lsq_export.bundle.sums import changed_files
from lsq_export.graph.capture import capture
from lsq_export.training import checkpoint
from lsq_export.training.state import is_state
from support.commands import TINY_DIGITS
from support.exported import images, prepared, save

from .processes import Ended, Fate, run

TRAIN = [*TINY_DIGITS, "--epochs", "1", "--float-epochs", "1", "--threads", "1", "--batch-size", "256"]


@dataclass(frozen=True, kw_only=True)
class Command:
    """One command in a folder of its own.

    prepare(folder): puts there what was before. check(folder): yields what is wrong after a kill, in words. again: the
    next run, if it has other arguments. bundle: what the next `verify` looks at, if it is there. files: what is in the
    folder after the next run. codes: of a run that ends well. share:
    of all kills, against that of other commands. ignored: files that need not be there.
    """

    name: str
    arguments: tuple[str, ...]
    prepare: Callable[[Path], object]
    check: Callable[[Path], Iterator[str]]
    files: frozenset[str]
    again: Callable[[Path], tuple[str, ...]] | None = None
    bundle: str | None = None
    cwd: str = "."
    codes: tuple[int, ...] = (0,)
    two_steps: bool = False
    share: float = 1
    ignored: frozenset[str] = field(default_factory=frozenset)

    def run(self, folder: Path, fate: Fate, *, again: bool = False) -> Ended:
        """In a process of its own."""
        arguments = self.again(folder) if again and self.again else self.arguments
        return run(list(arguments), folder / self.cwd, fate, two_steps=self.two_steps)


def make_base(base: Path) -> None:
    """Checkpoints of two networks that are equal but for their weights, data, and the bundles of both."""
    base.mkdir()
    x, y = images(seed=0)
    np.savez(base / "data.npz", x_train=x.numpy(), y_train=y.numpy(), x_test=x.numpy(), y_test=y.numpy())
    far = 40 * x.numpy()
    np.savez(base / "far.npz", x_train=far, y_train=y.numpy(), x_test=far, y_test=y.numpy())
    for seed, name in enumerate(("old", "new")):
        save(prepared(seed), base / f"{name}.safetensors", f"npz:{base / 'data.npz'}")
        ended = run(["export", f"{name}.safetensors", "--out", name], base, Fate())
        assert ended.code == 0, ended.output


@contextmanager
def captured_once(base: Path) -> Iterator[None]:
    """Exports of the new network take the graph that is captured here, which saves most of their time."""
    model, about = checkpoint.restore(base / "new.safetensors")
    captured = capture(model, torch.zeros(1, *about.input_shape))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "capture", lambda model, example: captured)  # each process has a copy of its own
        yield


def commands(base: Path) -> list[Command]:
    """All of them. base: what `make_base` made."""
    new, data = str(base / "new.safetensors"), f"npz:{base / 'data.npz'}"
    bundle = frozenset(str(path.relative_to(base / "new")) for path in (base / "new").rglob("*") if path.is_file())
    inside = frozenset(f"out/{name}" for name in bundle)
    export = ("export", new, "--out", "out")
    force = (*export, "--force")

    def old(folder: Path) -> None:
        shutil.copytree(base / "old", folder / "out")

    def sound(folder: Path) -> Iterator[str]:
        yield from _unsound(folder / "out", base, ("old", "new"))

    def first(folder: Path) -> Iterator[str]:
        if (folder / "out" / "manifest.json").exists():
            yield from _unsound(folder / "out", base, ("new",))

    def moved(folder: Path) -> Iterator[str]:
        aside = next(folder.glob(".out.*.old"), None)
        yield from _unsound(folder / "out" if (folder / "out").exists() or not aside else aside, base, ("old", "new"))

    def anew(folder: Path) -> tuple[str, ...]:
        return force if (folder / "out").exists() else export

    def here(folder: Path) -> tuple[str, ...]:
        done = (folder / "out" / "manifest.json").exists()
        return ("verify", ".") if done else ("export", new, "--out", ".")

    drift = (
        "drift",
        new,
        "--data",
        f"npz:{base / 'far.npz'}",
        "--against",
        data,
        "--reinit",
        "grids.safetensors",
        "--force",
    )
    return [
        Command(
            name="export",
            arguments=export,
            prepare=lambda folder: None,
            check=first,
            again=anew,
            files=inside,
            bundle="out",
        ),
        Command(name="export --force", arguments=force, prepare=old, check=sound, files=inside, bundle="out"),
        Command(
            name="export --force, two steps",
            arguments=force,
            prepare=old,
            check=moved,
            again=anew,
            files=inside,
            bundle="out",
            two_steps=True,
        ),
        Command(
            name="export --out .",
            arguments=("export", new, "--out", "."),
            cwd="out",
            prepare=lambda folder: (folder / "out").mkdir(),
            check=first,
            again=here,
            files=inside,
            bundle="out",
        ),
        Command(
            name="verify",
            share=2.5,
            arguments=("verify", "out", "--data", data),
            prepare=old,
            check=sound,
            files=inside,
            bundle="out",
        ),
        Command(
            name="report", share=2.5, arguments=("report", "out"), prepare=old, check=sound, files=inside, bundle="out"
        ),
        Command(
            name="drift --reinit",
            arguments=drift,
            prepare=lambda folder: shutil.copy(base / "old.safetensors", folder / "grids.safetensors"),
            check=_checkpoint("grids"),
            files=frozenset({"grids.safetensors"}),
            codes=(0, 1),
        ),
        Command(
            name="train",
            arguments=("train", *TRAIN, "--out", "net.safetensors"),
            prepare=lambda folder: None,
            check=_checkpoint("net"),
            again=_resumed,
            files=frozenset({"net.safetensors", "net.jsonl"}),
            ignored=frozenset({"net.svg"}),
        ),
    ]


def _unsound(directory: Path, base: Path, allowed: tuple[str, ...]) -> Iterator[str]:
    """What is wrong with a bundle that has to be whole: one of those."""
    try:
        changed = changed_files(lsq_export.open_bundle(directory))
    except QuantizationError as error:
        yield f"no bundle: {error}"
        return
    if changed:
        yield f"{', '.join(changed)} not what SHA256SUMS says"
    if (directory / "manifest.json").read_bytes() not in [
        (base / name / "manifest.json").read_bytes() for name in allowed
    ]:
        yield "neither the old bundle nor the new one"


def _checkpoint(name: str) -> Callable[[Path], Iterator[str]]:
    """What is wrong with the checkpoint, and with the state beside it, as far as they are there."""

    def check(folder: Path) -> Iterator[str]:
        path, state = (folder / f"{name}{suffix}.safetensors" for suffix in ("", ".state"))
        if path.exists():
            try:
                checkpoint.restore(path)
            except QuantizationError as error:
                yield str(error)
        if state.exists() and not is_state(state):
            yield f"{state.name} is no state"

    return check


def _resumed(folder: Path) -> tuple[str, ...]:
    how = "--resume" if (folder / "net.state.safetensors").exists() else "--force"
    return ("train", *TRAIN, "--out", "net.safetensors", how)
