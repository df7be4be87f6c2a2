"""lsq-export calibrate: float networks from the command line, and what cannot be calibrated, in one line each."""

from __future__ import annotations

import html
import json
import re
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from lsq_export import models
from lsq_export.bundle.directory import open_bundle
from lsq_export.bundle.schema import check
from lsq_export.bundle.sums import changed_files
from lsq_export.models.own import imported
from lsq_export.verification.against_float import AgainstFloat
from support.adopted import SAMPLES, inputs
from support.broken_files import broken
from support.commands import invoke

FILE = SAMPLES / "aimet-torch" / "encodings.onnx"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "data.npz"
    x = inputs().numpy()
    np.savez(path, x_train=x, y_train=np.arange(8) % 4, x_test=x + 0.1, y_test=np.arange(8) % 4)
    return path


def test_a_float_file_becomes_a_bundle(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "out"
    result = invoke("calibrate", FILE, "--out", out, "--data", f"npz:{data}")
    assert result.exit_code == 0, result.stderr
    assert re.search(r"against float  same class \S+% of 8 test images of npz:\S+, error \d\d\.\d dB", result.stdout), (
        result.stdout
    )
    assert "all promises hold" in result.stdout
    again = invoke("verify", out, "--json")
    assert again.exit_code == 0, again.stderr
    assert json.loads(again.stdout)["images"] == 8


def test_what_it_cost_stays_in_the_bundle(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "out"
    result = invoke("calibrate", FILE, "--out", out, "--data", f"npz:{data}", "--json")
    assert result.exit_code == 0, result.stderr
    cost = json.loads(result.stdout)["against_float"]
    assert cost["images"] == 8 and cost["data"] == f"npz:{data}" and cost["sqnr_db"] > 20
    assert json.loads((out / "against_float.json").read_text()) == cost and not changed_files(open_bundle(out))
    sentence = AgainstFloat.from_dict(cost).sentence
    assert sentence in html.unescape((out / "report.html").read_text())
    again = invoke("verify", out)
    assert f"against float  {sentence} (calibrate measured it)" in again.stdout
    assert sentence in html.unescape((out / "report.html").read_text())  # which verify wrote anew
    assert "against_float" not in json.loads((out / "parity.json").read_text())


def test_the_same_samples_in_any_form_give_the_same_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive, .npy files, test sets of ONNX and a function."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    x = inputs().numpy()
    np.savez("x.npz", x=x)
    for name in ("npy", "sets/test_data_set_0"):
        Path(name).mkdir(parents=True)
    for index, sample in enumerate(x):
        np.save(f"npy/{index}.npy", sample)
    onnx.save_tensor(numpy_helper.from_array(x), "sets/test_data_set_0/input_0.pb")
    Path("calibration_data.py").write_text("import numpy\ndef batches():\n    yield from numpy.load('x.npz')['x']\n")
    written = {}
    for spec in ("npz:x.npz", "npy:npy", "testset:sets", "calibration_data:batches"):
        result = invoke("calibrate", FILE, "--data", spec, "--out", f"out/{spec[:3]}", "--format", "qdq")
        assert result.exit_code == 0, (spec, result.stderr)
        graph = onnx.load(Path("out", spec[:3], "qdq/model.onnx")).graph  # its metadata name the data
        written[spec] = graph.SerializeToString(deterministic=True)
    sys.modules.pop("calibration_data")
    assert len({*written.values()}) == 1


def test_inputs_of_a_model_go_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The data have them in another order than its forward, and in other ranges."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("asking.py").write_text(
        "from torch import nn\n"
        "class Asks(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.p, self.q = nn.Linear(6, 8), nn.Linear(6, 8)\n"
        "    def forward(self, query, key):\n"
        "        return self.p(query).relu() + self.q(key / 100).relu()\n"
    )
    torch.manual_seed(0)
    torch.save(imported("asking:Asks")().state_dict(), "asks.pth")
    random = np.random.default_rng(0)
    arrays = {"key": random.normal(size=(80, 6)) * 100, "query": random.normal(size=(80, 6))}
    for name, array in arrays.items():
        Path("npy", name).mkdir(parents=True)
        for index, row in enumerate(array):
            np.save(f"npy/{name}/{index}.npy", row)
    np.savez("data.npz", **arrays)
    for spec in ("npz:data.npz", "npy:npy"):
        given = ("--model", "asking:Asks", "--float-checkpoint", "asks.pth", "--data", spec, "--out", f"out/{spec[:3]}")
        result = invoke("calibrate", *given)
        assert result.exit_code == 0, (spec, result.stdout + result.stderr)
        error = re.search(r"test images of \S+, error (\S+) dB below", result.stdout)
        assert error is not None and float(error[1]) > 25, result.stdout
    sys.modules.pop("asking")


def test_nothing_is_said_of_a_training_that_nobody_did(tmp_path: Path, data: Path) -> None:
    """Neither by calibrate nor by what reads the bundle; and the accuracy stands where it is looked for."""
    out = tmp_path / "out"
    result = invoke("calibrate", FILE, "--out", out, "--data", f"npz:{data}", "-v")
    assert result.exit_code == 0, result.stderr
    assert re.search(
        r"\naccuracy +float \S+% -> integer \S+% \(8 test images\); same class as calibrated: ", result.stdout
    )
    said = result.stdout + result.stderr + invoke("verify", out, "-v").stdout
    said += (out / "README.md").read_text().replace("reference/trained.onnx", "")
    assert not re.search(r"(?<!un)train", said), said
    assert "folded model against calibrated model: holds" in said and "not measured; these" not in said


@pytest.mark.parametrize(
    ("more", "advice"),
    [
        ((), ""),
        (("--quantized-output",), ""),
        (("--target", "openvino"), "note: on openvino: compile it with INFERENCE_PRECISION_HINT f32: "),
        (("--target", "openvino-float"), "note: on openvino-float: compile it with INFERENCE_PRECISION_HINT f32: "),
        (("--target", "opencv"), "note: on opencv: ONNX Runtime's CPU provider computes it right with graph opt"),
    ],
)
def test_it_is_compared_as_the_target_runs_it_and_advice_is_given_once(
    tmp_path: Path, data: Path, more: tuple[str, ...], advice: str
) -> None:
    """The grids of openvino's branches, and those behind float Clips, are merged by default; codes are no values."""
    given = ("--weight-bits", 4, "--activation-bits", 4, *more)
    result = invoke("calibrate", FILE, "--out", tmp_path / "out", "--data", f"npz:{data}", *given)
    assert result.exit_code == 0, result.stderr
    error = re.search(r"8 test images of npz:\S+, error (\S+) dB below", result.stdout)
    assert error is not None and float(error[1]) > 12, result.stdout
    assert result.stderr.count("note: on ") == (1 if advice else 0) and advice in result.stderr


def test_each_of_several_outputs_has_its_error(tmp_path: Path, data: Path) -> None:
    file = onnx.load(FILE)
    inner = next(node.output[0] for node in file.graph.node if node.op_type == "Relu")
    file.graph.output.append(onnx.helper.make_tensor_value_info(inner, onnx.TensorProto.FLOAT, None))
    onnx.save(file, tmp_path / "two.onnx")
    first, out = file.graph.output[0].name, tmp_path / "out"
    result = invoke("calibrate", tmp_path / "two.onnx", "--out", out, "--data", f"npz:{data}", "-v")
    assert result.exit_code == 0, result.stderr
    each = rf"\((?:{inner}|{first}) \S+ dB, (?:{inner}|{first}) \S+ dB\)"
    assert re.search(rf"against float  same class \(output {first}\) .* below the outputs {each}", result.stdout)
    assert re.search(rf"\nfold +error \S+ dB below the outputs {each}", result.stdout)
    assert f"same class as calibrated (output {first}): " in result.stdout
    assert f"\n{inner} " in result.stdout.partition("SQNR of each output")[2]
    parity = json.loads((out / "parity.json").read_text())
    check("parity", parity)
    for found in (parity["folded_outputs_sqnr_db"], parity["formats"]["qdq"]["outputs_sqnr_db"]):
        assert found.keys() == {first, inner}
    assert parity["folded_sqnr_db"] == min(parity["folded_outputs_sqnr_db"].values())
    assert f"<td>{inner}</td>" in (out / "report.html").read_text()


def test_without_classes_there_is_no_accuracy(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=inputs().numpy())
    result = invoke("calibrate", FILE, "--out", tmp_path / "out", "--data", f"npz:{tmp_path / 'data.npz'}")
    assert result.exit_code == 0, result.stderr
    assert re.search(r"\naccuracy +same class as calibrated: ", result.stdout)


def test_images_are_normalized_as_is_asked_for(tmp_path: Path, data: Path) -> None:
    given = (FILE, "--data", f"npz:{data}", "--mean", "0.5", "--format", "qdq")
    result = invoke("calibrate", *given, "--std", "0.25", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    preprocessing = json.loads((tmp_path / "out" / "manifest.json").read_text())["preprocessing"]
    assert set(preprocessing["mean"]) == {0.5} and set(preprocessing["std"]) == {0.25}
    np.savez(tmp_path / "named.npz", image=inputs().numpy())
    given = (FILE, "--data", f"npz:{tmp_path / 'named.npz'}", "--mean", "0.5", "--std", "1")
    named = invoke("calibrate", *given, "--out", tmp_path / "named")
    assert named.exit_code == 2 and "go to the network as they are: leave" in named.stderr


def test_open_sizes_become_those_of_the_data_and_that_is_said(tmp_path: Path, data: Path) -> None:
    file = onnx.load(FILE)
    said = "note: the file takes inputs of any size"
    assert said not in invoke("calibrate", FILE, "--out", tmp_path / "fixed", "--data", f"npz:{data}").stderr
    sizes = [size.dim_value for size in file.graph.input[0].type.tensor_type.shape.dim[1:]]
    for index, size in enumerate(file.graph.input[0].type.tensor_type.shape.dim):
        if index in (2, 3):
            size.dim_param = f"size{index}"
    onnx.save(file, tmp_path / "open.onnx")
    result = invoke("calibrate", tmp_path / "open.onnx", "--out", tmp_path / "open", "--data", f"npz:{data}")
    assert result.exit_code == 0, result.stderr
    assert f"{said}, the bundle of the size of these data: {' x '.join(map(str, sizes))} (" in result.stderr
    file.graph.input[0].type.tensor_type.ClearField("shape")
    onnx.save(file, tmp_path / "none.onnx")
    result = invoke("calibrate", tmp_path / "none.onnx", "--out", tmp_path / "none", "--data", f"npz:{data}")
    assert result.exit_code == 0, result.stderr
    assert f"{said}, the bundle of the size of these data: {' x '.join(map(str, sizes))} (" in result.stderr
    graphs = [onnx.load(tmp_path / name / "qdq" / "model.onnx").graph for name in ("open", "none")]
    assert graphs[0].initializer == graphs[1].initializer


def test_bits_and_layers_are_taken(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "out"
    bits = ("--weight-bits", 4, "--activation-bits", 4)
    layers = ("--layer", "dw=weight_bits:2", "--layer", "fc=float")
    result = invoke("calibrate", FILE, "--out", out, "--data", f"npz:{data}", *bits, *layers)
    assert result.exit_code == 0, result.stderr
    found = {layer["name"]: layer for layer in json.loads((out / "manifest.json").read_text())["layers"]}
    assert found["dw"]["bits"] == 2 and found["conv1"]["bits"] == 8
    assert "stays float: fc " in result.stdout


def test_sensitivity_is_a_table_and_a_file_and_keep_mends_the_worst(tmp_path: Path, data: Path) -> None:
    given = (FILE, "--data", f"npz:{data}", "--weight-bits", 2, "--format", "qdq", "--sensitivity", tmp_path / "s.json")
    result = invoke("calibrate", *given, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    before = json.loads((tmp_path / "s.json").read_text())
    worst = before["layers"][0]
    assert worst["weight_bits"] == 2 and f"\n{worst['layer']} " in result.stdout and "(together)" in result.stdout
    kept = ("--keep", f"{worst['layer']}=8", "--keep", "fc=float", "--out", tmp_path / "kept", "--json")
    result = invoke("calibrate", *given, *kept)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["images"], "stdout is the parity alone"
    after = {layer["layer"]: layer for layer in json.loads((tmp_path / "s.json").read_text())["layers"]}
    assert after[worst["layer"]]["sqnr_db"] > worst["sqnr_db"] + 10 and "fc" not in after


@pytest.mark.parametrize("method", ["percentile", "reconstruction"])
def test_methods_are_taken(method: str, tmp_path: Path, data: Path) -> None:
    given = ("--data", f"npz:{data}", "--weight-bits", 3, "--format", "qdq", "--method", method, "--seed", 1)
    result = invoke("calibrate", FILE, *given, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert "all promises hold" in result.stdout


def test_a_pytorch_network_with_its_weights(tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = models.build("tiny", num_classes=10, in_channels=3)
    weights = tmp_path / "tiny.pth"
    torch.save(net.state_dict(), weights)
    out = tmp_path / "out"
    given = ("--model", "tiny", "--float-checkpoint", weights, "--data", "digits", "--image-size", 8, "--images", 64)
    result = invoke("calibrate", *given, "--out", out)
    assert result.exit_code == 0, result.stderr
    assert "against float  same class" in result.stdout and "all promises hold" in result.stdout
    assert "train" not in result.stdout and "same class as calibrated" in result.stdout
    assert isinstance(net, nn.Module)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((), "give an ONNX file, or --model NAME"),
        ((FILE, "--model", "tiny"), "one of them"),
        (("--model", "tiny"), "give --float-checkpoint FILE"),
        ((SAMPLES / "nowhere.onnx",), "does not exist"),
        ((SAMPLES / "onnxruntime" / "qdq_u8s8_perchannel.onnx",), "lsq-export adopt takes it"),
        ((FILE, "--layer", "nothing=float"), "matches no layer"),
        ((FILE, "--method", "best"), "'reconstruction'"),
        ((FILE, "--sensitivity", "nowhere/s.json"), "there is no directory"),
        ((FILE, "--keep", "cnv1=8"), "--keep cnv1 matches no layer (did you mean conv1?): the layers are conv1, "),
        ((FILE, "--keep", "conv1=9"), "--keep conv1=9: use 2 to 8"),
        ((FILE, "--weight-bits", "9"), "--weight-bits"),
    ],
)
def test_mistakes(tmp_path: Path, data: Path, given: tuple[object, ...], said: str) -> None:
    result = invoke("calibrate", *given, "--out", tmp_path / "out", "--data", f"npz:{data}")
    assert result.exit_code == 2 and said in result.stderr, result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("external data that is not there", "cannot be read as ONNX"),
        ("cut off", "cannot be read as ONNX"),
        ("an operator set of the future", "operator set 99"),
        ("weights that are no numbers", "has NaN"),
    ],
)
def test_files_that_cannot_be_calibrated(tmp_path: Path, data: Path, what: str, said: str) -> None:
    weight = next(tensor.name for tensor in onnx.load(FILE).graph.initializer if len(tensor.dims) > 1)
    file = broken(FILE, tmp_path / "net.onnx", what, weight)
    result = invoke("calibrate", file, "--out", tmp_path / "out", "--data", f"npz:{data}")
    assert result.exit_code == 2 and said in result.stderr, result.stderr
    assert result.stderr.strip().count("\n") == 0 and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"pixels": inputs().numpy(), "other": inputs().numpy()}, "has the inputs pixels"),
        ({"x": inputs().numpy()[:, :, :8, :8]}, "the model takes [3, 16, 16]"),
        ({"x": np.full((4, 3, 16, 16), np.nan, np.float32)}, "NaN"),
    ],
)
def test_data_that_the_file_does_not_take(tmp_path: Path, arrays: dict[str, np.ndarray], said: str) -> None:
    np.savez(tmp_path / "data.npz", **arrays)  # type: ignore[arg-type]
    result = invoke("calibrate", FILE, "--out", tmp_path / "out", "--data", f"npz:{tmp_path / 'data.npz'}")
    assert result.exit_code == 2 and said in result.stderr, result.stderr
    assert result.stderr.strip().count("\n") == 0 and not (tmp_path / "out").exists()


def test_arrays_that_are_no_images_may_be_called_x(tmp_path: Path) -> None:
    """[N, C, T] is taken for gray images, where nobody can be asked; a network that takes [C, T] says what they are."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv1d(4, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(112, 3)).eval()
    names = {"input_names": ["x"], "dynamic_axes": {"x": {0: "n"}}, "dynamo": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (torch.zeros(1, 4, 16),), str(tmp_path / "net.onnx"), **names)
    x = np.random.default_rng(0).standard_normal((40, 4, 16)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    np.savez(tmp_path / "other.npz", x=x[:, :3])
    out = tmp_path / "out"
    result = invoke("calibrate", tmp_path / "net.onnx", "--data", f"npz:{tmp_path / 'x.npz'}", "--out", out)
    assert result.exit_code == 0, result.stderr
    assert json.loads((out / "manifest.json").read_text())["input"]["shape"][1:] == [4, 16]
    assert invoke("verify", out).exit_code == 0
    other = invoke(
        "calibrate", tmp_path / "net.onnx", "--data", f"npz:{tmp_path / 'other.npz'}", "--out", out, "--force"
    )
    assert other.exit_code == 2 and "has inputs of shape [1, 3, 16], the model takes [4, 16]: give such" in other.stderr
