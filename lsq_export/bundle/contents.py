"""What an export writes into a bundle: the models with their golden vectors, the reference graphs, a sample,
the manifest, and what its receivers read and run.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from calib.samples import Arrays, count_of, named
from lsq_export import integer
from lsq_export.files import large_onnx
from lsq_export.files.text import write_json, write_text
from lsq_export.kernels import SOURCE
from lsq_export.rewrite.emit import emit, serialize
from lsq_export.rewrite.fold import Folded
from lsq_export.targets import Target
from lsq_export.verification.runtime import inputs_of

from . import run
from .claims import with_copy
from .golden import write_golden
from .layout import EXAMPLES, FOLDED, KERNELS, LOOKUP, MANIFEST, MODEL, README, RUN, SCHEMA, TRAINED
from .manifest import manifest_of
from .metadata import with_metadata
from .origin import Origin
from .quantized_outputs import OutputGrid, in_manifest, output_grids, without_last
from .readme import render_readme
from .sample import write_sample


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What goes into a bundle, but for what verification found.

    files: {format: file}, which may be emptied once all is written. golden: inputs [N, …] of the golden vectors, the
    sample first. costs: of each fold of the target.
    """

    folded: Folded
    files: dict[str, onnx.ModelProto]
    target: Target
    golden: Arrays
    costs: Sequence[Mapping[str, Any]]
    origin: Origin


def write_contents(directory: Path, contents: Contents) -> dict[str, Any]:
    """Write into an empty directory, and return the manifest."""
    outputs, grids_of = _golden_outputs(contents), _output_grids(contents)
    for name, file in contents.files.items():
        grids = grids_of.get(name, {})
        coded = {key: grids[key].of_values(value) if key in grids else value for key, value in outputs.items()}
        write_golden(directory / name, named(contents.golden, inputs_of(file)), coded)
        written = without_last(file, grids) if grids else file
        large_onnx.save(with_metadata(written, contents.origin), directory / name / MODEL)
    (directory / TRAINED).parent.mkdir()
    large_onnx.save(_reference(contents.folded.trained, contents, TRAINED), directory / TRAINED)
    manifest = manifest_of(directory, contents.folded, contents.files, contents.target, contents.origin)
    for name, grids in grids_of.items():
        manifest["formats"][name] |= in_manifest(grids)
    manifest["folds"] = list(contents.costs)
    write_sample(directory, contents.origin.sample or None, _first_sample(contents, outputs), manifest)
    manifest["sample"]["noise"] = contents.origin.sample is False
    write_json(directory / MANIFEST, manifest)
    large_onnx.save(with_copy(_reference(contents.folded.model, contents, FOLDED), manifest), directory / FOLDED)
    write_text(directory / README, render_readme(manifest))
    shutil.copyfile(run.__file__, directory / RUN)
    for name in (*EXAMPLES, SCHEMA):
        shutil.copyfile(Path(__file__).with_name(name), directory / name)
    if LOOKUP in contents.files:
        shutil.copytree(SOURCE, directory / LOOKUP / KERNELS)
    return manifest


def _reference(graph: ir.Model, contents: Contents, path: Path) -> onnx.ModelProto:
    return serialize(graph, contents.target.opset, path.stem, notes=True)


def _first_sample(contents: Contents, outputs: Mapping[str, np.ndarray]) -> tuple[Arrays, np.ndarray]:
    """(first golden input, what comes first out of it), each a batch of one; an output without a batch is whole."""
    output = next(iter(outputs.values()))
    x = contents.golden
    if isinstance(x, Mapping):
        one: Arrays = {name: array[:1] for name, array in x.items()}
    else:
        one = x[:1]
    return one, output[:1] if output.ndim and len(output) == count_of(x) else output


def _output_grids(contents: Contents) -> dict[str, dict[str, OutputGrid]]:
    """{format: {output: its grid}}, where outputs are codes in what is written."""
    return {name: output_grids(file) for name, file in contents.files.items()} if contents.target.quantized else {}


def _golden_outputs(contents: Contents) -> dict[str, np.ndarray]:
    """What the integer reference makes of the golden input, whether or not its file is part of the bundle."""
    reference = contents.files.get("qoperator") or emit(contents.folded.model, "qoperator", contents.target)
    names = [output.name for output in reference.graph.output]
    return integer.run(reference, named(contents.golden, inputs_of(reference)), outputs=names)
