"""docs/receivers.md and docs/receivers.json."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from textwrap import shorten
from typing import Any

from lsq_export.replaying import runtime

Entry = dict[str, Any]
TIES = 1e-5  # share of codes that float sums round to the other side; more are another fault
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8")
HEAD = """# Receivers

What real runtimes make of exported files: integers in the runtime itself against the integer reference. `make matrix`
wrote this page on {day}, on {machine}, from networks trained on digits, briefly;
[receivers.json](receivers.json) has all of it. `lsq-export replay` does the same with
[a bundle of yours](deploying.md#replay). litert runs in an environment of its own.

"""
ON_DIGITS = """## On test images {{#digits}}

The {images} test images of digits and the golden inputs, in files of `export --target` for each runtime: all outputs,
and on {inside} of these images all integers inside that a runtime shows, {tensors} tensors. "=": all of both are the
same. Else so many outputs of all; then, inside, those that differ where each operator is given the runtime's integers,
with the largest difference: float sums round a value next to a tie to the other side, and every such code changes all
outputs of its image a little. "(outputs)": it does not run the file with its tensors as further outputs.

"""
GOLDEN = """## Golden vectors, files of other targets {#golden}

"=": all integers are the same. A number: so many outputs of all differ, with the SQNR against those that have to come
out. Columns are targets of `export --target`; "own" is that of the runtime. An empty cell was not run.

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


def inside(entry: Entry) -> str:
    """What was found inside, in few characters."""
    one = entry["inside"]
    if one is None or one["alone"] is None:
        return " (outputs)"
    alone = one["alone"]
    if not one["difference"]["differing"]:
        return "" if entry["verdict"] == "same" else "; inside ="
    by = f", by {alone['largest']:g}" if alone["differing"] else ""
    return f"; inside {alone['differing']:,} of {alone['elements']:,}{by}"


def on_digits(entries: Sequence[Entry]) -> str:
    """A row for each runtime and file, a column for each network."""
    networks = list(dict.fromkeys(entry["network"] for entry in entries))
    known = {(entry["network"], entry["runtime"], entry["target"], entry["file"]): entry for entry in entries}
    compared = [entry["inside"] for entry in entries if entry["inside"] and entry["inside"]["tensors"]]
    counts = [one["tensors"] for one in compared] or [0]
    head = ON_DIGITS.format(
        images=max(entry["data"] for entry in entries),
        inside=max((one["images"] for one in compared), default=0),
        tensors=f"{min(counts)} to {max(counts)}",
    )
    rows = [f"| runtime, file | {' | '.join(networks)} |", f"|---|{'---|' * len(networks)}"]
    for one in runtime.everything():
        of_runtime = [entry for entry in entries if entry["runtime"] == one.name]
        for target, file in dict.fromkeys((entry["target"], entry["file"]) for entry in of_runtime):
            of_row = [known.get((network, one.name, target, file)) for network in networks]
            version = next((entry["version"] for entry in of_row if entry and entry["version"]), "")
            cells = [f"{outputs(entry)}{inside(entry)}" if entry and ran(entry) else cell(entry) for entry in of_row]
            rows.append(f"| {f'{one.name} {version}'.strip()}, {target} {file} | {' | '.join(cells)} |")
    return head + "\n".join(rows) + "\n"


def ran(entry: Entry) -> bool:
    return entry["verdict"] in ("same", "differs") and entry["difference"] is not None


def outputs(entry: Entry) -> str:
    one = entry["difference"]
    return "=" if not one["differing"] else f"{one['differing']:,} of {one['elements']:,}"


def write_docs(entries: Sequence[Entry], directory: Path) -> None:
    """Both files. Runs that were not made, since a runtime was missing, are left out."""
    ran = [entry for entry in entries if entry["verdict"] != "missing"]
    digits = [entry for entry in ran if entry.get("data")]
    golden = [entry for entry in ran if not entry.get("data")]
    parts = [HEAD.format(day=date.today().isoformat(), machine=machine())]
    parts += [on_digits(digits), reasons(digits, "Why not {#why-digits}")] if digits else []
    parts += [GOLDEN] if golden else []
    for network in dict.fromkeys(entry["network"] for entry in golden):
        parts.append(table(network, [entry for entry in golden if entry["network"] == network]))
    parts += [reasons(golden, "Why {#why}")] if golden else []
    (directory / "receivers.md").write_text("\n".join(parts), encoding="utf-8")
    found = {"machine": machine(), "runs": [without_times(entry) for entry in ran]}
    (directory / "receivers.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def without_times(entry: Entry) -> Entry:
    return {name: value for name, value in entry.items() if name != "seconds"}


def table(network: str, entries: Sequence[Entry]) -> str:
    """A row for each runtime."""
    known = {(entry["runtime"], entry["target"], entry["file"]): entry for entry in entries}
    rows = [f"### {network} {{#{network}}}\n", "| runtime | ort-cpu qdq | ort-cpu qoperator | portable qdq | own |"]
    rows.append("|---|---|---|---|---|")
    for one in runtime.everything():
        own = [entry for entry in entries if entry["runtime"] == one.name and entry["target"] == one.target]
        if not any(entry["runtime"] == one.name for entry in entries):
            continue
        version = next((e["version"] for e in entries if e["runtime"] == one.name and e["version"]), "")
        shared = [("ort-cpu", "qdq"), ("ort-cpu", "qoperator"), ("portable", "qdq")]
        cells = [cell(known.get((one.name, *pair))) for pair in shared]
        last = "" if one.target in ("ort-cpu", "portable") else cell(next(iter(own), None))
        rows.append(f"| {one.name} {version} | {' | '.join(cells)} | {f'{one.target}: {last}' if last else ''} |")
    return "\n".join(rows) + "\n"


def reasons(entries: Sequence[Entry], title: str) -> str:
    """Where the first difference is, and what runtimes say, once each."""
    rows = [f"## {title}\n", "| runtime, file | first difference, or what it says | where |", "|---|---|---|"]
    said: dict[tuple[str, str], list[str]] = {}
    for entry in entries:
        if entry["verdict"] == "same":
            continue
        what, tensor = said_of(entry)
        own = runtime.get(entry["runtime"]).target == entry["target"]
        what += f" ({entry['instead']})" if own and entry.get("instead") else ""
        where = f"{entry['network']}: {tensor}" if tensor else entry["network"]
        said.setdefault((f"{entry['runtime']}, {entry['target']} {entry['file']}", what), []).append(where)
    rows += [
        f"| {head} | {what or 'the outputs alone'} | {'; '.join(places)} |" for (head, what), places in said.items()
    ]
    return "\n".join(rows) + "\n"


def said_of(entry: Entry) -> tuple[str, str]:
    """(what is first different, or what the runtime says; the tensor)."""
    first, whole = entry["first"], entry.get("inside")
    if whole and whole["differing"]:
        return in_words(whole["alone"]), whole["differing"][0]
    if first:
        made = first["made_by"].split()[0]
        return (in_words(first["difference"]) if entry.get("data") else made), first["tensor"]
    return shorten(entry["why"].replace("|", "\\|").replace("<", "&lt;"), 200, placeholder=" …"), ""


def in_words(difference: Entry) -> str:
    """Of codes."""
    ties = difference["largest"] == 1 and difference["differing"] <= TIES * difference["elements"]
    return "codes next to ties" if ties else f"integers differ by {difference['largest']:g}"
