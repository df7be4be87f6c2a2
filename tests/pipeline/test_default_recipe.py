"""Networks as users have them, with the default recipe: exported in all formats, and verified from the disk."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import calib
import lsq_export
from calib.errors import QuantizationError
from lsq_export.bundle import manifest
from lsq_export.bundle.directory import Bundle
from support.networks import Wired, inputs, norm

FORMATS = ("qdq", "qoperator", "lookup")
Function = Callable[[torch.Tensor], torch.Tensor]


def network(function: Function) -> nn.Module:
    """The function is read by a layer, by a sum and, behind another layer, by a pool."""

    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        x = function(s.stem(x))
        x = x + function(s.norm(s.conv(x)))
        return s.fc(x.mean((2, 3)))  # type: ignore[no-any-return]

    torch.manual_seed(5)
    return Wired(
        forward,
        stem=nn.Conv2d(3, 8, 3, padding=1),
        conv=nn.Conv2d(8, 8, 3, padding=1, bias=False),
        norm=norm(8),
        fc=nn.Linear(8, 4),
    )


FUNCTIONS: dict[str, Function] = {
    "relu": F.relu,
    "silu": F.silu,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "times a constant": lambda x: 0.3 * F.relu(x),
    "constants around a tanh": lambda x: 1.7159 * torch.tanh(0.6667 * x),
    "a constant behind a constant": lambda x: 3.0 * (0.25 * F.silu(x)),
    "a pool of a tanh": lambda x: 2.0 * F.max_pool2d(torch.tanh(x), 3, 1, 1),
}


def linears(function: Function) -> nn.Module:
    """The function behind a layer on vectors, where its codes go on through tables."""

    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        return s.fc(F.relu(s.b(function(s.a(F.relu(s.stem(x)).mean((2, 3)))))))  # type: ignore[no-any-return]

    torch.manual_seed(5)
    stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
    return Wired(forward, stem=stem, a=nn.Linear(8, 8), b=nn.Linear(8, 8), fc=nn.Linear(8, 4))


def gated(function: Function) -> nn.Module:
    """A gate of two linear layers, the function between them, for images of 17 channels."""

    def forward(s: Any, x: torch.Tensor) -> torch.Tensor:
        x = F.silu(s.stem(x))
        gate = torch.sigmoid(s.b(function(s.a(x.mean((2, 3))))))
        return s.fc(F.relu(s.conv(x * gate[:, :, None, None])).mean((2, 3)))  # type: ignore[no-any-return]

    torch.manual_seed(5)
    stem, conv = nn.Conv2d(3, 17, 3, padding=1), nn.Conv2d(17, 8, 1)
    return Wired(forward, stem=stem, a=nn.Linear(17, 4), b=nn.Linear(4, 17), conv=conv, fc=nn.Linear(8, 4))


def exported(net: nn.Module, out: Path) -> tuple[nn.Module, Bundle]:
    model = lsq_export.prepare(net.eval())
    calib.initialize(model, [inputs(16, 1)])
    return model, lsq_export.export(model, inputs(2, 1), out, formats=FORMATS, calibration=[inputs(16, 1)])


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    **{name: partial(network, function) for name, function in FUNCTIONS.items()},
    "vectors with gelu": partial(linears, F.gelu),
    "vectors with elu": partial(linears, F.elu),
    "gates with relu": partial(gated, F.relu),
    "gates with elu": partial(gated, F.elu),
}


OF_EACH_KIND = {
    "silu",
    "hardsigmoid",
    "a constant behind a constant",
    "a pool of a tanh",
    "vectors with gelu",
    "gates with elu",
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in OF_EACH_KIND else pytest.mark.slow) for name in NETWORKS]
)
def test_it_is_exported_and_verified(name: str, tmp_path: Path) -> None:
    model, bundle = exported(NETWORKS[name](), tmp_path / "bundle")
    assert bundle.parity is not None and bundle.parity.ok
    found = lsq_export.verify(model, lsq_export.open_bundle(bundle.directory), [inputs(16, 2, spread=3.0)])
    assert found.ok and set(found.formats) == set(FORMATS)
    assert not any(island.differing for island in found.formats["lookup"].islands)


def test_a_manifest_that_contradicts_its_files_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by the checks of a receiver, but by those of the export: such a bundle could not be verified."""
    right = manifest._tensor_entry
    monkeypatch.setattr(manifest, "_tensor_entry", lambda *a: right(*a) | {"zero_point": right(*a)["zero_point"] + 1})
    with pytest.raises(QuantizationError, match=r"zero_point is .* an error of lsq-export, not of your model"):
        exported(network(F.relu), tmp_path / "bundle")
    assert not list(tmp_path.iterdir())
