"""`lsq-export verify` where PyTorch is not installed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from calib.errors import QuantizationError
from calib.words import counted

from .group import FAILED
from .output import print_json, say

if TYPE_CHECKING:
    from calib.arrays import Arrays
    from lsq_export.bundle.directory import Bundle
    from lsq_export.replaying.received import Received

NPZ = "npz:"


def verify_received(directory: Path, data: str | None, images: int | None, as_json: bool) -> int:
    """Check and print; the exit code. data: npz:FILE, which is run besides the golden vectors.

    Errors (QuantizationError): other data, for which PyTorch is needed, or data that do not fit.
    """
    from lsq_export.bundle.directory import open_bundle
    from lsq_export.replaying.received import check_received

    bundle = open_bundle(directory)
    found = check_received(bundle, inputs_of(bundle, data, images))
    if as_json:
        print_json(to_dict(found))
    else:
        for line in lines(found):
            say(line)
    return 0 if found.ok else FAILED


def inputs_of(bundle: Bundle, data: str | None, images: int | None) -> Arrays | None:
    """The inputs that an option names. Errors (QuantizationError): data that are no file of arrays."""
    from lsq_export.replaying.given_inputs import given_inputs

    if data is None:
        return None
    if not data.startswith(NPZ):
        raise QuantizationError(f"data {data!r} need PyTorch, which is not installed: use npz:FILE, or install torch")
    return given_inputs(Path(data.removeprefix(NPZ)), bundle.manifest, images)


def lines(found: Received) -> list[str]:
    """What there is to say."""
    files = f"not what was exported: {', '.join(found.changed)}" if found.changed else "all are what SHA256SUMS says"
    said = [f"files          {files}"]
    wrong = sum(found.golden.values())
    if found.golden:
        said.append(
            f"golden         {counted(wrong, 'output is not', 'outputs are not') if wrong else 'all outputs are'} "
            "the integer reference's"
        )
    for name, one in found.outputs.items():
        said.append(
            f"{name:14} ONNX Runtime: {one.differing} of {one.elements:,} outputs differ "
            f"({counted(found.images, 'input')})"
        )
    if found.inside:
        said.append(
            f"exact run      ONNX Runtime = integer reference: {'holds' if not found.inside.differing else 'BROKEN'} "
            f"({found.inside.differing:,} of {found.inside.elements:,} integers inside differ)"
        )
    said.append(
        "not checked    what PyTorch evaluates, the folded model and the one before it: parity.json has what was found"
    )
    said.append("all that can be checked without PyTorch holds" if found.ok else "this bundle is NOT what was exported")
    return said


def to_dict(found: Received) -> dict[str, object]:
    """For JSON."""
    return {
        "ok": found.ok,
        "images": found.images,
        "changed": list(found.changed),
        "golden": found.golden,
        "outputs": {name: [one.differing, one.elements] for name, one in found.outputs.items()},
        "inside": [found.inside.differing, found.inside.elements] if found.inside else None,
        "pytorch": False,
    }
