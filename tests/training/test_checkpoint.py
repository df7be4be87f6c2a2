"""checkpoint: what is saved comes back; every file that is no checkpoint is refused in one line."""

from __future__ import annotations

import os
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from calib.errors import QuantizationError
from calib.initialization.first_grids import initialize
from lsq_export import models
from lsq_export.files import sealed, tensor_file
from lsq_export.qat.prepare_model import QATConfig, prepare, quantizers
from lsq_export.training import checkpoint
from lsq_export.training.checkpoint_header import metadata_of

SPEC = {"name": "tiny", "num_classes": 4, "in_channels": 1}
REST: dict[str, Any] = {"input_shape": (1, 16, 16), "preprocessing": {"mean": [0.5]}}


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return models.build(**SPEC).eval()


def _refused(path: Path, message: str, restore: bool = False) -> None:
    with pytest.raises(QuantizationError) as caught:
        (checkpoint.restore if restore else checkpoint.load)(path)
    assert re.search(message, str(caught.value)) and str(path) in str(caught.value), str(caught.value)
    assert "\n" not in str(caught.value)


def _write(path: Path, state: dict[str, torch.Tensor], **changes: str | None) -> Path:
    """A checkpoint with damaged metadata; None leaves a field out."""
    metadata = {
        "lsq_export": "1",
        "model": '{"name": "tiny"}',
        "config": "null",
        "input_shape": "[3, 16, 16]",
        "preprocessing": "{}",
        "extra": "{}",
    }
    save_file(state, path, {k: v for k, v in {**metadata, **changes}.items() if v is not None})
    return path


def test_a_float_model_comes_back(model: nn.Module, tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path / "m.safetensors", model, model_spec=SPEC, config=None, extra={"epoch": 3}, **REST)
    before = torch.random.get_rng_state()
    again, found = checkpoint.restore(path)
    assert torch.equal(before, torch.random.get_rng_state())
    assert (found.model_spec, found.config, found.input_shape, found.extra) == (SPEC, None, (1, 16, 16), {"epoch": 3})
    assert found.preprocessing == REST["preprocessing"]
    x = torch.randn(2, 1, 16, 16)
    assert not again.training and torch.equal(again(x), model(x))
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]  # no temporary file stays


def test_a_qat_model_comes_back(model: nn.Module, tmp_path: Path) -> None:
    config = QATConfig(weight_bits=3, activation_bits=2, weight_granularity="channel", edges="trained")
    qat = prepare(model, config).eval()
    x = torch.randn(8, 1, 16, 16)
    initialize(qat, [x], method="minmax")
    path = checkpoint.save(tmp_path / "q.safetensors", qat, model_spec=SPEC, config=config.to_dict(), **REST)
    again, found = checkpoint.restore(path)
    assert found.config == config.to_dict()
    assert torch.equal(again(x), qat(x))
    assert all(torch.equal(q.scale, quantizers(qat)[name].scale) for name, q in quantizers(again).items())


def test_shared_and_strided_tensors_are_saved(tmp_path: Path) -> None:
    shared = nn.Sequential(nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)).to(memory_format=torch.channels_last)
    shared[1].weight = shared[0].weight
    path = checkpoint.save(tmp_path / "s.safetensors", shared, model_spec=SPEC, config=None, **REST)
    state = checkpoint.load(path).state
    assert torch.equal(state["0.weight"], state["1.weight"]) and torch.equal(state["0.weight"], shared[0].weight)


def test_a_failed_save_leaves_the_old_file(model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = checkpoint.save(tmp_path / "m.safetensors", model, model_spec=SPEC, config=None, **REST)
    before = path.read_bytes()

    def full(state: Any, filename: Path, metadata: Any) -> None:
        Path(filename).write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(tensor_file, "save_file", full)
    with pytest.raises(QuantizationError, match="cannot be written: No space left"):
        checkpoint.save(path, model, model_spec=SPEC, config=None, **REST)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["m.safetensors"]


def test_save_refuses_bad_places_and_specs(model: nn.Module, tmp_path: Path) -> None:
    for path, spec, message in (
        (tmp_path / "no" / "m.safetensors", SPEC, "directory .*no does not exist"),
        (tmp_path, SPEC, "is a directory"),
        (tmp_path / "m", {"num_classes": 3}, "name of the model"),
        (tmp_path / "m", {**SPEC, "num_classes": 0}, "num_classes of the model is 0"),
        (tmp_path / "m", {"name": "my.net:build", "width": 3}, "width cannot be kept for a model of your own"),
    ):
        with pytest.raises(QuantizationError, match=message):
            checkpoint.save(path, model, model_spec=spec, config=None, **REST)


def test_files_that_are_no_checkpoint(model: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    _refused(path, "does not exist: check the path")
    _refused(tmp_path, "is not a file")
    torch.save(model.state_dict(), path)
    _refused(path, r"is a pickle \(.pt, .pth\)")
    path.write_bytes(pickle.dumps({"a": 1}))
    _refused(path, "is a pickle")
    path.write_bytes(b"")
    _refused(path, "is damaged or no safetensors file")
    path.write_bytes(b"hello, this is text")
    _refused(path, "is damaged or no safetensors file")
    save_file({"a": torch.zeros(2)}, path)
    _refused(path, "has no lsq-export metadata")
    checkpoint.save(path, model, model_spec=SPEC, config=None, **REST)
    path.write_bytes(path.read_bytes()[:-100])
    _refused(path, "is damaged")


def test_a_changed_byte_is_noticed(model: nn.Module, tmp_path: Path) -> None:
    """By the first look of a command at the file, too, which reads the metadata alone."""
    path = checkpoint.save(tmp_path / "x.safetensors", model, model_spec=SPEC, config=None, **REST)
    whole = path.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    for where in (3, whole.index(b"num_classes"), whole.index(b"data_offsets"), start - 1, start, len(whole) - 1):
        path.write_bytes(whole[:where] + bytes([whole[where] ^ 4]) + whole[where + 1 :])
        _refused(path, "is damaged")
        with pytest.raises(QuantizationError, match="is damaged"):
            metadata_of(path)
    path.write_bytes(whole.replace(sealed.DIGEST.encode(), sealed.DIGEST.upper().encode()))
    _refused(path, r"is damaged \(it lacks its digest\)")
    path.write_bytes(whole + b"more")
    _refused(path, "is damaged")


def test_equal_models_are_equal_files_and_earlier_ones_load(model: nn.Module, tmp_path: Path) -> None:
    paths = [
        checkpoint.save(tmp_path / f"{name}.safetensors", model, model_spec=SPEC, config=None, **REST) for name in "ab"
    ]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    metadata = {name: text for name, text in metadata_of(paths[0]).items() if name != sealed.DIGEST}
    save_file(load_file(paths[0]), paths[1], {**metadata, "lsq_export": "1"})
    x = torch.rand(2, 1, 16, 16)
    assert torch.equal(checkpoint.restore(paths[1])[0](x), model(x))


def test_no_pickle_is_run(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "ran"),)

    (tmp_path / "x.pth").write_bytes(pickle.dumps(Payload()))
    _refused(tmp_path / "x.pth", "is a pickle", restore=True)
    assert not (tmp_path / "ran").exists()


def test_a_sound_file_that_starts_like_a_pickle_loads(model: nn.Module, tmp_path: Path) -> None:
    """The first 8 bytes are the length of the header, a multiple of 8: 0x80 modulo 256 for one extra text of 32."""
    for size in range(0, 256, 8):
        path = checkpoint.save(
            tmp_path / "x.safetensors", model, model_spec=SPEC, config=None, extra={"pad": "x" * size}, **REST
        )
        assert checkpoint.load(path).extra == {"pad": "x" * size}
        if path.read_bytes()[0] == 0x80:
            return
    pytest.fail("no header had the length sought")


@pytest.mark.parametrize(
    "changes,message",
    [
        ({"lsq_export": "3"}, "has the format '3', not '2'"),
        ({"lsq_export": "2"}, r"is damaged \(it lacks its digest\)"),
        ({"model": '{"name": "net:a b"}'}, "model 'net:a b' cannot be read"),
        ({"extra": "[" * 100_000}, "damaged metadata"),
        ({"input_shape": "[3, 1000000, 1000000]"}, "more than 268435456 numbers"),
        ({"model": None}, "damaged metadata"),
        ({"model": "{"}, "damaged metadata"),
        ({"model": "[1]"}, "must be a table with the name"),
        ({"model": '{"name": "tiny", "num_classes": "9"}'}, "num_classes of the model is '9'"),
        ({"model": '{"name": "tiny", "width": [1]}'}, "width of the model"),
        ({"model": '{"name": "subprocess:run", "args": "ls"}'}, "args cannot be kept"),
        ({"input_shape": "[3, 16]"}, r"input_shape is \[3, 16\]"),
        ({"input_shape": "[3, 16, 0]"}, "input_shape is"),
        ({"preprocessing": "null"}, "preprocessing is None"),
        ({"config": "3"}, "config is 3"),
    ],
)
def test_damaged_metadata(changes: dict[str, str | None], message: str, tmp_path: Path) -> None:
    _refused(_write(tmp_path / "x.safetensors", {"a": torch.zeros(1)}, **changes), message)


def test_a_state_that_does_not_fit(model: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    checkpoint.save(path, model, model_spec={**SPEC, "num_classes": 5}, config=None, **REST)
    _refused(path, r"'fc.weight' has the shape \[4, 48\], the model's \[5, 48\]", restore=True)
    checkpoint.save(path, model, model_spec=SPEC, config=QATConfig().to_dict(), **REST)
    _refused(path, "lacks '.*' .*missing", restore=True)
    checkpoint.save(path, prepare(model), model_spec=SPEC, config=None, **REST)
    _refused(path, "unexpected in all", restore=True)
    save_file({**load_file(path), "more": torch.zeros(1)}, path)
    _refused(path, "no lsq-export metadata", restore=True)


@pytest.mark.parametrize(
    "spec,config,message", [("resnet19", None, "'resnet19' is unknown"), ("tiny", {"bits": 3}, "unknown option 'bits'")]
)
def test_a_checkpoint_of_another_program_version(
    spec: str, config: Any, message: str, model: nn.Module, tmp_path: Path
) -> None:
    path = checkpoint.save(tmp_path / "x.safetensors", model, model_spec={**SPEC, "name": spec}, config=config, **REST)
    with pytest.raises(QuantizationError, match=message):
        checkpoint.restore(path)


def test_checkpoints_without_offset_and_edges_were_trained_with_the_defaults_of_their_time(
    model: nn.Module, tmp_path: Path
) -> None:
    config = QATConfig(offset="real", edges="calibrated")
    prepared = prepare(model, config)
    initialize(prepared, [torch.rand(4, 1, 16, 16)])
    older = {name: value for name, value in config.to_dict().items() if name not in ("offset", "edges")}
    path = checkpoint.save(tmp_path / "m.safetensors", prepared, model_spec=SPEC, config=older, **REST)
    again, found = checkpoint.restore(path)
    assert found.config is not None and (found.config["offset"], found.config["edges"]) == ("real", "calibrated")
    x = torch.rand(3, 1, 16, 16)
    assert torch.equal(again(x), prepared.eval()(x))
