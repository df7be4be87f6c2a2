"""What the weights of a checkpoint are worth on these data, before anything is trained.

Weights that are right are worthless on images that are normalized in another way, or with classes in another order:
that shows here, and not after hours of training.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from calib.errors import QuantizationError
from lsq_export.data.dataset import Dataset
from lsq_export.data.description import normalization, sizes
from lsq_export.data.guessing import guessing_limit

from .distributed import Processes
from .job_settings import Job
from .other_settings import CLEARLY, Tried, try_others
from .own_accuracy import Stated, own_accuracy
from .phase import accuracy
from .predict import TEST_BATCH, check_fit, predict
from .start import Start

if TYPE_CHECKING:
    from rich.console import Console

OTHER_ORDER = 0.7  # right answers after renumbering, 0-1, from which the order of the classes must be another one
FAR_BELOW = 0.05  # of what the file says of itself, 0-1


@dataclass(frozen=True)
class Look:
    """accuracy: on the test split, 0-1. stated: what the file says of itself, if it does.

    better: settings that do clearly better, where others were tried.
    """

    accuracy: float
    stated: Stated | None
    better: Tried | None = None


def first_look(start: Start, job: Job, data: Dataset, console: Console | None, processes: Processes) -> Look:
    """What the start is worth on the test split; what was loaded, and the accuracy, are said on the console.

    An accuracy far below what the file says of itself is a warning there, and other settings are tried. They are tried,
    too, where the file does not say as much as was found: settings that do clearly better are a warning.

    Errors (QuantizationError): an accuracy that is hardly better than guessing, where these weights are not trained on;
    `job.anyway`, or float epochs, make it a warning. New heads may guess.
    """
    check_fit(start.model, data, torch.device("cpu"))
    found, stated = accuracy(start.model, data, processes), own_accuracy(start.path)
    if start.weights is not None:
        say(console, str(start.weights))
    head = ", with a new head" if job.new_head else ""
    beside = f" ({stated})" if stated else ""
    say(console, f"float accuracy of {start.path} on the test split of {job.data_spec}{head}: {found:.2%}{beside}")
    look = Look(found, stated)
    guesses = found <= guessing(data)
    wrong = guesses or far_below(look)
    if job.new_head or not (wrong or may_be_better(look)):
        return look
    tried = try_others(start.model, data)
    processes.sums(0.0)  # All of them are done with that before the first one fails.
    if tried.options and tried.beyond_chance:
        look = replace(look, better=tried)
    elif not wrong:
        return look
    text = concern(look, data, renumbered(start.model, data), tried)
    if guesses and not (job.anyway or job.float_recipe.epochs):
        raise QuantizationError(f"{text}; anyway (--anyway) goes on with these weights")
    say(console, f"warning: {text}")
    return look


def far_below(look: Look) -> bool:
    """Whether the accuracy is much less than what the file says."""
    return look.stated is not None and look.accuracy < look.stated.accuracy - FAR_BELOW


def may_be_better(look: Look) -> bool:
    """Whether another setting can do clearly better, for all that the file says of itself."""
    accounted_for = look.stated is not None and abs(look.accuracy - look.stated.accuracy) <= FAR_BELOW
    return not accounted_for and look.accuracy < 1 - CLEARLY


def doubtful(look: Look) -> bool:
    """Whether the weights can be expected to do better than this."""
    return far_below(look) or look.better is not None


def say(console: Console | None, line: str) -> None:
    """A line on the console, if there is one."""
    if console is not None:
        console.print(line, markup=False, soft_wrap=True)


def guessing(data: Dataset) -> float:
    """The accuracy, 0-1, up to which weights are hardly better than guessing on the test split."""
    return guessing_limit(data.num_classes, len(data.test))


def renumbered(model: nn.Module, data: Dataset) -> float:
    """The accuracy on the test split, 0-1, if each class of the network were the class of the data that it finds most.

    No two classes of the network become the same one.
    """
    target = torch.cat([y for _, y in data.batches("test", TEST_BATCH)])
    found = predict(model, data.batches("test", TEST_BATCH)).argmax(1)
    right, owns, trues = 0, set[int](), set[int]()
    for (own, true), count in Counter(zip(found.tolist(), target.tolist(), strict=True)).most_common():
        if own not in owns and true not in trues:
            right += count
            owns.add(own)
            trues.add(true)
    return right / len(target)


def concern(look: Look, data: Dataset, renumbered: float, tried: Tried) -> str:
    """What is wrong, what was measured, and what to do. renumbered: the accuracy with the classes in the best order."""
    what = f"is hardly better than guessing among {data.num_classes} classes"
    if look.accuracy > guessing(data):
        what = "is far below what the file says of itself" if far_below(look) else "may be less than these weights can"
    stated = f"; {look.stated}" if look.stated else ""
    facts = f"float accuracy {look.accuracy:.2%} {what} ({sizes(data)}; {normalization(data)}{stated})"
    on = f"on {tried.images} of the test images"
    if tried.options:
        found = f"{tried.options} gives {tried.best:.2%} {on}, and what is given here {tried.given:.2%}"
        asked = "" if far_below(look) or look.accuracy <= guessing(data) else "; use it if the network was trained so"
        return f"{facts}: {found}{asked}"
    if renumbered >= OTHER_ORDER and look.accuracy <= guessing(data):
        names = [str(name) for name in data.preprocessing.get("classes") or ()]
        order = f" (here {', '.join(names[:5])}{', …' if len(names) > 5 else ''})" if names else ""
        advice = f"with the classes in another order it would be {renumbered:.2%}: number them as in the training"
        return f"{facts}: {advice}{order}"
    others = (
        f"{tried.tried - 1} other sizes and normalizations are not clearly better {on}; " if tried.tried > 1 else ""
    )
    return (
        f"{facts}: {others}check --mean, --std, --image-size, --resize, the order of the classes, and that --model is "
        "the network of the file"
    )
