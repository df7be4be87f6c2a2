"""functional_layers: weights that training left float get 8 bits, a scale for each output channel."""

from __future__ import annotations

import numpy as np
from onnx import helper

from lsq_export.graph.layers import weight_codes
from lsq_export.rewrite.folding.functional_layers import quantize_weights
from support.networks import find, hand_made


def test_no_weight_is_further_off_than_half_a_step():
    rng = np.random.default_rng(0)
    weight = (rng.normal(size=(4, 3, 2, 2)) * np.array([1e-3, 1, 50, 0]).reshape(-1, 1, 1, 1)).astype(np.float32)
    model = hand_made([helper.make_node("Conv", ["x", "w"], ["y"], "conv")], {"w": weight}, (1, 3, 4, 4))
    quantize_weights(model)
    codes, scale = weight_codes(find(model, "Conv")[0])
    assert np.abs(codes).max(axis=(1, 2, 3)).tolist() == [127, 127, 127, 0]
    steps = np.abs(codes * scale.reshape(-1, 1, 1, 1) - weight) / scale.reshape(-1, 1, 1, 1)
    assert steps.max() <= 0.5 + 1e-5
    assert np.allclose(scale[:3], np.abs(weight).max(axis=(1, 2, 3))[:3] / 127, rtol=1e-6)
