"""training.predict: logits of inputs or pairs."""

from __future__ import annotations

import pytest
import torch

from lsq_export import models
from lsq_export.training.predict import evaluate, predict
from support.small_digits import small_digits

pytestmark = pytest.mark.usefixtures("one_thread")


def test_predict_takes_inputs_or_pairs_and_leaves_the_mode() -> None:
    torch.manual_seed(0)
    model = models.build("tiny", num_classes=10, in_channels=1).train()
    pairs = list(small_digits(500).batches("test", 100))
    logits = predict(model, pairs)
    assert logits.shape == (359, 10) and not logits.requires_grad and model.training
    assert torch.equal(logits, predict(model, [x for x, _ in pairs]))
    right = (logits.argmax(1) == torch.cat([y for _, y in pairs])).double().mean()
    assert evaluate(model, pairs) == pytest.approx(float(right), abs=1e-12)
