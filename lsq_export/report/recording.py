"""What verification found, written into a bundle: parity.json for programs, report.html for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from calib.errors import DamagedError
from lsq_export.bundle.directory import BENCH, PARITY, REPORT, Bundle, read_parity
from lsq_export.bundle.layout import AGAINST_FLOAT, REPLAY
from lsq_export.bundle.reading import Files
from lsq_export.bundle.records import sweep_records, unsettled, write_records
from lsq_export.bundle.sums import changed_files
from lsq_export.files.text import json_text, write_text
from lsq_export.verification.against_float import AgainstFloat, is_against_float
from lsq_export.verification.parity import Parity

from . import render
from .matrix import are_runs

UNKNOWN = "an unknown number of"


def write_parity(
    directory: Path, manifest: Mapping[str, Any], parity: Parity, bench: Mapping[str, Any] | None = None
) -> None:
    """Write parity.json and report.html into a new bundle, without their sums. bench: as `bench --json` writes it."""
    for name, text in _texts(manifest, parity, {"bench": bench}).items():
        write_text(directory / name, text)


def _texts(manifest: Mapping[str, Any], parity: Parity, added: Mapping[str, Any]) -> dict[str, str]:
    """{file: its text}. added: keywords of `render`."""
    plain = parity.to_dict()
    return {PARITY: json_text(plain), REPORT: render(dict(manifest), plain, **added)}


def record(bundle: Bundle, parity: Parity, bench: Mapping[str, Any] | None = None) -> None:
    """Write parity.json and report.html into a bundle, and their sums; the sums of all other files stay.

    bench: latencies to keep in the bundle as bench.json; None keeps those that are there.
    Errors (QuantizationError): as `write_records`; the cause is an OSError where the bundle cannot be written.
    """
    added = added_records(bundle)
    files = _texts(bundle.manifest, parity, {**added, "bench": bench or added["bench"]})
    write_records(bundle.directory, files if bench is None else {BENCH: json_text(bench), **files})


def write_report(bundle: Bundle, parity: Mapping[str, Any]) -> None:
    """Write report.html and its sum. parity: what parity.json holds. Errors: as `record`."""
    html = render(bundle.manifest, dict(parity), **added_records(bundle))
    write_records(bundle.directory, {REPORT: html})


def record_replay(bundle: Bundle, runs: Sequence[Mapping[str, Any]]) -> None:
    """Write replay.json, and report.html with its matrix. runs: of `Replay.to_dict`. Errors: as `record`.

    Runs of the same file in the same runtime take the place of those that are there.
    """
    before = (replay_of(bundle) or {"runs": []})["runs"]
    kept = {(run["runtime"], run["file"]): dict(run) for run in (*before, *runs)}
    replay = {"runs": list(kept.values())}
    _add(bundle, REPLAY, "replay", replay)


def record_against_float(bundle: Bundle, found: AgainstFloat) -> None:
    """Write against_float.json, and report.html with it. Errors: as `record`."""
    _add(bundle, AGAINST_FLOAT, "against_float", found.to_dict())


def _add(bundle: Bundle, name: str, key: str, content: Mapping[str, Any]) -> None:
    """Write one of the records that an export does not write, and report.html with it. key: what `render` calls it."""
    html = render(bundle.manifest, read_parity(bundle), **{**added_records(bundle), key: content})
    write_records(bundle.directory, {name: json_text(content), REPORT: html})


def settle_records(bundle: Bundle) -> None:
    """Put right what a killed process left of a record: its temporaries, its sums, a page of the record before.

    Errors: as `record`.
    """
    directory = bundle.directory
    sweep_records(directory)
    if unsettled(directory) and PARITY not in changed_files(bundle):
        write_report(bundle, read_parity(bundle))


def added_records(bundle: Bundle) -> dict[str, Any]:
    """What lies in a bundle beside its parity, as keywords of `render`. Errors: as `bench_of`."""
    against = _record_of(bundle, AGAINST_FLOAT, is_against_float)
    return {"bench": bench_of(bundle), "replay": replay_of(bundle), "against_float": against}


def bench_of(bundle: Bundle) -> dict[str, Any] | None:
    """The latencies that lie in a bundle; None where there are none.

    Errors (DamagedError): a file that is not what SHA256SUMS says.
    """
    return _record_of(bundle, BENCH, lambda found: _are_rows(found.get("rows")))


def replay_of(bundle: Bundle) -> dict[str, Any] | None:
    """What runtimes made of a bundle, as `replay --record` wrote it; None where it did not.

    Errors (DamagedError): a file that is not what SHA256SUMS says.
    """
    return _record_of(bundle, REPLAY, lambda found: are_runs(found.get("runs")))


def against_float_of(bundle: Bundle) -> AgainstFloat | None:
    """What quantization cost, as `calibrate` found it; None of other bundles. Errors: as `bench_of`."""
    found = _record_of(bundle, AGAINST_FLOAT, is_against_float)
    return AgainstFloat.from_dict(found) if found is not None else None


def _record_of(bundle: Bundle, name: str, is_valid: Callable[[dict[str, Any]], bool]) -> dict[str, Any] | None:
    """None as well where it is not valid: what the report shows of it is missing, or something else."""
    files = Files(bundle.directory)
    found = files.json(name) if name in files.sums else None
    return found if isinstance(found, dict) and is_valid(found) else None


def _are_rows(rows: object) -> bool:
    """Whether these are the latencies of models, with all that the report shows of them."""
    return isinstance(rows, list) and all(
        isinstance(row, dict)
        and isinstance(row.get("name"), str)
        and all(isinstance(row.get(key), (int, float)) for key in ("median_ms", "runs"))
        for row in rows
    )


def record_better(bundle: Bundle, parity: Parity, *, force: bool = False) -> str | None:
    """`record`, unless the bundle holds a better record; a line that says what became of that one, if anything did.

    Better is a record on the test split rather than on calibration images, on the data that the bundle was made from
    rather than on others, on more images. A broken promise is always recorded. force: record in any case.
    """
    old, new = _old(bundle), parity.to_dict()
    source = bundle.manifest.get("source")
    own = source.get("data") if isinstance(source, Mapping) else None
    before, now = (_rank(found, own or old.get("data")) for found in (old, new))
    if old and now < before and parity.ok and not force:
        return f"{PARITY} and {REPORT} keep the verification {_on(old)}; --record puts this one in its place"
    record(bundle, parity)
    more, elsewhere = before[-1] > now[-1], before[0] and _place(old.get("data")) != _place(new["data"])
    told = old and (now < before or more or elsewhere)
    return f"{PARITY} and {REPORT} held the verification {_on(old)}: this one replaced it" if told else None


def _rank(parity: Mapping[str, Any], own: object) -> tuple[bool, bool, int]:
    """The better, the larger. own: the data of the bundle. What an export found is on calibration images."""
    images = parity.get("images")
    same = own is None or _place(parity.get("data")) == _place(own)
    return parity.get("split") != "calibration", same, images if isinstance(images, int) else 0


def _place(spec: object) -> str:
    """Data by kind and full path."""
    kind, _, path = str(spec).partition(":")
    return f"{kind}:{Path(path).resolve()}" if path else kind


def _on(parity: Mapping[str, Any]) -> str:
    split = parity.get("split")
    of = f" of {parity['data']}" if parity.get("data") else ""
    return f"on {parity.get('images', UNKNOWN)} {f'{split} ' if split else ''}images{of}"


def _old(bundle: Bundle) -> dict[str, Any]:
    """The record that a bundle holds; an empty one where it holds none that can be believed."""
    try:
        return read_parity(bundle)
    except DamagedError:
        return {}
