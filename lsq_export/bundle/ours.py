"""What only bundles have: the names that an export writes, and a manifest of ours.

Other programs write manifest.json, README.md and SHA256SUMS, too. A folder of theirs is no bundle, and what a user put
into a bundle or changed in it is the user's.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

from calib.errors import QuantizationError
from lsq_export.files import regular, strict_json
from lsq_export.kernels import SOURCE

from .layout import (
    ADDED,
    EXAMPLES,
    FOLDED,
    LARGEST_JSON,
    MANIFEST,
    README,
    RECORDS,
    REPORT,
    RUN,
    SCHEMA,
    SIGNATURE,
    SUMS,
    TRAINED,
)
from .reading import Files

_FORMAT = r"(?:qdq|qoperator|lookup)"
_SOURCE = re.compile(r"lookup/kernels/\w+\.[ch]")
_NAMES = re.compile(
    rf"(?:{_FORMAT}/model|reference/(?:trained|folded))\.onnx(?:\.data)?|{_FORMAT}/test_data_set_0/(?:input|output)_[0-9]+\.pb"
    rf"|sample/(?:input\.(?:png|npz)|(?:input|prepared|output)\.npy)|{_SOURCE.pattern}"
)
_PLAIN = {MANIFEST, SCHEMA, README, RUN, *EXAMPLES, SUMS, SIGNATURE, *RECORDS, str(TRAINED), str(FOLDED)}
_CACHE, _CACHED = "__pycache__", re.compile(r"run\.[\w-]+(?:\.opt-[12])?\.pyc")  # of run.py, where somebody imported it


def is_written(name: str) -> bool:
    """Whether an export writes files of that name, relative to the bundle."""
    return name in _PLAIN or _NAMES.fullmatch(name) is not None


def is_ours(directory: Path) -> bool:
    """Whether an export wrote a folder, whole or damaged.

    Its manifest is listed and says so; or it is damaged, and SHA256SUMS lists the files of an export and nothing else.
    """
    sums = _sums(directory)
    if MANIFEST not in sums:
        return False
    try:
        manifest = strict_json.parse(regular.read(directory, MANIFEST, LARGEST_JSON))
    except ValueError:
        return {str(TRAINED), str(FOLDED)} <= sums and all(map(is_written, sums))
    return isinstance(manifest, dict) and {"lsq_export", "formats"} <= {*manifest}


def names_written(directory: Path) -> set[str]:
    """Files that the export of a bundle wrote, and its records; none in a folder without sums."""
    sums = _sums(directory)
    return {name for name in sums if is_written(name)} | {*RECORDS, SUMS, SIGNATURE} if sums else set()


def is_cache(name: str) -> bool:
    """Whether Python made a file or folder, where somebody imported run.py."""
    folder, _, file = name.partition("/")
    return folder == _CACHE and (not file or _CACHED.fullmatch(file) is not None)


def foreign(directory: Path) -> list[str]:
    """Files, links and empty folders in a bundle that no export wrote, in order; none in a folder without sums."""
    known, found = names_written(directory), list[str]()
    folders_known = {str(parent) for name in known for parent in PurePosixPath(name).parents}
    for root, folders, names in os.walk(directory) if known else ():
        at = Path(root).relative_to(directory)
        links = [name for name in folders if Path(root, name).is_symlink()]
        found += [str(at / name) for name in (*names, *links)]
        if not (folders or names) and str(at) not in folders_known:
            found.append(str(at))
    return sorted(name for name in found if name not in known and not is_cache(name))


def unlisted(directory: Path) -> list[str]:
    """Files of an export that are there and that no sum lists, in order.

    Not bench.json and its like, which get their lines when they are there, and no signature, which covers the sums.
    """
    known = _sums(directory)
    kernels = {path.name for path in SOURCE.iterdir()}
    return [
        name
        for name in sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if not path.is_dir())
        if name not in (*known, SUMS, SIGNATURE, *ADDED) and is_written(name)
        if not _SOURCE.fullmatch(name) or PurePosixPath(name).name in kernels
    ]


def edited(directory: Path) -> list[str]:
    """Texts of a bundle that somebody has changed since, in order: what people read and run."""
    try:
        files = Files(directory)
    except QuantizationError:
        return []
    texts = [name for name in files.sums if name in (README, RUN, *EXAMPLES, REPORT) or _SOURCE.fullmatch(name)]
    return sorted(name for name in texts if os.path.lexists(directory / name) and not files.is_as_listed(name))


def _sums(directory: Path) -> set[str]:
    try:
        return {*Files(directory).sums}
    except QuantizationError:
        return set()
