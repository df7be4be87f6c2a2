"""report: one self-contained page, whatever names and numbers it has to show."""

from __future__ import annotations

import copy
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

import lsq_export
from calib.errors import QuantizationError
from lsq_export.report import render
from lsq_export.report.contents import example
from lsq_export.report.histogram import histogram_of_codes
from lsq_export.report.matrix import are_runs
from support.exported import Exported

VOID = {"meta", "br", "hr", "img", "input", "link"}
NASTY = '<script>alert("1")</script> & [b]'


class Page(HTMLParser):
    """Checks that tags close in order, and collects what a page has.

    That is tags, attributes, text and the number of cells in each row of each table.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.tables: list[list[int]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append(0)
        elif tag in ("td", "th"):
            self.tables[-1][-1] += 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & {*self.open}:
            self.text += data


@pytest.fixture
def manifest(exported: Exported) -> dict[str, Any]:
    return copy.deepcopy(exported.bundle.manifest)


@pytest.fixture
def parity(exported: Exported) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((exported.bundle.directory / "parity.json").read_text())
    return found


def test_it_shows_every_tensor_and_layer(manifest: dict[str, Any], parity: dict[str, Any]) -> None:
    page = Page(render(manifest, parity))
    for part in (
        *manifest["tensors"],
        *manifest["layers"],
        *(layer for f in parity["formats"].values() for layer in f["layers"]),
    ):
        assert part["name"] in page.text
    assert "All promises hold." in page.text and "Verified on 24 images" in page.text and "ort-cpu" in page.text
    # every row has a cell for each column
    assert all(len(set(rows)) == 1 for rows in page.tables) and len(page.tables) == 7
    (grid,) = parity["trained_layers"][0]["reasons"].items()
    assert "{}: {}".format(*grid) in page.text and len(page.tables[4]) == 1 + len(parity["trained_layers"])
    assert len(page.tables[2]) == 1 + len(manifest["tensors"]) and len(page.tables[3]) == 1 + len(manifest["layers"])
    assert 1 < len(page.tables[1]) <= 1 + 5  # the worst layers


def test_it_is_the_page_in_the_bundle(exported: Exported, manifest: dict[str, Any], parity: dict[str, Any]) -> None:
    assert render(manifest, parity) == (exported.bundle.directory / "report.html").read_text(encoding="utf-8")


def test_nothing_is_loaded_from_elsewhere(manifest: dict[str, Any], parity: dict[str, Any]) -> None:
    html = render(manifest, parity)
    page = Page(html)
    assert not {"link", "img", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in page.tags}
    assert not {"src", "href", "srcset", "action", "data"} & {
        name for _, attributes in page.tags for name in attributes
    }
    assert not any(
        word in html for word in ("http:", "https:", "//", "url(", "@import", "import(", "fetch(", "XMLHttp")
    )
    assert ("meta", {"charset": "utf-8"}) in page.tags and html.startswith("<!doctype html>")


def test_names_are_escaped(manifest: dict[str, Any], parity: dict[str, Any]) -> None:
    manifest["tensors"][0]["name"] = manifest["layers"][0]["name"] = manifest["target"] = NASTY
    manifest["tensors"][0]["remainder"] = f"bias of {NASTY}"
    parity["formats"]["qdq"]["layers"][0]["name"] = NASTY
    parity["formats"][NASTY] = parity["formats"].pop("qdq")
    manifest["formats"][NASTY] = manifest["formats"]["qdq"]
    parity["ok"], parity["failures"] = False, [f"{NASTY}: 3 elements differ"]
    html = render(manifest, parity)
    page = Page(html)
    assert html.count("<script") == 1 and page.text.count(NASTY) >= 7 and "All promises hold" not in page.text


def test_failures_are_listed(manifest: dict[str, Any], parity: dict[str, Any]) -> None:
    parity["ok"], parity["failures"] = False, ["qdq: one", "qoperator: two"]
    page = Page(render(manifest, parity))
    assert "qdq: one" in page.text and "qoperator: two" in page.text and "All promises hold" not in page.text
    assert [tag for tag, _ in page.tags].count("li") == 2


def test_numbers_that_are_not_there(manifest: dict[str, Any], parity: dict[str, Any]) -> None:
    """Accuracies without targets, an infinite SQNR (null in parity.json) and NaN become dashes.

    The page stays whole.
    """
    parity["trained_accuracy"] = parity["folded_accuracy"] = parity["folded_sqnr_db"] = None
    for found in parity["formats"].values():
        found["accuracy"] = found["sqnr_db"] = None
    page = Page(render(manifest, parity))
    assert page.text.count("–") >= 7 and "None" not in page.text and "nan" not in page.text


def test_a_parity_of_before_the_nudged_inputs(manifest: dict[str, Any], parity: dict[str, Any]) -> None:
    assert "trained, inputs × 1.0001" in Page(render(manifest, parity)).text
    del parity["nudged_sqnr_db"], parity["nudged_top1_agreement"]
    assert "inputs × 1.0001" not in Page(render(manifest, parity)).text


def test_a_report_of_a_parity_without_targets(exported: Exported, manifest: dict[str, Any]) -> None:
    parity = lsq_export.verify(None, exported.bundle, [exported.batches[0][0][:1]])
    page = Page(render(manifest, parity.to_dict()))
    assert "Verified on 1 image." in page.text and "–" in page.text


@pytest.mark.parametrize("damage", [{}, [], None, {"ok": True}])
def test_what_is_missing_is_an_error(damage: Any, manifest: dict[str, Any]) -> None:
    with pytest.raises(QuantizationError, match="lacks what the report shows"):
        render(manifest, damage)


def test_the_answer_comes_first_with_the_float_row(manifest: dict[str, Any], parity: dict[str, Any]) -> None:
    manifest["source"] = {"model": {"name": "tiny"}, "config": {"weight_bits": 4, "activation_bits": 4}}
    parity["in_training"] = {"float_accuracy": 0.75, "trained_accuracy": 0.5, "data": "digits", "images": 359}
    page = Page(render(manifest, parity))
    first = page.text[: page.text.index("From float to integer")]
    assert "tiny W4A4 on 24 calibration images" in first and "float 75.00% -> trained 50.00%" in first
    for name in ("exact run", "exact rewrite", "measured fold", "worst tensor", "fold"):
        assert name in first
    assert "float (359 test images of digits)" in page.text[len(first) :]
    del parity["in_training"]
    assert "not measured" in render(manifest, parity)


def test_the_chart_has_a_mark_for_each_tensor(manifest: dict[str, Any], parity: dict[str, Any]) -> None:
    parity["trained_layers"][0]["name"] = NASTY
    page = Page(render(manifest, parity))
    learned, layers = len(parity["trained_layers"]), len(manifest["layers"])
    marks = [tag for tag, _ in page.tags if tag in ("rect", "circle")]
    assert (
        len(marks) == 2 * learned - 1 + layers
    )  # a bar in the chart, a grid for each that the manifest knows, weights
    assert [tag for tag, _ in page.tags].count("svg") == learned + layers
    parity["trained_layers"] = []
    for layer in manifest["layers"]:
        del layer["codes"]  # of an older version
    assert "<svg" not in render(manifest, parity) and "Error along" not in render(manifest, parity)


def test_its_code_runs_the_file(exported: Exported, manifest: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(exported.bundle.directory)
    assert manifest["input"]["shape"] == ["batch", 1, 16, 16]
    printed: list[Any] = []
    for classes in (["a", "b", "c"], None):
        code = example({**manifest, "classes": classes}, "qoperator")
        exec(compile(code, "report.html", "exec"), {"print": printed.append})
        assert len(code.splitlines()) == 5
    formats = {"qoperator": {**manifest["formats"]["qoperator"], "optimization": "disabled"}}  # as openvino's
    code = example({**manifest, "formats": formats}, "qoperator")
    assert "ORT_DISABLE_ALL" in code and "model.onnx', options, providers=" in code
    exec(compile(code, "report.html", "exec"), {"print": printed.append})
    assert printed[0].shape == (1,) and len(printed[1][0]) == 2 and printed[1][0][0] == 1


def test_no_zero_has_a_sign_and_no_bar_saturates(manifest: dict[str, Any], parity: dict[str, Any]) -> None:
    for tensor, steps in zip(manifest["tensors"], (-0.0, -0.7, 0.1, 0.0), strict=False):
        tensor["error_steps"] = steps
    for tensor in manifest["tensors"]:
        tensor["offset"] = tensor["border"] = -0.0
    html = render(manifest, parity)
    widths = re.findall(r'class="bar[^"]*" style="width: ([0-9.]+)px"', html)
    assert widths[:2] == ["40.0", "5.7"] and "A full bar is a move of 0.7 steps" in html
    assert not re.search(r">-0(\.0*)?<", html)


def test_it_is_made_for_telephones_dark_rooms_and_paper(manifest: dict[str, Any], parity: dict[str, Any]) -> None:
    html = render(manifest, parity)
    for part in ("prefers-color-scheme: dark", "@media print", "@page", "max-width: 34rem", "width=device-width"):
        assert part in html


def test_run_py_is_named_where_the_bundle_has_it(manifest: dict[str, Any], parity: dict[str, Any]) -> None:
    manifest.pop("classes", None)
    assert "run.py" not in render(manifest, parity)
    assert "python run.py IMAGE" in render({**manifest, "classes": ["a", "b"]}, parity)
    without = render({**manifest, "classes": None}, parity)
    assert "<code>python run.py</code>" in without and "the class of" not in without


def test_each_learned_grid_is_drawn_below_what_is_read(manifest: dict[str, Any], parity: dict[str, Any]) -> None:
    measured = {layer["name"]: layer for layer in parity["trained_layers"]}
    table = render(manifest, parity).split("Activations and edges")[1].split("</table>")[0]
    rows = re.findall(r"<tr>.*?</tr>", table, re.DOTALL)
    for tensor in manifest["tensors"]:
        (row,) = (row for row in rows if f"<tr><td>{tensor['name']}</td><td" in row)
        assert ("<svg" in row) == (tensor["name"] in measured)
        if "<svg" in row and tensor["levels"] <= 32:
            assert row.count("<line") == tensor["levels"]
            assert f"{measured[tensor['name']]['data']['sqnr_db']:.1f}" in row
    for layer in parity["trained_layers"]:
        del layer["data"]  # a bundle of an older version
    assert '<svg class="values"' not in render(manifest, parity).split("<h2>Layers</h2>")[0]


def test_where_the_time_goes(manifest: dict[str, Any], parity: dict[str, Any]) -> None:
    row = {"name": "qoperator", "median_ms": 2.0, "runs": 3}
    shares = {
        "QLinearAdd": {"nodes": 1, "share": 0.25, "ms": 0.5},
        "QLinearConv": {"nodes": 7, "share": 0.75, "ms": 1.5},
    }
    bench = {"rows": [row], "batch": 1, "threads": 1, "onnxruntime": "1.32.0", "operators": {"qoperator": shares}}
    text = Page(render(manifest, parity, bench)).text
    assert text.index("QLinearConv", text.index("Where the time goes")) < text.index("75.0%") < text.index("25.0%")
    assert "Where the time goes" not in Page(render(manifest, parity, {**bench, "operators": {}})).text


def test_weights_are_drawn_with_a_bar_for_each_code() -> None:
    drawn = histogram_of_codes({"first": -8, "step": 4, "counts": [1, 0, 4, 0, 16]})  # codes -8, 0, 8
    assert drawn.ticks == (16, 48, 80, 112, 144)
    heights = [round(drawn.base - float(y), 1) for y in re.findall(r"V([\d.]+)", drawn.outline)]
    most = drawn.base - 1
    assert heights == [round(most / 4, 1), 0, round(most / 2, 1), 0, most, 0]  # square roots; the last one closes it
    many = histogram_of_codes({"first": -127, "step": 1, "counts": [1] * 255})
    assert many.ticks == (80,) and histogram_of_codes({"first": 0, "step": 1, "counts": []}).outline


RUN = {
    "runtime": "tract",
    "version": "1.2",
    "file": "qdq",
    "target": "ort-cpu",
    "verdict": "same",
    "why": "",
    "instead": "",
}
ONE = {"differing": 0, "elements": 20}


def test_the_matrix_of_runtimes(manifest: dict[str, Any], parity: dict[str, Any]) -> None:
    wrong = {"difference": {"differing": 3, "elements": 1234}, "first": {"tensor": NASTY, "made_by": "Add add"}}
    runs = [
        {
            **RUN,
            "runtime": "tvm",
            "version": "",
            "verdict": "missing",
            "why": "tvm is not installed",
            "difference": None,
        },
        {**RUN, "difference": ONE},
        {**RUN, "file": "qoperator", "verdict": "differs", "instead": "the file qdq", **wrong},
        {**RUN, "runtime": "iree", "verdict": "refused", "why": "no such operator", "difference": None},
    ]
    assert are_runs(runs)
    page = Page(render(manifest, parity, None, {"runs": runs}))
    assert len(page.tables[1]) == 4 and set(page.tables[1]) == {5}  # of three runtimes
    text = page.text[page.text.index("In real runtimes") : page.text.index("The worst layers")]
    for part in (
        "same: 0 of 20",
        "differs: 3 of 1,234",
        f"qoperator: first different: {NASTY}, made by Add add",
        "refused",
    ):
        assert part in text
    assert text.index("tract") < text.index("iree") < text.index("tvm") < text.index("not installed")
    assert "In real runtimes" not in render(manifest, parity, None, {"runs": []})


@pytest.mark.parametrize(
    "damage",
    [
        {"runtime": 1},
        {"version": None},
        {"difference": 3},
        {"difference": {"differing": "3"}},
        {"first": {"tensor": 1}},
    ],
)
def test_what_are_no_runs(damage: dict[str, Any]) -> None:
    assert are_runs([{**RUN, "difference": ONE}]) and not are_runs([{**RUN, "difference": ONE, **damage}])
    assert not are_runs(None) and not are_runs(["run"])
