"""The paper's tables: the plan, the record, the statistics, and the command on a small network.

Statistics are held against independent numbers.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

import lsq_export.files.tensor_file
import models.paper.runs
import models.paper.series
from calib.errors import QuantizationError
from calib.quantized import quantized_modules
from lsq_export.data.dataset import Dataset
from lsq_export.models import build
from lsq_export.qat.prepare_model import prepare
from lsq_export.training.checkpoint import restore
from lsq_export.training.fit import PRETRAIN, TrainResult, evaluate
from lsq_export.training.job import Job, train_float
from models.paper.claims import FAILS, HOLDS, MISSING, UNDECIDED, Check, check_all
from models.paper.data import hard_digits, load_folder
from models.paper.digits import HardDigits
from models.paper.grids_file import NAME, read
from models.paper.plan import CONFIGURATIONS, Phase, Run, Settings, plan, settings_of
from models.paper.record import Record, Result
from models.paper.render import MARK, markdown, write
from models.paper.runs import float_path, measure, sign_inputs
from models.paper.statistics import Estimate, f_test
from models.paper.tables import table_1, table_2, table_3
from models.paper_tables import command
from support.commands import invoke
from support.made_up_runs import ONE, SMALL, help_of, recorded, result
from support.published import published

ROOT = Path(__file__).parents[2]


def synthetic(
    accuracy: Callable[[Run], float], networks: tuple[str, ...] = ("efficientnet_b0", "resnet18"), seeds: int = 5
) -> list[Result]:
    """Results of the whole plan."""
    return [result(run, accuracy(run)) for run in plan(networks, seeds)]


def checks(results: list[Result], claim: str) -> list[Check]:
    """Those whose claim starts like this."""
    return [check for check in check_all(results, ("efficientnet_b0", "resnet18")) if check.claim.startswith(claim)]


# plan


def test_the_plan_covers_every_cell_once() -> None:
    runs = plan(("efficientnet_b0", "resnet18", "mixnet_s"), 5)
    assert len(runs) == len(set(runs))
    cells = Counter((r.network, r.bits, r.configuration, r.init) for r in runs)
    assert set(cells.values()) == {5}
    # table 1: 4 configurations and 1s on the Swish networks, three widths; table 2: two more initializations of one
    # cell; table 3: one more of three
    assert Counter(cell[0] for cell in cells) == {"efficientnet_b0": 20, "resnet18": 17, "mixnet_s": 20}
    for network in ("efficientnet_b0", "resnet18", "mixnet_s"):
        assert {(n, b, c) for n, b, c, _ in cells if n == network} >= {
            (network, b, c) for b in (2, 3, 4) for c in "1234"
        }
        assert {i for n, b, c, i in cells if (n, b, c) == (network, 2, "4")} == {"minmax", "lsq", "mse"}
        assert {(c, i) for n, b, c, i in cells if (n, b) == (network, 3) and c in "234"} == {
            (c, i) for c in "234" for i in ("lsq", "mse")
        }


def test_an_unfinished_plan_is_balanced() -> None:
    runs = plan(("efficientnet_b0", "resnet18"), 3)
    assert [run.seed for run in runs] == sorted(run.seed for run in runs)


def test_one_table_only() -> None:
    assert {r.init for r in plan(("resnet18",), 1, ["table2"])} == {"minmax", "lsq", "mse"} and len(
        plan(("resnet18",), 1, ["table2"])
    ) == 3
    assert len(plan(("resnet18",), 1, ["table1"])) == 12
    third = plan(("resnet18",), 2, ["table3"])
    assert len(third) == 2 * 6 and {(r.bits, r.seed) for r in third[:6]} == {(3, 0)}
    shared = set(third) & set(plan(("resnet18",), 2, ["table1"]))  # run once for both
    assert {(r.configuration, r.init) for r in shared} == {("2", "mse"), ("3", "mse"), ("4", "mse")} and len(
        shared
    ) == 6
    assert len(plan(("resnet18",), 2, ["table1", "table3"])) == 2 * (12 + 3)


def test_configuration_1_is_lsq_and_the_others_are_those_of_the_paper() -> None:
    assert {name: c.grid for name, c in CONFIGURATIONS.items()} == {
        "1": "unsigned-symmetric",
        "1s": "unsigned-symmetric",
        "2": "signed-symmetric",
        "3": "signed-asymmetric",
        "4": "unsigned-asymmetric",
    }
    assert {name: c.init for name, c in CONFIGURATIONS.items()} == {
        "1": "lsq",
        "1s": "lsq",
        "2": "mse",
        "3": "mse",
        "4": "mse",
    }


# data


def test_hard_digits_are_as_described() -> None:
    data = hard_digits(HardDigits(image_size=12, train_per_class=7, test_copies=2))
    x, y = data.train.fetch(torch.arange(len(data.train)))
    assert Counter(y.tolist()) == dict.fromkeys(range(10), 7) and x.shape == (70, 3, 12, 12)
    test, labels = data.test.fetch(torch.arange(len(data.test)))
    assert len(test) == 2 * 359 and torch.equal(labels[:359], labels[359:]) and not torch.equal(test[:359], test[359:])
    for images in (x, test):
        assert images.min() == 0 and images.max() == 1 and torch.equal(images[:, 0], images[:, 2])
    again, _ = hard_digits(HardDigits(image_size=12, train_per_class=7, test_copies=2)).train.fetch(torch.arange(70))
    assert torch.equal(x, again)


def test_without_noise_and_shift_the_digits_are_the_plain_ones() -> None:
    data = hard_digits(HardDigits(image_size=8, noise=0.0, shift=0, test_copies=1))
    x, _ = data.test.fetch(torch.arange(359))
    assert torch.allclose(x * 16, (x * 16).round(), atol=1e-4) and x.max() <= 1  # values 0 … 16 of 8x8 images
    noisy, _ = hard_digits(HardDigits(image_size=8, noise=0.2, shift=0, test_copies=1)).test.fetch(torch.arange(359))
    inner = (noisy > 0) & (noisy < 1) & (x == 0.5)  # where nothing was clipped on either side within 2.5 σ
    assert abs(float((noisy - x)[inner].std()) - 0.2) < 0.01


def test_folders_are_not_negative(tmp_path: Path) -> None:
    from PIL import Image

    for label in "ab":
        (tmp_path / label).mkdir()
        for i in range(5):
            Image.new("RGB", (9, 9), (0, 10 * i, 255)).save(tmp_path / label / f"{i}.png")
    data = load_folder(f"imagefolder:{tmp_path}", 8)
    x, _ = data.train.fetch(torch.arange(len(data.train)))
    assert x.min() > -1e-6 and x.max() < 1 + 1e-6 and torch.allclose(x[:, 2], torch.ones(()), atol=1e-6)


# record


def test_a_record_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    results = [result(Run("tiny", 2, "4", "mse", seed), 0.1 * seed) for seed in range(3)]
    recorded(path, results)
    assert Record(path).results == results
    assert len(path.read_text().splitlines()) == 3


def test_a_torn_last_line_is_dropped_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    recorded(path, [result(ONE, 0.5), result(replace(ONE, seed=1), 0.6)])
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    record = Record(path, {"tiny": SMALL})
    assert record.done == {ONE}
    record.append(result(replace(ONE, seed=1), 0.6))
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": None}, "line 1: no run of the tables"),
        ({"settings": {"phase": 3}}, "line 1: no run of the tables"),
        ({"extra": 1}, "line 1: no run of the tables"),
        ({"trained": 1.5}, "line 1: trained is 1.5, not an accuracy"),
        ({"trained": None}, "line 1: trained is None, not an accuracy"),
    ],
)
def test_a_line_that_is_no_run_is_refused(change: dict[str, object], message: str, tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    recorded(path, [result(ONE, 0.5)])
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}) + "\n")
    with pytest.raises(QuantizationError, match=message):
        Record(path)


@pytest.mark.parametrize("text", ["[1]\n", "1\n", "not json\n", '{"a": 1}\n', '{"a": 1\n{}\n'])
def test_another_file_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    path.write_text(text)
    with pytest.raises(QuantizationError, match="line 1: no "):
        Record(path)
    assert path.read_text() == text


def test_other_settings_and_runs_twice_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    record = recorded(path, [result(ONE, 0.5)])
    with pytest.raises(QuantizationError, match=r"settings of tiny differ \(init_batches: 1, not 2\)"):
        Record(path, {"tiny": replace(SMALL, init_batches=2)})
    assert Record(path, {"resnet18": replace(SMALL, init_batches=2)}).done == {ONE}  # another network may have its own
    with pytest.raises(QuantizationError, match="is there already"):
        record.append(result(ONE, 0.6))
    path.write_text(path.read_text() * 2)
    with pytest.raises(QuantizationError, match=r"line 2.* is there already"):
        Record(path)


# statistics: the numbers are those of printed tables


def test_the_interval_is_students() -> None:
    estimate = Estimate((0.1, 0.2, 0.3, 0.4, 0.5))
    assert estimate.mean == pytest.approx(0.3) and estimate.std == pytest.approx(math.sqrt(0.025))
    # Student's t of 4 degrees of freedom, at 97.5 %.
    assert estimate.half_width == pytest.approx(2.776 * math.sqrt(0.025 / 5), rel=1e-3)
    assert Estimate((0.1,)).std is None and Estimate((0.1,)).half_width is None


def test_the_f_test_is_one_sided() -> None:
    base = [0.0, 1.0, 2.0, 3.0, 4.0]
    assert f_test([math.sqrt(6.388) * v for v in base], base) == pytest.approx(0.05, abs=1e-4)  # F(4, 4) at 5 %
    assert f_test(base, base) == pytest.approx(0.5)
    assert f_test(base, [1.0] * 5) == 0.0 and f_test([1.0] * 5, [1.0] * 5) == 0.5


# claims


def gaining(low: float, high: float) -> Callable[[Run], float]:
    """Accuracies in which 4 gains `low` over 1 and 1s at 2 bits and `high` at 4.

    They have a little noise of the seed, which is not the same in both.
    """

    def accuracy(run: Run) -> float:
        gain = {2: low, 3: (low + high) / 2, 4: high}[run.bits] if run.configuration == "4" else 0.0
        return 0.6 + 0.05 * run.seed + gain + (0.004 * (-1) ** run.seed if run.configuration == "4" else 0.0)

    return accuracy


@pytest.mark.parametrize(("gain", "verdict"), [(0.05, HOLDS), (-0.05, FAILS), (0.001, UNDECIDED)])
def test_the_first_claim_turns_with_the_numbers(gain: float, verdict: str) -> None:
    found = checks(synthetic(gaining(gain, gain)), "configuration 4 ≥ 1")
    assert [c.where for c in found] == ["W2A2", "W3A3", "W4A4"] * 2 and {c.network for c in found} == {
        "efficientnet_b0"
    }
    assert {c.verdict for c in found} == {verdict}
    # (±0.4 at even and odd seeds: mean +0.08, standard deviation 0.438 points, half width 0.544)
    assert found[0].figure == f"{100 * gain + 0.08:+.2f} points ± 0.54 (95 %, 5 seeds)"


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.06, 0.02, HOLDS), (0.02, 0.06, FAILS), (0.04, 0.04, UNDECIDED)]
)
def test_the_gain_claim_turns_with_the_numbers(low: float, high: float, verdict: str) -> None:
    def noisy(run: Run) -> float:
        return gaining(low, high)(run) + (0.003 * (run.seed - 2) if run.bits == 2 and run.configuration == "4" else 0.0)

    assert {c.verdict for c in checks(synthetic(noisy), "the gain of 4")} == {verdict}


@pytest.mark.parametrize(("ours", "verdict"), [(0.01, HOLDS), (0.3, FAILS), (0.04, UNDECIDED)])
def test_the_spread_claim_turns_with_the_numbers(ours: float, verdict: str) -> None:
    def accuracy(run: Run) -> float:
        return 0.5 + (ours if run.init == "mse" else 0.05) * (run.seed - 2) / 2

    found = checks(synthetic(accuracy), "LSQ+ initialization has")
    assert {c.verdict for c in found} == {verdict} and len(found) == 4
    std = 100 * ours * math.sqrt(2.5) / 2
    assert found[0].figure.startswith(f"std {std:.2f} against 3.95 points, 5 and 5 seeds")


@pytest.mark.parametrize(("gain", "verdict"), [(0.05, HOLDS), (-0.05, FAILS), (0.0, UNDECIDED)])
def test_the_better_start_claim_turns_with_the_numbers(gain: float, verdict: str) -> None:
    found = checks(synthetic(starting(gain)), "LSQ+ initialization ends")
    assert {c.verdict for c in found} == {verdict} and {c.where for c in found} == {"W2A2"} and len(found) == 4
    assert {c.figure for c in found} == {f"{100 * gain + 0.08:+.2f} points ± 0.54 (95 %, 5 seeds)"}


@pytest.mark.parametrize(("trained", "verdict"), [(0.93, HOLDS), (0.85, FAILS), (0.901, UNDECIDED)])
def test_the_float_claim_turns_with_the_numbers(trained: float, verdict: str) -> None:
    (found,) = checks(synthetic(lambda run: trained + 0.003 * (run.seed - 2)), "W4A4 reaches")
    assert found.verdict == verdict and found.network == "resnet18"


def test_networks_that_only_guess_decide_nothing() -> None:
    def guessing(run: Run) -> float:
        return {"4": 0.12, "1": 0.10, "1s": 0.10}.get(run.configuration, 0.1) + (
            0.0005 if run.init == "mse" else 0.005
        ) * run.seed

    found = check_all(synthetic(guessing), ("efficientnet_b0",))
    assert {c.verdict for c in found} == {UNDECIDED} and all("neither learned anything" in c.figure for c in found)
    # One of the two did.
    learned = checks(synthetic(lambda run: guessing(run) + (0.1 if run.configuration == "4" else 0.0)), "")
    assert {c.verdict for c in learned if c.network == "efficientnet_b0" and "≥" in c.claim} == {HOLDS}


def test_one_seed_decides_nothing() -> None:
    found = check_all(synthetic(gaining(0.3, 0.1), seeds=1), ("efficientnet_b0", "resnet18"))
    assert {c.verdict for c in found} == {UNDECIDED}


def test_what_was_not_run_is_missing() -> None:
    found = check_all([], ("efficientnet_b0", "resnet18"))
    assert len(found) == 17 and {c.verdict for c in found} == {MISSING}
    only_one = [r for r in synthetic(gaining(0.3, 0.1)) if r.configuration != "1"]
    # 1s, the last of them
    assert {c.claim[:18]: c.verdict for c in check_all(only_one, ("efficientnet_b0",))}["configuration 4 ≥ "] == HOLDS
    assert {c.verdict for c in checks(only_one, "configuration 4 ≥ 1 ")} == {MISSING}


def test_pairs_are_of_the_same_seed() -> None:
    results = [r for r in synthetic(gaining(0.05, 0.05)) if (r.configuration, r.seed) not in {("4", 0), ("1", 4)}]
    assert "3 seeds" in checks(results, "configuration 4 ≥ 1 ")[0].figure


# table 3


def starting(gain: float) -> Callable[[Run], float]:
    """LSQ+'s initialization gains `gain` over LSQ's, with a little noise of the seed."""
    return lambda run: 0.6 + 0.05 * run.seed + (gain + 0.004 * (-1) ** run.seed if run.init == "mse" else 0.0)


@pytest.mark.parametrize("gain", [0.05, -0.05])
def test_table_3_is_the_gain_of_lsq_plus_over_lsq_paired_by_seed(gain: float) -> None:
    rows = table_3(synthetic(starting(gain)), "efficientnet_b0")
    assert [(r.lsq.configuration, r.lsq.init, r.mse.init, r.lsq.bits) for r in rows] == [
        (name, "lsq", "mse", 3) for name in "234"
    ]
    # ±0.4 points at even and odd seeds, as for the first claim; the 5 points between seeds, ten times as large, cancel
    assert {row.figure for row in rows} == {f"{100 * gain + 0.08:+.2f} points ± 0.54 (95 %, 5 seeds)"}
    assert rows[0].difference is not None and rows[0].mse.trained is not None and rows[0].lsq.trained is not None
    assert rows[0].difference.mean == pytest.approx(rows[0].mse.trained.mean - rows[0].lsq.trained.mean)


def test_table_3_with_its_runs_swapped_changes_sign() -> None:
    results = synthetic(starting(0.05))
    other = {"lsq": "mse", "mse": "lsq", "minmax": "minmax"}
    swapped = [replace(r, init=other[r.init]) for r in results]
    assert [row.figure[0] for row in table_3(results, "resnet18")] == ["+"] * 3
    assert [row.figure[0] for row in table_3(swapped, "resnet18")] == ["-"] * 3


def test_table_3_pairs_only_seeds_that_both_have() -> None:
    results = [r for r in synthetic(starting(0.05)) if (r.init, r.seed) not in {("lsq", 0), ("mse", 4)}]
    first = table_3(results, "resnet18")[0]
    assert first.difference is not None and first.difference.values == pytest.approx((0.046, 0.054, 0.046))
    assert first.lsq.trained is not None and first.lsq.trained.n == 4
    assert table_3([r for r in results if r.init == "mse"], "resnet18")[0].figure == "–"


def test_table_3_says_where_nothing_was_learned() -> None:
    rows = table_3(
        synthetic(
            lambda run: 0.1 + 0.001 * run.seed + (0.02 if run.init == "mse" and run.configuration != "4" else 0.0)
        ),
        "resnet18",
    )
    assert ["neither learned anything" in row.figure for row in rows] == [True] * 3
    learned = table_3(synthetic(lambda run: 0.1 + 0.001 * run.seed + (0.4 if run.init == "mse" else 0.0)), "resnet18")
    assert not any("neither" in row.figure for row in learned)


# rendering


def test_rendered_tables_hold_the_numbers(tmp_path: Path) -> None:
    def accuracy(run: Run) -> float:
        return (
            {"1": 0.5, "1s": 0.55, "2": 0.6, "3": 0.65, "4": 0.7}[run.configuration]
            + 0.01 * (run.seed - 2)
            + 0.02 * run.bits
        )

    text = markdown(recorded(tmp_path / "runs.jsonl", synthetic(accuracy)))
    # deviations -2 … 2 points: standard deviation √2.5 = 1.58; float is 90
    grid = "unsigned, symmetric, signed after linear bottlenecks; LSQ initialization"
    assert f"| 1s | {grid} | 59.0 ± 1.6 [5] | -31.0 | 61.0 ± 1.6 [5] | -29.0 |" in text
    assert "| efficientnet_b0 | LSQ+ | 74.00 | 1.58 | 72.00 | 76.00 | 50.00 | 5 |" in text
    assert (
        "| efficientnet_b0 | 3 | signed, asymmetric | 71.0 ± 1.6 [5] | 71.0 ± 1.6 [5] | +0.00 points ± 0.00 (95 %, 5 "
        "seeds) |" in text
    )
    assert "| mixnet_s | 4 | unsigned, asymmetric | – | – | – |" in text
    assert "- Runs: efficientnet_b0 100 of 100, resnet18 85 of 85, mixnet_s 0 of 100." in text
    assert "- Time: 1.9 hours on one thread each, 0.9 of them on the processor" in text  # 185 runs of 36 and 18 seconds
    assert "Diverged: none." in text and "12 training images a class" in text


def test_missing_cells_are_shown_as_missing(tmp_path: Path) -> None:
    gone = ("efficientnet_b0", 3, "2")
    results = [
        r for r in synthetic(lambda run: 0.5) if (r.network, r.bits, r.configuration) != gone and r.init != "minmax"
    ]
    text = markdown(recorded(tmp_path / "runs.jsonl", results))
    assert (
        "| 2 | signed, symmetric; LSQ+ initialization | 50.0 ± 0.0 [5] | -40.0 | – | – | 50.0 ± 0.0 [5] | -40.0 |"
        in text
    )
    assert "| efficientnet_b0 | min-max | – | – | – | – | – | 0 |" in text and "**mixnet_s**, float –" in text
    assert [entry.trained is None for entry in table_2(results, "resnet18")] == [True, False, False]
    assert table_1(results, "efficientnet_b0")[2][1].to_dict()["runs"] == 0


def test_what_diverged_is_said(tmp_path: Path) -> None:
    results = [
        result(Run("resnet18", 2, "4", "mse", seed), 0.1, diverged="the loss is nan" if seed else None)
        for seed in range(2)
    ]
    text = markdown(recorded(tmp_path / "runs.jsonl", results))
    assert (
        "10.0 ± 0.0 [2] (1 diverged)" in text
        and "- Diverged: resnet18 W2A2 configuration 4 mse seed 1: the loss is nan." in text
    )


@pytest.mark.slow
def test_rendering_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    record = recorded(tmp_path / "runs.jsonl", synthetic(gaining(0.05, 0.02)))
    files = write(record, tmp_path / "out")
    first = [file.read_bytes() for file in files]
    assert sorted(f.name for f in files) == ["RESULTS.md", "configurations.svg", "initializations.svg", "runs.jsonl"]
    again = write(Record(tmp_path / "out" / "results" / "runs.jsonl"), tmp_path / "out")
    assert [file.read_bytes() for file in again] == first and first[0].startswith(b"<svg") is False
    assert sorted(p.name for p in (tmp_path / "out").rglob("*") if p.is_file()) == sorted(f.name for f in files)


def test_results_of_ones_own_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "RESULTS.md").write_text("mine")
    with pytest.raises(QuantizationError, match="was not made by this command"):
        write(recorded(tmp_path / "runs.jsonl", [result(ONE, 0.5)]), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["RESULTS.md", "runs.jsonl"]


def test_the_committed_results_are_those_of_the_committed_record() -> None:
    record = Record(ROOT / "models" / "results" / "runs.jsonl")
    text = (ROOT / "models" / "RESULTS.md").read_text(encoding="utf-8")
    assert text.startswith(MARK) and text == markdown(record, read(ROOT / "models" / "results" / NAME))


# runs


@pytest.fixture(scope="module")
def float_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the float model of `tiny`."""
    directory = tmp_path_factory.mktemp("float")
    models.paper.runs.make_float("tiny", SMALL, directory)
    return directory


@pytest.fixture
def data() -> Dataset:
    return hard_digits(HardDigits(train_per_class=12, test_copies=1))


@pytest.mark.slow
def test_a_run_is_repeatable_and_depends_on_its_seed(float_models: Path) -> None:
    first, again, other = (measure(run, SMALL, float_models) for run in (ONE, ONE, replace(ONE, seed=1)))
    assert replace(again, seconds=0.0, cpu_seconds=0.0) == replace(first, seconds=0.0, cpu_seconds=0.0)
    assert first.float_accuracy == other.float_accuracy and first.train_accuracy != other.train_accuracy
    assert first.run == ONE and first.settings == SMALL and 0 <= first.trained <= 1


def test_without_training_the_accuracy_is_that_of_the_initialization(float_models: Path, data: Dataset) -> None:
    found = measure(ONE, replace(SMALL, phase=Phase(0, 0.03, 16, 1.0)), float_models)
    assert found.trained == found.initialized and found.train_accuracy is None
    # by hand, from the same checkpoint
    from calib import initialize

    model, _ = restore(float_path("tiny", SMALL, float_models))
    assert found.float_accuracy == evaluate(model, data.batches("test"))
    low_bit = prepare(model, published(2, 2))
    initialize(low_bit, data.batches("train", 16, shuffle=0, limit=1), method="mse")
    assert found.initialized == evaluate(low_bit.eval(), data.batches("test"))


def test_a_run_that_diverges_is_recorded(float_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverge(*args: object, **options: object) -> None:
        raise QuantizationError("the loss is nan in epoch 1")

    monkeypatch.setattr(models.paper.runs, "finetune", diverge)
    found = measure(ONE, SMALL, float_models)
    assert found.diverged == "the loss is nan in epoch 1" and found.trained == found.initialized


@pytest.mark.parametrize("where", ["pretrain", "save"])
def test_an_interrupted_float_training_leaves_nothing(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(tensors: object, path: Path, *args: object) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    if where == "save":
        monkeypatch.setattr(lsq_export.files.tensor_file, "save_file", half)
    else:
        monkeypatch.setattr(
            models.paper.runs, "pretrain", lambda *args, **options: TrainResult((), True, "cpu", PRETRAIN)
        )
    with pytest.raises(KeyboardInterrupt):
        models.paper.runs.make_float("tiny", SMALL, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_float_model_is_that_of_the_product(float_models: Path, data: Dataset) -> None:
    recipe = replace(PRETRAIN, epochs=4, lr=0.05, batch_size=16)
    theirs = train_float(Job("tiny", "digits", float_recipe=recipe), data).model.state_dict()
    ours = restore(float_path("tiny", SMALL, float_models))[0].state_dict()
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


def test_batch_norms_have_the_epsilon_of_the_settings(tmp_path: Path) -> None:
    settings = replace(SMALL, norm_eps=1.0, float_phase=Phase(1, 0.05, 16, 0.0))
    plain = replace(settings, norm_eps=None)
    accuracies = []
    for each in (settings, plain):
        models.paper.runs.make_float("tiny", each, tmp_path)
        model, _ = models.paper.runs._float_model("tiny", each, tmp_path)
        assert {m.eps for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {each.norm_eps or 1e-5}
        accuracies.append(model.state_dict()["fc.weight"])
    assert not torch.equal(*accuracies)  # trained with it, too


def test_configuration_1s_signs_the_inputs_of_linear_bottlenecks(data: Dataset) -> None:
    torch.manual_seed(0)
    network = build("efficientnet_b0", num_classes=10, width=0.5, stem_stride=1)
    with torch.no_grad():  # batch norms that have seen the images: linear outputs of variance 1
        for x, _ in data.batches("train", 16):
            network(x)
    model = prepare(network, published(2, 2, "unsigned-symmetric")).eval()
    layers = set(sign_inputs(model, data.batches("train", 16, limit=1)))
    quantizers = quantized_modules(model)
    # by the architecture: expanding convolutions follow linear ones, except the first block of all, which has none; so
    # does the head
    linear = {name for name in quantizers if name.endswith("conv_pw.input") and not name.startswith("blocks.0.")} | {
        "conv_head.input"
    }
    assert layers == linear
    for name, quantizer in quantizers.items():
        if quantizer.kind == "activation":
            bits = 8 if name in ("conv_stem.input", "classifier.input") else 2
            expected = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if name in linear else (0, 2**bits - 1)
            assert (quantizer.qmin, quantizer.qmax, quantizer.symmetric) == (*expected, True)
    assert not sign_inputs(
        prepare(build("resnet18", num_classes=10), published(2, 2, "unsigned-symmetric")),
        data.batches("train", 16, limit=1),
    )


# the command


call = partial(invoke, command=command)


def small(path: Path, *more: str) -> list[str]:
    return [
        "--networks",
        "tiny",
        "--seeds",
        "1",
        "--epochs",
        "1",
        "--float-epochs",
        "1",
        "--only",
        "table2",
        "--record",
        str(path),
        *more,
    ]


@pytest.fixture
def small_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few images, in every settings that the command makes."""
    monkeypatch.setattr("models.paper_tables.settings_of", lambda network: SMALL, raising=False)
    monkeypatch.setattr("models.paper.plan.settings_of", lambda network: SMALL)


@pytest.mark.usefixtures("small_digits")
def test_a_series_goes_on_where_it_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "runs.jsonl"
    seen: list[Run] = []

    def killed(run: Run, settings: Settings, directory: Path) -> Result:
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(run)
        return measure(run, settings, directory)

    with monkeypatch.context() as patch:
        patch.setattr(models.paper.series, "measure", killed)
        assert call(*small(path)).exit_code == 130
    before = path.read_text()
    assert len(before.splitlines()) == 2
    done = call(*small(path, "--json"))
    assert done.exit_code == 0, done.output
    assert path.read_text().startswith(before) and [r.init for r in Record(path).results] == ["minmax", "lsq", "mse"]
    shown = json.loads(done.stdout)
    assert [e["runs"] for e in shown["table2"] if e["network"] == "tiny"] == [1, 1, 1]
    assert [e["difference"] for e in shown["table3"] if e["lsq"]["network"] == "tiny"] == [None] * 3
    whole = path.read_bytes()
    monkeypatch.setattr(models.paper.series, "measure", killed)  # nothing is left to run: never called
    assert call(*small(path)).exit_code == 0 and path.read_bytes() == whole
    again = call(*small(path), "--epochs", "0")
    assert again.exit_code == 2 and "settings of tiny differ (phase:" in again.stderr and path.read_bytes() == whole


@pytest.mark.slow
def test_two_processes_give_what_one_gives(tmp_path: Path) -> None:
    found = {}
    for jobs in ("1", "2"):
        path = tmp_path / jobs / "runs.jsonl"
        done = subprocess.run(
            [sys.executable, "-m", "models.paper_tables", *small(path, "--epochs", "0", "--jobs", jobs)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found[jobs] = {r.run: r.trained for r in Record(path).results}
    assert found["1"] == found["2"] and len(found["1"]) == 3


@pytest.mark.slow
def test_render_writes_the_files(tmp_path: Path) -> None:
    recorded(tmp_path / "runs.jsonl", synthetic(gaining(0.05, 0.02)))
    done = call("--render", "--record", str(tmp_path / "runs.jsonl"), "--results", str(tmp_path / "out"))
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out" / "RESULTS.md").read_text().startswith(MARK)
    assert "efficientnet_b0: accuracy" in done.stdout and "wrote" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--networks", "resnet19"], "'resnet19' is unknown: use efficientnet_b0, mixnet_s, resnet18, tiny"),
        (["--data", "npz:x"], "--data npz:x: use digits or imagefolder:DIR"),
        (["--seeds", "0"], "--seeds"),
        (["--render", "--record", "nowhere.jsonl"], "record nowhere.jsonl cannot be read (No such file or directory)"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = call(*arguments)
    assert done.exit_code == 2 and message in done.stderr and len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_help_is_there_at_once() -> None:
    assert "--networks" in help_of("models.paper_tables")


def test_the_settings_are_those_of_the_network() -> None:
    assert settings_of("efficientnet_b0") == settings_of("mixnet_s") != settings_of("resnet18")
    assert Settings.from_dict(json.loads(json.dumps(SMALL.to_dict()))) == SMALL
    folder = replace(SMALL, hard=None, data="imagefolder:x")
    assert Settings.from_dict(json.loads(json.dumps(folder.to_dict()))) == folder
    assert SMALL.float_digest == replace(SMALL, phase=Phase(9, 0.1, 8, 0.0)).float_digest != folder.float_digest
