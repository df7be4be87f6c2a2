"""Whether a target takes what an export would write for it, held before it is written."""

from __future__ import annotations

import onnx

from calib.errors import QuantizationError
from calib.words import counted
from lsq_export.targets import Target

from .lint_file import Lint, against
from .onnx_file import OnnxFile

Files = dict[str, onnx.ModelProto]


def taken(files: Files, target: Target, opset: int | None) -> Files:
    """The files, {format: file}, which the target takes. opset: that was asked for.

    Errors (QuantizationError): a rule of the target is broken: by which node, and what to do; types or operators that
    need a newer operator set than was asked for.
    """
    for name, file in files.items():
        opened = OnnxFile(None, file)
        if opset is not None and opened.opset != opset:
            raise QuantizationError(
                f"opset is {opset}, but the types or operators of the {name} file need {opened.opset}: leave it out"
            )
        broken = _broken(against(opened, target))
        if broken is not None:
            raise QuantizationError(f"the target {target.name} does not take this network as {name}: {broken}")
    return files


def _broken(found: Lint) -> str | None:
    errors = [finding for finding in found.findings if not finding.is_note]
    if not errors:
        return None
    first = errors[0]
    place, count = first.places[0], sum(len(finding.places) for finding in errors)
    more = f" (and {counted(count - 1, 'more place')})" if count > 1 else ""
    return f"{place.node} {place.what}{more}; {first.instead}; the rule is of: {first.source}"
