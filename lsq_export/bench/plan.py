"""Which networks `bench` measures, how often, and which of these measurements a journal has already."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import onnxruntime as ort

import calib
from calib.errors import QuantizationError
from lsq_export.bundle.layout import LOOKUP
from lsq_export.files.digest import sha256
from lsq_export.models.own import is_own
from lsq_export.training.named_code import allowed_builder, named_in
from lsq_export.version import VERSION

from .journal import Journal
from .machine import this_machine
from .measurement import Measurement, measure
from .openvino import INSTALL, OPENVINO, installed, row_names
from .peer import FORMATS, PEER
from .sources import FLOAT, Subject, subject_of_bundle, with_stock
from .timing import RunOptions

CONFIG = ("weight_bits", "activation_bits", "offset")
CHECKPOINTS = (".safetensors", ".pt", ".pth", ".ckpt")  # all but the first are refused by name when they are read


OnSubject = Callable[[Subject, RunOptions, int], Callable[[str], None]]


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One network to measure.

    settings: what decides the numbers, beside the options of `measure`. make(on_stage): its subject, minutes of work
    for a large network.
    """

    name: str
    settings: dict[str, Any]
    make: Callable[[Callable[[str], None]], Subject]


def plan(
    paths: Sequence[Path],
    names: Sequence[str],
    *,
    size: int | None = None,
    peer: bool | None = None,
    openvino: bool | None = None,
    baseline: str | None = None,
    **config: Any,
) -> list[Planned]:
    """One plan for each checkpoint and network by name, or one that compares all files and bundles.

    names: of networks; those of your own that build one of the checkpoints are for that, and not timed by themselves.
    size: None is 224 (or the checkpoint's size). peer, openvino: None is yes for networks (with OpenVINO where it is
    installed), no for files and bundles. baseline: checked here for networks, whose models are known before they are
    made. config: weight_bits, activation_bits and offset, as of QATConfig; None is its default. Errors
    (QuantizationError): nothing to measure, files beside networks, options of networks without one, an unknown
    baseline, a checkpoint of a network of your own that `names` lacks, OpenVINO asked for and not installed.
    """
    checkpoints = [path for path in paths if path.suffix in CHECKPOINTS]
    files = [path for path in paths if path not in checkpoints]
    networks = bool(checkpoints or names)
    if not (networks or files):
        raise QuantizationError("there is nothing to time: give ONNX files, a bundle, a checkpoint, or --model NAME")
    if networks and files:
        raise QuantizationError(
            f"{files[0]} is a file or bundle, the others are networks to export first: give either, in two calls"
        )
    config = {key: config[key] for key in CONFIG if config.get(key) is not None}
    unused = [*(["--size"] if size is not None else []), *(f"--{key.replace('_', '-')}" for key in config)]
    if files and unused:
        raise QuantizationError(f"{unused[0]} is for checkpoints and --model: an ONNX file is timed as it is")
    if openvino and installed() is None:
        raise QuantizationError(f"{OPENVINO} is not installed: {INSTALL}, or leave out --openvino")
    for path in paths:
        if not path.exists():
            raise QuantizationError(f"{path} does not exist: give ONNX files, a bundle, a checkpoint, or --model NAME")
    if files:
        title, peers = ", ".join(map(str, files)), {"peer": bool(peer), "openvino": bool(openvino)}
        settings = {"network": title, **peers, "content": _content(*files)}
        return [Planned(name=title, settings=settings, make=lambda on_stage: subject_of_bundle(*files, **peers))]
    models = _model_names(peer is not False, openvino is not False and installed() is not None)
    if baseline is not None and baseline not in models:
        raise QuantizationError(f"baseline {baseline!r} is none of the models: use one of {', '.join(models)}")
    common = {"size": size, "peer": peer is not False, "openvino": openvino is not False, **config}
    builders = {path: allowed_builder(path, names) for path in checkpoints}
    theirs = {name for name in builders.values() if is_own(name)}
    from_checkpoints = [_network(str(path), builders[path], common, config) for path in checkpoints]
    return [*from_checkpoints, *(_network(name, None, common, config) for name in names if name not in theirs)]


def _model_names(peer: bool, openvino: bool) -> list[str]:
    """Those that a network is timed as."""
    theirs = [f"{PEER} {kind}" for kind in FORMATS] if peer else []
    ours = with_stock(dict.fromkeys((FLOAT, *FORMATS, LOOKUP), b""))
    return [*ours, *theirs, *(row_names([FLOAT, *FORMATS, *theirs]) if openvino else [])]


def _network(name: str, builder: str | None, common: dict[str, Any], config: dict[str, Any]) -> Planned:
    """builder: what builds the network of the checkpoint `name`; None: `name` is a network itself."""

    def make(on_stage: Callable[[str], None]) -> Subject:
        from .network import named_network, network_of_checkpoint, subject_of_network  # torch, only where it is needed

        on_stage("model")
        size = common["size"]
        if builder is None:
            network = named_network(name, size, **config)
        else:
            network = network_of_checkpoint(Path(name), size, model=builder, **config)
        peers = {key: common[key] for key in ("peer", "openvino")}
        return subject_of_network(network, **peers, on_stage=on_stage)

    settings = {"network": name, **common, "content": None if builder is None else _content(Path(name))}
    return Planned(name=name, settings=settings, make=make)


def own_networks(paths: Sequence[Path]) -> list[str]:
    """The names of the users' own networks in those paths that are checkpoints."""
    names = [named_in(path) for path in paths if path.suffix in CHECKPOINTS and path.exists()]
    return [name for name in names if is_own(name)]


def run(
    planned: Sequence[Planned],
    options: Sequence[RunOptions],
    *,
    baseline: str | None = None,
    details: bool = True,
    repeat: int = 1,
    journal: Journal | None = None,
    on_stage: Callable[[str, str], None] = lambda network, stage: None,
    on_subject: OnSubject = lambda subject, how, number: lambda step: None,
) -> Iterator[Measurement]:
    """`repeat` measurements of each network with each of the options. baseline, details: those of `measure`.

    journal: what it has is not measured again, the rest goes into it. on_stage(network, stage): called while a network
    is exported. on_subject(subject, options, number): gives the on_step of measurement `number`, 1 … repeat.
    """
    for entry in planned:
        subject = None
        for how in options:
            settings = {**entry.settings, **asdict(how), "baseline": baseline, "details": details, **environment()}
            done = journal.measurements(settings)[:repeat] if journal else []
            yield from done
            for number in range(len(done) + 1, repeat + 1):
                subject = subject or entry.make(partial(on_stage, entry.name))
                on_step = on_subject(subject, how, number)
                measurement = measure(subject, how, baseline=baseline, details=details, on_step=on_step)
                if journal:
                    journal.append(settings, measurement)
                yield measurement


def environment() -> dict[str, str | None]:
    """Settings that tell measurements on other machines, with other versions, or of other code apart."""
    versions = {"lsq_export": VERSION, "onnxruntime": ort.__version__, "openvino": installed()}
    python = platform.python_version()
    return {"machine": this_machine(), **versions, "python": python, "code": _code()}


def _code() -> str:
    """Digest of the sources that decide what is measured: all but those that only print."""
    from lsq_export import models

    package = Path(__file__).parents[1]
    roots = (Path(calib.__file__).parent, package, Path(models.__file__).parent)
    printing = {package / name for name in ("cli", "report")}
    sources = (file for root in roots for file in sorted(root.rglob("*.py")))
    return _digest(file for file in sources if not printing.intersection(file.parents))


def _content(*paths: Path) -> str:
    """Digest of ONNX files, checkpoints, and the ONNX files of bundles, of which links do not count."""
    return _digest(file for path in paths for file in _onnx_files(path))


def _onnx_files(path: Path) -> list[Path]:
    return [file for file in sorted(path.rglob("*.onnx")) if not file.is_symlink()] if path.is_dir() else [path]


def _digest(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    try:
        for file in files:
            if not file.is_file():
                raise QuantizationError(f"{file} is no regular file: give ONNX files, a bundle or a checkpoint")
            digest.update(bytes.fromhex(sha256(file)))
    except OSError as error:
        raise QuantizationError(f"{error.filename} cannot be read: {error.strerror}") from error
    return digest.hexdigest()[:16]
