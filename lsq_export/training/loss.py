"""The loss of a recipe: cross entropy, and the distance to a teacher's soft targets.

    L = (1 - d)·CE(z, y) + d·T²·KL(softmax(t/T) ‖ softmax(z/T))      arXiv:1503.02531, part 2

z: logits of the model; t: logits of the teacher; d: `Recipe.distill`; T: `Recipe.temperature`. T² keeps the gradients
of both parts at one size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .recipe import Recipe


def loss_sum(
    logits: torch.Tensor, target: torch.Tensor, recipe: Recipe, taught: torch.Tensor | None = None
) -> torch.Tensor:
    """The sum of L over the samples, shape [].

    logits: [N, classes]. target: int64 [N]. taught: logits of the teacher, [N, classes]; None with `distill` 0.
    """
    hard = F.cross_entropy(logits, target, label_smoothing=recipe.label_smoothing, reduction="sum")
    if taught is None:
        return hard
    t = recipe.temperature
    soft = F.kl_div(F.log_softmax(logits / t, 1), F.log_softmax(taught / t, 1), reduction="sum", log_target=True)
    return (1 - recipe.distill) * hard + recipe.distill * t * t * soft
