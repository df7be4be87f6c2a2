"""lsq_export/verification/class_axis.py: where the classes of an output lie."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest

from lsq_export.verification.class_axis import class_axis


def graph_of(body: str, rank: int) -> ir.Graph:
    """x is an image, t tokens, r rows; w a constant; the output is y."""
    sizes = ",".join("NABC"[:rank])
    text = (
        '<ir_version: 8, opset_import: ["" : 20]> '
        f"g (float[N,4,9,9] x, float[N,9,4] t, float[M,4] r) => (float[{sizes}] y) "
        "<float[4,4] w = {1,0,0,0,0,1,0,0,0,0,1,0,0,0,0,1}, float[4] b = {1,1,1,1}, float[4,4,1,1] k = "
        "{1,0,0,0,0,1,0,0,0,0,1,0,0,0,0,1}, int64[3] s = {-1,4,4}, int64[2] c = {-1,16}> {" + body + "}"
    )
    return ir.from_proto(onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text))).graph


@pytest.mark.parametrize(
    ("body", "rank", "axis"),
    [
        ("y = Conv(x, k)", 4, 1),
        ("m = Conv(x, k) y = Sigmoid(m)", 4, 1),
        ("y = Softmax <axis=1> (x)", 4, 1),
        ("y = Softmax <axis=3> (x)", 4, 3),
        ("y = MatMul(r, w)", 2, 1),
        ("y = MatMul(t, w)", 3, 2),
        ("m = MatMul(t, w) p = Add(m, b) y = Relu(p)", 3, 2),
        ("m = Gemm(r, w) y = Reshape(m, s)", 3, 2),
        ("m = MatMul(t, w) y = Transpose <perm=[0,2,1]> (m)", 3, 1),
        ("m = MatMul(t, w) y = Reshape(m, c)", 2, 1),
        ("y = LayerNormalization <axis=-1> (t, b)", 3, 2),
        ("y = LogSoftmax(t)", 3, 2),
        ("m = MatMul(t, w) y = Mul(m, t)", 3, 1),
        ("y = Identity(x)", 4, 1),
    ],
)
def test_the_operators_at_the_end_say_it(body: str, rank: int, axis: int) -> None:
    assert class_axis(graph_of(body, rank)) == axis
