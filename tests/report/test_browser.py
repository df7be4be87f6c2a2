"""The report in a headless Chromium: silent, quick, as narrow as a telephone, and its tables sort and filter."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lsq_export.report import render
from support.chromium import PROGRAM, WHY_NOT, Chromium
from support.exported import Exported

SECONDS, BYTES = 2.0, 5_000_000  # what a page may take to open, and weigh
LAYERS = 82  # as many as an EfficientNet-B0 has, which is the largest network of the tests

pytestmark = [pytest.mark.slow, pytest.mark.skipif(PROGRAM is None, reason=WHY_NOT)]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture(scope="module")
def page(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tensors and layers of the bundle, so often that they are those of a large network."""
    manifest = copy.deepcopy(exported.bundle.manifest)
    parity = json.loads((exported.bundle.directory / "parity.json").read_text())
    times = -(-LAYERS // len(manifest["layers"]))
    lists = [manifest["tensors"], manifest["layers"], parity["trained_layers"]]
    lists += [found["layers"] for found in parity["formats"].values()]
    for entries in lists:
        entries[:] = [{**entry, "name": f"{entry['name']}.{n}"} for n in range(times) for entry in entries]
    run = {
        "runtime": "tract",
        "version": "1",
        "file": "qdq",
        "target": "x",
        "verdict": "same",
        "why": "",
        "instead": "",
    }
    runs = [{**run, "difference": {"differing": 0, "elements": 20}}]
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render(manifest, parity, None, {"runs": runs}), encoding="utf-8")
    return path


def test_it_is_silent_small_and_quick(browser: Chromium, page: Path) -> None:
    assert page.stat().st_size <= BYTES
    browser.messages.clear()
    assert min(browser.open(page.as_uri()) for _ in range(3)) <= SECONDS
    assert browser.messages == []
    assert "same: 0 of 20" in browser.value("document.body.innerText")


@pytest.mark.parametrize("width", [1200, 390])
def test_nothing_is_wider_than_the_window(browser: Chromium, page: Path, width: int) -> None:
    browser.size(width, 800, phone=width < 500)
    browser.open(page.as_uri())
    assert browser.value("document.documentElement.scrollWidth") <= width


def test_tables_sort_and_filter(browser: Chromium, page: Path) -> None:
    browser.open(page.as_uri())
    shown = "[...document.querySelectorAll('table.sorted')][1].rows"
    first = f"{shown}[1].cells[0].textContent"
    browser.value(f"{shown}[0].cells[0].click()")
    last = browser.value(first)
    browser.value(f"{shown}[0].cells[0].click()")
    assert browser.value(first) < last  # the other way round
    field = "[...document.querySelectorAll('section input')][1]"
    browser.value(f"{field}.value = 'fc.'; {field}.dispatchEvent(new Event('input'))")
    names = browser.value(f"[...{shown}].slice(1).filter((row) => !row.hidden).map((row) => row.cells[0].textContent)")
    assert names and all("fc." in name for name in names)
    assert browser.messages == []
