"""bench of networks: by name or checkpoint, torch's float export, ONNX Runtime's own quantization, the command."""

from __future__ import annotations

import json
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import nn

import lsq_export
from calib.errors import QuantizationError
from lsq_export import models, quantizers
from lsq_export.bench import Measurement, Subject, network, peer, plan, subject_of_bundle
from lsq_export.bench.float_model import exported_float_model
from lsq_export.bench.load import LoadWatch
from lsq_export.bench.network import named_network, network_of_checkpoint, randomize_batch_norms, subject_of_network
from lsq_export.bench.openvino import installed
from lsq_export.bench.peer import peer_models
from lsq_export.bench.sources import EXPORTED, REBUILT
from lsq_export.bench.work import operations
from lsq_export.kernels import is_built
from lsq_export.training import checkpoint
from support.commands import invoke
from support.exported import Exported

pytestmark = pytest.mark.usefixtures("one_thread")
TABLES = ["lookup", "lookup, stock"] if is_built() else ["lookup, stock"]
PEERS = ["quantize_static qdq", "quantize_static qoperator"]
BFLOAT16 = "bf16" in Path("/proc/cpuinfo").read_text(encoding="utf-8")  # then its default precision is not float32
F32 = ["openvino float f32"] if BFLOAT16 else []
ROWS = ["openvino float", *F32, "openvino qdq", "openvino quantize_static qdq"]
MODELS = ["float", "qdq", "qoperator", *TABLES, *PEERS, *(ROWS if installed() else [])]
FAST = ["--runs", "3", "--pause", "0", "--warmup", "1", "--threads", "1"]


bench = partial(invoke, "bench")


def loaded(subject: Subject, name: str) -> onnx.ModelProto:
    source = subject.models[name]
    assert isinstance(source, bytes)
    return onnx.load_from_string(source)


def operators(proto: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in proto.graph.node)


@pytest.fixture(scope="module")
def tiny() -> network.Network:
    return named_network("tiny", 32, weight_bits=3)


@pytest.fixture(scope="module")
def subject(tiny: network.Network) -> Subject:
    stages: list[str] = []
    exported = subject_of_network(tiny, on_stage=stages.append)
    assert stages == ["float", "capture", "fold", "rewrite", "quantize_static", "openvino"]
    return exported


def test_a_named_network_is_random_but_always_the_same(tiny: network.Network) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    again = named_network("tiny", 32, weight_bits=3)
    assert torch.equal(torch.get_rng_state(), before), "the caller's random numbers are left alone"
    assert all(
        torch.equal(a, b)
        for a, b in zip(tiny.model.state_dict().values(), again.model.state_dict().values(), strict=True)
    )
    assert tiny.title == "tiny W3A4, container offsets, 3×32×32" and tiny.x.shape == (network.IMAGES, 3, 32, 32)
    of_layers = [q for name, q in lsq_export.quantizers(tiny.model).items() if not name.startswith("edges.")]
    assert {q.bits for q in of_layers[2:-2]} == {3, 4}


def test_batch_norms_have_the_statistics_of_the_images() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(2)
    net, x = nn.Sequential(norm), 3 + 2 * torch.randn(8, 2, 9, 9)
    randomize_batch_norms(net, x)
    assert torch.allclose(norm.running_mean, x.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(norm.running_var, x.var((0, 2, 3)), atol=1e-4)
    assert norm.momentum == 0.1 and not net.training
    assert ((norm.weight >= 0.5) & (norm.weight <= 1.5)).all() and (norm.bias != 0).all()


@pytest.mark.slow
def test_the_subject_has_all_models(subject: Subject) -> None:
    assert operations(subject.models["float"]) == operations(subject.models["float"], 2) // 2 > 1e5
    assert list(subject.models) == MODELS and subject.float_origin == EXPORTED
    assert subject.network == "tiny W3A4, container offsets, 3×32×32"
    assert "QLinearConv" in operators(loaded(subject, "qoperator"))
    assert "QuantizeLinear" in operators(loaded(subject, "qdq"))
    assert any("random weights" in note for note in subject.notes)


def test_the_float_model_is_what_torch_exports(tiny: network.Network) -> None:
    """It has torch's own operators (ReduceMean, not our GlobalAveragePool), with and without quantizers."""
    with torch.random.fork_rng():
        torch.manual_seed(network.SEED)
        plain = models.build("tiny")
        randomize_batch_norms(plain, torch.randn(network.IMAGES, 3, 32, 32))
    ours, direct = (onnx.load_from_string(exported_float_model(net, tiny.x)) for net in (tiny.model, plain))
    assert operators(ours) == operators(direct)
    assert "ReduceMean" in operators(ours) and "FakeQuantize" not in operators(ours)
    (y,) = onnxruntime.InferenceSession(ours.SerializeToString()).run(None, {"input": tiny.x.numpy()})
    with torch.no_grad():
        expected = plain(tiny.x).numpy()
    assert np.abs(y - expected).max() < 1e-4 * np.abs(expected).max()  # float32 sums in another order
    assert not any(q.bypass for q in lsq_export.quantizers(tiny.model).values())


def test_a_float_model_that_torch_cannot_export_is_one_line() -> None:
    class Fickle(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) if float(x.sum()) < 1e9 else x

    with pytest.raises(QuantizationError, match=r"torch.onnx.export cannot export the float network: .") as error:
        exported_float_model(Fickle(3, 3), torch.zeros(1, 3))
    assert "\n" not in str(error.value)


def test_the_peer_is_u8s8_per_channel(subject: Subject) -> None:
    qdq = loaded(subject, "quantize_static qdq")
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in qdq.graph.initializer}
    assert {constants[n.input[2]].dtype for n in qdq.graph.node if n.op_type == "QuantizeLinear"} == {
        np.dtype(np.uint8)
    }
    made_by = {output: node for node in qdq.graph.node for output in node.output}
    for conv in (node for node in qdq.graph.node if node.op_type == "Conv"):
        codes, scale = (constants[name] for name in made_by[conv.input[1]].input[:2])
        assert codes.dtype == np.int8 and scale.shape == codes.shape[:1]
    assert "QLinearConv" in operators(loaded(subject, "quantize_static qoperator"))


def test_the_peer_computes_the_network(subject: Subject, tiny: network.Network) -> None:
    """8 bits of the float network: near to it, so nothing was lost on the way."""
    x = tiny.x.numpy()[:1]
    outputs = {
        name: onnxruntime.InferenceSession(subject.models[name]).run(None, {"input": x})[0]
        for name in ("float", *PEERS)
    }
    for name in PEERS:
        assert np.abs(outputs[name] - outputs["float"]).max() < 0.2 * np.abs(outputs["float"]).max()


def test_a_peer_that_fails_is_one_line_and_says_what_to_do() -> None:
    with pytest.raises(
        QuantizationError,
        match=r"quantize_static cannot quantize the float network \(.+\): leave it out with --no-peer",
    ) as error:
        peer_models(b"junk", np.zeros((1, 3), np.float32))
    assert "\n" not in str(error.value)


def test_one_format_of_the_peer_may_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    def child(failed: dict[str, str]) -> Any:
        def run(program: str, request: dict[str, str], directory: Path) -> dict[str, Any]:
            for kind in ("qdq", "qoperator"):
                Path(request[kind]).write_bytes(kind.encode())
            return {"failed": failed}

        return run

    monkeypatch.setattr(peer, "run_child", child({"qoperator": "X:\n no"}))
    peers, notes = peer_models(b"", np.zeros((1, 3), np.float32))
    assert peers == {"quantize_static qdq": b"qdq"} and notes == ("quantize_static qoperator does not work: X: no",)
    monkeypatch.setattr(peer, "run_child", child({"qdq": "Y", "qoperator": "X"}))
    with pytest.raises(QuantizationError, match=r"\(Y\): leave it out"):
        peer_models(b"", np.zeros((1, 3), np.float32))


def test_of_a_checkpoint(exported: Exported, tmp_path: Path) -> None:
    """A low-bit network stays as it is, at another size if asked; a float one gets quantizers of the given widths."""
    low = network_of_checkpoint(exported.checkpoint)
    assert low.title.endswith(".safetensors W4A4, real offsets, 1×16×16") and low.notes == ()
    assert network_of_checkpoint(exported.checkpoint, 24).x.shape == (network.IMAGES, 1, 24, 24)
    spec = {"name": "tiny", "num_classes": 5, "in_channels": 1}
    path = tmp_path / "float.safetensors"
    checkpoint.save(path, models.build(**spec), model_spec=spec, config=None, input_shape=(1, 16, 16), preprocessing={})
    low_bit = network_of_checkpoint(path, weight_bits=2, activation_bits=3)
    assert low_bit.title.endswith("W2A3, container offsets, 1×16×16") and "float checkpoint" in low_bit.notes[0]
    integral = network_of_checkpoint(path, offset="integer")
    assert integral.title.endswith("W4A4, integer offsets, 1×16×16")
    for quantizer in quantizers(integral.model).values():
        if quantizer.kind == "activation":
            steps = float((quantizer.effective_offset / quantizer.scale).detach())
            assert steps == pytest.approx(round(steps), abs=1e-5)


def test_a_low_bit_checkpoint_has_its_own_widths(exported: Exported) -> None:
    result = bench(str(exported.checkpoint), "--weight-bits", "2", "--offset", "integer")
    assert result.exit_code == 2 and result.stderr.count("\n") == 1
    assert "has widths and offsets of its own (W4A4, real offsets): leave out --weight-bits, --offset" in result.stderr


@pytest.mark.slow
def test_a_bundle_with_peer(exported: Exported, tmp_path: Path) -> None:
    rebuilt = subject_of_bundle(exported.bundle.directory, peer=True)
    assert list(rebuilt.models) == [*MODELS[:3], *PEERS] and rebuilt.float_origin == REBUILT
    with pytest.raises(QuantizationError, match="give one bundle, or use --no-peer"):
        subject_of_bundle(exported.bundle.models["qdq"], peer=True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "there is nothing to time"),
        (["none.onnx"], "none.onnx does not exist"),
        (["none.safetensors"], "none.safetensors does not exist"),
        (["a.onnx", "--model", "tiny"], "a.onnx is a file or bundle, the others are networks"),
        (["a.onnx", "--size", "32"], "--size is for checkpoints and --model"),
        (["a.pt"], "a.pt is a pickle"),
        (["--model", "tynee"], "model 'tynee' is unknown"),
        (["--model", "tiny", "--size", "1"], "the model does not take an input of shape [3, 1, 1]"),
        (["--model", "tiny", "--json", "no/b.json"], "no/b.json cannot be written"),
        (["--model", "tiny", "--html", "no/b.html"], "no/b.html cannot be written"),
        (["--model", "tiny", "--record", "no/b.jsonl"], "no/b.jsonl cannot be written"),
        (["--model", "tiny", "--record", "a.onnx"], "a.onnx, line 1: no record of lsq-export bench"),
        (["--model", "tiny", "--size", "32", "--no-peer", "--baseline", "x"], "baseline 'x' is none of the models"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.onnx").write_text("junk\n")
    (tmp_path / "a.pt").write_bytes(b"PK\x03\x04 and so on")
    result = bench(*arguments)
    assert result.exit_code == 2 and says in result.stderr and result.stdout == ""
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1, result.stderr


@pytest.mark.slow
def test_command(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Measured twice, into a journal: what it has is not measured again, and nothing else is left behind."""
    built: list[str] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(LoadWatch, "busy", lambda self: None)
    monkeypatch.setattr(network, "named_network", lambda name, size: built.append(name) or None)
    monkeypatch.setattr(network, "subject_of_network", lambda found, peer, openvino, on_stage: subject)
    arguments = ["--model=tiny", "--size=32", *FAST, "--record=b.jsonl", "--json=b.json", "--html=b.html"]
    result = bench(*arguments, "--repeat", "2")
    assert result.exit_code == 0, result.output
    told = dict.fromkeys(line.partition("  ")[0] for line in result.stderr.splitlines())  # again after 30 s
    assert list(told) == [f"bench {subject.network}, batch 1, 1 thread, {n} of 2" for n in (1, 2)]
    assert capfd.readouterr() == ("", "") and {p.name for p in tmp_path.iterdir()} == {"b.jsonl", "b.json", "b.html"}
    written = json.loads((tmp_path / "b.json").read_text())
    runs = [Measurement.from_dict(values) for values in written["records"]]
    assert [row.name for row in runs[0].timing.rows] == MODELS and runs[0].float_origin == EXPORTED
    for run in runs:
        for shares in run.operators.values():
            assert sum(share.share for share in shares.values()) == pytest.approx(1)
        assert f"{run.timing.rows[0].median_ms:.2f}" in result.stdout
        assert f"{run.ratios['quantize_static'].text} × the better quantize_static" in result.stdout
    assert written["medians"][0]["speedups"]["float"] == pytest.approx(sum(run.speedups["float"] for run in runs) / 2)
    for words in ("QLinearConv", "GOP/s", "peak memory", "the median of the runs", "torch.onnx.export"):
        assert words in result.stdout
    again = bench(*arguments, "--repeat", "2")
    assert built == ["tiny"] and again.stdout == result.stdout and again.stderr == ""
    third = bench(*arguments, "--repeat", "3", "--json", "-")
    assert built == ["tiny"] * 2
    assert len(json.loads(third.stdout)["records"]) == 3
    assert len((tmp_path / "b.jsonl").read_text().splitlines()) == 3


def test_a_changed_file_is_another_run(exported: Exported, tmp_path: Path) -> None:
    """Otherwise a journal would give the times of what was there before."""
    copy = exported.copy(tmp_path).directory

    def settings() -> dict[str, Any]:
        (entry,) = plan.plan([copy], [])
        return entry.settings

    before = settings()
    assert settings() == before
    file = copy / "qdq" / "model.onnx"
    file.write_bytes(file.read_bytes() + b"\0")
    assert settings() != before


def test_peer_is_on_for_networks_and_off_for_files(exported: Exported) -> None:
    (named,) = plan.plan([], ["tiny"])
    (low_bit,) = plan.plan([exported.checkpoint], [])
    (bundle,) = plan.plan([exported.bundle.directory], [])
    assert (named.settings["peer"], low_bit.settings["peer"], bundle.settings["peer"]) == (True, True, False)
    (without,) = plan.plan([], ["tiny"], peer=False)
    assert without.settings["peer"] is False
    both = plan.plan([exported.checkpoint], ["tiny", "resnet18"], size=32)
    assert [entry.name for entry in both] == [str(exported.checkpoint), "tiny", "resnet18"]
