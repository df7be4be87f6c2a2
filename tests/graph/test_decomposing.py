"""What torch's exporter need not decompose is exported as it is, and computes the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from onnx.reference import ReferenceEvaluator
from onnx_ir import to_proto
from torch import nn
from torch.export import ExportedProgram

from lsq_export.graph import decomposing
from lsq_export.graph.exporting import export_program


class Function(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)  # type: ignore[no-any-return]


def settled(net: nn.Module) -> nn.Module:
    """Batch norms have statistics and weights of their own."""
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            assert module.running_mean is not None and module.running_var is not None
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
            if module.affine:
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
    return net.eval()


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.SiLU(),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(8, affine=False),
        nn.AdaptiveAvgPool2d(2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
        nn.BatchNorm1d(5),
        nn.Softmax(1),
    )


def residual(x: torch.Tensor) -> torch.Tensor:
    y = F.conv2d(x, torch.full((3, 3, 1, 1), 0.3))
    y += x
    z = F.relu_(y)
    return y * 2 + z  # y as well has been written


def flattened_twice(x: torch.Tensor) -> torch.Tensor:
    return (
        x.flatten(1).sum(1) + x.flatten(1).relu().sum(1) + x.flatten(2).flatten(0, 1).sum() + x.flatten(1, 2)[:, 0, 0]
    )


def written_view(x: torch.Tensor) -> torch.Tensor:
    y = x * 2
    y.flatten(1).relu_()
    return y + 0


def seen_before(x: torch.Tensor) -> torch.Tensor:
    y = x * 2
    view = y.flatten(1)
    y.relu_()
    return view + 0


def seen_after(x: torch.Tensor) -> torch.Tensor:
    y = (x * 2).relu_()
    return y.flatten(1) + 0


def written_input(x: torch.Tensor) -> torch.Tensor:
    y = x.clone()
    view = y.flatten(1)
    y.relu_().add_(1)
    return view * y.mean()


def decompositions(
    monkeypatch: pytest.MonkeyPatch, net: nn.Module, x: torch.Tensor, *, fixed: bool = False
) -> tuple[int, np.ndarray]:
    """How often torch decomposed, and what the exported graph makes of x."""
    asked: list[int] = []
    decompose = ExportedProgram.run_decompositions

    def counted(self: ExportedProgram, *args: Any, **kwargs: Any) -> ExportedProgram:
        asked.append(1)
        return decompose(self, *args, **kwargs)

    monkeypatch.setattr(ExportedProgram, "run_decompositions", counted)
    program = export_program(net, x, fixed=fixed)
    (found,) = ReferenceEvaluator(to_proto(program.model)).run(None, {"input": x.numpy()})
    return len(asked), found


@pytest.mark.parametrize("fixed", [False, True])
def test_common_operators_need_no_second_trace(monkeypatch: pytest.MonkeyPatch, fixed: bool) -> None:
    torch.manual_seed(0)
    net, x = settled(convolutional()), torch.randn(2, 3, 8, 8)
    count, found = decompositions(monkeypatch, net, x, fixed=fixed)
    assert count == 0
    np.testing.assert_allclose(found, net(x).detach().numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dims", [1, 3])
def test_other_dimensions(monkeypatch: pytest.MonkeyPatch, dims: int) -> None:
    torch.manual_seed(0)
    conv, norm, pool = {
        1: (nn.Conv1d, nn.BatchNorm1d, nn.AdaptiveAvgPool1d),
        3: (nn.Conv3d, nn.BatchNorm3d, nn.AdaptiveAvgPool3d),
    }[dims]
    net = settled(nn.Sequential(conv(2, 4, 3), norm(4), nn.ReLU(), pool(1), nn.Flatten(), nn.Linear(4, 3)))
    x = torch.randn(2, 2, *[6] * dims)
    count, found = decompositions(monkeypatch, net, x)
    assert count == 0
    np.testing.assert_allclose(found, net(x).detach().numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("function", "times"),
    [(residual, 0), (flattened_twice, 0), (seen_after, 0), (written_view, 1), (seen_before, 1), (written_input, 1)],
)
def test_what_is_written_in_place(monkeypatch: pytest.MonkeyPatch, function: Any, times: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, 4)
    count, found = decompositions(monkeypatch, Function(function), x)
    assert count == times
    np.testing.assert_allclose(found, function(x).numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "function",
    [
        lambda y, x: y.view(y.shape[0], -1).relu_().sum() + y,
        lambda y, x: y.transpose(1, 2) + y.relu_().sum(),
        lambda y, x: y[:, :2] * y.relu_().sum(),
        lambda y, x: y.mul_(2).add_(x, alpha=3).clamp_(-1, 1) + y,
        lambda y, x: y.copy_(x) + y,
        lambda y, x: y.zero_() + x + y,
        lambda y, x: torch.cat([y, y.sigmoid_()], 1) * y.sum(),
        lambda y, x: y.detach().relu_().sum() + y,
        lambda y, x: y.unsqueeze_(2).relu_().sum(2),
        lambda y, x: F.elu_(F.hardswish(y, inplace=True)).flatten(1),
    ],
)
def test_whatever_is_written_is_as_in_torch(function: Any) -> None:
    torch.manual_seed(0)
    conv, x = nn.Conv2d(3, 3, 1), torch.randn(2, 3, 4, 4)
    net = Function(lambda x: function(conv(x) * 1, x))
    program = export_program(net, x)
    (found,) = ReferenceEvaluator(to_proto(program.model)).run(None, {"input": x.numpy()})
    np.testing.assert_allclose(found, net(x).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_without_the_look_at_memory_views_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decomposing, "_own", lambda writing: True)
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, 4)
    _, found = decompositions(monkeypatch, Function(seen_before), x)
    assert np.abs(found - seen_before(x).numpy()).max() > 0.1


def test_statistics_of_the_batch_are_decomposed(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)).eval(), torch.randn(4, 3, 4, 4)
    count, found = decompositions(monkeypatch, net, x)
    assert count == 1
    np.testing.assert_allclose(found, net(x).detach().numpy(), rtol=1e-4, atol=1e-5)
