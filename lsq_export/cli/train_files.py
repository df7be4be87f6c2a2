"""The files that `lsq-export train` writes and keeps while it trains."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import click

from .options import Command, Count, FilePath, apply_options
from .output import check_new, say

if TYPE_CHECKING:
    from lsq_export.training.distributed import Processes
    from lsq_export.training.log import Histories
    from lsq_export.training.run import Run

SUFFIX = ".safetensors"


def keeping_options(command: Command) -> Command:
    """What is kept during the training."""
    return apply_options(
        command,
        click.option(
            "--resume",
            is_flag=True,
            help="Continue the run that was interrupted: give the same command, and --resume.",
        ),
        click.option(
            "--save-every",
            type=Count(0),
            default=0,
            metavar="STEPS",
            help="Keep the state to resume from every STEPS steps, too, not only after epochs.",
        ),
        click.option(
            "--log",
            type=FilePath(path_type=Path, dir_okay=False),
            help="Write one line of JSON per epoch to this file.  [default: OUT.jsonl]",
        ),
        click.option(
            "--curve",
            type=FilePath(path_type=Path, dir_okay=False),
            help="Draw loss and accuracy as .svg or .png; needs matplotlib.  [default: OUT.svg, if it is installed]",
        ),
    )


class Interrupted(click.Abort):
    """Ctrl-C. Its text says what is kept."""


@dataclass(frozen=True, kw_only=True)
class Files:
    """What a run writes. The names of OUT.state.safetensors, OUT.jsonl and OUT.svg leave out .safetensors of --out."""

    OPTIONS: ClassVar = ("out", "log", "curve", "save_every", "force", "resume")

    out: Path
    log: Path
    curve: Path
    curve_wanted: bool
    save_every: int
    force: bool
    resume: bool

    @classmethod
    def take(cls, options: dict[str, Any]) -> Files:
        """From the options, which lose theirs."""
        out, log, curve = (options.pop(name) for name in ("out", "log", "curve"))
        return cls(
            out=out,
            log=log or _beside(out, ".jsonl"),
            curve=curve or _beside(out, ".svg"),
            curve_wanted=curve is not None,
            **{name: options.pop(name) for name in ("save_every", "force", "resume")},
        )

    @property
    def kept_threads(self) -> int | None:
        """With --resume: the threads of the run that was interrupted. Its bits depend on them."""
        from lsq_export.training.state import kept_in

        threads = kept_in(self.state, "threads") if self.resume else None
        return threads if type(threads) is int and threads > 0 else None

    @property
    def state(self) -> Path:
        """Where the state is as long as the run is not complete."""
        return _beside(self.out, f".state{SUFFIX}")

    def check(self, float_out: Path | None) -> None:
        """Check all names before hours of training. Errors (click.UsageError)."""
        if self.force and self.resume:
            raise click.UsageError("--resume continues a run and --force starts anew: give one of them")
        named = {"--out": self.out, "--log": self.log, "--curve": self.curve, "--float-out": float_out}
        places = [path.resolve() for path in (*named.values(), self.state) if path is not None]
        if len(set(places)) < len(places):
            raise click.UsageError(
                f"{', '.join(named)} and {self.state.name} must be different files: give other names"
            )
        for option, path in (("--out", self.out), ("--float-out", float_out)):
            if path is not None and path.suffix != SUFFIX:
                raise click.UsageError(
                    f"{option} {path}: checkpoints are safetensors files, use {path.with_suffix(SUFFIX).name}"
                )
        for option, path in named.items():
            if path is not None and path.exists() and not (self.force or self.resume):
                if self._interrupted():
                    break
                raise click.UsageError(f"{option} {path} exists: give another name, or --force to overwrite it")
            if path is not None and not path.parent.is_dir():
                raise click.UsageError(f"{option} {path}: the directory {path.parent} does not exist; create it first")
            if path is not None and not os.access(path.parent, os.W_OK | os.X_OK):
                raise click.UsageError(f"{option} {path}: the directory {path.parent} is not writable; give another")
            if path is not None:
                check_new(option, path)
        if self.state.exists() and not (self.force or self.resume):
            what = (
                "a run was interrupted here: --resume continues it"
                if self._interrupted()
                else "it is no state of a run: give --out another name"
            )
            raise click.UsageError(f"{self.state} exists: {what}, --force starts anew")
        self._check_curve()

    def check_start(self, start: Path | None, float_out: Path | None) -> None:
        """Whether the float checkpoint is none of the files that are written. Errors (click.UsageError)."""
        for path in (self.out, self.log, self.curve, self.state, float_out):
            if start is not None and path is not None and path.exists() and start.exists() and path.samefile(start):
                raise click.UsageError(f"{path} is the float checkpoint itself, and would be lost: give another name")

    def run(self, identity: dict[str, Any], processes: Processes, float_out: Path | None = None) -> Run:
        """State and log of this run; with --resume, of the one that was interrupted. What a kill left is swept."""
        from lsq_export.files.atomic import sweep
        from lsq_export.training.log import Log
        from lsq_export.training.run import Run
        from lsq_export.training.state import StateFile

        file = StateFile(self.state, identity)
        run = Run(file, Log(self.log), every=self.save_every, resume=self.resume, writes=processes.first)
        processes.sums(0.0)  # Every process has read the files before the first one changes them.
        if processes.first:
            if not self.resume:
                file.remove()  # --force asks for it.
            for path in (self.out, self.log, self.curve, self.state, *([float_out] if float_out else [])):
                sweep(path)
        return run

    def draw(self, histories: Histories, title: str) -> None:
        """Draw the curve, if an epoch was trained and matplotlib is installed."""
        from lsq_export.training import curve

        if not histories:
            return
        if curve.available():
            curve.draw(histories, self.curve, title)
        else:
            say(f"no curve without matplotlib: {curve.EXTRA}", err=True)

    def interruption(self, written: int = 0) -> Interrupted:
        """Ctrl-C: what is kept, and how to go on. written: low-bit epochs after which --out was written, if known."""
        from lsq_export.training.state import standing

        kept = standing(self.state)
        if kept is None:
            return Interrupted("interrupted; no epoch was complete, so nothing is kept")
        phase, done, epochs = kept
        done, text = max(done, written), "no epoch was complete"
        if done and phase == "low-bit":
            text = f"epoch {done} of {epochs} is kept in {self.out}"
        elif done:
            text = f"epoch {done} of {epochs} of the float training is kept in {self.state}"
        return Interrupted(f"interrupted; {text}: the same command with --resume continues, --force starts anew")

    def _interrupted(self) -> bool:
        if not self.state.exists():
            return False
        from lsq_export.training.state import is_state

        return is_state(self.state)

    def _check_curve(self) -> None:
        from lsq_export.training import curve

        if self.curve.suffix not in curve.SUFFIXES:
            raise click.UsageError(f"--curve {self.curve}: use a name that ends in {' or '.join(curve.SUFFIXES)}")
        if self.curve_wanted and not curve.available():
            raise click.UsageError(f"--curve {self.curve} needs matplotlib: {curve.EXTRA}")


def _beside(out: Path, suffix: str) -> Path:
    return out.with_name(out.name.removesuffix(SUFFIX) + suffix)
