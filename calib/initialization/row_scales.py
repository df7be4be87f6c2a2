"""argmin over s of Σ (x - s·q(x))² for each of many rows, over every s, exactly; for few codes, zero among them.

What `calib.initialization.scale` has for one row: with A = Σ x·q and B = Σ q², which change only at the ties |x|/s =
k + 1/2, the error of the best s for some codes is Σ x² - A²/B. Here the rows are sorted, so sums of their beginnings
give A and B of any s by looking for its ties among the numbers, and most s need no closer look: the error of some codes
is a parabola in s,

    E(s) = Σ x² - 2·s·A + s²·B

and B grows as s falls. Codes that are the nearest ones for some s between s₀ and s₁ > s₀ have a B of at most B(s₀), and
at both ends an error of at least that of the nearest codes there. So E(s) cannot be further below the line between
E(s₀) and E(s₁) than B(s₀)·(s - s₀)·(s₁ - s). Only ties between scales that this does not rule out are sorted.
"""

from __future__ import annotations

import numpy as np
import torch

from calib.grid import FloatArray

from .scale import descending

TRIED, ROUNDS = 24, 3  # scales of each round, between those that the round before left
FEW = 1024  # ties of a row that are rather sorted than ruled out
NUMBERS = 1 << 18  # that are looked at together, in rows
SLACK = 1e-10  # of Σ x²: far more than what sums round off


def best_scales(rows: np.ndarray, low: int, high: int) -> FloatArray:
    """s, [C], for ascending rows [C, n] and codes low … high, low < 0 < high; 0 for a row of zeros."""
    size = max(1, NUMBERS // rows.shape[1])
    parts = (rows[first : first + size] for first in range(0, len(rows), size))
    return np.concatenate([_Rows(part.astype(np.float64), low, high).best_scales() for part in parts])


class _Rows:
    """x: ascending, [C, n], float64."""

    def __init__(self, x: FloatArray, low: int, high: int) -> None:
        self.x, self.low, self.high = x, low, high
        self.sums = np.zeros((len(x), x.shape[1] + 1))  # of the first 0 … n
        np.cumsum(x, 1, out=self.sums[:, 1:])
        self.squares = np.square(x).sum(1)  # [C]
        self.cuts = np.concatenate((np.arange(high) + 0.5, -0.5 - np.arange(-low)))  # [L], ties in units of s

    def best_scales(self) -> FloatArray:
        """Of each row, [C]."""
        least, most = self._window()
        first = self._places(most[:, None])[:, 0]  # [C, L]
        last = self._places(least[:, None])[:, 0]
        ties, products, squares = self._ties(np.minimum(first, last), abs(last - first))
        products[:, :1], squares[:, :1] = self._codes(first[:, None])
        order = descending(ties)
        a, b = (np.cumsum(np.take_along_axis(part, order, 1), 1) for part in (products, squares))
        gain = np.divide(a * a, b, out=np.zeros_like(a), where=b > 0)
        best = gain.argmax(1)[:, None]
        a, b = (np.take_along_axis(part, best, 1)[:, 0] for part in (a, b))
        return np.divide(a, b, out=np.zeros_like(a), where=b > 0)

    def _window(self) -> tuple[FloatArray, FloatArray]:
        """(least, most), [C]: no other scale is the best one."""
        count, norm = self.x.shape[1], np.sqrt(self.squares)
        if count * len(self.cuts) <= FEW:
            return np.zeros(len(self.x)), np.full(len(self.x), np.inf)
        reach = max(-self.low, self.high) * np.sqrt(count)  # ‖s·q‖ <= s·reach
        most = 2 * np.maximum(-self.x[:, 0], self.x[:, -1]) * (1 + 1e-9)  # here all codes are 0
        bottom = least = norm / 4 / reach
        best, rows = self.squares, np.arange(len(self.x))
        for _ in range(ROUNDS):
            s = most[:, None] * (least / np.maximum(most, 1e-300))[:, None] ** np.linspace(0, 1, TRIED)  # [C, S]
            a, b = self._codes(self._places(s))
            error = self.squares[:, None] - 2 * s * a + s**2 * b
            best = np.minimum(best, error.min(1))
            possible = _bounds(s, error, b) <= (best + SLACK * self.squares)[:, None]
            first, last = possible.argmax(1), TRIED - 1 - possible[:, ::-1].argmax(1)
            least, most = s[rows, last], s[rows, first]
        error = np.sqrt(np.maximum(best + SLACK * self.squares, 0))
        below = norm - bottom * reach <= error  # a scale below all that were tried may be the best one
        return np.where(below, 0.0, least), most

    def _places(self, s: FloatArray) -> np.ndarray:
        """How many numbers of a row are not above each tie of its scales s [C, S]: [C, S, L]."""
        cuts = np.multiply.outer(s, self.cuts)
        found = torch.searchsorted(torch.from_numpy(self.x), torch.from_numpy(cuts.reshape(len(cuts), -1)), right=True)
        return found.numpy().reshape(cuts.shape)

    def _codes(self, places: np.ndarray) -> tuple[FloatArray, FloatArray]:
        """(A, B), [C, S], of the codes whose ties lie at these places, [C, S, L]."""
        begin = self.sums.shape[1] * np.arange(len(places))
        below = self.sums.ravel()[places + begin[:, None, None]].sum(2)
        return self.high * self.sums[:, -1:] - below, self.x.shape[1] * self.high**2 - places @ (2 * self.cuts)

    def _ties(self, first: np.ndarray, number: np.ndarray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """(ties, what they add to A, what they add to B), [C, 1 + M]; the first is left open, and zeros are at the end.

        first, number: [C, L], of each row and tie the places of the numbers that pass it.
        """
        of_row = number.sum(1)
        ends, total = np.cumsum(number), int(of_row.sum())
        size = 1 + int(of_row.max(initial=0))
        every = np.arange(total)
        place = every + np.repeat(first.ravel() + number.ravel() - ends, number.ravel())
        cut = np.repeat(np.tile(self.cuts, len(first)), number.ravel())
        row = np.repeat(np.arange(len(first)), of_row)
        x = self.x[row, place]
        ties, products, squares = np.zeros((3, len(first), size))
        ties[:, 0] = np.inf
        where = every + 1 + np.repeat(size * np.arange(len(first)) + of_row - np.cumsum(of_row), of_row)
        ties.ravel()[where], products.ravel()[where], squares.ravel()[where] = abs(x / cut), abs(x), 2 * abs(cut)
        return ties, products, squares


def _bounds(s: FloatArray, error: FloatArray, b: FloatArray) -> FloatArray:
    """What no error between two neighbors of the descending s [C, S] is below: [C, S - 1]."""
    deepest = b[:, 1:] * np.square(s[:, :-1] - s[:, 1:])
    rise = error[:, :-1] - error[:, 1:]
    share = np.clip((1 - rise / np.maximum(deepest, 1e-300)) / 2, 0, 1)  # of the way up, where the bound is least
    return error[:, 1:] + share * rise - deepest * share * (1 - share)
