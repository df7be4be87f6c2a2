"""Whole graphs equal ONNX Runtime to the bit; what the reference does not know is refused in one line."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from calib.errors import QuantizationError
from lsq_export.integer import accumulator_bounds, run
from support.integer_reference import U8, F, codes, same
from support.single_node import MICROSOFT, build, node


def network(batch: int = 2, size: int = 12) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """Quantize, stem, max pool, a residual block, global average pool, classifier: all codes are graph outputs."""
    rng = np.random.default_rng(19)
    x = {"x": rng.normal(0, 1, (batch, 3, size, size)).astype(F)}
    constants: dict[str, Any] = {
        "s": F(0.02),
        "z": U8(118),
        "bs": F(0.01),
        "t": F(0.09),
        "o": U8(60),
        "zero": U8(0),
        "iz": np.int8(0),
        "axes": np.array([2, 3]),
    }
    constants |= {
        f"w{i}": codes(rng, shape, np.int8, -60, 60)
        for i, shape in enumerate([(16, 3, 3, 3), (16, 16, 3, 3), (10, 16)])
    }
    constants |= {f"b{i}": rng.integers(-900, 900, n).astype(np.int32) for i, n in enumerate([16, 16, 10])}
    make = onnx.helper.make_node
    nodes = [
        make("QuantizeLinear", ["x", "s", "z"], ["c0"]),
        make("QLinearConv", ["c0", "s", "z", "w0", "bs", "iz", "t", "zero", "b0"], ["c1"], "stem", pads=[1, 1, 1, 1]),
        make("MaxPool", ["c1"], ["c2"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        make("QLinearConv", ["c2", "t", "zero", "w1", "bs", "iz", "t", "o", "b1"], ["c3"], "block", pads=[1, 1, 1, 1]),
        make("QLinearAdd", ["c3", "t", "o", "c2", "t", "zero", "t", "o"], ["c4"], domain=MICROSOFT),
        make("QLinearLeakyRelu", ["c4", "t", "o", "t", "zero"], ["c5"], domain=MICROSOFT, alpha=0.0),
        make("QLinearGlobalAveragePool", ["c5", "t", "zero", "bs", "zero"], ["c6"], domain=MICROSOFT, channels_last=0),
        make("Squeeze", ["c6", "axes"], ["c7"]),
        make("QGemm", ["c7", "bs", "zero", "w2", "bs", "iz", "b2"], ["y"], "classifier", domain=MICROSOFT, transB=1),
    ]
    outputs = {f"c{i}": U8 for i in range(8)} | {"y": F}
    return build(nodes, x, outputs, constants), x


def test_every_tensor_of_a_network() -> None:
    model, x = network()
    ours = same(model, x, (*(f"c{i}" for i in range(8)), "y"))
    assert set(ours) == {"x", "y", *(f"c{i}" for i in range(8))}
    del model.graph.output[:8]  # only y: the optimizer may now change the layout
    same(model, x)


def test_outputs_selects_and_on_tensor_sees_all(tmp_path: Any) -> None:
    model, x = network()
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    everything = run(path, x)
    seen: list[str] = []
    assert set(run(path, x, outputs=["c4"], on_tensor=lambda name, _: seen.append(name))) == {"c4"}
    assert seen == [*(f"c{i}" for i in range(8)), "y"]
    some = run(str(path), x, outputs=["c2", "y"])
    assert all(np.array_equal(some[name], everything[name]) for name in ("c2", "y"))
    assert set(accumulator_bounds(path)) == {"stem", "block", "classifier"}


@pytest.mark.parametrize("broken", ["s", "t", "z", "o", "bs", "b1", "w1"])
def test_a_sabotaged_constant_shows(broken: str) -> None:
    """A doubled scale, and a zero point or a bias that is off by one, change codes: the comparisons can fail."""
    model, x = network()
    good = run(model, x)
    for tensor in model.graph.initializer:
        if tensor.name == broken:
            value = onnx.numpy_helper.to_array(tensor)
            wrong = value * 2 if value.dtype == F else value + value.dtype.type(1)
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.asarray(wrong), broken))
    bad = run(model, x)
    assert any(np.any(good[name] != bad[name]) for name in good)


def test_given_tensors_take_the_place_of_computed_ones() -> None:
    model, x = network()
    computed: dict[str, np.ndarray] = {}
    given = {"c2": np.zeros_like(run(model, x)["c2"])}
    tensors = run(model, x, given=given, on_tensor=computed.__setitem__)
    plain = run(model, x)
    assert np.array_equal(computed["c2"], plain["c2"]) and np.array_equal(tensors["c2"], given["c2"])
    assert np.array_equal(tensors["c1"], plain["c1"]) and not np.array_equal(tensors["c3"], plain["c3"])


@pytest.mark.parametrize("op", ["Relu", "Sigmoid", "Conv", "BitwiseAnd"])
def test_unknown_operators_are_refused(op: str) -> None:
    x = {"x": np.zeros((1, 3), F)}
    with pytest.raises(QuantizationError, match=rf"node node \({op}\).*does not know"):
        run(node(op, x, [], F), x)


@pytest.mark.parametrize("op", ["Add", "Clip"])
def test_float_arithmetic_is_refused(op: str) -> None:
    x = {"x": np.zeros((1, 3), F)}
    with pytest.raises(QuantizationError, match=rf"node node \({op}\).*float32 arithmetic"):
        run(node(op, x, [F(1), F(2)][: 1 if op == "Add" else 2], F), x)


def test_accumulators_over_32_bits_are_refused() -> None:
    x = {"x": np.zeros((1, 3), U8)}
    w = np.full((3, 2), 255, U8)
    model = node(
        "QGemm", x, [F(1), U8(0), w, F(1), U8(0), np.full(2, 2**31 - 1, np.int32), F(1), U8(0)], domain=MICROSOFT
    )
    for attempt in (lambda: run(model, x), lambda: accumulator_bounds(model)):
        with pytest.raises(QuantizationError, match=r"node node \(com.microsoft.QGemm\).*over 32 bits"):
            attempt()


def test_bad_inputs_are_refused() -> None:
    model, x = network()
    with pytest.raises(QuantizationError, match="input x is missing"):
        run(model, {})
    with pytest.raises(QuantizationError, match="no input z"):
        run(model, {**x, "z": x["x"]})
    with pytest.raises(QuantizationError, match="float64, the model takes float32"):
        run(model, {"x": x["x"].astype(np.float64)})
    with pytest.raises(QuantizationError, match="NaN"):
        run(model, {"x": x["x"] * F(np.nan)})
    with pytest.raises(QuantizationError, match="tensor c9 is not in the model"):
        run(model, x, outputs=["c9"])
    scale = next(tensor for tensor in model.graph.initializer if tensor.name == "t")
    scale.CopyFrom(onnx.numpy_helper.from_array(np.asarray(F(-1)), "t"))
    with pytest.raises(QuantizationError, match=r"scale t is -1\.0"):
        run(model, x)
