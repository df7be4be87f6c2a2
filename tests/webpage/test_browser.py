"""The page in a headless Chromium, with onnxruntime-web itself. Needs both: `make test-slow` says what is missing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import lsq_export
from calib.errors import QuantizationError
from lsq_export.bundle.run import preprocess
from lsq_export.data.sample import Sample
from lsq_export.webpage.web_runtime import web_runtime
from lsq_export.webpage.writing import write_page
from support.bundles import export
from support.chromium import PROGRAM, WHY_NOT, Chromium, served
from support.exported import Exported, prepared

CACHE = Path(__file__).parents[2] / ".cache"
STATE = "document.documentElement.dataset.state"
TEXT = "document.body.innerText"

pytestmark = [pytest.mark.slow, pytest.mark.skipif(PROGRAM is None, reason=WHY_NOT)]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def page(exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(CACHE))
    try:
        web_runtime()
    except QuantizationError as error:
        pytest.skip(str(error))
    return write_page(exported.bundle, tmp_path / "page")


def opened(browser: Chromium, address: str) -> str:
    browser.messages.clear()
    browser.open(address)
    browser.until(STATE)
    text: str = browser.value(TEXT)
    return text


def board(browser: Chromium) -> tuple[float, float]:
    x, y = browser.value(
        "(() => { const r = document.getElementById('board').getBoundingClientRect(); return [r.left, r.top]; })()"
    )
    return x, y


def answer(browser: Chromium) -> str:
    browser.until("document.getElementById('answer').textContent")
    text: str = browser.value("document.getElementById('answer').textContent")
    return text


def test_the_integers_are_the_same_and_the_console_is_silent(browser: Chromium, page: Path) -> None:
    with served(page) as address:
        text = opened(browser, address)
        assert browser.value(STATE) == "same"
        assert "0 of 10 integers differ, and the floats are the same bits" in text
        assert "ms a call with 1 input: median" in text
        assert browser.messages == []


def test_an_image_as_the_sample_is_prepared_to_the_bit(browser: Chromium, page: Path, tmp_path: Path) -> None:
    """The browser decodes it, and picture.js resizes it as Pillow does; drawing is dark on light, as the sample is."""
    pytest.importorskip("PIL")
    pixels = np.random.default_rng(0).integers(100, 256, (37, 52), dtype=np.uint8)
    pixels[10:25, 20:30] //= 20
    how = {"resize": 20, "interpolation": "bicubic", "crop": 16, "divide_by": 255.0, "mean": [0.4], "std": [0.3]}
    x = preprocess(pixels, how, (1, 16, 16))
    known = {"preprocessing": how, "sample": Sample(pixels, x, 1), "classes": ["a", "b", "c", "d", "a long name"]}
    out = write_page(export(prepared(seed=0), tmp_path / "bundle", **known), tmp_path / "other")
    with served(out) as address:
        text = opened(browser, address)
        assert "0 of 256 values of the sample differ" in text and browser.value(STATE) == "same"
        assert "its label is 1 (b)" in text and "a long name" in text
        browser.value("document.getElementById('clear').click()")
        assert (
            browser.value("document.getElementById('board').getContext('2d').getImageData(5, 5, 1, 1).data[0]") == 255
        )
        x0, y0 = board(browser)
        browser.mouse([(x0 + 100, y0 + 60), (x0 + 160, y0 + 60), (x0 + 120, y0 + 220)])
        assert answer(browser).startswith("Class ") and browser.messages == []


def test_another_integer_is_counted(browser: Chromium, page: Path) -> None:
    """The last golden output, one float further."""
    content = bytearray((page / "golden.bin").read_bytes())
    about = page / "network.json"
    (entry,) = json.loads(about.read_text())["golden"]["outputs"]
    at = entry["offset"]
    values = np.frombuffer(bytes(content[at : at + entry["bytes"]]), np.float32).copy()
    values[3] += 1000
    content[at : at + entry["bytes"]] = values.tobytes()
    (page / "golden.bin").write_bytes(bytes(content))
    with served(page) as address:
        text = opened(browser, address)
        assert browser.value(STATE) == "differs" and "1 of 10 integers differ, by " in text


def test_what_is_missing_is_said(browser: Chromium, page: Path) -> None:
    (page / "model.onnx").unlink()
    with served(page) as address:
        assert "This does not work here: model.onnx is not here (404)" in opened(browser, address)


def test_drawing_by_pointer_and_by_keys(browser: Chromium, page: Path) -> None:
    with served(page) as address:
        opened(browser, address)
        x, y = board(browser)
        browser.value("document.getElementById('clear').click()")
        browser.mouse([(x + 100, y + 60), (x + 160, y + 60), (x + 120, y + 220)])
        assert answer(browser).startswith("Class ")
        browser.value("document.getElementById('clear').click(); document.getElementById('board').focus()")
        assert browser.value("document.getElementById('answer').textContent") == ""
        for key, text in ((" ", " "), ("ArrowDown", ""), ("ArrowRight", "")):
            browser.key(key, text)
        assert answer(browser).startswith("Class ")
        assert "pen down at 147, 67 of 280" in browser.value(TEXT)
        browser.key("Delete")
        assert browser.value("document.getElementById('answer').textContent") == ""
        assert browser.messages == []


def test_an_image_that_is_dropped_and_a_file_that_is_none(browser: Chromium, page: Path, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    image.fromarray(np.arange(40 * 30, dtype=np.uint8).reshape(40, 30)).save(tmp_path / "image.png")
    (tmp_path / "text.png").write_text("no image")
    with served(page) as address:
        opened(browser, address)
        browser.value("document.getElementById('clear').click()")
        root = browser.call("DOM.getDocument")["root"]["nodeId"]
        field = browser.call("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
        browser.call("DOM.setFileInputFiles", nodeId=field, files=[str(tmp_path / "image.png")])
        assert answer(browser).startswith("Class ")
        browser.call("DOM.setFileInputFiles", nodeId=field, files=[str(tmp_path / "text.png")])
        browser.until("document.getElementById('status').textContent.includes('no image that the browser can read')")
        assert browser.messages == []


@pytest.mark.parametrize("width", [390, 320, 1200])
def test_it_fits_and_every_control_is_reached_by_tab(browser: Chromium, page: Path, width: int) -> None:
    browser.size(width, 800, phone=width < 500)
    with served(page) as address:
        opened(browser, address)
        assert browser.value("document.documentElement.scrollWidth") <= width
        reached = []
        for _ in range(6):
            browser.key("Tab")
            reached.append(browser.value("document.activeElement.id"))
        assert reached == ["board", "clear", "sample", "file", "fit", "again"]


def test_dark_colors_have_contrast(browser: Chromium, page: Path) -> None:
    """The text against the page, 7 to 1 or more in both."""
    luminance = (
        "(color) => color.match(/\\d+/g).slice(0, 3).map((c) => c / 255)"
        ".map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)"
        ".reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0)"
    )
    with served(page) as address:
        for dark in (True, False):
            browser.dark(dark)
            opened(browser, address)
            text, back = (
                browser.value(f"({luminance})(getComputedStyle(document.body).{name})")
                for name in ("color", "backgroundColor")
            )
            assert (back < text) == dark
            assert (max(text, back) + 0.05) / (min(text, back) + 0.05) >= 7


def test_opened_as_a_file_it_says_what_it_needs(browser: Chromium, page: Path) -> None:
    browser.open((page / "index.html").as_uri())
    assert "needs scripts and a web server" in browser.value(TEXT)


def test_the_fixture_is_a_bundle(page: Path) -> None:
    """A page is none, and no command takes it for one."""
    with pytest.raises(QuantizationError, match=r"no readable manifest\.json"):
        lsq_export.open_bundle(page)
