"""What the choices of a quantizer's offset and of edges give: trained accuracy, cost of the fold, time. From real runs.

python -m models.recipe_table
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click

from lsq_export.cli.group import OneLineErrors
from lsq_export.cli.output import print_table

NETWORKS = ("resnet18", "efficientnet_b0", "mixnet_s", "examples.own_network:OwnNetwork")
COLUMNS = (
    *("network", "bits", "offset, edges", ">runs", ">float", ">trained", ">integer", ">lost", ">agreement"),
    *(">fold below yardstick", ">largest", ">s/epoch"),
)


@dataclass(frozen=True)
class Run:
    """One training, exported and verified on the test split. Accuracies in 0-1, decibels of the outputs' SQNR."""

    network: str
    bits: int
    offset: str
    edges: str
    seed: int
    float_accuracy: float = 0.0
    trained: float = 0.0
    integer: float = 0.0
    agreement: float = 0.0
    folded_db: float = 0.0
    nudged_db: float = 0.0
    mismatch: int = 0
    ok: bool = False
    epoch_seconds: float = 0.0
    export_seconds: float = 0.0

    @property
    def key(self) -> tuple[str, int, str, str, int]:
        return self.network, self.bits, self.offset, self.edges, self.seed


@click.command("recipe-table", cls=OneLineErrors, context_settings={"show_default": True, "max_content_width": 120})
@click.option("--networks", default=",".join(NETWORKS), metavar="NAME,…", help="Train these networks on digits.")
@click.option("--bits", default="4,3", metavar="B,…", help="Quantize weights and activations to these widths.")
@click.option(
    "--choices",
    default="real/calibrated,container/trained",
    metavar="OFFSET/EDGES,…",
    help="Compare these options of QATConfig.",
)
@click.option("--seeds", type=click.IntRange(1), default=3, help="Train with the seeds 0, 1, …")
@click.option("--epochs", type=click.IntRange(1), help="Train this many low-bit epochs.  [default: the recipe's]")
@click.option("--jobs", type=click.IntRange(1), default=1, help="Processes that run side by side, on one thread each.")
@click.option(
    "--record",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("out-recipes.jsonl"),
    help="Keep one JSON line for each run here; what is in it is not run again.",
)
def command(networks: str, bits: str, choices: str, seeds: int, epochs: int | None, jobs: int, record: Path) -> None:
    """Train, export and verify each network with each choice, and print a table of means over the seeds."""
    pairs = [tuple(choice.split("/")) for choice in choices.split(",")]
    plan = [
        [Run(network, int(width), offset, edges, seed) for width in bits.split(",") for offset, edges in pairs]
        for seed in range(seeds)
        for network in networks.split(",")
    ]
    known = {run.key for run in _read(record)}
    todo = [[run for run in group if run.key not in known] for group in plan]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(_measure, group, epochs, record) for group in todo if group]
        for future in as_completed(futures):
            for run in future.result():
                click.echo(json.dumps(asdict(run)), err=True)
    print_table("Digits; means over the seeds", COLUMNS, list(_rows(_read(record))))


def _measure(runs: list[Run], epochs: int | None, record: Path) -> list[Run]:
    """All runs of one network and seed, from one float model."""
    import torch

    from lsq_export.qat.config import QATConfig
    from lsq_export.training.fit import FINETUNE
    from lsq_export.training.job import Job, train_float

    torch.set_num_threads(1)
    recipe = replace(FINETUNE, epochs=epochs or FINETUNE.epochs)
    job = Job(runs[0].network, "digits", seed=runs[0].seed, recipe=recipe)
    data = job.load_data()
    phase = train_float(job, data)
    done = []
    for run in runs:
        config: Any = {"weight_bits": run.bits, "activation_bits": run.bits, "offset": run.offset, "edges": run.edges}
        one = replace(job, config=QATConfig(**config))
        done.append(_one(one, data, phase.model, replace(run, float_accuracy=phase.accuracy)))
        with record.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(done[-1])) + "\n")
    return done


def _one(job: Any, data: Any, float_model: Any, run: Run) -> Run:
    import torch

    from lsq_export.pipeline import export, verify
    from lsq_export.training.job import train_low_bit

    low_bit = train_low_bit(job, data, float_model)
    with tempfile.TemporaryDirectory() as directory:
        start = time.perf_counter()
        bundle = export(
            low_bit.model,
            torch.zeros(1, *data.input_shape),
            Path(directory) / "bundle",
            formats=("qoperator",),
            calibration=data.batches("train", 64, shuffle=job.seed, limit=8),
        )
        seconds = time.perf_counter() - start
        parity = verify(low_bit.model, bundle, data.batches("test", 64))
    exact = parity.formats["qoperator"]
    assert parity.trained_accuracy is not None  # the batches have targets, and the networks classes
    assert exact.accuracy is not None and exact.top1_agreement is not None
    return replace(
        run,
        trained=parity.trained_accuracy,
        integer=exact.accuracy,
        agreement=exact.top1_agreement,
        folded_db=parity.folded_sqnr_db,
        nudged_db=parity.nudged_sqnr_db,
        mismatch=exact.reference_mismatch,
        ok=parity.ok,
        epoch_seconds=statistics.median(epoch.seconds for epoch in low_bit.epochs),
        export_seconds=seconds,
    )


def _read(record: Path) -> list[Run]:
    if not record.is_file():
        return []
    return [Run(**json.loads(line)) for line in record.read_text(encoding="utf-8").splitlines()]


def _rows(runs: Iterable[Run]) -> Iterator[tuple[object, ...]]:
    groups: dict[tuple[str, int, str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault(run.key[:4], []).append(run)
    for (network, bits, offset, edges), same in sorted(groups.items(), key=lambda entry: (entry[0][0], -entry[0][1])):

        def mean(field: str, same: list[Run] = same) -> float:
            return statistics.fmean(getattr(run, field) for run in same)

        below = [run.nudged_db - run.folded_db for run in same]
        yield (
            *(network.partition(":")[2] or network, bits, f"{offset}, {edges}", len(same)),
            *(f"{mean(field):.2%}" for field in ("float_accuracy", "trained", "integer")),
            *(f"{100 * (mean('trained') - mean('integer')):+.2f}", f"{mean('agreement'):.2%}"),
            *(f"{statistics.fmean(below):.1f} dB", f"{max(below):.1f} dB", f"{mean('epoch_seconds'):.1f}"),
        )


if __name__ == "__main__":
    command.main(prog_name="python -m models.recipe_table")
