"""docs/receivers.md and docs/receivers.json."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from lsq_export.replaying import runtime

Entry = dict[str, Any]
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8")
HEAD = """# Receivers

What real runtimes make of exported files: the golden vectors of each file, in the runtime itself, integers against the
integer reference. `make matrix` wrote this page on {day}, on {machine},
from networks trained on digits, briefly; [receivers.json](receivers.json) has all of it.
`lsq-export replay` does the same with [a bundle of yours](deploying.md#replay).

"=": all integers are the same. A number: so many outputs of all differ, with the SQNR against those that have to come
out. litert runs in an environment of its own. Columns are targets of `export --target`; "own" is that of the runtime.

"""


def machine() -> str:
    """The processor, and which of FLAGS it has."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii")
    except OSError:
        return platform.machine()
    lines = dict(line.split(":", 1) for line in text.split("\n\n")[0].replace("\t", "").splitlines() if ":" in line)
    words = lines.get("flags", "").split()
    name = lines.get("model name", platform.machine()).strip()
    return f"{name} ({', '.join(flag for flag in FLAGS if flag in words)})"


def cell(entry: Entry | None) -> str:
    """What happened, in few characters."""
    if entry is None:
        return ""
    if entry["verdict"] == "same":
        return "="
    one = entry["difference"]
    if entry["verdict"] != "differs" or one is None:
        return str(entry["verdict"])
    return f"{one['differing']} of {one['elements']}, {one['sqnr_db']:.0f} dB"


def write_docs(entries: Sequence[Entry], directory: Path) -> None:
    """Both files. Runs that were not made, since a runtime was missing, are left out."""
    ran = [entry for entry in entries if entry["verdict"] != "missing"]
    networks = list(dict.fromkeys(entry["network"] for entry in ran))
    parts = [HEAD.format(day=date.today().isoformat(), machine=machine())]
    parts += [table(network, [entry for entry in ran if entry["network"] == network]) for network in networks]
    parts.append(reasons(ran))
    (directory / "receivers.md").write_text("\n".join(parts), encoding="utf-8")
    found = {"machine": machine(), "runs": [without_times(entry) for entry in ran]}
    (directory / "receivers.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def without_times(entry: Entry) -> Entry:
    return {name: value for name, value in entry.items() if name != "seconds"}


def table(network: str, entries: Sequence[Entry]) -> str:
    """A row for each runtime."""
    known = {(entry["runtime"], entry["target"], entry["file"]): entry for entry in entries}
    rows = [f"## {network} {{#{network}}}\n", "| runtime | ort-cpu qdq | ort-cpu qoperator | portable qdq | own |"]
    rows.append("|---|---|---|---|---|")
    for one in runtime.everything():
        own = [entry for entry in entries if entry["runtime"] == one.name and entry["target"] == one.target]
        if not any(entry["runtime"] == one.name for entry in entries):
            continue
        version = next(entry["version"] for entry in entries if entry["runtime"] == one.name)
        shared = [("ort-cpu", "qdq"), ("ort-cpu", "qoperator"), ("portable", "qdq")]
        cells = [cell(known.get((one.name, *pair))) for pair in shared]
        last = "" if one.target in ("ort-cpu", "portable") else cell(next(iter(own), None))
        rows.append(f"| {one.name} {version} | {' | '.join(cells)} | {f'{one.target}: {last}' if last else ''} |")
    return "\n".join(rows) + "\n"


def reasons(entries: Sequence[Entry]) -> str:
    """Where the first difference is, and what runtimes say, once each."""
    rows = ["## Why {#why}\n", "| runtime, file | first difference, or what it says | where |", "|---|---|---|"]
    said: dict[tuple[str, str], list[str]] = {}
    for entry in entries:
        if entry["verdict"] == "same":
            continue
        first = entry["first"]
        what = f"{first['made_by'].split()[0]}" if first else entry["why"].replace("|", "\\|")[:200]
        own = runtime.get(entry["runtime"]).target == entry["target"]
        what += f" ({entry['instead']})" if own and entry.get("instead") else ""
        where = f"{entry['network']}: {first['tensor']}" if first else entry["network"]
        said.setdefault((f"{entry['runtime']}, {entry['target']} {entry['file']}", what), []).append(where)
    rows += [
        f"| {head} | {what or 'the outputs alone'} | {'; '.join(places)} |" for (head, what), places in said.items()
    ]
    return "\n".join(rows) + "\n"
