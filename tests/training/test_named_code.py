"""named_code: a checkpoint runs nothing that the user did not name. The code that it names here leaves a mark."""

from __future__ import annotations

import copy
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from calib.errors import QuantizationError
from lsq_export import models
from lsq_export.training import checkpoint
from support.commands import invoke
from support.exported import CLASSES, SHAPE, Exported

MARK = "mark"
NET = f"""
from pathlib import Path
from lsq_export.models.tiny import Tiny

Path("{MARK}").touch()

class Net(Tiny):
    pass

def ends(**kw):
    raise SystemExit(0)
"""
COMMANDS = (
    ("export", "net.safetensors", "--out", "out"),
    ("folds", "net.safetensors"),
    ("drift", "net.safetensors", "--data", "digits"),
    ("bench", "net.safetensors", "--runs", "1"),
)


@pytest.fixture
def place(exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current directory with net.safetensors, which names `marked_net:Net`, and marked_net.py."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "marked_net.py").write_text(NET, encoding="utf-8")
    save(exported, "marked_net:Net")
    yield tmp_path
    sys.modules.pop("marked_net", None)


def save(exported: Exported, name: str, path: str = "net.safetensors") -> None:
    spec = {"name": name, "num_classes": CLASSES, "in_channels": SHAPE[0]}
    known = checkpoint.load(exported.checkpoint)
    rest: dict[str, Any] = {"input_shape": SHAPE, "preprocessing": known.preprocessing, "extra": known.extra}
    checkpoint.save(path, exported.model, model_spec=spec, config=known.config, **rest)


def refusal(call: Any, message: str) -> None:
    with pytest.raises(QuantizationError) as caught:
        call()
    assert re.search(message, str(caught.value)) and "\n" not in str(caught.value), str(caught.value)


@pytest.mark.parametrize("command", COMMANDS, ids=[command[0] for command in COMMANDS])
def test_commands_refuse_code_that_was_not_named(command: tuple[str, ...], place: Path) -> None:
    result = invoke(*command)
    assert result.exit_code == 2 and result.stderr.count("\n") == 1
    assert "names the code 'marked_net:Net'" in result.stderr and "--model marked_net:Net" in result.stderr
    assert "--trust" in result.stderr and not (place / MARK).exists() and not (place / "out").exists()


@pytest.mark.parametrize("option", [("--model", "marked_net:Net"), ("--trust",)])
@pytest.mark.parametrize("command", COMMANDS, ids=[command[0] for command in COMMANDS])
def test_commands_run_code_that_was_named(
    command: tuple[str, ...], option: tuple[str, ...], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of the command is not the question: the network is built, and no further."""

    def stop(*arguments: Any) -> None:
        raise QuantizationError("built")

    monkeypatch.setattr(checkpoint, "_load_state", stop)
    result = invoke(*command, *option)
    assert (result.exit_code, result.stderr.strip().splitlines()[-1]) == (2, "error: built"), result.stderr
    assert (place / MARK).exists()


def test_python_refuses_and_takes_the_name_the_class_or_the_network(exported: Exported, place: Path) -> None:
    refusal(lambda: checkpoint.restore("net.safetensors"), r"model='marked_net:Net' or trust=True")
    assert not (place / MARK).exists()
    own = models.build("tiny", num_classes=CLASSES, in_channels=SHAPE[0])
    before = {name: tensor.clone() for name, tensor in own.state_dict().items()}
    x = torch.rand(2, *SHAPE)
    wanted = exported.model.eval()(x)
    for given in ({"model": type(own)}, {"model": own}):
        model, found = checkpoint.restore("net.safetensors", **given)  # type: ignore[arg-type]
        assert torch.equal(model(x), wanted) and found.model_spec["name"] == "marked_net:Net"
        assert not (place / MARK).exists()
    assert all(torch.equal(before[name], tensor) for name, tensor in own.state_dict().items())
    for more in ({"model": "marked_net:Net"}, {"trust": True}):
        model, _ = checkpoint.restore("net.safetensors", **more)  # type: ignore[arg-type]
        assert torch.equal(model(x), wanted)
    assert (place / MARK).exists()


def test_a_network_that_has_moved_is_built_from_where_it_is_now(place: Path) -> None:
    (place / "moved_net.py").write_text("from lsq_export.models.tiny import Tiny as Net\n", encoding="utf-8")
    _, found = checkpoint.restore("net.safetensors", model="moved_net:Net")
    assert found.model_spec["name"] == "moved_net:Net" and not (place / MARK).exists()


def test_names_that_do_not_go_together(exported: Exported, place: Path) -> None:
    refusal(lambda: checkpoint.restore("net.safetensors", model="tiny"), "was built by 'marked_net:Net', not by tiny")
    path = exported.checkpoint
    refusal(lambda: checkpoint.restore(path, model="marked_net:Net"), "is of tiny, .* leave --model out")
    refusal(lambda: checkpoint.restore(path, model="resnet18"), "is of tiny, .* leave --model out")
    assert not (place / MARK).exists()
    assert checkpoint.restore(path, model="tiny", trust=True)[1].model_spec["name"] == "tiny"


def test_bench_times_a_named_network_once_beside_its_checkpoint(exported: Exported, place: Path) -> None:
    from lsq_export.bench.plan import plan

    planned = plan([Path("net.safetensors")], ["marked_net:Net", "resnet18"])
    assert [entry.name for entry in planned] == ["net.safetensors", "resnet18"]
    assert [entry.name for entry in plan([exported.checkpoint], ["marked_net:Net"])][1:] == ["marked_net:Net"]
    refusal(lambda: plan([Path("net.safetensors")], ["resnet18"]), "names the code 'marked_net:Net'")
    assert not (place / MARK).exists()


def test_a_network_that_ends_the_program_is_one_line(exported: Exported, place: Path) -> None:
    save(exported, "marked_net:ends")
    result = invoke("folds", "net.safetensors", "--trust")
    assert result.exit_code == 2 and "failed: SystemExit: 0" in result.stderr and result.stderr.count("\n") == 1


def test_a_forward_that_ends_the_program_is_one_line(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if all were done: the exit code would be 0, and there would be no bundle."""
    model, known = copy.deepcopy(exported.model), checkpoint.load(exported.checkpoint)
    model.register_forward_pre_hook(lambda *_: sys.exit(0))
    monkeypatch.setattr(checkpoint, "restore", lambda path, **how: (model.eval(), known))
    result = invoke("export", exported.checkpoint, "--out", tmp_path / "out")
    assert result.exit_code == 2 and "the network's code ended the program (SystemExit: 0)" in result.stderr
    assert result.stderr.count("\n") == 1 and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "spec,message",
    [
        ({"name": "tiny", "num_classes": 10**9, "in_channels": 1}, "is a network of 4"),
        ({"name": "efficientnet_b0", "num_classes": 5, "in_channels": 10**9}, "is a network of"),
    ],
)
def test_no_name_asks_for_a_network_that_no_memory_holds(
    spec: dict[str, Any], message: str, exported: Exported, tmp_path: Path
) -> None:
    known = checkpoint.load(exported.checkpoint)
    path = checkpoint.save(
        tmp_path / "x.safetensors",
        exported.model,
        model_spec=spec,
        config=known.config,
        input_shape=SHAPE,
        preprocessing={},
    )
    refusal(lambda: checkpoint.restore(path), message)
