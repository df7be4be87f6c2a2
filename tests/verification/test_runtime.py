"""lsq_export/verification/runtime.py: sessions with any tensor as an output, and codes read from values."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from calib.errors import QuantizationError
from lsq_export.verification.runtime import Readable, Session, integer_tensors, readable_codes
from support.onnx_files import F32, U8, build, node

INPUTS = (TensorProto.FLOAT, ["N", 4])
X = np.array([[-1, 0.2, 0.8, 100]], F32)


def pairs() -> onnx.ModelProto:
    """Quantize, pool-free: codes q, values f, their clip c."""
    nodes = [
        node("QuantizeLinear", "x s z", "q", name="quantize"),
        node("DequantizeLinear", "q s z", "f", name="dequantize"),
        node("Relu", "f", "y", name="relu"),
    ]
    return build(nodes, inputs=INPUTS, s=F32(0.5), z=U8(10))


def test_a_session_gives_the_outputs_and_the_tensors_asked_for() -> None:
    proto = pairs()
    before = proto.SerializeToString(deterministic=True)
    assert list(Session(proto).run(X)) == ["y"]
    for level in ("default", "disabled"):
        found = Session(proto, level, ["q", "y"]).run(X)
        assert list(found) == ["y", "q"] and found["q"].tolist() == [[8, 10, 12, 210]]
    assert proto.SerializeToString(deterministic=True) == before


def test_a_file_that_cannot_be_loaded_is_one_line() -> None:
    broken = build([node("Relu", "nothing", "y")])
    with pytest.raises(QuantizationError, match=r"^qdq: ONNX Runtime \S+ cannot load it \(") as error:
        Session(broken, what="qdq")
    assert "\n" not in str(error.value)


def test_an_input_that_cannot_be_run_is_one_line() -> None:
    with pytest.raises(QuantizationError, match=r"^model: ONNX Runtime \S+ cannot run it \(") as error:
        Session(pairs()).run(np.zeros((1, 5), F32))
    assert "\n" not in str(error.value)


def test_every_output_of_every_node_is_a_tensor() -> None:
    split = helper.make_node("Split", ["y"], ["a", "", "b"])
    proto = pairs()
    proto.graph.node.append(split)
    assert integer_tensors(proto) == ["q", "f", "y", "a", "b"]


def test_codes_are_read_from_their_values() -> None:
    (name, readable), *more = readable_codes(pairs()).items()
    assert more == [] and name == "q" and readable == Readable(values="f", scale=0.5, zero_point=10)
    found = Session(pairs(), "disabled", ["q", "f"]).run(X)
    codes = readable.codes(found["f"])
    assert codes.dtype == np.int32 and codes.tolist() == found["q"].tolist()


def test_weights_are_not_read() -> None:
    """They are constants of the file, which is compared as it is."""
    nodes = [node("DequantizeLinear", "w s z", "v", name="weight"), node("Add", "x v", "y", name="add")]
    assert readable_codes(build(nodes, inputs=INPUTS, w=np.zeros(4, U8), s=F32(0.5), z=U8(10))) == {}


@pytest.mark.parametrize("scale", [0.1, 1 / 3, 7e-4, 1e4])
def test_every_code_comes_back(scale: float) -> None:
    codes = np.arange(256)
    values = (codes - 37).astype(F32) * F32(scale)
    assert np.array_equal(Readable(values="f", scale=float(F32(scale)), zero_point=37).codes(values), codes)
