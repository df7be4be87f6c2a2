"""onnxruntime-web's two files that a page needs, of the version that `replay` was tried with.

They are looked for in the folder that was named, in NODE_PATH and node_modules here (as `replay` does), and in the
cache; else npm fetches the package from its registry, once. Wherever they were not named, their digests are compared.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from calib.errors import QuantizationError, one_line
from lsq_export.files.atomic import replacing
from lsq_export.files.digest import sha256
from lsq_export.replaying.adapters import run_web
from lsq_export.replaying.runtime import get

NAME, VERSION = get("onnxruntime-web").packages[0].split("@")
SCRIPT, MODULE = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"
DIGESTS = {  # SHA-256 of the files of VERSION
    SCRIPT: "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    MODULE: "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
PATIENCE = 600  # seconds that npm may take: 33 MB
OPTION = "give its folder with --onnxruntime-web"


@dataclass(frozen=True)
class WebRuntime:
    """files: {name: path}, of SCRIPT and MODULE. version: of the package."""

    files: dict[str, Path]
    version: str


def web_runtime(folder: Path | None = None, fetch: Callable[[Path], Path] | None = None) -> WebRuntime:
    """Where the files are; fetched if they are nowhere.

    folder: of the package, any version of it. fetch: puts the package into a folder and says where; None: npm does.
    Errors (QuantizationError): a folder without them, no npm, or one that cannot fetch; other files than expected.
    """
    if folder is not None:
        return _named(folder)
    kept = cache()
    for place in (run_web.package(Path.cwd()), kept):
        files = {name: (place / "dist" / name if place != kept else place / name) for name in DIGESTS} if place else {}
        if files and all(_is_published(path) for path in files.values()):
            return WebRuntime(files, VERSION)
    with TemporaryDirectory(prefix="lsq-export-npm.") as temporary:
        package = (fetch or _fetched)(Path(temporary))
        for name in DIGESTS:
            path = package / "dist" / name
            if not _is_published(path):
                raise QuantizationError(f"{NAME} {VERSION} as fetched has another {name} than was published: {OPTION}")
        _keep(package, kept)
    return WebRuntime({name: kept / name for name in DIGESTS}, VERSION)


def cache() -> Path:
    """Where fetched files are kept: in XDG_CACHE_HOME or ~/.cache."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(home) if os.path.isabs(home) else Path.home() / ".cache") / "lsq-export" / f"{NAME}-{VERSION}"


def _is_published(path: Path) -> bool:
    """Whether a file is there, can be read, and is what was published under its name."""
    try:
        return path.is_file() and sha256(path) == DIGESTS[path.name]
    except OSError:
        return False


def _named(folder: Path) -> WebRuntime:
    files = {name: folder / "dist" / name for name in DIGESTS}
    for name, path in files.items():
        if not path.is_file():
            raise QuantizationError(f"onnxruntime-web {folder} has no dist/{name}: give the folder of the npm package")
    try:
        version = str(json.loads((folder / "package.json").read_text(encoding="utf-8"))["version"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise QuantizationError(f"onnxruntime-web {folder} has no readable package.json: give another") from error
    return WebRuntime(files, version)


def _fetched(temporary: Path) -> Path:
    """The package, by npm: the tarball alone, and nothing of it is run."""
    npm = shutil.which("npm")
    why = f"{NAME} {VERSION} is neither here nor in the cache"
    if npm is None:
        raise QuantizationError(f"{why}, and there is no npm to fetch it: install npm, or {OPTION}")
    command = [npm, "pack", f"{NAME}@{VERSION}", "--ignore-scripts", "--no-update-notifier", "--loglevel", "error"]
    command += ["--pack-destination", str(temporary), "--cache", str(temporary / "npm"), "--fetch-retries", "1"]
    try:
        done = subprocess.run(
            command, cwd=temporary, stdin=subprocess.DEVNULL, capture_output=True, errors="replace", timeout=PATIENCE
        )
    except OSError as error:
        raise QuantizationError(f"{why}, and {npm} cannot be run ({error.strerror or error}): {OPTION}") from error
    except subprocess.TimeoutExpired as error:
        raise QuantizationError(f"{why}, and npm took more than {PATIENCE} s to fetch it: {OPTION}") from error
    if done.returncode:
        said = next((line for line in done.stderr.splitlines() if line.strip()), f"exit code {done.returncode}")
        raise QuantizationError(f"{why}, and npm cannot fetch it ({one_line(said):.200}): {OPTION}")
    archives = list(temporary.glob("*.tgz"))
    if len(archives) != 1:
        raise QuantizationError(f"{why}, and npm wrote {len(archives) or 'no'} files in the place of one: {OPTION}")
    _unpack(archives[0], temporary / "package" / "dist")
    return temporary / "package"


def _unpack(archive: Path, folder: Path) -> None:
    """The files that are needed, of a package as npm packs it.

    Errors (QuantizationError): it is no such archive, or only half of one, or it does not have them.
    """
    what = f"{NAME} {VERSION} as fetched"
    folder.mkdir(parents=True)
    for name in DIGESTS:
        try:
            with tarfile.open(archive) as tar, (folder / name).open("wb") as file:
                member = tar.extractfile(f"package/dist/{name}")
                if member is None:
                    raise KeyError(name)
                shutil.copyfileobj(member, file)
        except KeyError as error:
            raise QuantizationError(f"{what} has no file dist/{name}: {OPTION}") from error
        except (tarfile.TarError, EOFError, zlib.error, ValueError, OSError) as error:
            raise QuantizationError(f"{what} cannot be unpacked ({one_line(error):.200}): {OPTION}") from error


def _keep(package: Path, kept: Path) -> None:
    try:
        kept.mkdir(parents=True, exist_ok=True)
        for name in DIGESTS:
            with replacing(kept / name) as path:
                shutil.copyfile(package / "dist" / name, path)
    except OSError as error:
        raise QuantizationError(f"the cache {kept} cannot be written ({error.strerror}): set XDG_CACHE_HOME") from error
