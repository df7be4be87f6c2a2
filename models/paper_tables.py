"""The tables of LSQ+ (arXiv:2004.09576) from real runs, and `models/RESULTS.md` from their record.

python -m models.paper_tables
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lsq_export.cli.group import OneLineErrors
from lsq_export.cli.output import console, print_json, print_table

if TYPE_CHECKING:
    from .paper.plan import Settings
    from .paper.record import Record

WIDTHS = ("configuration", "init", ">W2A2", ">", ">W3A3", ">", ">W4A4", ">")
DEFAULT_RECORD = Path("out-paper/runs.jsonl")


def _networks(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, ...]:
    from . import names

    given = tuple(dict.fromkeys(name.strip() for name in value.split(",")))
    for name in given:
        if name not in names():
            raise click.BadParameter(f"{name!r} is unknown: use {', '.join(names())}, separated by commas")
    return given


@click.command(
    "paper-tables",
    cls=OneLineErrors,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120, "show_default": True},
)
@click.option(
    "--networks",
    default="efficientnet_b0,resnet18,mixnet_s",
    callback=_networks,
    metavar="NAME,…",
    help="Networks of the tables.",
)
@click.option("--seeds", type=click.IntRange(1), default=5, help="Number of runs of each cell, with the seeds 0, 1, …")
@click.option(
    "--only",
    type=click.Choice(["table1", "table2", "table3"]),
    multiple=True,
    help="Measure only this table; may be repeated.  [default: all]",
)
@click.option("--data", "data_spec", default="digits", metavar="SPEC", help="digits (made hard) or imagefolder:DIR.")
@click.option(
    "--image-size",
    type=click.IntRange(1),
    help="Height and width of the images.  [default: that of the committed tables, 224 for imagefolder]",
)
@click.option(
    "--epochs",
    type=click.IntRange(0),
    help="Epochs of low-bit training; 0: only initialize.  [default: that of the committed tables]",
)
@click.option(
    "--float-epochs", type=click.IntRange(1), help="Epochs of float training.  [default: that of the committed tables]"
)
@click.option("--jobs", type=click.IntRange(1), default=1, help="Processes that run side by side, each on one thread.")
@click.option(
    "--record",
    "record_path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=DEFAULT_RECORD,
    help="File of JSON lines, one for each run. What is in it is not run again; the float models lie beside it.",
)
@click.option(
    "--render", "rendering", is_flag=True, help="Run nothing: write RESULTS.md and its plots from the record."
)
@click.option(
    "--results",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("models"),
    help="Where --render writes RESULTS.md and results/*.svg.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the tables and the claims as JSON on stdout.")
def command(
    networks: tuple[str, ...],
    seeds: int,
    only: tuple[str, ...],
    data_spec: str,
    image_size: int | None,
    epochs: int | None,
    float_epochs: int | None,
    jobs: int,
    record_path: Path,
    rendering: bool,
    results: Path,
    as_json: bool,
) -> None:
    """Measure the tables of LSQ+, and go on where an earlier measurement was interrupted.

    That is configurations 1-4 at W2A2, W3A3 and W4A4; three initializations of configuration 4 at W2A2; and two
    initializations of configurations 2-4 at W3A3.

    The settings are those of models/RESULTS.md. A record that was made with others is refused.
    """
    from .paper.record import Record

    if rendering:
        record = Record(record_path)
    else:
        settings = {network: _settings(network, data_spec, image_size, epochs, float_epochs) for network in networks}
        record = _measure(settings, seeds, only, jobs, record_path)
    _report(record, results if rendering else None, as_json)


def _settings(
    network: str, data_spec: str, image_size: int | None, epochs: int | None, float_epochs: int | None
) -> Settings:
    from .paper.plan import settings_of

    settings = settings_of(network)
    if data_spec.startswith("imagefolder:"):
        settings = replace(settings, data=data_spec, hard=None, image_size=image_size)
    elif data_spec != "digits":
        raise click.UsageError(f"--data {data_spec}: use digits or imagefolder:DIR")
    elif image_size is not None and settings.hard is not None:
        settings = replace(settings, hard=replace(settings.hard, image_size=image_size))
    if epochs is not None:
        settings = replace(settings, phase=replace(settings.phase, epochs=epochs))
    if float_epochs is not None:
        settings = replace(settings, float_phase=replace(settings.float_phase, epochs=float_epochs))
    return settings


def _measure(settings: dict[str, Settings], seeds: int, only: tuple[str, ...], jobs: int, path: Path) -> Record:
    from lsq_export.progress import bar

    from .paper.plan import TABLES, plan
    from .paper.record import Record

    record = Record(path, settings)
    todo = [run for run in plan(tuple(settings), seeds, only or TABLES) if run not in record.done]
    if not todo:
        return record
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.UsageError(
            f"--record {path}: the directory cannot be made ({error.strerror}); give another file"
        ) from error
    from .paper.series import run_all

    show = console(stderr=True)
    with bar(show, "paper tables", len(todo) + len({run.network for run in todo})) as step:

        def report(text: str) -> None:
            step(text)
            if not show.is_terminal:
                show.print(text, markup=False)

        run_all(todo, record, settings, jobs=jobs, show=report)
    return record


def _report(record: Record, results: Path | None, as_json: bool) -> None:
    """Print the tables; with `results` write the files too."""
    from .paper.claims import check_all
    from .paper.render import write
    from .paper.tables import networks_of, percent, points, table_1, table_2, table_3

    files = write(record, results) if results is not None else ()
    networks = networks_of(record.results)
    checks = check_all(record.results, networks)
    first = {network: table_1(record.results, network) for network in networks}
    second = {network: table_2(record.results, network) for network in networks}
    third = [row for network in networks for row in table_3(record.results, network)]
    if as_json:
        tables = {
            "table1": [entry.to_dict() for entries in first.values() for row in entries for entry in row],
            "table2": [entry.to_dict() for entries in second.values() for entry in entries],
            "table3": [row.to_dict() for row in third],
        }
        print_json({"record": str(record.path), **tables, "claims": [asdict(check) for check in checks]})
        return
    for network, rows in first.items():
        accuracies = [[text for e in row for text in (percent(e.trained), points(e.float_difference))] for row in rows]
        texts = [(row[0].configuration, row[0].init, *cells) for row, cells in zip(rows, accuracies, strict=True)]
        print_table(f"{network}: accuracy (%) ± standard deviation [runs], and the difference to float", WIDTHS, texts)
    initializations = [(e.network, e.init, percent(e.trained)) for row in second.values() for e in row]
    print_table("Table 2: W2A2", ("network", "init", ">accuracy"), initializations)
    compared = [
        (row.lsq.network, row.lsq.configuration, percent(row.lsq.trained), percent(row.mse.trained), row.figure)
        for row in third
    ]
    columns = ("network", "configuration", ">LSQ", ">LSQ+", ">LSQ+ - LSQ")
    print_table("Table 3: W3A3 from two initializations", columns, compared)
    verdicts = [(c.claim, c.network, c.where, c.figure, c.verdict) for c in checks]
    print_table("Claims", ("claim", "network", "where", "measured", "verdict"), verdicts)
    for file in files:
        click.echo(f"wrote {file}")


if __name__ == "__main__":
    command.main(prog_name="python -m models.paper_tables")
