"""Small networks for tests of the fold:

a zoo by name, trained as far as a test needs it, each captured once per process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
import torch.nn.functional as F
from onnx import helper, numpy_helper
from torch import nn

import calib
import lsq_export
from lsq_export.graph.capture import Captured, capture
from lsq_export.graph.edit import copy
from lsq_export.graph.evaluate import evaluate
from lsq_export.graph.notes import BITS
from lsq_export.graph.read import MARKER_DOMAIN, is_op
from lsq_export.rewrite.contract.passes import State
from lsq_export.rewrite.contract.run import Runner
from lsq_export.rewrite.emit import emit_all
from lsq_export.rewrite.fold import STRIDED, Folded, fold
from lsq_export.targets import ORT_CPU
from lsq_export.verification.checking import Subject, check
from lsq_export.verification.parity import Parity
from support.exporter import operator_tables_made_once
from support.published import published

SHAPE = (3, 9, 9)
Conv = nn.Conv2d
Forward = Callable[[Any, torch.Tensor], Any]


class Wired(nn.Module):
    """Modules with a forward given as a function of (self, x)."""

    def __init__(self, forward: Forward, **modules: Any) -> None:
        super().__init__()
        self._wiring = forward
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x: torch.Tensor) -> Any:
        return self._wiring(self, x)


class SameConv2d(Conv):
    """TensorFlow's "same" padding for an even kernel: one row below, one column to the right."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return self._conv_forward(F.pad(input, (0, 1, 0, 1)), self.weight, self.bias)


def norm(channels: int, kind: type[nn.Module] = nn.BatchNorm2d) -> Any:
    """A batch norm as after training; γ of both signs."""
    layer: Any = kind(channels)
    with torch.no_grad():
        layer.weight.uniform_(0.5, 1.5).mul_(torch.tensor([1.0, -1.0, 1.0, 1.0]).repeat(channels)[:channels])
        layer.bias.uniform_(-0.5, 0.5)
        layer.running_mean.uniform_(-0.5, 0.5)
        layer.running_var.uniform_(0.3, 2)
    return layer


def small_gamma(layer: Any, *values: float) -> Any:
    """The first channels get these γ."""
    with torch.no_grad():
        layer.weight[: len(values)] = torch.tensor(values)
    return layer


@dataclass(frozen=True, eq=False)
class Case:
    """One object is one case, whose network is trained and captured once per process.

    build: the float model. config: for QATConfig. wide: weight scales times 0.3, so that codes saturate at both
    ends.

    offsets: β = offset · s for the named quantizers. shift: β of every asymmetric grid moves by up to that many steps,
    by chance."""

    build: Callable[[], nn.Module]
    config: dict[str, Any] = field(default_factory=dict)
    shape: tuple[int, ...] = SHAPE
    wide: bool = False
    offsets: dict[str, float] = field(default_factory=dict)
    shift: float = 0.5


LOW: dict[str, Any] = {"first_last_bits": None, "weight_bits": 3, "activation_bits": 3}
EIGHT: dict[str, Any] = {"weight_bits": 8, "activation_bits": 8}


def stem(channels: int = 8) -> list[nn.Module]:
    return [Conv(3, channels, 3, padding=1), nn.ReLU()]


def three(padding: int) -> nn.Module:
    return nn.Sequential(
        Conv(3, 8, 3, padding=padding),
        nn.ReLU(),
        Conv(8, 6, 3, padding=padding),
        nn.ReLU(),
        Conv(6, 4, 3, padding=padding),
    )


def chain() -> nn.Module:
    layers = [
        Conv(3, 8, 3, padding=1),
        norm(8),
        nn.ReLU(),
        Conv(8, 8, 3, padding=1),
        norm(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
    ]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128, 5))


def residual() -> nn.Module:
    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        h = F.relu(s.bn(s.stem(x)))
        h = F.relu(s.b(F.relu(s.a(h))) + h)
        return s.fc(F.relu(s.c(h) + s.down(h)).mean((2, 3)))

    convs = {name: Conv(8, 8, 3, padding=1) for name in "abc"}
    return Wired(forward, stem=Conv(3, 8, 3, padding=1), bn=norm(8), down=Conv(8, 8, 1), fc=nn.Linear(8, 5), **convs)


def preactivation() -> nn.Module:
    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        h = s.stem(x)
        h = s.a(F.relu(s.n1(h))) + h
        return s.fc(F.relu(s.n2(h)).mean((2, 3)))

    return Wired(
        forward, stem=Conv(3, 8, 3, padding=1), n1=norm(8), a=Conv(8, 8, 3, padding=1), n2=norm(8), fc=nn.Linear(8, 5)
    )


def concat() -> nn.Module:
    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        h = torch.cat([F.relu(s.a(x)), s.b(x)], 1)
        return s.d(F.relu(s.n(torch.cat([s.c(h), h], 1))))

    modules = {
        "a": Conv(3, 4, 3, padding=1),
        "b": Conv(3, 4, 1),
        "c": Conv(8, 4, 3, padding=1),
        "n": norm(12),
        "d": Conv(12, 4, 3, padding=1),
    }
    return Wired(forward, **modules)


def pools() -> nn.Module:
    layers = [
        *stem(),
        nn.AvgPool2d(3, 2, 1),
        Conv(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2, 2, 1, ceil_mode=True),
        Conv(8, 8, 3, padding=1),
    ]
    return nn.Sequential(*layers, nn.ReLU(), nn.AvgPool2d(2), Conv(8, 4, 1))


def geometry() -> nn.Module:
    layers = [
        Conv(3, 8, (3, 1), padding=(2, 0), dilation=2),
        nn.ReLU(),
        Conv(8, 8, 3, padding=1, groups=4),
        nn.ReLU(),
        SameConv2d(8, 8, 2),
        nn.ReLU(),
    ]
    return nn.Sequential(*layers, Conv(8, 8, 3, groups=8, stride=2, padding=1), nn.ReLU(), Conv(8, 4, 1))


def twice() -> nn.Module:
    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        return s.c(F.relu(s.b(F.relu(s.b(F.relu(s.a(x)))))))

    return Wired(forward, a=Conv(3, 8, 3, padding=1), b=Conv(8, 8, 3, padding=1), c=Conv(8, 4, 1))


def two_readers() -> nn.Module:
    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        h = F.relu(s.a(x))
        return s.b(h) + s.c(h)

    return Wired(forward, a=Conv(3, 8, 3, padding=1), b=Conv(8, 4, 3, padding=1), c=Conv(8, 4, 1))


def two_outputs() -> nn.Module:
    def forward(s: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = F.relu(s.a(x))
        return s.b(h), h.mean((2, 3))

    return Wired(forward, a=Conv(3, 8, 3, padding=1), b=Conv(8, 4, 1))


def clamped_sum() -> nn.Module:
    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        h = torch.clamp(s.a(x) + s.b(x), -0.3, 0.4)
        return torch.clamp(s.c(h) + h, 0.25, 1.5)

    return Wired(forward, a=Conv(3, 8, 3, padding=1), b=Conv(3, 8, 1), c=Conv(8, 8, 3, padding=1))


def transposed() -> nn.Module:
    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        return s.b(torch.minimum(torch.maximum(s.a(x), torch.tensor(0.1)), torch.tensor(1.5)).permute(0, 1, 3, 2))

    return Wired(forward, a=Conv(3, 8, 3, padding=1), b=Conv(8, 4, 3, padding=1))


def clamps() -> nn.Module:
    layers = [
        Conv(3, 8, 3, padding=1),
        norm(8),
        nn.Hardtanh(-0.5, 0.7),
        Conv(8, 8, 3, padding=1),
        nn.ReLU6(),
        nn.MaxPool2d(2),
    ]
    return nn.Sequential(*layers, Conv(8, 4, 1), nn.ReLU())


def perceptron() -> nn.Module:
    first = [nn.Flatten(), nn.Linear(243, 16), norm(16, nn.BatchNorm1d), nn.ReLU(), nn.Linear(16, 12), nn.ReLU()]
    return nn.Sequential(*first, norm(12, nn.BatchNorm1d), nn.Linear(12, 6), norm(6, nn.BatchNorm1d))


def unflatten() -> nn.Module:
    layers = [
        nn.Flatten(),
        nn.Linear(243, 36),
        nn.ReLU(),
        nn.Unflatten(1, (4, 3, 3)),
        Conv(4, 4, 3, padding=1),
        nn.Flatten(),
    ]
    return nn.Sequential(*layers, nn.Linear(36, 6), nn.ReLU())


ZOO: dict[str, Case] = {
    "chain": Case(chain),
    "chain2": Case(chain, {**LOW, "weight_bits": 2, "activation_bits": 2}),
    "channel": Case(chain, {"weight_granularity": "channel", "weight_bits": 2}),
    "integer": Case(chain, {**LOW, "offset": "integer"}),
    "signed": Case(chain, {**LOW, "activation_grid": "signed-asymmetric"}),
    "symmetric": Case(chain, {**LOW, "activation_grid": "signed-symmetric", "activation_bits": 4}),
    "lsq": Case(chain, {"activation_grid": "unsigned-symmetric"}),
    "residual": Case(residual),
    "residual3": Case(residual, LOW),
    "preactivation": Case(preactivation, LOW),
    "concat": Case(concat),
    "pools": Case(pools),
    "uncounted": Case(
        lambda: nn.Sequential(*stem(), nn.AvgPool2d(3, 2, 1, count_include_pad=False), Conv(8, 4, 3, padding=1)), LOW
    ),
    "geometry": Case(geometry, LOW),
    "twice": Case(twice),
    "two_readers": Case(two_readers, LOW),
    "two_outputs": Case(two_outputs),
    "clamped_sum": Case(clamped_sum),
    "transposed": Case(transposed, LOW),
    "clamps": Case(clamps),
    "perceptron": Case(perceptron),
    "unflatten": Case(unflatten, LOW),
    "negative8": Case(chain, EIGHT, wide=True, shift=0.0),
    "perceptron8": Case(perceptron, EIGHT, wide=True),
    "tiny_gamma": Case(
        lambda: nn.Sequential(
            Conv(3, 8, 3, padding=1),
            small_gamma(norm(8), 0, 1e-12, -1e-6, 1e-40),
            nn.ReLU(),
            Conv(8, 8, 3, padding=1),
            small_gamma(norm(8), 1e-4, 0, -1e-20),
            nn.ReLU(),
            Conv(8, 4, 1),
        )
    ),
    "above": Case(lambda: three(0), LOW, offsets={"2.input": 3.0, "4.input": 2.6}),  # real zero lies below the grid
    "above_padded": Case(lambda: three(1), LOW, offsets={"2.input": 3.0}),
}


def train(case: Case) -> nn.Module:
    """Prepared and initialized; what training would do to the offsets is done by chance."""
    torch.manual_seed(7)
    model = lsq_export.prepare(case.build().eval(), published(**case.config))
    calib.initialize(model, [inputs(16, 1, case.shape)], "minmax")
    chance = np.random.default_rng(3)
    for name, quantizer in lsq_export.quantizers(model).items():
        scale, offset = quantizer.scale.detach(), quantizer.offset.detach()
        if quantizer.kind == "weight" and case.wide:
            quantizer.set_grid(scale * 0.3)
        elif quantizer.kind == "activation" and not quantizer.symmetric:
            steps = case.offsets.get(name)
            quantizer.set_grid(
                scale * 0.9,
                steps * scale if steps is not None else offset + scale * case.shift * float(chance.uniform(-1, 1)),
            )
    return model


def inputs(count: int, seed: int, shape: tuple[int, ...] = SHAPE, *, spread: float = 2.0) -> torch.Tensor:
    """[count, *shape] of both signs;

    at seed 1, spread 2, what grids are made from: spread 3 goes beyond their range.
    """
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed)) * spread


def case_of(network: str | Case) -> Case:
    """A case, which may be given by its name in the zoo."""
    return ZOO[network] if isinstance(network, str) else network


@cache
def trained(network: str | Case) -> nn.Module:
    """Do not change it: `train` makes one of your own."""
    return train(case_of(network))


@cache
def captured(network: str | Case) -> Captured:
    """Do not change its graph: copy it."""
    return quick_capture(trained(network), case_of(network).shape)


def quick_capture(model: nn.Module, shape: tuple[int, ...] = SHAPE) -> Captured:
    """`capture` for inputs of a shape."""
    with operator_tables_made_once():
        return capture(model, inputs(2, 1, shape))


@cache
def folded(network: str | Case) -> Folded:
    """Do not change its graphs: copy them."""
    return fold(captured(network), [inputs(16, 1, case_of(network).shape)])


def verified(
    model: nn.Module, made: Folded, batches: Sequence[torch.Tensor] = ()
) -> tuple[Parity, dict[str, onnx.ModelProto]]:
    """What verification says of a fold in both formats, and the files.

    batches: without any, inputs beyond the calibrated range.
    """
    files = emit_all(made, ("qdq", "qoperator"), ORT_CPU)
    x = batches or [inputs(16, 2, spread=3.0)]
    return check(Subject.of(made, files, ORT_CPU.name), x, model=model), files


def before(name: str, stage: str) -> ir.Model:
    """A fresh graph of the network `name`, as the pass `stage` of the strided fold gets it.

    "qoperator": after all passes.
    """
    model, _ = state_before(captured(name), stage, [inputs(16, 1, ZOO[name].shape)])
    return model


def state_before(found: Captured, stage: str, batches: Iterable[torch.Tensor]) -> tuple[ir.Model, State]:
    """The graph and the state that the pass `stage` of the strided fold gets."""
    steps = [step.name for step in STRIDED]
    assert stage in steps or stage == "qoperator", f"{stage}: use one of {steps}"
    model, state = copy(found.model), State(batches=batches)
    Runner(None).run(STRIDED[: steps.index(stage)] if stage in steps else STRIDED, model, state)
    return model, state


def values(model: ir.Model, x: torch.Tensor | None = None) -> dict[str, np.ndarray]:
    """{output and computed tensor: float64} for inputs beyond the calibrated range."""
    found: dict[str, np.ndarray] = {}
    outputs = evaluate(
        model.graph,
        inputs(6, 2, spread=3.0) if x is None else x,
        on_value=lambda name, value: found.update({name: value.numpy()}),
    )
    return {**found, **{f"output{i}": y.numpy() for i, y in enumerate(outputs)}}


def difference(a: dict[str, np.ndarray], b: dict[str, np.ndarray], name: str = "output0") -> float:
    """Largest difference of a tensor, relative to its largest value."""
    assert a[name].shape == b[name].shape
    return float(np.abs(a[name] - b[name]).max() / np.abs(a[name]).max())


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def find(model: ir.Model, *op_types: str) -> list[ir.Node]:
    return [node for node in model.graph if is_op(node, *op_types)]


def set_constant(value: ir.Value | None, array: np.ndarray) -> None:
    """For sabotage: other numbers in an initializer."""
    assert value is not None and value.const_value is not None
    value.const_value = ir.tensor(np.asarray(array, value.const_value.numpy().dtype), name=value.name)


def hand_made(
    nodes: list[onnx.NodeProto],
    constants: dict[str, np.ndarray],
    shape: tuple[int | str, ...],
    outputs: Sequence[str] = ("y",),
) -> ir.Model:
    """A graph of one input `x`, float of that shape, with inferred shapes.

    "DequantizeLinear" nodes of a weight are made known as 4-bit codes.
    """
    info = [helper.make_tensor_value_info(name, 1, None) for name in outputs]
    initializers = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", 1, list(shape))], info, initializers)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(MARKER_DOMAIN, 1)]
    model = ir.from_proto(
        onnx.shape_inference.infer_shapes(helper.make_model(graph, opset_imports=opsets, ir_version=9))
    )
    for node in find(model, "DequantizeLinear"):
        BITS.write(node.outputs[0], 4)
    return model


def weight(name: str, codes: np.ndarray, scale: float = 0.1) -> tuple[onnx.NodeProto, dict[str, np.ndarray]]:
    """(node, constants) of a frozen weight, `name`.values."""
    node = helper.make_node(
        "DequantizeLinear", [f"{name}.codes", f"{name}.scale"], [f"{name}.values"], f"{name}.values", axis=0
    )
    return node, {f"{name}.codes": codes.astype(np.int8), f"{name}.scale": np.full(len(codes), scale, np.float32)}
