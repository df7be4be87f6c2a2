"""Files say the types of what is computed, and of no constant, which says it itself."""

from __future__ import annotations

import onnx
import pytest

from lsq_export import targets
from lsq_export.rewrite.emit import emit
from support.networks import folded


@pytest.mark.parametrize("name", ["qdq", "qoperator", "lookup"])
def test_only_what_is_computed_has_a_value_info(name: str) -> None:
    """onnxconverter_common 1.16.0 rounds scales to float16 that have one, also where their operators are to stay."""
    file = emit(folded("residual").model, name, targets.get("ort-cpu"))
    said = {value.name for value in file.graph.value_info}
    assert not said & {tensor.name for tensor in file.graph.initializer}
    shown = {value.name for value in file.graph.output}
    made = {output for node in file.graph.node for output in node.output} - shown
    assert said == made, sorted(made ^ said)
    onnx.checker.check_model(file, full_check=name == "qdq")
