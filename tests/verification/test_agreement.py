"""lsq_export/verification/agreement.py: classes and signal to noise, counted batch by batch."""

from __future__ import annotations

import math

import numpy as np
import pytest

from calib.errors import QuantizationError
from lsq_export.verification.agreement import Agreement

SCORES = np.array([[0.1, 0.9, 0.0], [0.8, 0.1, 0.1], [0.2, 0.3, 0.5], [0.4, 0.3, 0.3]], np.float32)  # 1, 0, 2, 0


def other_classes() -> np.ndarray:
    """Other classes in two of the four rows: 2, 0, 1, 0."""
    changed = SCORES.copy()
    changed[0], changed[2] = changed[0, [0, 2, 1]], changed[2, [0, 2, 1]]
    return changed


def test_classes_are_counted_over_batches() -> None:
    agreement = Agreement()
    targets = np.array([1, 0, 1, 2])
    for part in (slice(0, 1), slice(1, 4)):
        agreement.add([other_classes()[part]], [SCORES[part]], targets[part])
    assert agreement.images == 4 and agreement.top1 == 0.5
    assert agreement.expected_accuracy == 2 / 4 and agreement.accuracy == 2 / 4


def test_without_targets_there_are_no_accuracies() -> None:
    agreement = Agreement()
    agreement.add([SCORES], [SCORES], None)
    assert agreement.accuracy is agreement.expected_accuracy is None and agreement.top1 == 1


def test_targets_of_another_shape_are_none() -> None:
    agreement = Agreement()
    agreement.add([SCORES], [SCORES], np.zeros((4, 2)))
    assert agreement.accuracy is None


def test_every_place_has_a_class() -> None:
    """[N, classes, W]: segmentation."""
    ours = np.zeros((1, 2, 4))
    ours[0, 1, :3] = 1
    agreement = Agreement()
    agreement.add([ours], [np.zeros((1, 2, 4))], None)
    assert agreement.images == 1 and agreement.top1 == 0.25


def test_classes_may_lie_along_the_last_axis() -> None:
    """[N, steps, classes]: text. The labels then have the shape [N, steps]."""
    ours, labels = SCORES.reshape(1, 4, 3), np.array([[1, 0, 2, 1]])
    agreement = Agreement(2)
    agreement.add([other_classes().reshape(1, 4, 3)], [ours], labels)
    assert (agreement.top1, agreement.expected_accuracy, agreement.accuracy) == (0.5, 0.75, 0.25)


@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 1, 8, 8)])
def test_one_number_for_each_place_is_no_class(shape: tuple[int, ...]) -> None:
    """A map of text, an angle: the largest of one number says nothing."""
    agreement, values = Agreement(), np.arange(np.prod(shape)).reshape(shape).astype(np.float32)
    agreement.add([-values], [values], np.zeros((4,)))
    assert agreement.images == 4 and agreement.top1 is None and agreement.accuracy is None
    assert agreement.sqnr_db == pytest.approx(-6.02, abs=0.01)


def test_sqnr_is_that_of_all_batches_together() -> None:
    agreement = Agreement()
    batches = [SCORES, 3 * SCORES]
    for trained in batches:
        agreement.add([trained + 0.01], [trained], None)
    signal = sum(np.square(trained, dtype=np.float64).sum() for trained in batches)
    noise = sum(np.square((trained + 0.01).astype(float) - trained).sum() for trained in batches)
    assert agreement.sqnr_db == pytest.approx(10 * math.log10(signal / noise), rel=1e-12)


def test_the_worst_of_several_outputs_is_reported() -> None:
    """A second output that is wrong must show: its SQNR is the one that counts."""
    first, second = np.ones((4, 3)), np.ones((4, 2))
    agreement = Agreement()
    agreement.add([first, 0 * second], [first, second], None)
    assert agreement.top1 == 1 and agreement.sqnr_db == 0


@pytest.mark.parametrize(
    ("output", "sqnr"), [(SCORES, math.inf), (np.full_like(SCORES, np.inf), -math.inf), (0 * SCORES, 0.0)]
)
def test_sqnr_at_its_ends(output: np.ndarray, sqnr: float) -> None:
    agreement = Agreement()
    agreement.add([output], [SCORES], None)
    assert agreement.sqnr_db == pytest.approx(sqnr, abs=1e-9)


def test_noise_without_a_signal() -> None:
    agreement = Agreement()
    agreement.add([SCORES], [0 * SCORES], None)
    assert agreement.sqnr_db == -math.inf


def test_outputs_of_another_shape_are_an_error() -> None:
    with pytest.raises(QuantizationError, match=r"the outputs have the shape \[4, 2\], the trained model's \[4, 3\]"):
        Agreement().add([SCORES[:, :2]], [SCORES], None)


def test_each_of_several_outputs_has_its_sqnr_and_integers_have_none() -> None:
    found, names = Agreement(), ["boxes", "kept", "scores"]
    expected = [np.full((2, 4), 10.0, np.float32), np.ones((2, 3), np.int64), np.full((2, 5), 2.0, np.float32)]
    found.add([expected[0] + 1, expected[1], expected[2] + 0.02], expected, None)
    assert found.by_output(names) == pytest.approx({"boxes": 20.0, "scores": 40.0}, abs=1e-4)
    assert found.sqnr_db == pytest.approx(20.0, abs=1e-4)
    single = Agreement()
    single.add(expected[:2], expected[:2], None)
    assert single.by_output(names) == {}
