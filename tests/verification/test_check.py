"""verify: holds for what was exported, and fails for every graph that is not it, whichever promise has to notice."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn

import calib
import lsq_export
from calib.errors import QuantizationError
from lsq_export.bundle.directory import FOLDED, TRAINED
from lsq_export.bundle.sums import write_sums
from lsq_export.cli import cli
from lsq_export.graph.capture import capture
from lsq_export.rewrite.fold import Folded, fold
from lsq_export.verification.captured import CaptureCheck
from lsq_export.verification.check import Subject, check
from lsq_export.verification.format_parity import FormatParity
from lsq_export.verification.layer_parity import QDQ_TIES, TIES, LayerParity
from lsq_export.verification.parity import Parity
from support import sabotage
from support.exported import CLASSES, SHAPE, Exported, images, prepared

FORMATS = ("qdq", "qoperator")
PLACES = {"first": 0, "middle": 2, "last": -1}


def run_check(exported: Exported, files: dict[str, onnx.ModelProto], **changes: Any) -> Parity:
    """`check` on graphs in memory:

    no SHA256SUMS. changes: other graphs or another model instead of the bundle's; images: how many to run on.
    """
    count = changes.pop("images", 12)
    x, y = (torch.cat(parts)[:count] for parts in zip(*exported.batches, strict=True))
    model = changes.pop("model", exported.model)
    graphs = {"trained": exported.graph(TRAINED), "folded": exported.graph(), **changes}
    return check(Subject(**graphs, files=files, target="ort-cpu"), [(x, y)], model=model)


def broken(parity: FormatParity) -> set[str]:
    """The promises that a format breaks, by name."""
    exact = parity.name == "qoperator"
    promises = {
        "reference_mismatch": exact and parity.reference_mismatch > 0,
        "accumulator_mismatch": parity.accumulator_mismatch > 0,
        "output_mismatch": parity.output_mismatch > 0,
        "layers": not all(layer.within(TIES if exact else QDQ_TIES) for layer in parity.layers),
        "altered": bool(parity.altered),
    }
    assert parity.ok == (not any(promises.values())) == (not parity.failures)
    return {name for name, is_broken in promises.items() if is_broken}


def damaged(exported: Exported, name: str, damage: Callable[[onnx.ModelProto], None]) -> onnx.ModelProto:
    file = exported.file(name)
    damage(file)
    return file


@pytest.fixture(scope="module")
def other() -> Folded:
    """The graphs of a network like the exported one, with other weights."""
    return fold(capture(prepared(seed=1), torch.zeros(1, *SHAPE)), [images(seed=1)[0]])


# What holds


def test_the_untouched_bundle_holds(exported: Exported) -> None:
    parity = lsq_export.verify(exported.model, exported.bundle, exported.batches)
    assert parity.ok and parity.failures == [] and parity.images == 24 and parity.damaged == parity.golden == ()
    assert parity.capture_error is not None and parity.capture_error < 1e-5
    assert parity.folded_sqnr_db > 20
    for name in FORMATS:
        found = parity.formats[name]
        assert found.ok and broken(found) == set() and found.name == name
        assert (
            found.reference_mismatch == 0
            and found.first_mismatch is None
            and found.accumulator_mismatch == 0
            and found.output_mismatch == 0
        )
        assert found.top1_agreement > 0.9 and found.sqnr_db > 20  # 24 images, untrained
        assert all(layer.differing == 0 and layer.largest == 0 and layer.elements > 0 for layer in found.layers)
    assert {layer.name for layer in parity.formats["qoperator"].layers} >= {
        t["codes"] for t in exported.bundle.manifest["tensors"]
    }


def test_without_the_model_the_bundle_vouches_for_it(exported: Exported) -> None:
    parity = lsq_export.verify(None, str(exported.bundle.directory), exported.batches)
    assert parity.ok and parity.capture_error is None
    with_model = lsq_export.verify(exported.model, exported.bundle, exported.batches)
    assert parity.formats["qdq"].sqnr_db == pytest.approx(with_model.formats["qdq"].sqnr_db, abs=1e-3)


def decibel(found: np.ndarray, expected: np.ndarray) -> float:
    return 10 * math.log10((expected.astype(float) ** 2).sum() / ((found - expected).astype(float) ** 2).sum())


def test_numbers_against_the_trained_model_are_its_own(exported: Exported) -> None:
    """Agreement, SQNR and accuracies, computed a second time from outputs alone."""
    x, y = torch.from_numpy(exported.inputs), np.concatenate([y for _, y in exported.batches])
    with torch.no_grad():
        trained, nudged = exported.model(x).numpy(), exported.model(x * 1.0001).numpy()
    session = onnxruntime.InferenceSession(exported.bundle.models["qoperator"])
    (found,) = session.run(None, {"input": x.numpy()})
    parity = lsq_export.verify(exported.model, exported.bundle, exported.batches)
    same = parity.formats["qoperator"]
    assert same.top1_agreement == (found.argmax(1) == trained.argmax(1)).mean()
    assert same.sqnr_db == pytest.approx(decibel(found, trained), abs=1e-3)
    assert parity.nudged_top1_agreement == (nudged.argmax(1) == trained.argmax(1)).mean()
    assert (
        parity.nudged_sqnr_db == pytest.approx(decibel(nudged, trained), abs=0.1) and 20 < parity.nudged_sqnr_db < 100
    )
    assert same.accuracy == (found.argmax(1) == y).mean() and parity.trained_accuracy == (trained.argmax(1) == y).mean()


def test_a_nudge_does_not_overflow(exported: Exported) -> None:
    x = exported.batches[0][0].clone()
    x[0] = torch.finfo(torch.float32).max
    parity = lsq_export.verify(None, exported.bundle, [x])
    assert math.isfinite(parity.nudged_sqnr_db) and parity.nudged_top1_agreement > 0.5


def test_inputs_alone_give_no_accuracies(exported: Exported) -> None:
    parity = lsq_export.verify(exported.model, exported.bundle, [x for x, _ in exported.batches])
    assert (
        parity.ok
        and parity.trained_accuracy is None
        and parity.folded_accuracy is None
        and parity.formats["qdq"].accuracy is None
    )


def test_the_model_keeps_its_modes(exported: Exported) -> None:
    model = prepared(seed=0).train()
    model.bn1.eval()
    modes = [m.training for m in model.modules()]
    lsq_export.verify(model, exported.bundle, exported.batches)
    assert [m.training for m in model.modules()] == modes


def test_progress_counts_images(exported: Exported) -> None:
    seen: list[int] = []
    lsq_export.verify(None, exported.bundle, exported.batches, progress=seen.append)
    assert seen == [16, 24]


# Sabotage: constants


def scale(role: str, place: int, proto: onnx.ModelProto) -> None:
    sabotage.change(proto, getattr(sabotage.layers(proto)[place], role), sabotage.doubled)


def zero_point(role: str, place: int, proto: onnx.ModelProto) -> None:
    sabotage.change(proto, getattr(sabotage.layers(proto)[place], role), sabotage.moved)


def bias(place: int, proto: onnx.ModelProto) -> None:
    sabotage.change(proto, sabotage.layers(proto)[place].bias, sabotage.one_moved)


def weight(place: int, proto: onnx.ModelProto) -> None:
    sabotage.change(proto, sabotage.layers(proto)[place].weight, sabotage.one_flipped)


def channels(place: int, proto: onnx.ModelProto) -> None:
    columns = any(
        node.op_type == "MatMulInteger" and sabotage.layers(proto)[place].weight in node.input
        for node in proto.graph.node
    )
    sabotage.change(
        proto, sabotage.layers(proto)[place].weight, sabotage.columns_swapped if columns else sabotage.rows_swapped
    )


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
    assert "reference_mismatch" not in broken(
        parity.formats["qoperator"]
    )  # ONNX Runtime and the reference run the same damaged file


@pytest.mark.parametrize(("damage", "promise"), [(c[1], c[3]) for c in CONSTANTS], ids=[c[0] for c in CONSTANTS])
def test_a_changed_constant_is_noticed_in_qdq(
    damage: Callable[[onnx.ModelProto], None], promise: str | None, exported: Exported
) -> None:
    parity = run_check(exported, {"qdq": damaged(exported, "qdq", damage)})
    assert not parity.ok and {promise or "altered", "altered"} <= broken(parity.formats["qdq"])


def test_every_constant_of_qoperator_counts(exported: Exported) -> None:
    """All scales doubled, all zero points moved, all biases off by one, all weights changed, one at a time:

    numbers notice each (not `altered`).
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
    """The pairs that spread and clip low-bit codes (E5): another scale or zero point behind them."""
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


# Sabotage: nodes


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
    """The pool in front of a residual sum with strides of 1: the shapes no longer fit."""
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


def test_packed_codes_are_noticed_as_well(exported: Exported, tmp_path: Path) -> None:
    """UINT4 and INT4, whose codes cannot leave a session: they are read from the values behind them."""
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
        parity = lsq_export.verify(exported.model, with_damage, batches)
        assert not parity.ok and promise in broken(parity.formats["qdq"])


def test_the_number_of_threads_changes_nothing(exported: Exported) -> None:
    found = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(lsq_export.verify(exported.model, exported.bundle, exported.batches).to_dict())
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1]


def test_outputs_that_part_for_flipped_codes_are_no_failure_of_the_capture(exported: Exported) -> None:
    """Outputs that part on the way, as in a chaotic network:

    each layer is the trained one on the same inputs, and a wrong one is named.
    """
    x = torch.cat([b[0] for b in exported.batches])
    for weight, broken_layer in (("pointwise", "grouped.input"), ("fc", "output 0"), (None, None)):
        model = prepared(seed=0)
        if weight:
            with torch.no_grad():
                model.get_submodule(weight).parametrizations.weight.original[:2] *= -1
        seen = CaptureCheck(exported.graph(TRAINED).graph, model)
        outputs = seen.outputs(x)
        seen.add(x, [v + 0.1 * np.abs(v).max() for v in outputs], outputs)  # as if codes had flipped
        layers = seen.layers()
        assert seen.error > 0.05 and {"conv1.input", "grouped.input", "output 0"} <= {layer.name for layer in layers}
        assert next((layer.name for layer in layers if not layer.within(QDQ_TIES)), None) == broken_layer


# Sabotage: references


def test_a_folded_model_of_other_weights_is_noticed(exported: Exported, other: Folded) -> None:
    parity = run_check(exported, {name: exported.file(name) for name in FORMATS}, folded=other.model)
    assert {"altered", "layers", "accumulator_mismatch", "output_mismatch"} <= broken(parity.formats["qoperator"])
    assert {"altered", "layers"} <= broken(parity.formats["qdq"])


def test_a_trained_model_of_other_weights_is_noticed(exported: Exported, other: Folded) -> None:
    """The captured graph against the PyTorch model, both ways round."""
    files = {name: exported.file(name) for name in FORMATS}
    for changes in ({"trained": other.trained}, {"model": prepared(seed=1)}):
        parity = run_check(exported, files, **changes)
        assert parity.capture_error is not None and parity.capture_error > 0.01 and not parity.ok
        assert any("the captured graph is not the trained model" in line for line in parity.failures)


def test_a_trained_model_with_one_scale_changed_is_noticed(exported: Exported) -> None:
    model = prepared(seed=0)
    with torch.no_grad():
        lsq_export.quantizers(model)["pointwise.input"].scale *= 1.1
    assert not lsq_export.verify(model, exported.bundle, exported.batches).ok


def test_outputs_of_another_shape_are_an_error(exported: Exported) -> None:
    model = prepared(seed=0)
    model.fc = nn.Linear(48, CLASSES + 1)
    with pytest.raises(QuantizationError, match="is it another model's bundle"):
        lsq_export.verify(model, exported.bundle, exported.batches)


# Sabotage: the runtime


class Liar:
    """An ONNX Runtime that changes one element of one tensor, in the sessions that have it, if `where` (the number of
    the session) says so.
    """

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        tensor: str,
        step: float = 1,
        where: Callable[[int], bool] = lambda session: True,
    ) -> None:
        self.told = 0
        self._sessions: dict[int, int] = {}
        honest = onnxruntime.InferenceSession.run

        def run(session: Any, names: Any, feed: Any, options: Any = None) -> list[np.ndarray]:
            number = self._sessions.setdefault(id(session), len(self._sessions))
            values = honest(session, names, feed, options)
            for output, value in zip(session.get_outputs(), values, strict=True):
                if output.name == tensor and where(number):
                    self.told += 1
                    element = value.flat[value.size // 2]
                    value.flat[value.size // 2] = (
                        element + step if element < 100 else element - np.asarray(step, value.dtype)
                    )
            return values

        monkeypatch.setattr(onnxruntime.InferenceSession, "run", run)


def qoperator_tensors(exported: Exported) -> list[str]:
    return [name for node in exported.file("qoperator").graph.node for name in node.output]


@pytest.mark.parametrize("place", [0, 5, -2, -1])
def test_a_runtime_that_computes_something_else_is_noticed(
    place: int, exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One element of one tensor, one code off: first, middle, the accumulator, the output."""
    tensor = qoperator_tensors(exported)[place]
    liar = Liar(monkeypatch, tensor)
    parity = run_check(exported, {"qoperator": exported.file("qoperator")})
    found = parity.formats["qoperator"]
    assert (
        broken(found) == {"reference_mismatch"}
        and found.reference_mismatch == liar.told > 0
        and found.first_mismatch == tensor
    )
    assert tensor in parity.failures[0]


@pytest.mark.parametrize(
    ("session", "tensor"),
    [(0, -1), (1, 5), (2, 5)],
    ids=["as deployed", "every tensor, optimized", "every tensor, not optimized"],
)
def test_every_session_is_compared(
    session: int, tensor: int, exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    Liar(monkeypatch, qoperator_tensors(exported)[tensor], where=lambda number: number == session)
    found = run_check(exported, {"qoperator": exported.file("qoperator")}).formats["qoperator"]
    assert broken(found) == {"reference_mismatch"} and found.reference_mismatch == 1


def test_a_runtime_that_gives_nan_is_noticed(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = onnxruntime.InferenceSession.run

    def run(session: Any, *args: Any) -> list[np.ndarray]:
        values = honest(session, *args)
        values[0][0] = np.nan
        return values

    monkeypatch.setattr(onnxruntime.InferenceSession, "run", run)
    parity = run_check(exported, {"qoperator": exported.file("qoperator")})
    assert parity.formats["qoperator"].reference_mismatch >= CLASSES and not parity.ok
    assert json.loads(json.dumps(parity.to_dict(), allow_nan=False))["formats"]["qoperator"]["sqnr_db"] is None


def test_a_code_that_is_two_off_in_qdq_is_no_tie(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes of a qdq file are read from the values behind them."""
    proto = exported.file("qdq")
    made = {node.output[0]: node for node in proto.graph.node}
    values = next(
        n
        for n in proto.graph.node
        if n.op_type == "DequantizeLinear" and n.input[0] in made and made[n.input[0]].op_type == "QuantizeLinear"
    )
    liar = Liar(monkeypatch, values.output[0], step=2 * float(sabotage.constants(proto)[values.input[1]]))
    assert broken(run_check(exported, {"qdq": proto}).formats["qdq"]) == {"layers"} and liar.told == 1


# Parity as data


def layer(differing: int, largest: int, elements: int = 10**6) -> LayerParity:
    return LayerParity(
        name="t",
        elements=elements,
        differing=differing / elements,
        largest=largest,
        histogram={largest: differing} if differing else {},
    )


def format_parity(name: str = "qoperator", **changes: Any) -> FormatParity:
    values = {
        "top1_agreement": 1.0,
        "sqnr_db": 40.0,
        "accuracy": None,
        "reference_mismatch": 0,
        "first_mismatch": None,
        "accumulator_mismatch": 0,
    }
    return FormatParity(
        **{"name": name, **values, "output_mismatch": 0, "altered": (), "layers": (layer(0, 0),), **changes}
    )


def parity_of(*formats: FormatParity, **changes: Any) -> Parity:
    values = {
        "images": 4,
        "trained_accuracy": None,
        "folded_accuracy": None,
        "folded_top1_agreement": 1.0,
        "folded_sqnr_db": 40.0,
    }
    values |= {"nudged_top1_agreement": 1.0, "nudged_sqnr_db": 40.0}
    return Parity(**{"formats": {f.name: f for f in formats}, **values, "capture_error": None, **changes})


@pytest.mark.parametrize(
    ("differing", "largest", "qoperator", "qdq"),
    [
        (0, 0, True, True),
        (10, 1, True, True),
        (11, 1, False, True),
        (1000, 1, False, True),
        (1001, 1, False, False),
        (1, 2, False, False),
    ],
)
def test_ties(differing: int, largest: int, qoperator: bool, qdq: bool) -> None:
    """1e-5 of a qoperator layer's codes, 1e-3 of a qdq layer's, each by one code."""
    for name, holds in (("qoperator", qoperator), ("qdq", qdq)):
        assert format_parity(name, layers=(layer(differing, largest),)).ok is holds


@pytest.mark.parametrize(
    ("changes", "ok"),
    [
        ({}, True),
        ({"capture_error": 1e-4}, True),
        ({"capture_error": 2e-3}, False),
        (
            {"capture_error": 0.1, "captured_layers": (layer(4, 1, 4000),)},
            True,
        ),  # ties that flip others end to end
        ({"capture_error": 0.1, "captured_layers": (layer(8, 1, 4000),)}, False),
        ({"capture_error": 0.1, "captured_layers": (layer(4, 2, 4000),)}, False),
        ({"capture_error": math.nan}, False),
        ({"damaged": ("qdq/model.onnx",)}, False),
        ({"golden": ("qdq",)}, False),
    ],
)
def test_parity_holds_or_not(changes: dict[str, Any], ok: bool) -> None:
    parity = parity_of(format_parity(), **changes)
    assert parity.ok is ok and (parity.failures == []) is ok


def test_to_dict_is_strict_json() -> None:
    """Infinite and undefined numbers are null; histograms have text keys; failures are lines."""
    parity = parity_of(
        format_parity(sqnr_db=math.inf, layers=(layer(3, 2), layer(0, 0))),
        format_parity("qdq", sqnr_db=math.nan, altered=("constant x is missing",)),
        folded_sqnr_db=-math.inf,
        capture_error=math.nan,
    )
    plain = json.loads(json.dumps(parity.to_dict(), allow_nan=False))
    assert (
        plain["ok"] is False
        and plain["failures"] == parity.failures
        and all("\n" not in line for line in parity.failures)
    )
    assert (
        plain["formats"]["qoperator"]["sqnr_db"]
        is plain["formats"]["qdq"]["sqnr_db"]
        is plain["folded_sqnr_db"]
        is plain["capture_error"]
        is None
    )
    assert plain["formats"]["qoperator"]["layers"][0]["histogram"] == {"2": 3}
    fields = {f.name for f in dataclasses.fields(FormatParity)} | {"ok", "first_differing"}
    assert set(plain["formats"]["qdq"]) == fields and plain["formats"]["qdq"]["ok"] is False


# Bundles on disk


def verify(directory: Path, *more: str) -> Result:
    return CliRunner().invoke(cli, ["verify", str(directory), *more])


def test_command(exported: Exported, tmp_path: Path) -> None:
    bundle = exported.copy(tmp_path)
    before = {
        name: (bundle.directory / name).read_bytes() for name in ("manifest.json", "qdq/model.onnx", "SHA256SUMS")
    }
    result = verify(bundle.directory, "--images", "10", "--batch-size", "4")
    assert result.exit_code == 0, result.output
    assert (
        "all promises hold" in result.stdout
        and "against folded: codes" in result.stdout
        and "10 images" in result.stdout
    )
    written = json.loads((bundle.directory / "parity.json").read_text())
    assert written["ok"] is True and written["images"] == 10
    assert (
        before["qdq/model.onnx"] == (bundle.directory / "qdq/model.onnx").read_bytes()
        and before["manifest.json"] == (bundle.directory / "manifest.json").read_bytes()
    )
    again = verify(bundle.directory, "--json")  # the sums of what verify wrote are new as well
    assert again.exit_code == 0 and json.loads(again.stdout)["images"] == 24
    assert json.loads(again.stdout) == json.loads((bundle.directory / "parity.json").read_text())


def resave(path: Path, damage: Callable[[onnx.ModelProto], None]) -> None:
    proto = onnx.load(path)
    damage(proto)
    onnx.save(proto, path)


def with_new_sums(bundle: lsq_export.Bundle) -> None:
    (bundle.directory / "SHA256SUMS").unlink()
    write_sums(bundle.directory)


@pytest.mark.parametrize("sums", ["old sums", "new sums"])
@pytest.mark.parametrize("name", FORMATS)
def test_a_damaged_model_fails(name: str, sums: str, exported: Exported, tmp_path: Path) -> None:
    """Exit code 1 and a line for each broken promise; the sums notice it as well, unless the damage was covered up."""
    bundle = exported.copy(tmp_path)
    resave(bundle.models[name], partial(scale, "weight_scale", 2))
    if sums == "new sums":
        with_new_sums(bundle)
    result = verify(bundle.directory)
    lines = [line for line in result.stderr.splitlines() if line.startswith("FAILED: ")]
    assert (
        result.exit_code == 1
        and lines
        and all(f"{name}" in line for line in lines)
        and "all promises hold" not in result.stdout
    )
    assert any("SHA256SUMS" in line for line in lines) is (sums == "old sums")
    written = json.loads((bundle.directory / "parity.json").read_text())
    assert written["ok"] is False and written["failures"] == [line.removeprefix("FAILED: ") for line in lines]
    assert verify(bundle.directory).exit_code == 1  # verify does not bless what it found


@pytest.mark.parametrize("file", [TRAINED, FOLDED])
def test_a_foreign_reference_fails(file: Path, exported: Exported, other: Folded, tmp_path: Path) -> None:
    from lsq_export.rewrite.emit import serialize

    bundle = exported.copy(tmp_path)
    onnx.save(serialize({TRAINED: other.trained, FOLDED: other.model}[file], 17, file.stem), bundle.directory / file)
    result = verify(bundle.directory)
    assert result.exit_code == 1 and f"FAILED: {file}: the file is not the one that was exported" in result.stderr
    with_new_sums(bundle)
    if file == FOLDED:
        assert verify(bundle.directory).exit_code == 1
    assert not lsq_export.verify(exported.model, bundle, exported.batches).ok


@pytest.mark.parametrize("part", ["input_0.pb", "output_0.pb"])
def test_wrong_golden_vectors_fail(part: str, exported: Exported, tmp_path: Path) -> None:
    bundle = exported.copy(tmp_path)
    path = bundle.directory / "qoperator" / "test_data_set_0" / part
    tensor = onnx.TensorProto.FromString(path.read_bytes())
    array = onnx.numpy_helper.to_array(tensor).copy()
    array.flat[0] += 1
    path.write_bytes(onnx.numpy_helper.from_array(array, tensor.name).SerializeToString())
    assert verify(bundle.directory).exit_code == 1
    with_new_sums(bundle)
    result = verify(bundle.directory)
    assert (
        result.exit_code == 1
        and "FAILED: qoperator: the golden vectors" in result.stderr
        and "qdq" not in result.stderr
    )


@pytest.mark.parametrize("damage", ["empty", "two bytes", "cut short", "half", "junk", "missing"])
@pytest.mark.parametrize(
    "file",
    ["qdq/model.onnx", "qoperator/model.onnx", "reference/trained.onnx", "reference/folded.onnx", "manifest.json"],
)
def test_an_unreadable_file_is_one_line_and_2(file: str, damage: str, exported: Exported, tmp_path: Path) -> None:
    path = exported.copy(tmp_path).directory / file
    whole = path.read_bytes()
    content = {
        "empty": b"",
        "two bytes": b"\x08\x07",
        "cut short": whole[:-40],
        "half": whole[: len(whole) // 2],
        "junk": b"junk" * 100,
    }
    path.unlink() if damage == "missing" else path.write_bytes(content[damage])
    result = verify(tmp_path / "bundle")
    assert result.exit_code == 2 and result.stdout == "", result.output
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1 and Path(file).name in result.stderr


@pytest.mark.parametrize("damage", ["cut short", "junk", "missing", "one digest changed"])
def test_damaged_sums_are_noticed(damage: str, exported: Exported, tmp_path: Path) -> None:
    path = exported.copy(tmp_path).directory / "SHA256SUMS"
    whole = path.read_text()
    changed = whole.replace(whole[:8], "00000000", 1)
    path.unlink() if damage == "missing" else path.write_text(
        {"cut short": whole[:-40], "junk": "junk\n", "one digest changed": changed}[damage]
    )
    result = verify(tmp_path / "bundle")
    assert result.exit_code == (1 if damage == "one digest changed" else 2) and "Traceback" not in result.stderr
    assert ("FAILED: " if result.exit_code == 1 else "error: ") in result.stderr and result.stderr.splitlines()[
        -1
    ].count("SHA256SUMS") == 1


@pytest.mark.parametrize("key", ["target", "input", "formats", "outputs"])
def test_a_manifest_that_lacks_something_is_named(key: str, exported: Exported, tmp_path: Path) -> None:
    path = exported.copy(tmp_path).directory / "manifest.json"
    content = json.loads(path.read_text())
    del content[key]
    path.write_text(json.dumps(content))
    result = verify(tmp_path / "bundle")
    assert (
        result.exit_code == 2
        and result.stderr.count("\n") == 1
        and f"{key} is missing in manifest.json" in result.stderr
    )


# Bad input


@pytest.mark.parametrize(
    ("batches", "says"),
    [
        ([], "the batches are empty"),
        (None, "batches is NoneType: give an iterable"),
        (torch.zeros(2, *SHAPE), "batches is Tensor: give an iterable"),
        (["x"], "is str: give tensors"),
        ([torch.zeros(2, 1, 9, 9)], r"batch 0 has inputs of shape \[1, 9, 9\]: the bundle takes .* \[1, 16, 16\]"),
        ([torch.zeros(2, *SHAPE), torch.zeros(2, 16, 16)], r"batch 1 has inputs of shape \[16, 16\]"),
        ([torch.full((1, *SHAPE), math.nan)], "batch 0 holds NaN or infinity"),
        ([torch.zeros(1, *SHAPE), torch.zeros(0, *SHAPE)], "batch 1 is empty: leave it out"),
    ],
)
def test_bad_batches_are_named(batches: Any, says: str, exported: Exported) -> None:
    with pytest.raises(QuantizationError, match=says):
        lsq_export.verify(None, exported.bundle, batches)


def test_data_of_another_shape_is_one_line_and_2(exported: Exported, tmp_path: Path) -> None:
    x, y = np.zeros((8, 1, 9, 9), np.float32), np.arange(8) % 2
    np.savez(tmp_path / "d.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    result = verify(exported.bundle.directory, "--data", f"npz:{tmp_path / 'd.npz'}")
    assert result.exit_code == 2 and result.stderr.count("\n") == 1
    assert "has images of shape [1, 9, 9], the model takes [1, 16, 16]" in result.stderr


@pytest.mark.parametrize(("where", "says"), [("nowhere", "is not a directory"), ("", "no readable manifest.json")])
def test_no_bundle_is_one_line_and_2(where: str, says: str, tmp_path: Path) -> None:
    result = verify(tmp_path / where)
    assert (
        result.exit_code == 2
        and result.stderr.count("\n") == 1
        and says in result.stderr
        and str(tmp_path) in result.stderr
    )


def test_unknown_data_is_named(exported: Exported, tmp_path: Path) -> None:
    bundle = exported.copy(tmp_path)
    assert "data 'mnist' is unknown" in verify(bundle.directory, "--data", "mnist").stderr
    content = json.loads((bundle.directory / "manifest.json").read_text())
    (bundle.directory / "manifest.json").write_text(json.dumps({**content, "source": None}))
    result = verify(bundle.directory)
    assert result.exit_code == 2 and result.stderr.count("\n") == 1 and "--data digits" in result.stderr


def test_evaluating_needs_the_graph_as_it_was(exported: Exported) -> None:
    """check does not change the graphs that it is given."""
    files = {name: exported.file(name) for name in FORMATS}
    trained, folded = exported.graph(TRAINED), exported.graph()
    before = [f.SerializeToString(deterministic=True) for f in files.values()]
    assert run_check(exported, files, trained=trained, folded=folded).ok
    assert before == [f.SerializeToString(deterministic=True) for f in files.values()]
    for graph, path in ((trained, TRAINED), (folded, FOLDED)):
        assert ir.to_proto(graph).graph.node == exported_nodes(exported, path)


def exported_nodes(exported: Exported, path: Path) -> Any:
    return ir.to_proto(exported.graph(path)).graph.node


def test_pixels_on_ties_of_the_networks_input_get_the_codes_that_onnx_gives_them(tmp_path: Path) -> None:
    """16 levels in [-1, 1] on a grid of 255 steps:

    x / s is k + 1/2 in float32, and beside it in float64. In 13 % of such pixels codes differed.
    """
    torch.manual_seed(0)
    x = ((torch.randint(0, 16, (32, 3, 12, 12)) / 15 - 0.5) / 0.5).float()
    model = lsq_export.prepare(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)), lsq_export.QATConfig())
    calib.initialize(model, [x], method="minmax")
    bundle = lsq_export.export(model, x[:1], tmp_path / "out", calibration=[x])
    parity = lsq_export.verify(model, bundle, [x])
    assert parity.ok, parity.failures
    scale, zero = (
        float(n)
        for n in (bundle.manifest["tensors"][0]["container_scale"], bundle.manifest["tensors"][0]["zero_point"])
    )
    single, double = (np.rint(x.numpy().astype(t) / t(scale)) + zero for t in (np.float32, np.float64))
    assert (single != double).mean() > 0.05
