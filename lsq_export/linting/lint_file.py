"""lint: an ONNX file of anybody against the rules of a target, without running it.

found = lint("any.onnx", "openvino")
found.ok, found.findings[0].places[0].node, found.findings[0].source, found.findings[0].instead
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import onnx

from lsq_export import targets

from . import file_rules, grid_rules, layer_rules, pattern_rules  # noqa: F401  # they register their predicates
from .onnx_file import OnnxFile, open_model
from .predicates import places


@dataclass(frozen=True)
class Place:
    """node: what breaks a rule, by operator and name, or "the file", or an input. what: is wrong there."""

    node: str
    what: str


@dataclass(frozen=True)
class Finding:
    """A rule that is broken: by name, with all places. source, instead, is_note: as in `lsq_export.targets.Rule`."""

    rule: str
    places: tuple[Place, ...]
    source: str
    instead: str
    is_note: bool


@dataclass(frozen=True)
class Lint:
    """What the rules of a target find in a file."""

    file: str
    target: str
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """No rule is broken; notes may be there."""
        return all(finding.is_note for finding in self.findings)


def lint(model: str | os.PathLike[str] | onnx.ModelProto, target: str) -> Lint:
    """Check an ONNX file against the rules of a target; see `lsq_export.targets` for their names.

    model: the path of a file, with external data beside it if it has some, or a model in memory.
    Errors (QuantizationError): an unknown target, a file that is missing, damaged or no ONNX.
    """
    found = targets.get(target)
    file = OnnxFile(None, model) if isinstance(model, onnx.ModelProto) else open_model(model)
    return against(file, found)


def against(file: OnnxFile, target: targets.Target) -> Lint:
    """An open file against a target."""
    findings = []
    for rule in target.rules:
        broken = places(rule.predicate, file, dict(rule.settings))
        if broken:
            found = tuple(Place(*place) for place in broken)
            findings.append(Finding(rule.predicate, found, rule.source, rule.instead, rule.is_note))
    return Lint(str(file.path or "model"), target.name, tuple(findings))
