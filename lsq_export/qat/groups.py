"""Parameter groups for an optimizer: weights decay, biases, norms and grids do not; grids have rates of their own."""

from __future__ import annotations

from typing import Any

from torch import nn

from calib.errors import QuantizationError

from .prepare_model import quantizers


def parameter_groups(
    model: nn.Module,
    lr: float,
    *,
    weight_decay: float = 1e-4,
    grid_lr: float = 0.1,
    offset_lr: float | None = None,
) -> list[dict[str, Any]]:
    """For any torch optimizer: `torch.optim.SGD(lsq_export.parameter_groups(model, lr=0.03), lr=0.03, momentum=0.9)`.

    Weights of two or more dimensions; biases and batch norms; scales; offsets. Only the first group decays. grid_lr:
    factor on lr for scales and offsets; what a grid moves in a step depends on it, and with Adam, whose steps are lr
    whatever the gradient, 0.1 or less keeps small scales in place. offset_lr: that for offsets alone; None: grid_lr.

    Errors (QuantizationError): nothing to train.
    """
    grids = list(quantizers(model).values())
    scales, offsets = {id(q.scale) for q in grids}, {id(q.offset) for q in grids}
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise QuantizationError("the model has no parameters to train")
    rest = [p for p in trained if id(p) not in scales | offsets]
    of_offsets = grid_lr if offset_lr is None else offset_lr
    groups: list[dict[str, Any]] = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": weight_decay, "lr": lr},
        {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0, "lr": lr},
        {"params": [p for p in trained if id(p) in scales], "weight_decay": 0.0, "lr": lr * grid_lr},
        {"params": [p for p in trained if id(p) in offsets], "weight_decay": 0.0, "lr": lr * of_offsets},
    ]
    return [group for group in groups if group["params"]]
