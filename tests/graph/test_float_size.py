"""lsq_export/graph/float_size.py: as many bytes as the float network's parameters and statistics have."""

from __future__ import annotations

from lsq_export import models
from lsq_export.bundle.directory import TRAINED
from lsq_export.graph.float_size import float_bytes
from support.exported import CLASSES, SHAPE, Exported


def test_weights_biases_and_statistics(exported: Exported) -> None:
    net = models.build("tiny", num_classes=CLASSES, in_channels=SHAPE[0])
    floats = [tensor for tensor in net.state_dict().values() if tensor.is_floating_point()]
    assert float_bytes(exported.graph(TRAINED).graph) == 4 * sum(tensor.numel() for tensor in floats)
    assert exported.bundle.manifest["float_parameter_bytes"] == float_bytes(exported.graph(TRAINED).graph)
