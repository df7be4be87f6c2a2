"""RESULTS.md from the record: everything in it is read from there, so that the same record gives the same file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from calib.errors import QuantizationError
from lsq_export.files.atomic import replacing

from .claims import check_all
from .grids_file import NAME, GridsFile, check_settings, read
from .plan import BITS, CONFIGURATIONS, INIT_NAMES, INITS, Phase, Settings, plan, rows
from .record import Record, Result
from .tables import MISSING, Entry, networks_of, percent, points, table_1, table_2, table_3
from .texts import CLAIMS, FIRST_GRIDS, INTRODUCTION, ORIGIN, TABLE_1, TABLE_2_TEXT, TABLE_3_TEXT

MARK = "<!-- Made by `python -m models.paper_tables --render` from results/runs.jsonl. Do not edit. -->"
PLOTS = ("configurations.svg", "initializations.svg")


def write(record: Record, directory: Path) -> tuple[Path, ...]:
    """Write RESULTS.md, results/*.svg and results/runs.jsonl (the record itself) under `directory`; return the files.

    first-grids.json is shown where it is in results/ or beside the record.

    Errors (QuantizationError): a RESULTS.md that is somebody's own; first grids that cannot be read or belong to other
    settings; a directory that cannot be written.
    """
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

    grids: shown after table 3. Errors (QuantizationError): they were measured with other settings than the runs.
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
            texts = [MISSING] * 5 + ["0"]
            if entry.trained is not None and entry.initialized is not None:
                accuracies = entry.trained.values
                numbers = (entry.trained.mean, entry.trained.std, min(accuracies), max(accuracies))
                columns = (*numbers, entry.initialized.mean)
                texts = [MISSING if number is None else f"{100 * number:.2f}" for number in columns]
                texts.append(str(entry.trained.n))
            yield f"| {network} | {INIT_NAMES[init]} | " + " | ".join(texts) + " |"


def _table_3(results: Sequence[Result], networks: Sequence[str]) -> Iterator[str]:
    yield "| network | configuration | grid of activations | from LSQ | from LSQ+ | LSQ+ - LSQ |"
    yield "|---|---|---|" + "--:|" * 3
    for network in networks:
        for row in table_3(results, network):
            name = row.lsq.configuration
            grid, accuracies = CONFIGURATIONS[name].grid_description, (_accuracy(row.lsq), _accuracy(row.mse))
            yield f"| {' | '.join((network, name, grid, *accuracies, row.figure))} |"


def _first_grids(grids: GridsFile) -> Iterator[str]:
    numbers = "s / σ | squared error / σ² | constant channels | layers"
    yield f"| network | bits | configuration | initialization | {numbers} |"
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
    on_processor = f"{cpu:.1f} of them on the processor (the machine had other work)"
    yield f"- Time: {wall:.1f} hours on one thread each, {on_processor}; {machines}."
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
    size = f"enlarged from 8×8 to {hard.image_size}×{hard.image_size} pixels"
    shift = f"each image moved by up to {hard.shift} pixels both ways"
    noise = f"Gaussian noise of σ = {hard.noise:g} added to pixels of 0 … 1 and the sum clipped to 0 … 1 ({unsigned})"
    train = f"{hard.train_per_class} training images a class"
    test = f"each of the 359 test images {hard.test_copies} times with another noise and shift"
    same = "All runs see the same images; training moves them by another pixel."
    return f"scikit-learn's digits made hard: {size}, {shift}, {noise}; {train}, {test}. {same}"


def _phase(phase: Phase) -> str:
    clip = f", gradients clipped to {phase.clip_norm:g}" if phase.clip_norm else ""
    return f"{phase.epochs} epochs of SGD, rate up to {phase.lr:g}, batches of {phase.batch_size}{clip}"


def _list(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values))
