"""Options of `train` that are about its recipes, and about the files that it keeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from lsq_export.training.distributed import Processes
    from lsq_export.training.fit import Recipe
    from lsq_export.training.log import Histories
    from lsq_export.training.run import Run

F = TypeVar("F", bound=Callable[..., Any])
SUFFIX = ".safetensors"
BOTH = ("batch_size", "optimizer", "schedule", "label_smoothing", "ema")
LOW_BIT = ("grid_lr", "offset_lr", "distill", "temperature")
FRACTION = click.FloatRange(0, 1, max_open=True)


def recipe_options(command: F) -> F:
    """How to train. Those that an option says nothing of have the values of the recipe of optimizer and phase."""
    for decorate in reversed(
        (
            click.option(
                "--optimizer",
                type=click.Choice(["sgd", "adam"]),
                default="sgd",
                help="SGD with Nesterov momentum, or AdamW; of both phases.",
            ),
            click.option(
                "--schedule",
                type=click.Choice(["cosine", "one-cycle"]),
                default="cosine",
                help="Of the learning rate, in both phases.",
            ),
            click.option(
                "--grid-lr",
                type=click.FloatRange(0),
                help="Factor on --lr for scales and offsets.  [default: the recipe's]",
            ),
            click.option(
                "--offset-lr", type=click.FloatRange(0), help="Factor on --lr for offsets alone.  [default: --grid-lr]"
            ),
            click.option(
                "--label-smoothing", type=FRACTION, default=0.0, help="Share of the target that all classes get evenly."
            ),
            click.option(
                "--ema",
                type=FRACTION,
                default=0.0,
                metavar="DECAY",
                help="Test and keep an average over the steps' parameters; 0.99, say. 0: off.",
            ),
            click.option(
                "--distill",
                type=click.FloatRange(0, 1),
                default=0.0,
                is_flag=False,
                flag_value=0.5,
                metavar="[WEIGHT]",
                help="Learn from the float model's logits as well, with this weight (0.5 without a number); 0: off.",
            ),
            click.option("--temperature", type=click.FloatRange(0, min_open=True), default=1.0, help="Of --distill."),
        )
    ):
        command = decorate(command)
    return command


def recipes(options: dict[str, Any]) -> tuple[Recipe, Recipe]:
    """(float recipe, low-bit recipe); takes their options out of `options`."""
    from lsq_export.training.fit import FINETUNE, FINETUNE_ADAM, PRETRAIN, PRETRAIN_ADAM

    bases = (PRETRAIN_ADAM, FINETUNE_ADAM) if options["optimizer"] == "adam" else (PRETRAIN, FINETUNE)
    given = {name: options.pop(name) for name in (*BOTH, *LOW_BIT) if name in options}
    own = [{"epochs": options.pop(f"{phase}epochs"), "lr": options.pop(f"{phase}lr")} for phase in ("float_", "")]
    own[0].update({name: value for name, value in given.items() if name in BOTH})
    own[1].update(given)
    found = [
        replace(base, **{name: value for name, value in values.items() if value is not None})
        for base, values in zip(bases, own, strict=True)
    ]
    return found[0], found[1]


def keeping_options(command: F) -> F:
    """What is kept while it trains."""
    for decorate in reversed(
        (
            click.option(
                "--resume", is_flag=True, help="Continue the run that was interrupted: the same command with --resume."
            ),
            click.option(
                "--save-every",
                type=click.IntRange(0),
                default=0,
                metavar="STEPS",
                help="Also keep the state to resume from after so many steps.",
            ),
            click.option(
                "--log",
                type=click.Path(path_type=Path, dir_okay=False),
                help="One line of JSON per epoch.  [default: OUT.jsonl]",
            ),
            click.option(
                "--curve",
                type=click.Path(path_type=Path, dir_okay=False),
                help="Loss and accuracy, .svg or .png; needs matplotlib.  [default: OUT.svg, if it is installed]",
            ),
        )
    ):
        command = decorate(command)
    return command


@dataclass(frozen=True)
class Files:
    """What a run writes. Without .safetensors at the end of --out: OUT.state.safetensors, OUT.jsonl, OUT.svg."""

    out: Path
    log: Path
    curve: Path
    curve_wanted: bool
    every: int
    force: bool
    resume: bool

    @classmethod
    def take(cls, options: dict[str, Any]) -> Files:
        """From the options, which lose theirs."""
        out, log, curve = (options.pop(name) for name in ("out", "log", "curve"))
        every, force, resume = (options.pop(name) for name in ("save_every", "force", "resume"))
        return cls(
            out, log or _beside(out, ".jsonl"), curve or _beside(out, ".svg"), curve is not None, every, force, resume
        )

    @property
    def state(self) -> Path:
        """Where the state is as long as the run is not complete."""
        return _beside(self.out, f".state{SUFFIX}")

    def check(self, float_out: Path | None) -> None:
        """Before hours of training, not after. Errors (click.UsageError)."""
        if self.force and self.resume:
            raise click.UsageError("--resume continues a run and --force starts anew: give one of them")
        named = {"--out": self.out, "--log": self.log, "--curve": self.curve, "--float-out": float_out}
        places = [path.resolve() for path in (*named.values(), self.state) if path is not None]
        if len(set(places)) < len(places):
            raise click.UsageError(
                f"{', '.join(named)} and {self.state.name} must be different files: give other names"
            )
        for option, path in named.items():
            if path is not None and path.exists() and not (self.force or self.resume):
                if self._interrupted():
                    break
                raise click.UsageError(f"{option} {path} exists: give another name, or --force to overwrite it")
            if path is not None and not path.parent.is_dir():
                raise click.UsageError(f"{option} {path}: the directory {path.parent} does not exist; create it first")
        if self.state.exists() and not (self.force or self.resume):
            what = (
                "a run was interrupted here: --resume continues it"
                if self._interrupted()
                else "it is no state of a run: give --out another name"
            )
            raise click.UsageError(f"{self.state} exists: {what}, --force starts anew")
        self._check_curve()

    def run(self, identity: dict[str, Any], processes: Processes) -> Run:
        """States and log of this run; with --resume, of the one that was interrupted."""
        from lsq_export.files.atomic import sweep
        from lsq_export.training.log import Log
        from lsq_export.training.run import Run
        from lsq_export.training.state import StateFile

        file = StateFile(self.state, identity)
        found = Run(file, Log(self.log), every=self.every, resume=self.resume, writes=processes.first)
        processes.sums(0.0)  # all have read it
        if processes.first:
            if not self.resume:
                file.remove()  # asked for with --force
            sweep(self.out)
        return found

    def draw(self, histories: Histories, title: str) -> None:
        """The curve, if an epoch was trained and matplotlib is there."""
        from lsq_export.training import curve

        if not histories:
            return
        if curve.available():
            curve.draw(histories, self.curve, title)
        else:
            click.echo(f"no curve without matplotlib: {curve.EXTRA}", err=True)

    def say_resume(self, processes: Processes) -> None:
        """After Ctrl-C."""
        if processes.first and self.state.exists():
            click.echo(f"{self.state} holds the state: the same command with --resume continues", err=True)

    def _interrupted(self) -> bool:
        from lsq_export.training.state import is_state

        return self.state.exists() and is_state(self.state)

    def _check_curve(self) -> None:
        from lsq_export.training import curve

        if self.curve.suffix not in curve.SUFFIXES:
            raise click.UsageError(f"--curve {self.curve}: use a name that ends in {' or '.join(curve.SUFFIXES)}")
        if self.curve_wanted and not curve.available():
            raise click.UsageError(f"--curve {self.curve} needs matplotlib: {curve.EXTRA}")


def _beside(out: Path, suffix: str) -> Path:
    return out.with_name(out.name.removesuffix(SUFFIX) + suffix)
