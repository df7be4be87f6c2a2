"""The codes of weights that the manifest counts are those in the file."""

from __future__ import annotations

import numpy as np
from onnx import numpy_helper

from support.exported import Exported


def test_counts_are_those_of_the_weights_in_the_file(exported: Exported) -> None:
    proto = exported.file("qoperator")
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    nodes = [node for node in proto.graph.node if node.op_type == "QLinearConv"]
    layers = {layer["name"]: layer["codes"] for layer in exported.bundle.manifest["layers"]}
    assert len(nodes) >= 4
    for node in nodes:
        weights, zero = constants[node.input[3]].astype(int), int(constants[node.input[5]].reshape(-1)[0])
        values, counts = np.unique(weights - zero, return_counts=True)
        said = layers[node.name]
        found = {said["first"] + index * said["step"]: count for index, count in enumerate(said["counts"]) if count}
        assert found == dict(zip(values.tolist(), counts.tolist(), strict=True)), node.name


def test_the_step_is_that_of_the_weights(exported: Exported) -> None:
    """Weights of 4 bits have at most 16 codes, spread by the gain."""
    for layer in exported.bundle.manifest["layers"]:
        codes = layer["codes"]
        assert len(codes["counts"]) <= 2 ** layer["bits"] and codes["step"] % layer["gain"] == 0
