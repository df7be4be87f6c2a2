"""Files of a bundle with one thing changed: a number has to notice it, and which one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import lsq_export
from calib.errors import QuantizationError
from lsq_export.bundle.sums import write_sums
from lsq_export.rewrite.fold import Folded
from support import sabotage
from support.exported import SHAPE, Exported
from support.old_runtime import refused_before_1_27
from support.verified import FORMATS, bias, broken, channels, damaged, resave, run_check, scale, weight, zero_point

PLACES = {"first": 0, "middle": 2, "last": -1}


# what is done, which numeric promise of qoperator has to notice, and which of qdq ("altered" notices everything).
# A qdq file runs in float32: its sums are not compared, so that a bias off by one unit shows only where it moves a
# code.
CONSTANTS: list[tuple[str, Callable[[onnx.ModelProto], None], str, str | None]] = [
    ("input scale of the first layer doubled", partial(scale, "input_scale", 0), "layers", "layers"),
    ("weight scale of the first layer doubled", partial(scale, "weight_scale", 0), "layers", "layers"),
    ("weight scale of a middle layer doubled", partial(scale, "weight_scale", 2), "layers", "layers"),
    ("output scale of the first layer doubled", partial(scale, "output_scale", 0), "layers", "layers"),
    ("output scale of a middle layer doubled", partial(scale, "output_scale", 2), "layers", "layers"),
    ("scale of the network's output doubled", partial(scale, "output_scale", -1), "output_mismatch", "output_mismatch"),
    (
        "input zero point of the first layer moved",
        partial(zero_point, "input_zero", 0),
        "accumulator_mismatch",
        "layers",
    ),
    (
        "input zero point of a middle layer moved",
        partial(zero_point, "input_zero", 2),
        "accumulator_mismatch",
        "layers",
    ),
    (
        "input zero point of the last layer moved",
        partial(zero_point, "input_zero", -1),
        "accumulator_mismatch",
        "output_mismatch",
    ),
    ("output zero point of the first layer moved", partial(zero_point, "output_zero", 0), "layers", "layers"),
    ("output zero point of a middle layer moved", partial(zero_point, "output_zero", 2), "layers", "layers"),
    *(
        (f"bias of the {name} layer off by one", partial(bias, place), "accumulator_mismatch", None)
        for name, place in PLACES.items()
    ),
    *(
        (
            f"one weight of the {name} layer negated",
            partial(weight, place),
            "accumulator_mismatch",
            "output_mismatch" if place < 0 else "layers",
        )
        for name, place in PLACES.items()
    ),
    *(
        (
            f"two channels of the {name} layer swapped",
            partial(channels, place),
            "accumulator_mismatch",
            "output_mismatch" if place < 0 else "layers",
        )
        for name, place in PLACES.items()
    ),
]


@pytest.mark.parametrize(("damage", "promise"), [c[1:3] for c in CONSTANTS], ids=[c[0] for c in CONSTANTS])
def test_a_changed_constant_is_noticed_in_qoperator(
    damage: Callable[[onnx.ModelProto], None], promise: str, exported: Exported
) -> None:
    parity = run_check(exported, {"qoperator": damaged(exported, "qoperator", damage)})
    assert not parity.ok and {promise, "altered"} <= broken(parity.formats["qoperator"])
    # ONNX Runtime and the reference run the same damaged file
    assert "reference_mismatch" not in broken(parity.formats["qoperator"])


@pytest.mark.parametrize(("damage", "promise"), [(c[1], c[3]) for c in CONSTANTS], ids=[c[0] for c in CONSTANTS])
def test_a_changed_constant_is_noticed_in_qdq(
    damage: Callable[[onnx.ModelProto], None], promise: str | None, exported: Exported
) -> None:
    parity = run_check(exported, {"qdq": damaged(exported, "qdq", damage)})
    assert not parity.ok and {promise or "altered", "altered"} <= broken(parity.formats["qdq"])


@pytest.mark.slow
@refused_before_1_27("wants one zero point for all channels of a weight")
def test_every_constant_of_qoperator_counts(exported: Exported) -> None:
    """Numbers, and not `altered` alone, notice each constant that is changed.

    All scales are doubled, all zero points moved, all biases off by one, all weights changed, one at a time.
    """
    unnoticed, tried = [], 0
    for name, array in sabotage.constants(exported.file("qoperator")).items():
        if array.dtype == np.int64:
            continue  # shapes
        how = (
            sabotage.doubled if array.dtype == np.float32 else sabotage.one_moved if array.size > 1 else sabotage.moved
        )
        parity = run_check(
            exported,
            {"qoperator": damaged(exported, "qoperator", partial(sabotage.change, name=name, how=how))},
            images=4,
        )
        tried += 1
        if broken(parity.formats["qoperator"]) <= {"altered"}:
            unnoticed.append(name)
    assert unnoticed == [] and tried > 60


def test_the_codes_of_the_grids_are_looked_up_right(exported: Exported) -> None:
    """The pairs that spread and clip low-bit codes (E5): another scale or zero point after them."""
    proto = exported.file("qoperator")
    spreads = [node for node in proto.graph.node if node.op_type == "QLinearAdd" and node.input[2] == node.input[3]]
    assert spreads
    for index, how in ((6, sabotage.doubled), (7, sabotage.moved), (2, sabotage.moved)):
        file = damaged(exported, "qoperator", partial(sabotage.change, name=spreads[0].input[index], how=how))
        assert "layers" in broken(run_check(exported, {"qoperator": file}).formats["qoperator"])
    pairs = exported.file("qdq")
    source = {node.output[0]: node for node in pairs.graph.node}
    first = next(
        n
        for n in pairs.graph.node
        if n.op_type == "QuantizeLinear" and n.input[0] in source and source[n.input[0]].op_type == "DequantizeLinear"
    )
    for name, how in ((first.input[1], sabotage.doubled), (first.input[2], sabotage.moved)):
        file = damaged(exported, "qdq", partial(sabotage.change, name=name, how=how))
        assert "layers" in broken(run_check(exported, {"qdq": file}).formats["qdq"])


def shifted(ints: list[int]) -> list[int]:
    """Pads that move the image by a pixel and keep its size."""
    return [0, 0, 2, 2] if ints == [1, 1, 1, 1] else ints


NODES: list[tuple[str, Callable[[onnx.ModelProto], None]]] = [
    (
        "pads of a convolution",
        partial(sabotage.set_attribute, op_types=("Conv", "QLinearConv"), name="pads", how=shifted),
    ),
    (
        "strides of a convolution",
        partial(sabotage.set_attribute, op_types=("Conv", "QLinearConv"), name="strides", how=lambda v: [1, 1]),
    ),
    (
        "kernel of a pool",
        partial(sabotage.set_attribute, op_types=("MaxPool",), name="kernel_shape", how=lambda v: [1, 2]),
    ),
]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("damage", [d for _, d in NODES], ids=[n for n, _ in NODES])
def test_a_changed_attribute_is_noticed(
    name: str, damage: Callable[[onnx.ModelProto], None], exported: Exported
) -> None:
    """By numbers too, also where tensors get another shape."""
    parity = run_check(exported, {name: damaged(exported, name, damage)})
    assert not parity.ok and {"altered", "layers"} <= broken(parity.formats[name])


@pytest.mark.parametrize("name", FORMATS)
def test_a_graph_that_cannot_run_is_an_error(name: str, exported: Exported) -> None:
    """The pool before a residual sum with strides of 1: the shapes no longer fit."""
    file = damaged(
        exported, name, partial(sabotage.set_attribute, op_types=("MaxPool",), name="strides", how=lambda v: [1, 1])
    )
    with pytest.raises(QuantizationError, match=f"{name}: ONNX Runtime .* cannot load it .*Incompatible dimensions"):
        run_check(exported, {name: file})


@pytest.mark.parametrize("name", FORMATS)
def test_a_missing_and_a_foreign_part_are_noticed(name: str, exported: Exported) -> None:
    extra = exported.file(name)
    extra.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(1), "stowaway"))
    renamed = exported.file(name)
    renamed.graph.node[0].name = "impostor"
    newer = exported.file(name)
    newer.opset_import[0].version += 1
    fixed = exported.file(name)
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 12
    for file, says in (
        (extra, "constant stowaway is not prescribed"),
        (renamed, "node impostor (QuantizeLinear) is not as the fold prescribes"),
        (newer, "versions are not as the fold prescribes"),
        (fixed, "inputs are not as the fold prescribes"),
    ):
        found = run_check(exported, {name: file}).formats[name]
        assert broken(found) == {"altered"} and says in found.failures[0]


def test_files_of_another_model_are_noticed(exported: Exported, other: Folded) -> None:
    from lsq_export.rewrite.emit import emit_all
    from lsq_export.targets import get

    files = emit_all(other, FORMATS, get("ort-cpu"))
    parity = run_check(exported, files)
    assert {"altered", "layers", "accumulator_mismatch"} <= broken(parity.formats["qoperator"])
    assert {"altered", "layers"} <= broken(parity.formats["qdq"])


@pytest.mark.slow
def test_packed_codes_are_noticed_as_well(exported: Exported, tmp_path: Path) -> None:
    """UINT4 and INT4, whose codes cannot leave a session: they are read from the values after them."""
    batches = [exported.batches[0]]
    bundle = lsq_export.export(
        exported.model, torch.zeros(1, *SHAPE), tmp_path / "out", calibration=batches, target="native-low-bit"
    )
    assert lsq_export.verify(exported.model, bundle, batches).ok
    packed = {onnx.TensorProto.INT4, onnx.TensorProto.UINT4}
    assert packed <= {t.data_type for t in onnx.load(bundle.models["qdq"]).graph.initializer}
    for damage, promise in (
        (partial(scale, "weight_scale", 2), "layers"),
        (partial(scale, "input_scale", 2), "layers"),
        (partial(bias, 1), "altered"),
    ):
        with_damage = lsq_export.open_bundle(bundle.directory)
        resave(with_damage.models["qdq"], damage)
        write_sums(bundle.directory)
        parity = lsq_export.verify(exported.model, with_damage, batches)
        assert not parity.ok and promise in broken(parity.formats["qdq"])
