"""lsq_export/ptq/leading_axes.py: states whose first axis is not the batch get one of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from calib.errors import QuantizationError
from lsq_export import calibrate, export
from lsq_export.ptq.float_file import read_float
from lsq_export.ptq.leading_axes import lead
from support.commands import invoke

TEXT = """
<ir_version: 10, opset_import: ["" : 17]>
cell (float[{n}, 6] x, float[2, {n}, 8] state) => (float[{n}, 8] y, float[2, {n}, 8] stateN) {{
    axis = Constant <value_ints: ints = [0]> ()
    first = Constant <value_int: int = 0> ()
    before = Gather <axis = 0> (state, first)
    fed = Gemm (x, w)
    mixed = Gemm (before, u)
    sum = Add (fed, mixed)
    y = Tanh (sum)
    newest = Unsqueeze (y, axis)
    older = Unsqueeze (before, axis)
    stateN = Concat <axis = 0> (newest, older)
}}
"""


def cell(path: Path, n: str) -> Path:
    """A recurrent network whose state [2, N, 8] is that of the last two steps."""
    random, model = np.random.default_rng(0), onnx.parser.parse_model(TEXT.format(n=n))
    for name, rows in (("w", 6), ("u", 8)):
        weight = random.normal(size=(rows, 8)).astype(np.float32) / rows**0.5
        model.graph.initializer.append(numpy_helper.from_array(weight, name))
    onnx.save(model, path)
    return path


def samples(count: int, seed: int) -> list[dict[str, torch.Tensor]]:
    random = torch.Generator().manual_seed(seed)
    made = ((torch.randn(1, 6, generator=random), torch.rand(2, 1, 8, generator=random) * 2 - 1) for _ in range(count))
    return [{"x": x, "state": state} for x, state in made]


@pytest.mark.parametrize("n", ["1", "N"])
def test_a_state_is_fed_back_as_it_comes_out(n: str, tmp_path: Path) -> None:
    path = cell(tmp_path / "cell.onnx", n)
    bundle = export(calibrate(path, samples(64, 0)), None, tmp_path / "out", calibration=samples(64, 0), sample=False)
    assert bundle.parity is not None and bundle.parity.ok
    whole, integers = (onnxruntime.InferenceSession(str(p)) for p in (path, bundle.models["qoperator"]))
    assert [value.shape for value in integers.get_inputs()] == [[1, 6], [1, 2, 1, 8]]
    state, led, error, size = np.zeros((2, 1, 8), np.float32), np.zeros((1, 2, 1, 8), np.float32), 0.0, 0.0
    for sample in samples(20, 1):
        expected, state = whole.run(None, {"x": sample["x"].numpy(), "state": state})
        found, led = integers.run(None, {"x": sample["x"].numpy(), "state": led})
        assert led.shape == (1, 2, 1, 8) and found.shape == expected.shape
        error, size = error + np.square(found - expected).sum(), size + np.square(expected).sum()
    assert error < size * 1e-3  # 30 dB: 8 bits, and steps that add up


@pytest.mark.parametrize("n", ["1", "N"])
def test_the_command_takes_states_as_arrays(n: str, tmp_path: Path) -> None:
    """[samples, 2, 1, 8]: a state is no two samples."""
    path, given = cell(tmp_path / "cell.onnx", n), samples(20, 0)
    arrays = {"x": [one["x"][0] for one in given], "state": [one["state"] for one in given]}
    np.savez(tmp_path / "data.npz", **{name: np.stack(parts) for name, parts in arrays.items()})
    result = invoke("calibrate", path, "--data", f"npz:{tmp_path / 'data.npz'}", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert "all promises hold" in result.stdout


def test_inputs_that_begin_with_the_batch_stay_as_they_are(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 17]> g (float[N, 6] x, float[N, 6] z) => (float[N, 6] y) {y = Add (x, z)}'
    )
    onnx.save(model, tmp_path / "sum.onnx")
    graph = read_float(tmp_path / "sum.onnx").graph
    assert lead(graph) == {} and len(graph) == 1


def test_several_samples_at_once_are_refused(tmp_path: Path) -> None:
    path = cell(tmp_path / "cell.onnx", "1")
    batch = {"x": torch.zeros(4, 6), "state": torch.zeros(2, 4, 8)}
    with pytest.raises(QuantizationError, match="other numbers of samples"):
        calibrate(path, [batch])
