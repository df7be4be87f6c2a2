"""What the weights of a checkpoint are worth on these data, before anything is trained.

Weights that are right are worthless on images that are normalized in another way, or with classes in another order:
that shows here, and not after hours of training.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import torch
from torch import nn

from calib.errors import QuantizationError
from lsq_export.data.dataset import Dataset

from .distributed import Processes
from .job_settings import Job
from .phase import accuracy
from .predict import TEST_BATCH, check_fit, predict
from .start import Start

if TYPE_CHECKING:
    from rich.console import Console

OTHER_ORDER = 0.7  # right answers after renumbering, 0-1, from which the order of the classes must be another one


def first_look(start: Start, job: Job, data: Dataset, console: Console | None, processes: Processes) -> float:
    """The accuracy of the start on the test split, 0-1; what was loaded, and the accuracy, are said on the console.

    Errors (QuantizationError): an accuracy that is hardly better than guessing, where these weights are not trained on;
    `job.anyway`, or training them on, makes it a warning.
    """
    check_fit(start.model, data, torch.device("cpu"))
    found = accuracy(start.model, data, processes)
    if console is not None:
        head = ", with a new head" if job.new_head else ""
        lines = [] if start.weights is None else [str(start.weights)]
        lines.append(f"float accuracy of {start.path} on the test split of {job.data_spec}{head}: {found:.2%}")
        for line in lines:
            console.print(line, markup=False, soft_wrap=True)
    if not job.new_head and found <= guessing(data):
        why = reason(found, data, renumbered(start.model, data))
        if not (job.anyway or job.float_recipe.epochs):
            raise QuantizationError(f"{start.path}: {why}; --anyway goes on with it")
        if console is not None:
            console.print(f"warning: {why}", markup=False, soft_wrap=True)
    return found


def guessing(data: Dataset) -> float:
    """The accuracy, 0-1, up to which weights are hardly better than guessing on the test split.

    That is 15 % of the way from 1 / classes to 1, or two standard deviations of guesses where that is more.
    """
    share = 1 / data.num_classes
    return share + max(0.15 * (1 - share), 2 * math.sqrt(share * (1 - share) / max(1, len(data.test))))


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


def reason(found: float, data: Dataset, best: float) -> str:
    """What to check where the accuracy is that of guessing. best: the accuracy with the classes renumbered."""
    start = f"{found:.2%} is hardly better than guessing among {data.num_classes} classes: "
    how = data.preprocessing
    if best >= OTHER_ORDER:
        names = [str(name) for name in how.get("classes") or ()]
        order = f" (here {', '.join(names[:5])}{', …' if len(names) > 5 else ''})" if names else ""
        advice = f"with the classes in another order it would be {best:.2%}: number them as in the training"
        return f"{start}{advice}{order}"
    used = f"mean {how['mean']} and std {how['std']}" if how.get("mean") else "no mean and std"
    size = "×".join(map(str, data.input_shape[1:]))
    return (
        f"{start}check --image-size (here {size}), the normalization (--mean, --std; here {used}), the order of the "
        "classes, and that --model is the network of the file"
    )
