"""Interrupted training goes on to the same bits.

It does so from a state between any two steps, and after SIGKILL at any moment, also with half a file written.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from safetensors.torch import save_file as plain
from torch import nn

from calib.errors import QuantizationError
from lsq_export.cli import cli
from lsq_export.data.dataset import Dataset
from lsq_export.files import sealed, tensor_file
from lsq_export.files.tensor_file import save_file
from lsq_export.qat.prepare_model import prepare
from lsq_export.training.fit import Recipe, fit
from lsq_export.training.loop import Loop
from lsq_export.training.state import State, StateFile, option
from support.commands import TINY_DIGITS, invoke
from support.ranks import PROCESSES
from support.small_digits import quantized, small_digits

pytestmark = pytest.mark.usefixtures("one_thread")
RECIPES = {
    "sgd": Recipe(epochs=2, lr=0.05, batch_size=32, clip_norm=1.0, grid_lr=0.1),
    "adam": Recipe(
        epochs=2, lr=1e-3, batch_size=32, optimizer="adam", schedule="one-cycle", ema=0.9, label_smoothing=0.1
    ),
    "taught": Recipe(epochs=2, lr=0.02, batch_size=32, ema=0.8, distill=0.5, schedule="one-cycle", offset_lr=0.01),
}


@pytest.fixture(scope="module")
def digits() -> Dataset:
    """200 of the digits, in gray and small: 7 steps an epoch, the last one of 8."""
    return small_digits(200)


def _net() -> nn.Module:
    torch.manual_seed(1)
    layers = nn.Conv2d(1, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(8 * 49, 10)
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def _qat(data: Dataset) -> nn.Module:
    return quantized(_net(), data)


def _equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def _states(
    data: Dataset, recipe: Recipe, directory: Path
) -> tuple[dict[str, torch.Tensor], dict[tuple[int, int], State]]:
    """The model after training without interruption, and {(epoch, step): state} on the way.

    Each state has been read back from a file.
    """
    model, states, file = _qat(data), {}, StateFile(directory / "s.safetensors", {})

    def keep(state: State) -> None:
        file.write("low-bit", state, {})
        states[state.values["epoch"], state.values["step"]] = file.read().state

    fit(model, data, recipe, device="cpu", teacher=_net(), keep=keep, keep_every=1)
    return model.state_dict(), states


@pytest.mark.parametrize("name", RECIPES)
def test_every_step_resumes_to_the_same_bits(name: str, digits: Dataset, tmp_path: Path) -> None:
    expected, states = _states(digits, RECIPES[name], tmp_path)
    assert list(states) == [(e, s) for e in (0, 1) for s in range(7)] + [(2, 0)]
    for where in [(0, 0), (0, 3), (1, 0), (1, 6), (2, 0)]:
        model = _qat(digits)
        result = fit(model, digits, RECIPES[name], device="cpu", teacher=_net(), state=states[where])
        assert _equal(model.state_dict(), expected) and [epoch.epoch for epoch in result.epochs] == [1, 2], where


def _without(part: str) -> Callable[[State], State]:
    return lambda state: replace(
        state, tensors={k: v for k, v in state.tensors.items() if not k.startswith(f"{part}.")}
    )


def _zero(part: str) -> Callable[[State], State]:
    return lambda state: replace(
        state, tensors={k: v * 0 if k.startswith(f"{part}.") else v for k, v in state.tensors.items()}
    )


def _other(**values: Any) -> Callable[[State], State]:
    return lambda state: replace(state, values={**state.values, **values})


@pytest.mark.parametrize(
    ("name", "sabotage"),
    [
        ("sgd", _without("optimizer")),
        ("sgd", _zero("model.1")),
        ("taught", _zero("average.module.1")),
        ("sgd", _other(step=2)),
        ("sgd", _other(epoch=0)),
    ],
    ids=["no moments", "another batch norm", "another average", "a step again", "an epoch again"],
)
def test_each_part_of_a_state_matters(
    name: str, sabotage: Callable[[State], State], digits: Dataset, tmp_path: Path
) -> None:
    """The comparison above can fail."""
    expected, states = _states(digits, RECIPES[name], tmp_path)
    model = _qat(digits)
    fit(model, digits, RECIPES[name], device="cpu", teacher=_net(), state=sabotage(states[1, 3]))
    assert not _equal(model.state_dict(), expected)


@pytest.mark.parametrize("forget", ["restore_random", "schedule"])
def test_dropout_and_schedule_go_on(
    forget: str, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, states = _states(digits, RECIPES["sgd"], tmp_path)
    if forget == "schedule":
        fresh = (
            Loop(_qat(digits), digits, RECIPES["sgd"], seed=0, device=torch.device("cpu")).state().values["schedule"]
        )
        states[1, 3] = _other(schedule=fresh)(states[1, 3])
    else:
        monkeypatch.setattr(Loop, forget, lambda self, state: None)
    model = _qat(digits)
    fit(model, digits, RECIPES["sgd"], device="cpu", state=states[1, 3])
    assert not _equal(model.state_dict(), expected)


def test_interrupted_again_within_the_epoch_gives_the_last_completed_one(digits: Dataset, tmp_path: Path) -> None:
    recipe, good = replace(RECIPES["taught"], epochs=3), {}

    def after(model: nn.Module, epoch: int, metrics: Any) -> None:
        good[epoch] = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def stop(state: State) -> None:
        if state.values["step"] == 5:
            raise KeyboardInterrupt

    states: dict[tuple[int, int], State] = {}
    file = StateFile(tmp_path / "s.safetensors", {})

    def keep(state: State) -> None:
        file.write("low-bit", state, {})
        states[state.values["epoch"], state.values["step"]] = file.read().state

    fit(_qat(digits), digits, recipe, device="cpu", teacher=_net(), on_epoch=after, keep=keep, keep_every=2)
    model = _qat(digits)
    result = fit(model, digits, recipe, device="cpu", teacher=_net(), state=states[1, 2], keep=stop, keep_every=1)
    assert result.interrupted and len(result.epochs) == 1 and _equal(model.state_dict(), good[1])


def test_a_state_of_another_model_is_refused(digits: Dataset, tmp_path: Path) -> None:
    _, states = _states(digits, RECIPES["sgd"], tmp_path)
    with pytest.raises(
        QuantizationError, match=r"the state does not fit the model .*: its code has changed since"
    ) as caught:
        fit(
            prepare(nn.Sequential(nn.Flatten(), nn.Linear(256, 10))),
            digits,
            RECIPES["sgd"],
            device="cpu",
            state=states[1, 0],
        )
    assert "\n" not in str(caught.value)


# The command, killed.
COMMAND = [*TINY_DIGITS, "--batch-size", "256", "--device", "cpu", "--distill", "--ema", "0.5"]
COMMAND += ["--float-epochs", "2", "--epochs", "2", "--weight-bits", "3", "--save-every", "2", "--optimizer", "adam"]


def _child(arguments: list[str], kill_at: int, kind: str, in_place: bool, events: Any) -> None:
    """The command in a process that kills itself at the n-th event, of one kind or of all.

    Events are a step, and a file that is half written, written or renamed.
    """
    torch.set_num_threads(1)

    def event(name: str, half: Callable[[], Any] = lambda: None) -> None:
        events.value += kind in ("", name)
        if events.value == kill_at and kind in ("", name):
            half()
            os.kill(os.getpid(), signal.SIGKILL)

    def save(tensors: Any, path: Path, metadata: Any) -> None:
        event("half", lambda: (save_file(tensors, path, metadata), os.truncate(path, path.stat().st_size // 2)))
        save_file(tensors, path, metadata)
        event("written")

    def renamed(source: Any, target: Any) -> None:
        event("before")
        os.rename(source, target)
        event("after")

    def stepped(self: Loop, x: torch.Tensor, y: torch.Tensor) -> None:
        step(self, x, y)
        event("step")

    step, Loop._step = Loop._step, stepped  # type: ignore[method-assign]
    tensor_file.save_file, os.replace = save, renamed
    if in_place:
        tensor_file.write = lambda path, tensors, metadata, what: save(
            {k: v.clone() for k, v in tensors.items()}, path, metadata
        )
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    cli.main(["train", *COMMAND, *arguments], prog_name="lsq-export")


def _run(out: Path, *arguments: str, kill_at: int = 0, kind: str = "", in_place: bool = False) -> tuple[int, int]:
    """(exit code, or minus the signal; events)"""
    events = PROCESSES.Value("i", 0)
    process = PROCESSES.Process(target=_child, args=(["--out", str(out), *arguments], kill_at, kind, in_place, events))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode, events.value


def _log(out: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in out.with_suffix(".jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """The files of a run that nobody killed, and its number of events."""
    out = tmp_path_factory.mktemp("whole") / "t.safetensors"
    code, events = _run(out)
    assert code == 0 and {p.name for p in out.parent.iterdir()} == {"t.safetensors", "t.jsonl", "t.svg"}
    return out, events


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2, 3, 4))])
def test_killed_at_random_moments(seed: int, whole: tuple[Path, int], tmp_path: Path) -> None:
    """Killed, resumed, killed again, …, to the end: the same tensors, the same log, and nothing left behind."""
    expected, events = whole
    rng, out, kills = random.Random(seed), tmp_path / "t.safetensors", 0
    while True:
        # Killed before the first state: anew.
        resume = ["--resume"] if (tmp_path / "t.state.safetensors").exists() else ["--force"]
        code, _ = _run(out, *resume, kill_at=rng.randrange(1, events) if kills < 3 else 0)
        kills += 1
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert _equal(load_file(out), load_file(expected)) and _log(out) == _log(expected)
    assert {p.name for p in tmp_path.iterdir()} == {"t.safetensors", "t.jsonl", "t.svg"}
    assert [(line["phase"], line["epoch"]) for line in _log(out)] == [
        ("float", 1),
        ("float", 2),
        ("low-bit", 1),
        ("low-bit", 2),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("in_place", [False, True], ids=["as it is", "sabotage: written in place"])
def test_killed_with_half_a_state_written(in_place: bool, whole: tuple[Path, int], tmp_path: Path) -> None:
    out = tmp_path / "t.safetensors"
    assert _run(out, kill_at=2, kind="half", in_place=in_place)[0] == -signal.SIGKILL
    if in_place:
        _refused([*COMMAND, "--out", str(out), "--resume"], "is damaged")
    else:
        (half,) = tmp_path.glob(".t.state.safetensors.*.tmp")
        assert _run(out, "--resume")[0] == 0 and _equal(load_file(out), load_file(whole[0])) and not half.exists()


@pytest.mark.slow
def test_killed_by_the_clock(whole: tuple[Path, int], tmp_path: Path) -> None:
    """A process of its own, killed from outside at seeded random times until it is done."""
    out, rng = tmp_path / "t.safetensors", random.Random(5)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    kills = 0
    while True:
        resume = ["--resume"] if (tmp_path / "t.state.safetensors").exists() else ["--force"]
        arguments = [sys.executable, "-m", "lsq_export", "train", *COMMAND, "--out", str(out), *resume]
        process = subprocess.Popen(arguments, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        before = (tmp_path / "t.state.safetensors").stat().st_mtime_ns if resume == ["--resume"] else 0
        begin = time.monotonic()
        while process.poll() is None and kills < 3:  # from the first new state on, a random time later
            if (tmp_path / "t.state.safetensors").exists() and (
                tmp_path / "t.state.safetensors"
            ).stat().st_mtime_ns != before:
                try:
                    process.wait(rng.uniform(0, 0.5))
                except subprocess.TimeoutExpired:
                    process.kill()
                    kills += 1
                break
            assert time.monotonic() - begin < 120
        message = process.communicate()[1]
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, message
    assert kills and _equal(load_file(out), load_file(whole[0])) and _log(out) == _log(whole[0])


# What is refused.
def _refused(arguments: list[str], says: str) -> None:
    result = invoke("train", *arguments)
    assert result.exit_code == 2 and says in result.stderr and result.stderr.count("\n") == 1, result.stderr


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The --out of a run that was killed in its first epoch."""
    out = tmp_path_factory.mktemp("killed") / "t.safetensors"
    assert _run(out, kill_at=20)[0] == -signal.SIGKILL
    return out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--lr", "0.2"], "the interrupted run had --lr 0.001, this one has 0.2"),
        (["--float-lr", "0.2"], "had --float-lr 0.001, this one has 0.2"),
        (["--seed", "1"], "had --seed 0, this one has 1"),
        (["--weight-bits", "4"], "had --weight-bits 3, this one has 4"),
        (["--grid", "signed-symmetric"], "had --grid unsigned-asymmetric, this one has signed-symmetric"),
        (["--model", "resnet18"], "had --model tiny, this one has resnet18"),
        (["--distill", "0.25"], "had --distill 0.5, this one has 0.25"),
        (["--float-epochs", "3"], "had --float-epochs 2, this one has 3"),
        (["--float-checkpoint", "f.safetensors"], "had --float-checkpoint no value, this one has f.safetensors"),
        (["--image-size", "24"], "had --image-size 8, this one has 24"),
    ],
)
def test_another_job_names_the_option(options: list[str], says: str, killed: Path) -> None:
    _refused([*COMMAND, "--out", str(killed), "--resume", *options], says)


def test_a_run_that_was_interrupted_is_not_forgotten_unasked(killed: Path, tmp_path: Path) -> None:
    _refused([*COMMAND, "--out", str(killed)], "a run was interrupted here: --resume continues it, --force starts anew")
    _refused(
        [*COMMAND, "--out", str(killed), "--resume", "--force"],
        "--resume continues a run and --force starts anew: give one of them",
    )
    _refused(
        [*COMMAND, "--out", str(tmp_path / "other.safetensors"), "--resume"],
        "no run was interrupted here; leave --resume out",
    )


def test_files_that_are_no_state(tmp_path: Path) -> None:
    out, state = tmp_path / "t.safetensors", tmp_path / "t.state.safetensors"
    state.write_bytes(b"thesis")
    _refused([*COMMAND, "--out", str(out)], "it is no state of a run: give --out another name")
    _refused([*COMMAND, "--out", str(out), "--resume"], "is damaged")
    save_file({"a": torch.zeros(1)}, state, {})
    _refused([*COMMAND, "--out", str(out), "--resume"], "is no state of this version")
    assert state.exists() and not out.exists()


def test_a_changed_byte_of_a_state_is_noticed(tmp_path: Path) -> None:
    """To go on from other numbers would end in another network, and nobody would know."""
    file = StateFile(tmp_path / "s.safetensors", {"seed": 0})
    file.write("low-bit", State({"step": 3}, {"model.a": torch.ones(5)}), {"initialized": 0.5})
    assert torch.equal(file.read().state.tensors["model.a"], torch.ones(5))
    whole = file.path.read_bytes()
    for where in (len(whole) - 1, whole.index(b"0.5"), whole.index(b"lsq_export_sha256")):
        file.path.write_bytes(whole[:where] + bytes([whole[where] ^ 1]) + whole[where + 1 :])
        with pytest.raises(QuantizationError, match=r"is damaged .*; --force starts anew"):
            file.read()
    file.path.write_bytes(whole)
    metadata = {name: text for name, text in sealed.read_metadata(file.path).items() if name != sealed.DIGEST}
    plain(file.read().state.tensors, file.path, {**metadata, "lsq_export_state": "1"})  # as before there were digests
    assert file.read().state.values == {"step": 3}


def test_every_field_of_a_job_has_an_option() -> None:
    """So that a message can name it."""
    from lsq_export.training.job import Job

    text = invoke("train", "--help").output
    without = {"--momentum", "--weight-decay", "--warmup", "--augment", "--clip-norm", "--data"}  # fixed by the recipes
    names = [
        f"{part}.{name}"
        for part in ("recipe", "float_recipe", "config")
        for name in vars(getattr(Job("tiny", "digits"), part))
    ]
    names += [name for name in vars(Job("tiny", "digits")) if name not in ("recipe", "float_recipe", "config")]
    assert [option(name) for name in names if option(name) not in text and option(name) not in without] == []
