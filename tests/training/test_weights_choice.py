"""training.weights_choice: the network's tensors are found by their names, whatever is wrapped around them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from calib.errors import QuantizationError
from lsq_export.training.weights_choice import Choice, choose

NAMES = ("conv.weight", "norm.weight", "norm.bias", "fc.weight", "fc.bias")
State = dict[str, torch.Tensor]


def state(value: float, start: str = "") -> State:
    return {f"{start}{name}": torch.full((2,), value) for name in NAMES}


def chosen(content: Any, averaged: bool = False) -> Choice:
    return choose(content, NAMES, "w.pth", averaged)


def value(choice: Choice) -> float:
    assert set(choice.tensors) == set(NAMES)
    (found,) = {float(tensor[0]) for tensor in choice.tensors.values()}
    return found


@pytest.mark.parametrize("part", ["", "state_dict", "model", "model_state_dict", "net", "generator", "a.b"])
@pytest.mark.parametrize(
    "start", ["", "module.", "_orig_mod.", "model.", "module._orig_mod.", "model._orig_mod.module."]
)
def test_wrappers_and_prefixes(part: str, start: str) -> None:
    content: Any = state(1, start)
    for key in reversed(part.split(".") if part else []):
        content = {key: content, "epoch": 3, "optimizer": {"state": {0: {"momentum": torch.zeros(2)}}}}
    choice = chosen(content)
    assert (value(choice), choice.part, choice.prefix, choice.left_over) == (1, part, start.removesuffix("."), ())


def test_parts_that_were_compiled_or_parallel_alone() -> None:
    content = state(1)
    content["norm._orig_mod.weight"] = content.pop("norm.weight")
    content["fc.module.bias"] = content.pop("fc.bias")
    assert value(chosen(content)) == 1


def test_a_network_with_such_a_name_of_its_own_keeps_it() -> None:
    names = ("module.conv.weight", "conv.weight")
    content = {"module.conv.weight": torch.ones(1), "conv.weight": torch.zeros(1)}
    assert {k: float(v) for k, v in choose(content, names, "w").tensors.items()} == {names[0]: 1, names[1]: 0}


@pytest.mark.parametrize("key", ["model_ema", "ema_state_dict", "state_dict_ema", "ema", "swa_model", "averaged_model"])
def test_plain_weights_before_an_average(key: str) -> None:
    content = {key: state(2), "state_dict": state(1)}
    plain, average = chosen(content), chosen(content, averaged=True)
    assert (value(plain), plain.averaged, plain.also_averaged) == (1, False, True)
    assert (value(average), average.averaged) == (2, True)
    alone = chosen({key: state(2)})
    assert (value(alone), alone.averaged, alone.also_averaged) == (2, True, False)


def test_an_average_in_the_same_dictionary() -> None:
    content = {"state_dict": {**state(2, "ema.module."), **state(1, "model."), "loss.weight": torch.ones(3)}}
    assert value(chosen(content)) == 1 and value(chosen(content, averaged=True)) == 2
    assert "loss.weight" in chosen(content).left_over and "ema.module.fc.bias" in chosen(content).left_over


def test_a_few_plain_names_do_not_hide_an_average() -> None:
    assert value(chosen({"head": {"fc.bias": torch.zeros(2)}, "model_ema": state(2)})) == 2


def test_usual_names_win() -> None:
    assert value(chosen({"best": state(2), "state_dict": state(1)})) == 1
    assert value(chosen({**state(1), **state(2, "teacher.")})) == 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({**state(1, "student."), **state(2, "teacher.")}, "several networks that fit ('student', 'teacher')"),
        ({"epoch": 3}, "holds a dictionary without tensors ('epoch'): give a state_dict"),
        ({}, "holds a dictionary without tensors (empty)"),
        (torch.zeros(3), "holds a single tensor"),
        ([torch.zeros(3)], "holds a list"),
        (
            {"w": torch.zeros(1)},
            "holds 1 tensor and none of the network's: it has 'w', the network needs 'conv.weight'",
        ),
    ],
)
def test_what_cannot_be_chosen(content: Any, says: str) -> None:
    with pytest.raises(QuantizationError) as caught:
        chosen(content)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_no_average_to_take() -> None:
    with pytest.raises(QuantizationError, match="no averaged weights"):
        chosen(state(1), averaged=True)
