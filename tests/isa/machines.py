"""Other instruction sets, emulated, on Debian on x86-64: what each needs is put into a cache directory, once.

x86-64   qemu-x86_64 as an older core runs this very Python
ARM64    qemu-aarch64 runs Debian's arm64 Python and the aarch64 wheels; nothing of arm64 gets into the system
wasm     node runs onnxruntime-web
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
WEB_VERSION = "1.30.0"  # of onnxruntime-web
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
ARM_PACKAGES = ("python3-minimal", "libpython3-stdlib", "libstdc++6")
ARM_WHEELS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")
TIMEOUT = 1800  # seconds

# qemu's name of a core: how Linux describes it. onnxruntime reads that, and crashes where there is nothing to read.
ARM_CORES = {
    "neoverse-n1": (
        "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp ssbs",
        "0x3",
        "0xd0c",
        1,
    ),
    "cortex-a72": ("fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid", "0x0", "0xd08", 3),
}


class MissingError(Exception):
    """One line: what is missing and how to get it."""


@dataclass(frozen=True)
class Worker:
    """A command that takes a directory of jobs (worker.py)."""

    command: list[str]
    arguments: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, jobs: Path) -> str:
        """What the worker says: its version of ONNX Runtime."""
        command = [*self.command, str(jobs), *self.arguments]
        done = subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=TIMEOUT
        )
        if done.returncode:
            raise RuntimeError(
                f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
            )
        return done.stdout.strip()


def host(cache: Path) -> Worker:
    """This machine as it is."""
    return Worker([sys.executable, str(HERE / "worker.py")])


def x86(core: str) -> Callable[[Path], Worker]:
    """This very Python as if on another x86-64 core."""

    def make(cache: Path) -> Worker:
        if platform.machine() != "x86_64":
            raise MissingError(
                f"{core}: this is {platform.machine()}; the machine must be x86-64, for it runs its own Python under "
                "emulation"
            )
        return Worker([_program("qemu-x86_64", "qemu-user"), "-cpu", core, sys.executable, str(HERE / "worker.py")])

    return make


def arm64(core: str) -> Callable[[Path], Worker]:
    """Debian's arm64 Python on one of ARM_CORES."""

    def make(cache: Path) -> Worker:
        qemu = _program("qemu-aarch64", "qemu-user")
        wheels = [f"{name}=={version(name)}" for name in ("onnxruntime", "numpy")]
        root = _once(cache / "root", " ".join(ARM_PACKAGES), lambda directory: _unpack_debian(directory, cache / "apt"))
        (python,) = (path for path in (root / "usr/bin").glob("python3.*") if path.name[8:].isdigit())
        site = _once(
            cache / "site",
            " ".join([python.name, *wheels]),
            lambda directory: _unpack_wheels(directory, python.name[6:], wheels),
        )
        machine = _once(cache / core, str(root), lambda directory: _describe(directory, root, core))
        command = [qemu, "-cpu", core, "-L", str(machine), str(python), "-B", str(HERE / "worker.py")]
        return Worker(command, environment={"PYTHONPATH": str(site), "PYTHONHOME": str(root / "usr")})

    return make


def wasm(cache: Path) -> Worker:
    """onnxruntime-web in node."""
    node, npm = _program("node", "nodejs"), _program("npm", "npm")
    install = ["install", "--ignore-scripts", "--no-audit", "--no-fund", f"onnxruntime-web@{WEB_VERSION}"]
    packages = _once(
        cache / "wasm",
        WEB_VERSION,
        lambda directory: _call([npm, "--prefix", str(directory), *install], "onnxruntime-web"),
    )
    return Worker([node, str(HERE / "worker.mjs")], [str(packages)])


MACHINES: dict[str, tuple[str, Callable[[Path], Worker]]] = {
    "host": ("this machine", host),
    "avx": ("x86-64 without AVX2 (Sandy Bridge)", x86("SandyBridge-v1")),
    "avx2": ("x86-64 with AVX2, without VNNI (Haswell)", x86("Haswell-v4")),
    "arm64": ("ARM64 with dot products (Neoverse N1)", arm64("neoverse-n1")),
    "arm64-a72": ("ARM64 without dot products (Cortex-A72)", arm64("cortex-a72")),
    "wasm": ("WebAssembly", wasm),
}


def _once(directory: Path, key: str, make: Callable[[Path], None]) -> Path:
    """A directory that `make` has filled; it is filled anew if it was not finished, or for another `key`."""
    stamp = directory / ".made"
    if not stamp.is_file() or stamp.read_text() != key:
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        make(directory)
        stamp.write_text(key)
    return directory.resolve()


def _program(name: str, package: str) -> str:
    """The path of a program; root may install what is missing."""
    if shutil.which(name) is None:
        if shutil.which("apt-get") is None or os.geteuid() != 0:
            raise MissingError(f"{name} not found: install Debian's package {package} (apt-get install {package})")
        _call(["apt-get", "update", "-q"], package)
        _call(["apt-get", "install", "-y", "-q", "--no-install-recommends", package], package)
    path = shutil.which(name)
    if path is None:
        raise MissingError(f"{name} not found, though the package {package} is installed")
    return path


def _call(command: list[str], what: str) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    )
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        last = lines[-1] if lines else f"exit {done.returncode}"
        raise MissingError(f"{what} could not be installed: {' '.join(command[:3])} … says: {last}")


def _unpack_debian(root: Path, apt: Path) -> None:
    """Unpack Debian's arm64 packages with an apt that shares only the addresses of the archives with the system."""
    if shutil.which("apt-get") is None or not Path(KEYRING).is_file():
        raise MissingError("arm64: Debian with apt-get and debian-archive-keyring is needed")
    for path in ("lists/partial", "archives/partial"):
        (apt / path).mkdir(parents=True, exist_ok=True)
    (apt / "status").touch()
    line = f"deb [arch=arm64 signed-by={KEYRING}] $(REPO_URI) $(RELEASE) $(COMPONENT)"
    listed = ["apt-get", "indextargets", "--format", line, "Created-By: Packages", "Origin: Debian", "Component: main"]
    lines = set(subprocess.run(listed, capture_output=True, text=True).stdout.splitlines())
    if not lines:
        raise MissingError("arm64: apt-get knows no Debian archive: run apt-get update first, on Debian")
    (apt / "sources.list").write_text("\n".join(sorted(lines)) + "\n")
    options = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
        "Dir::Etc::sourcelist": apt / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::State::status": apt / "status",
        "Dir::State::lists": apt / "lists",
        "Dir::State::extended_states": apt / "extended_states",
        "Dir::Cache": apt,
        "Dir::Cache::archives": apt / "archives",
    }
    private = ["apt-get", "-q", *(f"-o{key}={value}" for key, value in options.items())]
    _call([*private, "update"], "Debian's arm64 Python")
    _call(
        [*private, "install", "-y", "--download-only", "--no-install-recommends", *ARM_PACKAGES],
        "Debian's arm64 Python",
    )
    for package in sorted((apt / "archives").glob("*.deb")):
        _call(["dpkg", "-x", str(package), str(root)], package.name)
    shutil.rmtree(apt)


def _describe(directory: Path, root: Path, core: str) -> None:
    """A root directory with the programs of `root` and the /proc and /sys of one core."""
    for entry in root.iterdir():
        if not entry.name.startswith("."):
            (directory / entry.name).symlink_to(entry)
    features, variant, part, revision = ARM_CORES[core]
    lines = [
        "processor\t: 0",
        "BogoMIPS\t: 100.00",
        f"Features\t: {features}",
        "CPU implementer\t: 0x41",
        "CPU architecture: 8",
    ]
    lines += [f"CPU variant\t: {variant}", f"CPU part\t: {part}", f"CPU revision\t: {revision}", "", ""]
    for name, text in (
        ("proc/cpuinfo", "\n".join(lines)),
        *((f"sys/devices/system/cpu/{name}", "0\n") for name in ("possible", "present")),
    ):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)


def _unpack_wheels(site: Path, python: str, wheels: list[str]) -> None:
    options = ["--quiet", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check"]
    pip = [sys.executable, "-m", "pip", "install", *options]
    _call(
        [*pip, f"--target={site}", f"--python-version={python}", *(f"--platform={tag}" for tag in ARM_WHEELS), *wheels],
        "onnxruntime for aarch64",
    )
