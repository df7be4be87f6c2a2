"""Which networks `bench` measures, how often, and which of those runs a journal has already."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort

import calib
from calib.errors import QuantizationError
from lsq_export.version import VERSION

from .journal import Journal
from .peer import FORMATS, PEER
from .record import Record, machine, measure
from .sources import FLOAT, Subject, subject_of_bundle

CHECKPOINTS = (".safetensors", ".pt", ".pth", ".ckpt")  # all but the first are refused by name when they are read


@dataclass(frozen=True)
class Planned:
    """One network. make(on_stage):

    its subject, minutes of work for a large one. settings: what, beside those of `measure`, decides the numbers.
    """

    name: str
    settings: dict[str, Any]
    make: Callable[[Callable[[str], None]], Subject]


def plan(
    paths: Sequence[Path],
    names: Sequence[str],
    *,
    size: int | None = None,
    weight_bits: int | None = None,
    activation_bits: int | None = None,
    offset: str | None = None,
    peer: bool | None = None,
    baseline: str | None = None,
) -> list[Planned]:
    """Checkpoints and networks by name: one plan each. Anything else are files and bundles: one plan that compares all
    of them.

    size, weight_bits, activation_bits, offset: None is 224 (or the checkpoint's size), 4, 4 and "real". peer: None is
    yes for networks, no for files and bundles. baseline: checked here for networks, whose models are known before they
    are made. Errors (QuantizationError): nothing to measure, files beside networks, options of networks without one, an
    unknown baseline."""
    checkpoints = [path for path in paths if path.suffix in CHECKPOINTS]
    files = [path for path in paths if path not in checkpoints]
    networks = bool(checkpoints or names)
    if not (networks or files):
        raise QuantizationError("there is nothing to time: give ONNX files, a bundle, a checkpoint, or --model NAME")
    if networks and files:
        raise QuantizationError(
            f"{files[0]} is a file or bundle, the others are networks to export first: give either, in two calls"
        )
    given = {"--size": size, "--weight-bits": weight_bits, "--activation-bits": activation_bits, "--offset": offset}
    unused = [option for option, value in given.items() if value is not None]
    if files and unused:
        raise QuantizationError(f"{unused[0]} is for checkpoints and --model: an ONNX file is timed as it is")
    for path in paths:
        if not path.exists():
            raise QuantizationError(f"{path} does not exist: give ONNX files, a bundle, a checkpoint, or --model NAME")
    if files:
        title, peer = ", ".join(map(str, files)), bool(peer)
        settings = {"network": title, "peer": peer, "content": _content(*files)}
        return [Planned(title, settings, lambda on_stage: subject_of_bundle(*files, peer=peer))]
    models = (FLOAT, *FORMATS, *(f"{PEER} {kind}" for kind in FORMATS if peer is not False))
    if baseline is not None and baseline not in models:
        raise QuantizationError(f"baseline {baseline!r} is none of the models: use one of {', '.join(models)}")
    asked = {"weight_bits": weight_bits, "activation_bits": activation_bits, "offset": offset}
    config = {key: value for key, value in asked.items() if value is not None}
    common = {"size": size, "peer": peer is not False, **config}
    return [
        _network(name, named, common, config)
        for named, found in ((False, checkpoints), (True, names))
        for name in map(str, found)
    ]


def _network(name: str, named: bool, common: dict[str, Any], config: dict[str, Any]) -> Planned:
    def make(on_stage: Callable[[str], None]) -> Subject:
        from .network import named_network, network_of_checkpoint, subject_of_network  # torch, only where it is needed

        on_stage("model")
        size = common["size"]
        network = named_network(name, size, **config) if named else network_of_checkpoint(Path(name), size, **config)
        return subject_of_network(network, peer=common["peer"], on_stage=on_stage)

    return Planned(name, {"network": name, **common, "content": None if named else _content(Path(name))}, make)


def run(
    planned: Sequence[Planned],
    *,
    repeat: int = 1,
    journal: Journal | None = None,
    on_stage: Callable[[str, str], None] = lambda network, stage: None,
    on_subject: Callable[[Subject, int], Callable[[str], None]] = lambda subject, number: lambda step: None,
    **options: Any,
) -> Iterator[Record]:
    """Records, `repeat` of each network. journal: those that it has are not measured again, the others go into it.
    options: those of `measure`.

    on_stage(network, stage): called while a network is exported. on_subject(subject, number): gives the on_step of run
    `number`, 1 … repeat."""
    for entry in planned:
        settings = {**entry.settings, **options, **environment()}
        done = journal.records(settings)[:repeat] if journal else []
        yield from done
        if len(done) == repeat:
            continue
        subject = entry.make(lambda stage, name=entry.name: on_stage(name, stage))  # type: ignore[misc]
        for number in range(len(done) + 1, repeat + 1):
            record = measure(subject, on_step=on_subject(subject, number), **options)
            if journal:
                journal.append(settings, record)
            yield record


def environment() -> dict[str, str]:
    """Runs of another machine, of other versions, or of other code are other runs."""
    versions = {"lsq_export": VERSION, "onnxruntime": ort.__version__, "python": platform.python_version()}
    return {"machine": machine(), **versions, "code": _code()}


def _code() -> str:
    """Digest of the sources that decide what is measured: all but those that only print."""
    from lsq_export import models

    package = Path(__file__).parents[1]
    roots = (Path(calib.__file__).parent, package, Path(models.__file__).parent)
    printing = {package / name for name in ("cli", "report")}
    sources = (file for root in roots for file in sorted(root.rglob("*.py")))
    return _digest(file for file in sources if not printing.intersection(file.parents))


def _content(*paths: Path) -> str:
    """Digest of ONNX files, checkpoints, and the ONNX files of bundles."""
    return _digest(file for path in paths for file in (sorted(path.rglob("*.onnx")) if path.is_dir() else [path]))


def _digest(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    try:
        for file in files:
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    except OSError as error:
        raise QuantizationError(f"{error.filename} cannot be read: {error.strerror}") from error
    return digest.hexdigest()[:16]
