"""lsq_export/report/chart.py: bars on a logarithmic scale, all of them inside the drawing."""

from __future__ import annotations

from typing import Any

import pytest

from lsq_export.report.chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, depth_chart


def layers(*shares: float) -> list[dict[str, Any]]:
    return [
        {"name": f"l{i}", "elements": 1000, "differing": share, "reasons": {"tie": 1, "grid": 5} if share else {}}
        for i, share in enumerate(shares)
    ]


def test_each_tenth_is_as_much_lower() -> None:
    chart = depth_chart(layers(1.0, 0.1, 0.01, 0.0))
    heights = [bar.height for bar in chart.bars]
    assert heights[0] == HEIGHT - TOP - BOTTOM and heights[3] == 0
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2], abs=0.02)
    assert [bar.reason for bar in chart.bars] == ["grid"] * 3 + ["none"]
    assert chart.bars[2].text.startswith("l2: 1% of 1,000 codes differ, its grid moved")
    assert [label for _, label in chart.lines][:3] == ["100%", "10%", "1%"]


@pytest.mark.parametrize("count", [1, 7, 400])
def test_no_bar_saturates_or_leaves_the_drawing(count: int) -> None:
    chart = depth_chart(layers(*[10.0 ** -(i % 9) for i in range(count)]))
    for bar in chart.bars:
        assert bar.x >= LEFT and bar.x + bar.width <= WIDTH - RIGHT + 0.01
        assert bar.y >= TOP and bar.y + bar.height <= HEIGHT - BOTTOM + 0.01 and bar.height > 0
    assert len({bar.height for bar in chart.bars}) == min(count, 9)
