"""torch.onnx.export, quietly, of a model with any inputs and outputs, with a dynamic batch or a fixed batch of one.

A network that takes batches of one alone (x.view(1, -1), x.squeeze(0)) is exported with that batch. It is recognized by
what it makes of two samples: an error, or outputs with other axes than of one; or by what torch's exporter says.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.export import dynamic_shapes
from torch.utils._pytree import tree_leaves

from calib.errors import QuantizationError, warn
from calib.initialization.first_grids import evaluating
from calib.samples import Input, Samples, arguments_of, as_bound, called, each, tensors_of
from lsq_export.qat.lengths import lengths_as_sizes

from .decomposing import only_what_is_needed
from .grids_aside import grids_aside, marker_of
from .results import flat, named_outputs
from .simplifying import simplify
from .spelling import Spelling

Varying = Mapping[str, Mapping[int, str]]  # {input: {axis: name}}
MARK = torch.ops.lsq_export.mark.default  # of lsq_export/qat/marker.py
CAPTURE_BATCH = 2  # torch.export specializes on a batch of one


@dataclass(frozen=True)
class Exported:
    """program: of torch's exporter. fixed: with a batch of one, and no other."""

    program: torch.onnx.ONNXProgram
    fixed: bool


def exported(
    model: nn.Module, example: Input, of_one: Sequence[int], varying: Varying | None = None, *, quick: bool = False
) -> Exported:
    """The model with a dynamic batch, or, where it takes no other, with a batch of one and a warning that says so.

    example: [N, …]. of_one: the numbers of axes of what it makes of one sample. varying: other axes of inputs that are
    dynamic. quick: with fixed sizes, a batch of several too, which takes half the time. Whatever the exporter raises
    comes through.
    """
    why = why_one_alone(model, example, of_one)
    if why is None:
        try:
            batch = example if quick and len(example) > 1 else capture_batch(example)
            return Exported(export_program(model, batch, varying, fixed=quick), False)
        except Exception as error:  # the exporter raises many types of its own
            if any((varying or {}).values()) or not _is_constraint(error):
                raise
            why = "torch.export finds that its batch cannot vary"
    program = export_program(model, example[:1], varying, fixed=True)
    warn(
        f"the network takes one sample at a time ({why}): the files have the fixed batch 1",
    )
    return Exported(program, True)


def varying_axes(example: Input, dynamic: Mapping[Any, Any] | None) -> Varying:
    """{input: {axis: name}}. Errors (QuantizationError): no such input or axis, the batch, something else than names.

    dynamic: as in `capture`.
    """
    names = input_names(example)
    of_input = dynamic if dynamic and all(isinstance(key, str) for key in dynamic) else {names[0]: dynamic or {}}
    tensors = dict(zip(names, tensors_of(example), strict=True))
    for name, axes in of_input.items():
        if name not in tensors or not isinstance(axes, Mapping):
            raise QuantizationError(
                f'dynamic: {name!r} is no input: give {{2: "height", 3: "width"}}, or that by input'
            )
        for axis, dim in axes.items():
            if not isinstance(axis, int) or not 0 < axis < tensors[name].dim():
                raise QuantizationError(
                    f"dynamic: {name} has no axis {axis!r} beside its batch, which varies anyway: it has the axes 1 to "
                    f"{tensors[name].dim() - 1}"
                )
            if not isinstance(dim, str) or not dim.isidentifier() or dim == "batch":
                raise QuantizationError(f"dynamic: {dim!r} is no name of an axis: give one such as 'height'")
    return {name: dict(axes) for name, axes in of_input.items()}


def why_one_alone(model: nn.Module, example: Input, of_one: Sequence[int]) -> str | None:
    """Why a model takes batches of one alone; None: it takes others as well. of_one: as in `exported`."""
    with evaluating(model), torch.no_grad():
        try:
            with redirect_stderr(io.StringIO()):  # torch.fx prints there where its code fails
                two = [output.dim() for output in named_outputs(called(model, capture_batch(example))).values()]
        except Exception as error:  # a user's forward can raise anything
            return f"with two it fails: {first_line(error)}"
    return None if list(of_one) == two else "of two it makes outputs with other axes"


def capture_batch(example: Any) -> Any:
    """[CAPTURE_BATCH, …] of the first image of the example, [N, …]."""
    return each(example, lambda tensor: tensor[:1].expand(CAPTURE_BATCH, *tensor.shape[1:]).contiguous())


def export_program(
    model: nn.Module, example: Input, varying: Varying | None = None, *, fixed: bool = False
) -> torch.onnx.ONNXProgram:
    """torch.onnx.export of a model with a dynamic batch, unless fixed; whatever the exporter raises comes through."""
    from .pool_translations import pool_translations  # imports onnxscript, as torch does it for an export
    from .softplus import softplus
    from .whole_translations import whole_translations

    args, kwargs = arguments_of(model, example)
    names = input_names(example)
    dims = {name: torch.export.Dim(name) for axes in (varying or {}).values() for name in axes.values()}
    batch: dict[int, Any] = {} if fixed else {0: torch.export.Dim("batch")}
    of_input = {
        name: {**batch, **{axis: dims[dim] for axis, dim in (varying or {}).get(name, {}).items()}} for name in names
    }
    positional = () if kwargs else tuple(of_input[name] for name in names)
    shapes = as_bound(model, positional, {name: of_input[name] for name in kwargs}) if any(of_input.values()) else None
    sizes_vary = any((varying or {}).values())
    whole = nullcontext() if sizes_vary else only_what_is_needed()
    with (
        _quiet_exporter(),
        _sizes_that_vary(model),
        flat(model, kwargs),
        Spelling(),
        whole,
        grids_aside(model) as give_grids,
    ):
        program = torch.onnx.export(
            model,
            args,
            kwargs=kwargs or None,
            dynamo=True,
            dynamic_shapes=shapes,
            optimize=False,
            verbose=False,
            input_names=names,
            custom_translation_table={
                torch.ops.aten.softplus.default: softplus,
                MARK: marker_of,
                **({} if sizes_vary else {**pool_translations(), **whole_translations()}),
            },
        )
        assert program is not None
        simplify(program.model)
        for given, name in zip(program.model.graph.inputs, names, strict=True):
            given.name = name  # what is an output as it is was renamed
    give_grids(program.model.graph)
    return program


def input_names(example: Input) -> list[str]:
    """Names of the graph's inputs: those of the model's forward, or "input" where it has one."""
    return list(example.by_name) if isinstance(example, Samples) else ["input"]


def first_line(error: BaseException) -> str:
    """The first line of the message that is not empty, or the name of the error."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def root_of(error: BaseException) -> BaseException:
    """What the exporter's own errors, which are pages long, were raised from."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _is_constraint(error: BaseException) -> bool:
    """Whether torch.export says that the batch cannot be what it was asked to be."""
    return "batch" in str(root_of(error)) and any(
        sign in str(root_of(error)) for sign in ("Constraints violated", "specialized", "ConstraintViolation")
    )


@contextmanager
def _sizes_that_vary(model: nn.Module) -> Iterator[None]:
    """len(x) of a tensor is x.shape[0]. Where a size that shall vary is read as a Python number otherwise, torch's
    exporter silently makes it the size of the example; then it is an error here.
    """
    refine = dynamic_shapes.refine_dynamic_shapes_from_suggested_fixes

    def refined(msg: str, dynamic_shapes: Any) -> Any:
        found = refine(msg, dynamic_shapes)
        if any(isinstance(size, int) for size in tree_leaves(found)):
            raise QuantizationError(msg)
        return found

    dynamic_shapes.refine_dynamic_shapes_from_suggested_fixes = refined
    try:
        with lengths_as_sizes(model):
            yield
    finally:
        dynamic_shapes.refine_dynamic_shapes_from_suggested_fixes = refine


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """torch's exporter warns of things that its user cannot change (classes and checks of its own, how its recurrent
    layers keep their weights), and writes whole graphs to stderr when it fails: what matters then is in the error. What
    the user's own code warns of was heard before, when the model ran.
    """
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
