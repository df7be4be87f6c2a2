"""lsq_export/targets: what each target reads, and names that are not known."""

from __future__ import annotations

import pytest

from calib.errors import QuantizationError
from lsq_export import targets
from lsq_export.rewrite.fold import FOLDS
from lsq_export.targets import FORMATS
from lsq_export.verification.runtime import LEVELS


def test_targets_have_names() -> None:
    assert targets.names() == [
        *(
            "ort-cpu",
            "onnx-standard",
            "portable",
            "openvino",
            "openvino-float",
            "tract",
            "opencv",
            "web",
            "tensorrt",
            "qnn-htp",
        ),
        *("st-neural-art", "vitis-xint8", "tidl", "litert", "qonnx", "native-low-bit", "native-int4", "native-int2"),
    ]
    assert [targets.get(name) for name in targets.names()] == targets.everything()


def test_an_unknown_target_is_named() -> None:
    with pytest.raises(QuantizationError, match="target 'gpu' is unknown: use ort-cpu, onnx-standard, "):
        targets.get("gpu")


@pytest.mark.parametrize("target", targets.everything(), ids=lambda target: target.name)
def test_a_target_speaks_the_words_of_the_other_rooms(target: targets.Target) -> None:
    assert target.formats and set(target.formats) <= set(FORMATS)
    assert target.folds and set(target.folds) <= set(FOLDS)
    assert target.optimization in LEVELS and "\n" not in target.description


def test_narrow_types_make_a_target_narrow() -> None:
    assert not targets.ORT_CPU.narrow and targets.NATIVE_LOW_BIT.narrow


@pytest.mark.parametrize("target", targets.everything(), ids=lambda target: target.name)
def test_who_runs_a_file_in_onnx_runtime_is_told_where_its_optimization_spoils_it(target: targets.Target) -> None:
    spoiled = {"float-clips", "keep-branches"} & {*target.dialect}
    assert ("ORT_DISABLE_ALL" in target.advice) == bool(spoiled and target.optimization == "disabled")
