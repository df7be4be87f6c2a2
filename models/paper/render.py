"""RESULTS.md from the record: everything in it is read from there, so that the same record gives the same file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from calib.errors import QuantizationError
from lsq_export.files.atomic import replacing

from .claims import check_all
from .grids_file import NAME, GridsFile, check_settings, read
from .plan import BITS, CONFIGURATIONS, INIT_NAMES, INITS, TABLE_2, TABLE_3, Phase, Settings, plan, rows
from .record import Record, Result
from .tables import MISSING, Entry, networks_of, percent, points, table_1, table_2, table_3

MARK = "<!-- Made by `python -m models.paper_tables --render` from results/runs.jsonl. Do not edit. -->"
PLOTS = ("configurations.svg", "initializations.svg")


def write(record: Record, directory: Path) -> tuple[Path, ...]:
    """Write RESULTS.md, results/*.svg and results/runs.jsonl (the record itself) under `directory`; returns the files.

    first-grids.json is shown where it is in results/ or beside the record. Errors (QuantizationError): a RESULTS.md
    that is somebody's own; first grids that cannot be read or belong to other settings; a directory that cannot be
    written."""
    from .plots import draw

    target = directory / "RESULTS.md"
    try:
        if target.exists() and not target.read_text(encoding="utf-8").startswith(MARK):
            raise QuantizationError(f"{target} was not made by this command: move it away, or give another --results")
        plots = directory / "results"
        plots.mkdir(parents=True, exist_ok=True)
        grids = next((read(path) for path in (plots / NAME, record.path.parent / NAME) if path.exists()), None)
        files = {plots / name: data for name, data in draw(record.results).items()}
        files |= {plots / "runs.jsonl": "".join(record.lines).encode(), target: markdown(record, grids).encode()}
        for path, data in files.items():
            with replacing(path) as unfinished:
                unfinished.write_bytes(data)
    except (OSError, UnicodeDecodeError) as error:
        raise QuantizationError(f"{directory} cannot be written ({error}): give another --results") from error
    return tuple(files)


def markdown(record: Record, grids: GridsFile | None = None) -> str:
    """The text of RESULTS.md.

    grids: shown behind table 3. Errors (QuantizationError): they were measured with other settings than the runs.
    """
    if grids is not None:
        check_settings(grids, record.settings)
    results, networks = record.results, networks_of(record.results)
    parts = [
        MARK,
        "# The tables of LSQ+, measured again",
        INTRODUCTION,
        "## Claims",
        CLAIMS,
        "\n".join(_claims(results, networks)),
        "## Table 1: configurations",
        TABLE_1,
        *("\n".join(_table_1(results, network)) for network in networks),
        f"![Accuracy over bit width](results/{PLOTS[0]})",
        "## Table 2: initializations",
        TABLE_2_TEXT,
        "\n".join(_table_2(results, networks)),
        f"![Accuracy of each run](results/{PLOTS[1]})",
        "## Table 3: grids apart from their start",
        TABLE_3_TEXT,
        "\n".join(_table_3(results, networks)),
        *(() if grids is None else (FIRST_GRIDS, "\n".join(_first_grids(grids)))),
        "## How it was made",
        ORIGIN,
        "\n".join(_origin(record, networks)),
    ]
    return "\n\n".join(parts) + "\n"


INTRODUCTION = """\
The paper (arXiv:2004.09576) trains on ImageNet for 90 epochs. These are other data and much shorter runs, which two cores can do in hours: the
numbers are not comparable with the paper's, only what they say about configurations and initializations is. Accuracy is top-1 on the test images in
percent."""

CLAIMS = """\
*Holds* and *does not reproduce* need the whole 95 % confidence interval (Student's t, differences paired by seed) on one side of zero, or p < 0.05;
everything else is *undecided*, also what compares networks that do not beat guessing (10 % on digits). The interval is that of the training seed
(order and shifts of the images, calibration images) for one float model and one set of test images. Many claims are tested, without a correction for
that."""

TABLE_1 = """\
Mean ± standard deviation over seeds [number of runs], and the mean difference to the float model in points. Weights are symmetric, one scale a
tensor; the first and the last layer have 8 bits. Configuration 1 is LSQ, with LSQ's initialization; 2 to 4 start from LSQ+'s. In configuration 1
*every* layer has unsigned codes, also those behind a linear bottleneck, whose inputs are negative about half the time; what the paper's LSQ does
there is not known here. 1s is LSQ with signed codes in these layers (those whose calibration inputs go below -0.2785, the least value of Swish): the
stronger baseline. ResNet-18 has no such layer."""

TABLE_2_TEXT = f"""\
Configuration {TABLE_2[0]} at W{TABLE_2[1]}A{TABLE_2[1]}; only scales and offsets of activations start differently."""

TABLE_3_TEXT = f"""\
In table 1 configurations 2 to 4 differ from LSQ in two things, the grid of activations and where it starts. Here each of these grids starts both
ways at W{TABLE_3[1]}A{TABLE_3[1]}: a row shows what the initialization does, a column what the grid does. LSQ has no offset: from its
initialization asymmetric grids start at β = 0, where unsigned codes (configuration 4) lose all negative values until training has moved β. The
difference is paired by seed, with its 95 % interval."""

FIRST_GRIDS = """\
What these grids do before any training, to the calibration images of seed 0 in the float model: the step s in units of the tensor's σ, the squared
error of x̂ in units of its variance, and constant channels: those that vary in float and have one code only. Means over all layers with inputs of
four dimensions, the first one (8 bits) and those of squeeze-and-excitation (one value a channel and image) included. A grid belongs to a whole
tensor: the least squared error is mostly that of the channels with large values, and a channel with small ones may end up on one code."""

ORIGIN = """\
    make paper-tables                                                           # hours; goes on where it was interrupted
    python -m models.first_grids --out models/results/first-grids.json          # minutes
    python -m models.paper_tables --render --record models/results/runs.jsonl   # this file again, from the committed record

Accuracy is that after the last epoch, not of the best one. Each network has one float model, from which all its runs start, and one low-bit training
for all configurations and initializations, which also has the safeguards of `FINETUNE` in `lsq_export/training/fit.py`. On images below 64 pixels
EfficientNet-B0 and MixNet-S have half their width and a stem of stride 1; ResNet-18 is as published.

The committed settings were found by trial on seed 0, judged by test images, too: ResNet-18's rate on configurations 1 and 4 at W2A2 (the higher
of two was better for both), those of the Swish networks on configuration 4 of EfficientNet-B0, some fifteen trials, until W4A4 learned. At W2A2
none of these trials on configuration 4 got beyond guessing (up to 25 epochs, rates of 0.03 to 0.15, also with 8-bit weights). This favors
configuration 4, if anything."""


def _claims(results: Sequence[Result], networks: Sequence[str]) -> Iterator[str]:
    yield from ("| claim | network | where | measured | verdict |", "|---|---|---|---|---|")
    for check in check_all(results, networks):
        yield f"| {check.claim} | {check.network} | {check.where} | {check.figure or MISSING} | **{check.verdict}** |"


def _table_1(results: Sequence[Result], network: str) -> Iterator[str]:
    floats = sorted({r.float_accuracy for r in results if r.network == network})
    yield f"**{network}**, float {' / '.join(f'{100 * value:.1f}' for value in floats) or MISSING}"
    yield ""
    yield "| configuration | grid of activations | " + " | ".join(f"W{bits}A{bits} | to float" for bits in BITS) + " |"
    yield "|---|---|" + "--:|" * (2 * len(BITS))
    for configuration, entries in zip(rows(network), table_1(results, network), strict=True):
        columns = [text for entry in entries for text in (_accuracy(entry), points(entry.float_difference))]
        yield f"| {configuration.name} | {configuration.description} | " + " | ".join(columns) + " |"


def _table_2(results: Sequence[Result], networks: Sequence[str]) -> Iterator[str]:
    yield "| network | initialization | mean | std | smallest | largest | before training | runs |"
    yield "|---|---|" + "--:|" * 6
    for network in networks:
        for init, entry in zip(INITS, table_2(results, network), strict=True):
            if entry.trained is None or entry.initialized is None:
                texts = [MISSING] * 5 + ["0"]
            else:
                std = entry.trained.std
                numbers = (
                    entry.trained.mean,
                    std,
                    min(entry.trained.values),
                    max(entry.trained.values),
                    entry.initialized.mean,
                )
                texts = [MISSING if number is None else f"{100 * number:.2f}" for number in numbers] + [
                    str(entry.trained.n)
                ]
            yield f"| {network} | {INIT_NAMES[init]} | " + " | ".join(texts) + " |"


def _table_3(results: Sequence[Result], networks: Sequence[str]) -> Iterator[str]:
    yield "| network | configuration | grid of activations | from LSQ | from LSQ+ | LSQ+ - LSQ |"
    yield "|---|---|---|" + "--:|" * 3
    for network in networks:
        for row in table_3(results, network):
            name = row.lsq.configuration
            texts = (
                network,
                name,
                CONFIGURATIONS[name].grid_description,
                _accuracy(row.lsq),
                _accuracy(row.mse),
                row.figure,
            )
            yield f"| {' | '.join(texts)} |"


def _first_grids(grids: GridsFile) -> Iterator[str]:
    yield "| network | bits | configuration | initialization | s / σ | squared error / σ² | constant channels | layers |"
    yield "|---|--:|---|---|" + "--:|" * 4
    for row in grids.rows:
        numbers = f"{row.step:.2f} | {row.error:.3f} | {100 * row.constant:.1f} % | {row.layers}"
        yield f"| {row.network} | {row.bits} | {row.configuration} | {INIT_NAMES[row.init]} | {numbers} |"


def _accuracy(entry: Entry) -> str:
    return percent(entry.trained) + (f" ({entry.diverged} diverged)" if entry.diverged else "")


def _origin(record: Record, networks: Sequence[str]) -> Iterator[str]:
    results, settings = record.results, record.settings
    for data in dict.fromkeys(_data(s) for s in settings.values()):
        yield f"- Data of {', '.join(network for network, s in settings.items() if _data(s) == data)}: {data}"
    for network, s in settings.items():
        start = f"low-bit: {_phase(s.phase)}, scales and offsets from {s.init_batches} of them"
        start += f"; batch norms with ε = {s.norm_eps:g}" if s.norm_eps is not None else ""
        yield f"- {network}: float (seed {s.float_seed}): {_phase(s.float_phase)}; {start}."
    measured = Counter(r.network for r in results)
    planned = Counter(run.network for run in plan(networks, max(r.seed for r in results) + 1))
    yield "- Runs: " + ", ".join(f"{network} {measured[network]} of {planned[network]}" for network in planned) + "."
    wall, cpu = (sum(getattr(r, name) for r in results) / 3600 for name in ("seconds", "cpu_seconds"))
    machines = _list(r.machine for r in results)
    yield f"- Time: {wall:.1f} hours on one thread each, {cpu:.1f} of them on the processor (the machine had other work); {machines}."
    versions = _list(", ".join(f"{name} {version}" for name, version in r.versions.items()) for r in results)
    yield f"- Versions: {versions}; commit {_list(r.commit or 'unknown' for r in results)}."
    diverged = [f"{r.run}: {r.diverged}" for r in results if r.diverged]
    yield "- Diverged: " + (
        "; ".join(diverged) + ". The accuracy is that of the last good epoch." if diverged else "none."
    )


def _data(settings: Settings) -> str:
    unsigned = "no mean is subtracted, so that unsigned codes lose nothing in the first layer"
    hard = settings.hard
    if hard is None:
        return f"`{settings.data}` in 0 … 1 ({unsigned})."
    made = f"enlarged from 8×8 to {hard.image_size}×{hard.image_size} pixels, each image moved by up to {hard.shift} pixels both ways"
    noise = f"Gaussian noise of σ = {hard.noise:g} added to pixels of 0 … 1 and the sum clipped to 0 … 1 ({unsigned})"
    counts = f"{hard.train_per_class} training images a class, each of the 359 test images {hard.test_copies} times with another noise and shift"
    return f"scikit-learn's digits made hard: {made}, {noise}; {counts}. All runs see the same images; training moves them by another pixel."


def _phase(phase: Phase) -> str:
    clip = f", gradients clipped to {phase.clip_norm:g}" if phase.clip_norm else ""
    return f"{phase.epochs} epochs of SGD, rate up to {phase.lr:g}, batches of {phase.batch_size}{clip}"


def _list(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values))
