"""The two Swish networks, whole, are exported as integer-only graphs and verified.

They have random weights and images of 64 pixels. (`make demo` does so with ResNet-18.)
"""

from __future__ import annotations

import math
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest
import torch

import lsq_export
from lsq_export.bench.network import named_network
from lsq_export.bundle.directory import TRAINED
from lsq_export.graph.read import attribute, is_marker

pytestmark = pytest.mark.slow
SIZE = 64


@pytest.mark.parametrize(("name", "offset"), [("efficientnet_b0", "integer"), ("mixnet_s", "real")])
def test_the_networks_become_integers_and_every_learned_grid_is_compared(
    name: str, offset: str, tmp_path: Path
) -> None:
    network = named_network(name, SIZE, offset=offset)
    x = torch.randn(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    bundle = lsq_export.export(
        network.model, network.x[:1], tmp_path / "out", calibration=network.x.split(4), strict_integer=True
    )
    assert bundle.manifest["islands"] == []
    for file in bundle.models.values():
        onnx.checker.check_model(str(file), full_check=True)
    parity = lsq_export.verify(network.model, bundle, x.split(2))
    assert parity.ok and all(f.reference_mismatch == 0 for f in parity.formats.values()), parity.failures
    compared = {layer.name: layer for layer in parity.trained_layers}
    assert not any("unknown" in layer.reasons for layer in compared.values())
    graph = ir.from_proto(onnx.load(bundle.directory / TRAINED)).graph
    shapes = {attribute(node, "quantizer"): node.outputs[0].shape for node in graph if is_marker(node)}
    assert compared.keys() == shapes.keys()
    for quantizer, shape in shapes.items():
        assert shape is not None and compared[quantizer].elements == len(x) * math.prod(
            int(size) for size in list(shape)[1:]
        )
