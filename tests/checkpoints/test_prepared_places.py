"""places_of: where a prepared graph has its quantizers; a checkpoint whose counting says nothing is then adopted."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn

from calib.errors import QuantizationError
from lsq_export import places_of
from lsq_export.checkpoints.network import read_checkpoint

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.ao.quantization import FakeQuantize, MovingAverageMinMaxObserver


class Branches(nn.Module):
    """Two branches, of which one is read without a grid by the sum. Images [N, 3, 8, 8] -> [N, 4, 8, 8]."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.act = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.act(self.a(x))
        total: torch.Tensor = F.relu(self.b(y)) + self.c(self.act(y))
        return F.relu(total) + y


X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
# Where, in names of torch.export, and of which readers: all, if none is named.
GRIDS = (
    ("b_weight", ()),
    ("a_weight", ()),
    ("x", ()),
    ("relu", ("conv2d_1",)),
    ("relu_1", ()),
    ("conv2d_2", ()),
    ("relu_3", ()),
)


def _quantizer(weight: bool) -> FakeQuantize:
    ends = {"quant_min": -128, "quant_max": 127} if weight else {"quant_min": 0, "quant_max": 255}
    kind, scheme = (torch.qint8, torch.per_tensor_symmetric) if weight else (torch.quint8, torch.per_tensor_affine)
    return FakeQuantize(MovingAverageMinMaxObserver, dtype=kind, qscheme=scheme, **ends)


def _prepared(net: nn.Module) -> fx.GraphModule:
    """As torchao leaves it: a quantizer behind a node, for all of its readers or for some, numbered in any order."""
    module = torch.export.export(net, (X,)).module()
    assert isinstance(module, fx.GraphModule)
    nodes = {node.name: node for node in module.graph.nodes}
    for number, (source, readers) in enumerate(GRIDS):
        name, node = f"activation_post_process_{number}", nodes[source]
        module.add_submodule(name, _quantizer(weight=source.endswith("weight")))
        users = [user for user in node.users if user.op != "call_module" and (not readers or user.name in readers)]
        with module.graph.inserting_after(node):
            made = module.graph.call_module(name, (node,))
        for user in users:
            user.replace_input_with(node, made)
    module.recompile()
    return module


@pytest.fixture(scope="module")
def trained() -> tuple[Branches, fx.GraphModule]:
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        net = Branches().eval()
        prepared = _prepared(net)
        prepared(X)
        for module in prepared.modules():
            if isinstance(module, FakeQuantize):
                module.disable_observer()  # type: ignore[operator]
    return net, prepared


def test_places_are_named(trained: tuple[Branches, fx.GraphModule]) -> None:
    assert list(places_of(trained[1]).values()) == [
        "b.weight",
        "a.weight",
        "x.output",
        "b/conv2d/0.input",
        "/relu/0.output",
        "c/conv2d/0.output",
        "/relu/1.output",
    ]


def test_the_checkpoint_computes_what_the_prepared_model_does(
    trained: tuple[Branches, fx.GraphModule], tmp_path: Path
) -> None:
    net, prepared = trained
    torch.save(prepared.state_dict(), tmp_path / "net.pt")
    with pytest.raises(QuantizationError, match="say where each is"):
        read_checkpoint(tmp_path / "net.pt", net, X)
    said = {"bits": 8, "activations": "unsigned", "signed": ["activation_post_process_[01]"]}
    adopted = read_checkpoint(tmp_path / "net.pt", net, X, mapping={**said, "places": places_of(prepared)})
    with torch.no_grad():
        expected, found = prepared(X), adopted.module(X)
    assert len(adopted.places) == 7 and {left.name for left in adopted.left} == {"c"}
    assert float((found - expected).abs().max()) <= 1e-6 * float(expected.abs().max())


def test_models_without_counted_quantizers_are_refused() -> None:
    with pytest.raises(QuantizationError, match="has no graph: give the model that prepare_qat_pt2e returned"):
        places_of(Branches())
    with pytest.raises(QuantizationError, match="has no activation_post_process_N"):
        places_of(fx.symbolic_trace(Branches()))
