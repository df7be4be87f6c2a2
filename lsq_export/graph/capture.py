"""capture: a prepared PyTorch model -> an ONNX graph in which every use of a quantizer is one
`lsq_export::FakeQuantize` node.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from itertools import count

import onnx_ir as ir
import torch
from torch import nn

from calib.batches import refusal
from calib.door import batched, check_model, check_type, check_values
from calib.errors import QuantizationError
from calib.initialization.first_grids import evaluating
from lsq_export.qat.prepare_model import float_layers, quantizers

from .dead_scales import check_quantizers, check_without_effect, positive_scales
from .kept_float import LAYERS as FLOAT_LAYERS
from .notes import FLOAT, SOURCE, WISHED
from .read import attribute, is_marker
from .sources import module_of, source_of

CAPTURE_BATCH = 2  # torch.export specializes on a batch of one


@dataclass(frozen=True)
class Captured:
    """The trained model as a graph. model: batch norms still separate, weights behind markers, dynamic batch.
    input_shape: without the batch.

    A quantizer that is used again has a marker for each use, "NAME", "NAME_1", …
    """

    model: ir.Model
    input_shape: tuple[int, ...]


def capture(model: nn.Module, example_input: torch.Tensor) -> Captured:
    """Capture a prepared model for inputs of the shape of `example_input`, [N, …]; the batch stays dynamic.

    Raises QuantizationError: no quantizers, a bad scale or offset (named), an example that the model does not take,
    or a model that torch's exporter cannot capture.
    """
    check_ready(model, example_input)
    example = capture_batch(example_input).to(next(model.parameters()).device)
    forward(model, example)
    try:
        with evaluating(model), positive_scales(model) as dead:
            program = export_program(model, example)
    except QuantizationError:
        raise
    except Exception as error:  # the exporter raises many types of its own
        raise QuantizationError(
            f"the model cannot be captured by torch.onnx.export: {first_line(_root(error))}"
        ) from error
    check_without_effect(program.model.graph, dead)
    _name_by_module(program.model.graph, model)
    _number_uses(program.model.graph)
    _keep_float(program.model.graph, float_layers(model))
    return Captured(program.model, tuple(example.shape[1:]))


def check_ready(model: nn.Module, example_input: torch.Tensor) -> None:
    """Errors (QuantizationError): those of `capture` that show before torch's exporter is asked."""
    check_model(model)
    check_quantizers(model)
    check_type(model)
    _check_example(model, example_input)
    check_values(model)
    with batched(model):
        forward(model, example_input[:1].to(next(model.parameters()).device))


def _name_by_module(graph: ir.Graph, model: nn.Module) -> None:
    """Nodes are called after the module that they come from and their operator, and know the line of the user's code.

    Outputs are called "output" (or output_0, …).
    """
    for node in graph:
        node.name = ".".join(filter(None, [module_of(node, model), node.op_type]))
        source = source_of(node, model)
        if source is not None:
            SOURCE.write(node, source)
    for index, output in enumerate(graph.outputs):
        output.name = "output" if len(graph.outputs) == 1 else f"output_{index}"


def _number_uses(graph: ir.Graph) -> None:
    """A quantizer's second use is called NAME_1, and so on: that name tells grids, tensors and decisions apart."""
    markers = [node for node in graph if is_marker(node)]
    names = [attribute(marker, "quantizer") for marker in markers]
    for marker, name, numbered in zip(markers, names, _numbered(names), strict=True):
        if numbered != name:
            marker.attributes["quantizer"] = ir.AttrString("quantizer", numbered)


def _keep_float(graph: ir.Graph, layers: Sequence[str]) -> None:
    """Note the convolutions and products of the layers that are kept float; they have the names of the layers."""
    found = [(node, name) for node in graph if node.op_type in FLOAT_LAYERS and (name := _layer_of(node)) in layers]
    for (node, _), name in zip(found, _numbered([name for _, name in found]), strict=True):
        node.name = name
        FLOAT.write(node, WISHED)


def _layer_of(node: ir.Node) -> str:
    """The module of a convolution or product with float weights.

    Where the exporter let a batch norm go into it, the node has the name of that; the weight keeps its own.
    """
    weight = str(node.inputs[1].name) if node.inputs[1] is not None else ""
    if weight == "weight" or weight.endswith(".weight"):
        return weight.removesuffix("weight").removesuffix(".")
    return str(node.name).removesuffix(node.op_type).removesuffix(".")


def _numbered(names: Sequence[str]) -> list[str]:
    """The names of uses in order, with NAME_1, NAME_2, … for those that occurred before; never one that another has."""
    taken, seen, found = set(names), set[str](), []
    for name in names:
        if name in seen:
            name = next(unused for number in count(1) if (unused := f"{name}_{number}") not in taken)
            taken.add(name)
        seen.add(name)
        found.append(name)
    return found


def _check_example(model: nn.Module, example: torch.Tensor) -> None:
    if not isinstance(example, torch.Tensor):
        raise QuantizationError(
            f"example_input is a {type(example).__name__}: pass one float tensor [N, C, H, W] (or [N, C])"
        )
    if example.dim() < 2 or example.numel() == 0 or not example.is_floating_point():
        raise QuantizationError(
            f"example_input has the shape {list(example.shape)} and type {example.dtype}: pass a float tensor [N, C, "
            "H, W] (or [N, C])"
        )
    weight = next(model.parameters())
    for what, dtype in (("example_input", example.dtype), ("the model", weight.dtype)):
        if dtype != torch.float32:
            raise QuantizationError(
                f"{what} is {dtype}: use float32, {'example_input' if what == 'example_input' else 'model'}.float()"
            )


def capture_batch(example: torch.Tensor) -> torch.Tensor:
    """[CAPTURE_BATCH, …] of the first image of the example, [N, …]."""
    return example[:1].expand(CAPTURE_BATCH, *example.shape[1:]).contiguous()


def export_program(model: nn.Module, example: torch.Tensor) -> torch.onnx.ONNXProgram:
    """torch.onnx.export of a model with one input and a dynamic batch; whatever the exporter raises comes through."""
    from .softplus import softplus  # imports onnxscript, as torch does it for an export

    with _quiet_exporter():
        program = torch.onnx.export(
            model,
            (example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            optimize=True,
            verbose=False,
            input_names=["input"],
            custom_translation_table={torch.ops.aten.softplus.default: softplus},
        )
    assert program is not None
    return program


def forward(model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """All outputs of a user's model, in eval mode and without gradients; what its forward raises becomes one line."""
    try:
        with evaluating(model), torch.no_grad():
            result = model(x)
    except QuantizationError:
        raise
    except Exception as error:  # a user's forward can raise anything
        raise refusal(model, x, error) from error
    outputs = list(result) if isinstance(result, (tuple, list)) else [result]
    if not outputs or not all(isinstance(output, torch.Tensor) for output in outputs):
        raise QuantizationError(
            f"the model returns a {type(result).__name__}: it must return a tensor or a tuple of tensors; wrap it in a "
            "module that does"
        )
    return outputs


def forward_with_grids(model: nn.Module, x: torch.Tensor) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    """`forward`, and what every use of a quantizer gave, by the names that its markers have: NAME, NAME_1, …"""
    found = quantizers(model)
    names = {id(quantizer): name for name, quantizer in reversed(found.items())}
    uses: list[tuple[str, torch.Tensor]] = []
    hooks = [
        q.register_forward_hook(lambda q, _, value: uses.append((names[id(q)], value.detach())))
        for q in {id(q): q for q in found.values()}.values()
    ]
    try:
        outputs = forward(model, x)
    finally:
        for hook in hooks:
            hook.remove()
    return outputs, dict(zip(_numbered([name for name, _ in uses]), (value for _, value in uses), strict=True))


def _root(error: BaseException) -> BaseException:
    """What the exporter's own errors, which are pages long, were raised from."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def first_line(error: BaseException) -> str:
    """The first line of the message that is not empty, or the name of the error."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


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
