"""Each rule on a file that breaks it, and on one that differs in that alone and does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from lsq_export import targets
from lsq_export.linting import file_rules, grid_rules, layer_rules, pattern_rules
from lsq_export.linting.onnx_file import OnnxFile
from lsq_export.linting.predicates import PREDICATES, places
from support.onnx_files import F32, I8, I32, U8, build, node

F16 = np.float16

FILES = (file_rules, grid_rules, layer_rules, pattern_rules)
ALL_ROLES = ("activation", "weight", "bias")


def qdq(name: str, x: str, scale: str = "s", zero: str = "z", *, between: str = "") -> list[onnx.NodeProto]:
    """x -> QuantizeLinear -> (between ->) DequantizeLinear -> name."""
    codes = f"{name}.codes"
    middle = [node(between, f"{codes} lo hi", f"{name}.clipped")] if between else []
    return [
        node("QuantizeLinear", f"{x} {scale} {zero}", codes, name=f"{name}.q"),
        *middle,
        node("DequantizeLinear", f"{f'{name}.clipped' if between else codes} {scale} {zero}", name, name=f"{name}.dq"),
    ]


def conv(
    bias: str = "b", weight: str = "w", *, before: str = "", after: bool = True, **attributes: Any
) -> list[onnx.NodeProto]:
    """A quantized convolution."""
    return [
        *qdq("v", "x", between=before),
        node("DequantizeLinear", "w ws wz", "wv", axis=0),
        node("DequantizeLinear", "b bs", "bv"),
        node(
            "Conv",
            f"v {'wv' if weight == 'w' else weight} {'bv' if bias == 'b' else bias}",
            "c",
            name="conv",
            **attributes,
        ),
        *(qdq("y", "c") if after else []),
    ]


def model(nodes: list[onnx.NodeProto], **changed: Any) -> onnx.ModelProto:
    """These nodes with constants that break nothing, but for those that are given."""
    kept = {key: changed.pop(key) for key in ("opset", "inputs") if key in changed}
    constants: dict[str, Any] = {
        "s": F32(0.5),
        "z": U8(0),
        "s2": F32(0.25),
        "z2": U8(3),
        "lo": U8(0),
        "hi": U8(15),
        "w": np.full((4, 3, 1, 1), 64, I8),
        "ws": F32(0.5),
        "wz": I8(0),
        "b": np.arange(4, dtype=I32),
        "bs": F32(0.25),
        "fb": np.zeros(4, F32),
        "fw": np.ones((4, 3, 1, 1), F32),
        **changed,
    }
    used = {name for n in nodes for name in n.input}
    return build(nodes, **{name: value for name, value in constants.items() if name in used}, **kept)


@dataclass
class Case:
    """A rule, a file that breaks it, one that does not; where it is broken, and a part of what is said."""

    rule: str
    broken: Callable[[], onnx.ModelProto]
    right: Callable[[], onnx.ModelProto]
    where: str
    what: str
    settings: dict[str, Any] = field(default_factory=dict)


def rounded_weight() -> list[onnx.NodeProto]:
    """A float weight that QuantizeLinear rounds in the file, on a scale for each channel."""
    return [
        *qdq("v", "x"),
        node("QuantizeLinear", "fw ws wz", "wq", axis=0),
        node("DequantizeLinear", "wq ws wz", "wv", axis=0),
        node("Conv", "v wv", "y", name="conv"),
    ]


def rounded(scale: float) -> onnx.ModelProto:
    """The second channel has 60 / scale steps, 65 or 63."""
    scales = {"ws": np.array([1, scale, 1, 1], F32), "wz": np.zeros(4, I8)}
    return model(rounded_weight(), fw=np.full((4, 3, 1, 1), 60, F32), **scales)


def pool(**attributes: int) -> onnx.ModelProto:
    return model([node("AveragePool", "x", "y", name="pool", kernel_shape=[3, 3], strides=[2, 2], **attributes)])


def of_two(*order: int) -> onnx.ModelProto:
    """Two nodes in this order, with the type of the output, as onnx.checker wants it."""
    nodes = [node("Relu", "x", "a"), node("Relu", "a", "y")]
    found = model([nodes[place] for place in order])
    found.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3, 8, 8]))
    return found


def relus(**kept: Any) -> onnx.ModelProto:
    return model([node("Relu", "x", "y")], **kept)


def residual(*, keep: bool = False, both: bool = True) -> onnx.ModelProto:
    """Two convolutions of one input, added; keep: a MaxPool on the branch. both: also the skip branch has a grid."""
    nodes = [*conv(), node("MaxPool", "v", "p", kernel_shape=[1, 1]), *qdq("m", "p")]
    kept = [node("MaxPool", "y", "k", kernel_shape=[1, 1])] if keep else []
    left = "k" if keep else "y"
    skip = "m" if both else "x"
    return model([*nodes, *kept, node("Add", f"{left} {skip}", "o", name="sum")])


def pairs(**changed: Any) -> onnx.ModelProto:
    between = changed.pop("between", "")
    return model([*qdq("a", "x", between=between), *qdq("y", "a", "s2", "z2")], **changed)


def sigmoid(zero: int) -> onnx.ModelProto:
    after = [node("Sigmoid", "y", "g", name="gate"), *qdq("o", "g", "s2", "z2")]
    return model([*conv(), *after], z2=U8(zero))


def low_bit(codes: Any, weights: Any, opset: int = 21) -> onnx.ModelProto:
    nodes = [*qdq("v", "x"), node("DequantizeLinear", "w ws", "wv"), node("Conv", "v wv", "y", name="conv")]
    return model(nodes, z=codes, w=weights, opset=opset)


def narrow(kind: int, shape: tuple[int, ...] = ()) -> onnx.TensorProto:
    return helper.make_tensor(
        {TensorProto.UINT4: "z"}.get(kind, "w"), kind, shape, np.zeros(shape, np.int64).reshape(-1)
    )


WEIGHTS = np.full((4, 3, 1, 1), 64, I8)
CASES = [
    Case("valid", lambda: of_two(1, 0), lambda: of_two(0, 1), "the file", "topologically sorted"),
    Case("opset", lambda: relus(opset=17), lambda: relus(opset=19), "the file", "17, and at least 19", {"lowest": 19}),
    Case(
        "opset",
        lambda: model(qdq("y", "x"), opset=17),
        lambda: relus(opset=17),
        "the file",
        "17, and at least 19",
        {"lowest": 19, "having": "DequantizeLinear"},
    ),
    Case("opset", lambda: relus(opset=22), lambda: relus(opset=21), "the file", "22, and at most 21", {"highest": 21}),
    Case(
        "domains",
        lambda: model([node("QLinearSigmoid", "c s z s z", "y", name="gate")], c=np.zeros(3, U8)),
        relus,
        "com.microsoft.QLinearSigmoid gate",
        "domain com.microsoft",
        {"allowed": ("ai.onnx.ml",)},
    ),
    Case(
        "operators",
        lambda: model([node("MatMulInteger", "c c", "y", name="product")], c=np.zeros((2, 2), U8)),
        relus,
        "MatMulInteger product",
        "not read",
        {"forbidden": ("MatMulInteger",)},
    ),
    Case(
        "fixed-inputs",
        relus,
        lambda: relus(inputs=(TensorProto.FLOAT, [1, 3, 8, 8])),
        "input x",
        "sizes that vary (N)",
    ),
    Case(
        "fixed-inputs",
        relus,
        lambda: relus(inputs=(TensorProto.FLOAT, [1, 3, "H", 8])),
        "input x",
        "sizes that vary (N)",
        {"axes": "batch"},
    ),
    Case(
        "batch",
        lambda: relus(inputs=(TensorProto.FLOAT, [2, 3])),
        lambda: relus(inputs=(TensorProto.FLOAT, [1, 3])),
        "input x",
        "a batch of 2",
        {"size": 1},
    ),
    Case("file-size", lambda: model(conv()), relus, "the file", "at most 300", {"largest": 300}),
    Case(
        "padded-ceil-average",
        lambda: pool(ceil_mode=1, count_include_pad=1),
        lambda: pool(ceil_mode=1),
        "AveragePool pool",
        "ceil_mode and count_include_pad",
    ),
    Case(
        "code-types",
        lambda: model(qdq("y", "x")),
        lambda: model(qdq("y", "x"), z=I8(0)),
        "QuantizeLinear y.q",
        "type UINT8 (activation y.codes)",
        {"allowed": ("INT8",)},
    ),
    Case(
        "code-types",
        lambda: model(conv(), w=np.full((4, 3, 1, 1), 128, U8), wz=U8(128)),
        lambda: model(conv()),
        "DequantizeLinear wv",
        "type UINT8 (weight w)",
        {"allowed": ("INT8",), "roles": ("weight",)},
    ),
    Case(
        "zero-points",
        lambda: model(qdq("y", "x"), z=U8(7)),
        lambda: model(qdq("y", "x")),
        "QuantizeLinear y.q",
        "zero point 7, not 0",
    ),
    Case(
        "zero-points",
        lambda: model(conv(), w=np.zeros((4, 3, 1, 1), U8), wz=U8(128), z=U8(9)),
        lambda: model(conv(), z=U8(9)),
        "DequantizeLinear wv",
        "zero point 128",
        {"roles": ("weight",)},
    ),
    Case(
        "zero-points",
        lambda: model([*qdq("v", "x", "s2", "z2"), *qdq("y", "v")]),
        lambda: model([*qdq("v", "x"), *qdq("y", "v", "s2", "z2")]),
        "QuantizeLinear v.q",
        "zero point 3",
        {"roles": ("input",)},
    ),
    Case(
        "zero-points",
        lambda: model(qdq("y", "x")),
        lambda: model(qdq("y", "x"), z=U8(128)),
        "QuantizeLinear y.q",
        "zero point 0, not 128",
        {"of_types": {"UINT8": 128}},
    ),
    Case(
        "scale-types",
        lambda: model(qdq("y", "x"), s=F16(0.25)),
        lambda: model(qdq("y", "x")),
        "QuantizeLinear y.q",
        "scale of the type FLOAT16",
        {"half_from": 19, "mixed_from": 23},
    ),
    Case(
        "scale-types",
        lambda: model(qdq("y", "x"), s=F16(0.25), opset=21),
        lambda: model(qdq("y", "x"), s=F16(0.25), opset=23),
        "QuantizeLinear y.q",
        "scale of the type FLOAT16 beside values of the type FLOAT",
        {"half_from": 19, "mixed_from": 23},
    ),
    Case(
        "code-types",
        lambda: model([node("QuantizeLinear", "x s z", "c"), node("QGemm", "c s z w ws wz - s2 wz", "y", name="fc")]),
        lambda: model([node("QuantizeLinear", "x s z", "c"), node("QGemm", "c s z w ws wz", "y")]),  # it makes floats
        "com.microsoft.QGemm fc",
        "has codes of the type INT8 (activation y)",
        {"allowed": ("UINT8",)},
    ),
    Case(
        "scale-types",
        lambda: model([node("QLinearSigmoid", "c s z s z", "y", name="gate")], c=np.zeros(3, U8), s=F16(0.25)),
        lambda: model(qdq("y", "x"), s=F16(0.25)),
        "com.microsoft.QLinearSigmoid gate",
        "scale of the type FLOAT16",
        {"half_from": 13, "mixed_from": 13},
    ),
    Case(
        "float16-scales",
        lambda: model([node("Cast", "h", "rounded", to=1), *qdq("y", "x", "rounded")], h=F16(0.1)),
        lambda: model([node("Cast", "s2", "same", to=1), *qdq("y", "x", "same")]),
        "QuantizeLinear y.q",
        "scale that was rounded to FLOAT16",
    ),
    Case(
        "float16-scales",
        lambda: model([node("Cast", "s", "h", to=10), node("Cast", "h", "f", to=1), *qdq("y", "x", "f")]),
        lambda: model([node("Cast", "s", "f", to=1), *qdq("y", "x", "f")]),
        "QuantizeLinear y.q",
        "scale that was rounded to FLOAT16",
    ),
    Case(
        "one-dequantize",
        lambda: model([*qdq("v", "x"), node("DequantizeLinear", "v.codes s2 z", "y", name="again")]),
        lambda: model(
            [
                *qdq("v", "x"),
                node("DequantizeLinear", "v.codes s z", "y", name="again"),
                node("DequantizeLinear", "w ws wz", "stored"),
                node("DequantizeLinear", "w s2 wz", "too"),
            ]
        ),
        "DequantizeLinear again",
        "another scale than DequantizeLinear v.dq for v.codes",
    ),
    Case(
        "power-of-two-scales",
        lambda: model(qdq("y", "x"), s=F32(0.3)),
        lambda: model(qdq("y", "x")),
        "QuantizeLinear y.q",
        "scale 0.3",
    ),
    Case(
        "one-scale",
        lambda: model(conv(), ws=np.full(4, 0.5, F32), wz=np.zeros(4, I8)),
        lambda: model(conv()),
        "DequantizeLinear wv",
        "4 scales (weight w)",
    ),
    Case(
        "no-clip-on-codes",
        lambda: model(qdq("y", "x", between="Clip")),
        lambda: model([node("Clip", "x flo", "a"), *qdq("y", "a")], flo=F32(0)),
        "Clip y.clipped",
        "codes of the type UINT8",
    ),
    Case(
        "weight-types",
        lambda: model(conv(), w=np.full((4, 3, 1, 1), 128, U8), wz=U8(128)),
        lambda: model(conv()),
        "Conv conv",
        "weights of the type UINT8",
        {"allowed": ("INT8",), "layers": ("Conv",)},
    ),
    Case("float-bias", lambda: model(conv()), lambda: model(conv("fb")), "Conv conv", "quantized bias (INT32)"),
    Case("quantized-bias", lambda: model(conv("fb")), lambda: model(conv()), "Conv conv", "a float bias"),
    Case("bias-scale", lambda: model(conv(), bs=F32(0.3)), lambda: model(conv()), "Conv conv", "bias scale 0.3"),
    Case(
        "no-saturation",
        lambda: model(conv(), w=np.full((4, 3, 1, 1), 65, I8)),
        lambda: model(conv()),
        "Conv conv",
        "codes up to 255",
    ),
    Case(
        "no-saturation",
        lambda: model(conv(), w=np.full((4, 3, 1, 1), 127, I8)),
        lambda: model(conv(before="Clip"), w=np.full((4, 3, 1, 1), 127, I8)),
        "Conv conv",
        "codes up to 255",
    ),
    Case(
        "no-saturation",
        lambda: model(conv(), w=np.full((4, 3, 1, 1), 65, I8), z=I8(0)),
        lambda: model(conv(), z=I8(0)),
        "Conv conv",
        "codes up to 255",
        {"types": ("UINT8", "INT8")},
    ),
    Case(
        "no-saturation",
        lambda: rounded(0.92),
        lambda: rounded(0.95),
        "Conv conv",
        "two weights of channel 1 times codes up to 255",
    ),
    Case(
        "quantized-layers",
        lambda: model(conv(after=False)),
        lambda: model(conv()),
        "Conv conv",
        "no grid at its output",
    ),
    Case(
        "quantized-layers",
        lambda: model([*qdq("v", "x"), node("Conv", "v fw", "c", name="conv"), *qdq("y", "c")]),
        lambda: model(conv()),
        "Conv conv",
        "no grid at its weight",
    ),
    Case(
        "float-weights",
        lambda: model([*qdq("v", "x"), node("Conv", "v fw", "c", name="conv"), *qdq("y", "c")]),
        lambda: model([*qdq("v", "x"), node("Conv", "v fw", "y", name="conv")]),
        "Conv conv",
        "a float weight",
    ),
    Case(
        "strided-pointwise",
        lambda: model(conv(strides=[2, 2])),
        lambda: model(conv(strides=[1, 1])),
        "Conv conv",
        "strides of 2 × 2",
    ),
    Case(
        "grouped-pixels",
        lambda: model(conv(group=2), w=np.ones((4, 2, 1, 1), I8)),
        lambda: model(conv(group=4), w=np.ones((4, 1, 1, 1), I8)),
        "Conv conv",
        "2 groups of 2 channels",
    ),
    Case("residual-grid", residual, lambda: residual(keep=True), "Add sum", "reads y, codes of a convolution"),
    Case("skip-grid", lambda: residual(both=False), residual, "Add sum", "reads x, which has no grid"),
    Case("merged-pairs", pairs, lambda: pairs(between="Clip"), "DequantizeLinear y.dq", "two pairs in a row"),
    Case(
        "merged-pairs",
        lambda: pairs(z=I8(0), z2=I8(3)),
        lambda: pairs(s2=F32(0.5), z2=U8(0)),
        "DequantizeLinear y.dq",
        "two pairs in a row",
    ),
    Case("sigmoid-zero-points", lambda: sigmoid(3), lambda: sigmoid(0), "Sigmoid gate", "zero points 0 and 3"),
    Case(
        "equal-widths",
        lambda: low_bit(narrow(TensorProto.UINT4), WEIGHTS),
        lambda: low_bit(narrow(TensorProto.UINT4), narrow(TensorProto.INT4, WEIGHTS.shape)),
        "Conv conv",
        "type UINT4 with weights of the type INT8",
    ),
    Case(
        "equal-widths",
        lambda: low_bit(U8(0), narrow(TensorProto.INT2, WEIGHTS.shape), 25),
        lambda: low_bit(U8(0), narrow(TensorProto.INT4, WEIGHTS.shape)),
        "Conv conv",
        "type UINT8 with weights of the type INT2",
    ),
]


def found(case: Case, file: onnx.ModelProto) -> list[tuple[str, str]]:
    return places(case.rule, OnnxFile(None, file), case.settings)


@pytest.mark.parametrize("case", CASES, ids=[f"{i}-{case.rule}" for i, case in enumerate(CASES)])
def test_a_rule_finds_what_breaks_it_and_nothing_else(case: Case) -> None:
    broken = found(case, case.broken())
    assert case.where in dict(broken), broken
    assert case.what in dict(broken)[case.where]
    assert found(case, case.right()) == []


def test_every_rule_has_a_case() -> None:
    assert {case.rule for case in CASES} == set(PREDICATES)


@pytest.mark.parametrize("target", targets.everything(), ids=lambda target: target.name)
def test_every_rule_of_a_target_has_a_source_and_says_what_to_do(target: targets.Target) -> None:
    """A document and its version, or what was measured, with the runtime and the day."""
    assert target.rules and target.versions
    for rule in target.rules:
        assert rule.predicate in PREDICATES
        assert any(character.isdigit() for character in rule.source) or "https://" in rule.source
        assert "https://" in rule.source or rule.source.startswith("measured with ")
        assert len(rule.instead) > 10 and "\n" not in rule.source + rule.instead
        places(rule.predicate, OnnxFile(None, model(conv())), dict(rule.settings))  # it takes the settings


def test_a_place_is_named_once() -> None:
    twice = model([node("QLinearSigmoid", "c s z s z", "y", name="gate")], c=np.zeros(3, U8), z=U8(9))
    assert len(places("zero-points", OnnxFile(None, twice), {})) == 2  # its input and its output
    again = model([*qdq("v", "x"), node("Add", "v v", "y")], z=U8(9))
    assert len(places("zero-points", OnnxFile(None, again), {})) == 2
