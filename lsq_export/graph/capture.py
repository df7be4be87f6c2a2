"""capture: a prepared PyTorch model -> an ONNX graph in which every use of a quantizer is one
`lsq_export::FakeQuantize` node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import onnx_ir as ir
import torch
from torch import nn

from calib.batches import refusal
from calib.door import batched, check_model, check_type, check_values, unwrapped
from calib.errors import QuantizationError
from calib.initialization.first_grids import evaluating
from calib.samples import Input, called, each, shape_of, tensors_of
from calib.signature import example_of, takes_of
from lsq_export.qat.bias_units import rounded_biases
from lsq_export.qat.prepare_model import float_layers, quantizers

from .dead_scales import check_quantizers, check_without_effect, positive_scales
from .edit import make
from .exporting import exported, first_line, root_of, varying_axes
from .kept_float import LAYERS as FLOAT_LAYERS
from .kept_float import SHAPES
from .notes import FLOAT, SOURCE, WISHED
from .read import array_of, attribute, input_of, is_marker, is_op, producer_of
from .results import named_outputs
from .sources import Sources


@dataclass(frozen=True)
class Captured:
    """The trained model as a graph. model: batch norms still separate, weights behind markers, dynamic batch.
    input_shape: without the batch; {name: shape} of several inputs. fixed: it takes batches of one, and no other.
    one_by_one: calibration takes sample after sample, so that batches and their order make no difference.

    A quantizer that is used again has a marker for each use, "NAME", "NAME_1", …
    """

    model: ir.Model
    input_shape: Any
    fixed: bool = False
    one_by_one: bool = False


def capture(
    model: nn.Module, example_input: Any, dynamic: Mapping[Any, Any] | None = None, *, quick: bool = False
) -> Captured:
    """Capture a prepared model for inputs of the shape of `example_input`, [N, …]; the batch stays dynamic.

    example_input: a tensor; a tuple of tensors or a mapping of them, where the model takes several. dynamic: axes whose
    size varies as well, {2: "height", 3: "width"}, or {input: such axes} of several inputs. A model that takes one
    sample at a time is captured with a batch of one, and a warning says so. quick: the batch is fixed.

    Raises QuantizationError: no quantizers, a bad scale or offset (named), an example that the model does not take,
    or a model that torch's exporter cannot capture.
    """
    example, made = check_ready(model, example_input)
    model = unwrapped(model)
    names, axes = list(made), [output.dim() for output in made.values()]
    try:
        with evaluating(model), positive_scales(model) as dead, rounded_biases(model):
            found = exported(model, example, axes, varying_axes(example, dynamic), quick=quick)
    except QuantizationError:
        raise
    except Exception as error:  # the exporter raises many types of its own
        raise QuantizationError(
            f"the model cannot be captured by torch.onnx.export: {first_line(root_of(error))}"
        ) from error
    graph = found.program.model.graph
    check_without_effect(graph, dead)
    _name_by_module(graph, names, model)
    _check_features(graph)
    number_uses(graph)
    _keep_float(graph, float_layers(model))
    return Captured(found.program.model, shape_of(example), found.fixed)


def check_ready(model: nn.Module, example_input: Any) -> tuple[Input, dict[str, torch.Tensor]]:
    """The example on the model's device, and the outputs for its first sample.

    Errors (QuantizationError): those of `capture` that show before torch's exporter is asked.
    """
    check_model(model)
    model = unwrapped(model)
    check_quantizers(model)
    check_type(model)
    example = example_of(model, example_input)
    for tensor in tensors_of(example):
        _check_example(model, tensor, alone=tensor is example)
    check_values(model)
    device = next(model.parameters()).device
    example = each(example, lambda tensor: tensor.to(device))
    with batched(model):
        return example, named_outputs(_result(model, example[:1]))


def _name_by_module(graph: ir.Graph, outputs: Sequence[str], model: nn.Module) -> None:
    """Nodes are called after the module that they come from and their operator, and know the line of the user's code;
    outputs are called as the model calls them.
    """
    sources = Sources(model)
    for node in graph:
        node.name = ".".join(filter(None, [sources.module(node), node.op_type]))
        source = sources.line(node)
        if source is not None:
            SOURCE.write(node, source)
    _own_outputs(graph)
    taken = {value.name for value in graph.inputs}
    names = [f"{name}_output" if name in taken else name for name in outputs]  # an input that is handed on
    constants = [value for value in graph.initializers.values() if value.name in names]
    for value in constants:
        graph.initializers.pop(str(value.name))
    for value in (*constants, *(value for node in graph for value in node.outputs)):
        if value.name in names:
            value.name = f"{value.name}_inside"
    for value in constants:
        graph.register_initializer(value)
    for output, name in zip(graph.outputs, names, strict=True):
        output.name = name


def _check_features(graph: ir.Graph) -> None:
    """Errors (QuantizationError): a Linear layer that gets as many features as there are pixels, where these vary."""
    for node in graph:
        x, weight = [*node.inputs[:2], None, None][:2]
        fixed = is_marker(producer_of(weight)) or array_of(weight) is not None
        size = x.shape[-1] if x is not None and x.shape is not None and len(x.shape) else None
        if node.op_type in ("Gemm", "MatMul") and fixed and isinstance(size, ir.SymbolicDim) and size.value is not None:
            layer = str(node.name).removesuffix(node.op_type).removesuffix(".")
            raise QuantizationError(
                f"{layer or node.name} (Linear) takes a fixed number of features, and gets one that varies: leave "
                "dynamic out, or pool to a fixed size before it (nn.AdaptiveAvgPool2d)"
            )


def _own_outputs(graph: ir.Graph) -> None:
    """Outputs that are inputs, constants or other outputs become Identity nodes that stay as they are."""
    seen: set[ir.Value] = set()
    for index, output in enumerate(list(graph.outputs)):
        maker = output.producer()
        source = input_of(maker) if maker is not None and is_op(maker, "Identity") else output
        if source.producer() is None or source in seen or array_of(source) is not None:
            if source is output:
                maker = make("Identity", [source], f"output_{index}.own", shape=source.shape)
                maker.outputs[0].type = source.type
                graph.append(maker)
                graph.outputs[index] = maker.outputs[0]
            assert maker is not None
            FLOAT.write(maker, SHAPES)
        seen.add(source)


def number_uses(graph: ir.Graph) -> None:
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


def _check_example(model: nn.Module, example: Any, alone: bool) -> None:
    """One input. alone: the model takes no other."""
    if not isinstance(example, torch.Tensor):
        raise QuantizationError(
            f"example_input is a {type(example).__name__}: pass one float tensor [N, C, H, W] (or [N, C]), or a tuple "
            "or a mapping of tensors where the model takes several"
        )
    integers = takes_of(model).integers and not example.is_floating_point()
    if alone and (example.dim() < 2 or example.numel() == 0 or not (example.is_floating_point() or integers)):
        raise QuantizationError(
            f"example_input has the shape {list(example.shape)} and type {example.dtype}: pass a float tensor [N, C, "
            "H, W] (or [N, C])"
        )
    weight = next(model.parameters())
    for what, dtype in (("example_input", example.dtype), ("the model", weight.dtype)):
        if dtype.is_floating_point and dtype != torch.float32:
            raise QuantizationError(
                f"{what} is {dtype}: use float32, {'example_input' if what == 'example_input' else 'model'}.float()"
            )


def _result(model: nn.Module, x: Input) -> Any:
    """What a user's model returns, in eval mode and without gradients; what its forward raises becomes one line."""
    try:
        with evaluating(model), torch.no_grad():
            return called(model, x)
    except QuantizationError:
        raise
    except Exception as error:  # a user's forward can raise anything
        raise refusal(model, x, error) from error


def forward(model: nn.Module, x: Input) -> list[torch.Tensor]:
    """All outputs of a user's model, in the order of their names (`named_outputs`)."""
    return list(named_outputs(_result(model, x)).values())


def forward_with_grids(model: nn.Module, x: Input) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
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
