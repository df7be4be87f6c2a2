"""npy:DIR, testset:DIR and package.module:function: inputs as a network takes them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from calib.batches import read_batches
from calib.errors import QuantizationError, QuantizationWarning
from calib.samples import Samples
from calib.signature import Takes
from lsq_export.cli.data_options import alone
from lsq_export.data import Dataset, from_function
from lsq_export.data.loading import load
from lsq_export.data.specs import check_spec

RNG = np.random.default_rng(0)
X = RNG.random((12, 3, 4, 5)).astype(np.float32)
TOKENS = RNG.integers(0, 9, (12, 7))
BOTH = {"image": (3, 4, 5), "tokens": (7,)}


def all_of(data: Dataset) -> np.ndarray:
    """All images, in the order of their first number."""
    found = [x for split in ("train", "test") for x, _ in data.batches(split, 5)]
    images = torch.cat([x.by_name["image"] if isinstance(x, Samples) else x for x in found]).numpy()
    return images[np.argsort(images[:, 0, 0, 0])]


EXPECTED = X[np.argsort(X[:, 0, 0, 0])]


def arrays_in(directory: Path, arrays: Any) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for index, array in enumerate(arrays):
        np.save(directory / f"{index}.npy", array)


def sets_in(directory: Path, sets: list[list[np.ndarray]], names: tuple[str, ...] = ("", "")) -> None:
    for number, arrays in enumerate(sets):
        folder = directory / f"test_data_set_{number}"
        folder.mkdir(parents=True)
        for index, array in enumerate(arrays):
            tensor = numpy_helper.from_array(array, names[index])
            onnx.save_tensor(tensor, folder / f"input_{index}.pb")


@pytest.mark.parametrize("parts", [list(X), [X[i : i + 1] for i in range(12)], [X[:5], X[5:]]])
def test_a_file_holds_a_sample_or_a_batch_as_the_network_takes_it(tmp_path: Path, parts: list[np.ndarray]) -> None:
    arrays_in(tmp_path / "d", parts)
    data = load(f"npy:{tmp_path / 'd'}", shape=(3, None, None))
    assert (data.input_shape, data.num_classes, len(data.train), len(data.test)) == ((3, 4, 5), 0, 10, 2)
    np.testing.assert_array_equal(all_of(data), EXPECTED)
    assert data.preprocessing["data"] == "npy" and data.preprocessing["mean"] is None


def test_files_follow_the_numbers_in_their_names(tmp_path: Path) -> None:
    arrays_in(tmp_path, X)  # 10 comes after 9
    data = load(f"npy:{tmp_path}")  # a sample each, where nothing is known of the network
    rows = [path.stem for path, _ in data.train.rows[""]]  # type: ignore[attr-defined]
    assert rows == sorted(rows, key=int)


def test_a_directory_for_each_input(tmp_path: Path) -> None:
    arrays_in(tmp_path / "image", X)
    arrays_in(tmp_path / "tokens", [TOKENS])
    data = load(f"npy:{tmp_path}", shape=BOTH)
    assert data.input_shape == BOTH
    x, _ = next(iter(data.batches("train", 4)))
    assert [(name, tensor.dtype) for name, tensor in x.by_name.items()] == [
        ("image", torch.float32),
        ("tokens", torch.int64),
    ]
    np.testing.assert_array_equal(all_of(data), EXPECTED)
    arrays_in(tmp_path / "tokens", [TOKENS[:3]])
    with pytest.raises(QuantizationError, match="has 12 samples of image and 3 samples of tokens"):
        load(f"npy:{tmp_path}", shape=BOTH)


@pytest.mark.parametrize("names", [("", ""), ("image", "tokens"), ("a", "b")])
def test_sets_of_onnx_tests_are_batches(tmp_path: Path, names: tuple[str, ...]) -> None:
    """Their tensors are called as the inputs, or come in their order."""
    sets_in(tmp_path, [[X[:3], TOKENS[:3]], [X[3:], TOKENS[3:]]], names)
    data = load(f"testset:{tmp_path}", shape=BOTH)
    assert data.input_shape == BOTH and len(data.train) == 10
    np.testing.assert_array_equal(all_of(data), EXPECTED)


def test_tensors_that_are_called_as_inputs_may_come_in_any_order(tmp_path: Path) -> None:
    sets_in(tmp_path, [[TOKENS, X]], ("tokens", "image"))
    data = load(f"testset:{tmp_path}", shape=BOTH)
    assert list(data.input_shape.items()) == list(BOTH.items())
    np.testing.assert_array_equal(all_of(data), EXPECTED)
    one = load(f"testset:{tmp_path / 'test_data_set_0'}", shape=BOTH)  # a set alone
    np.testing.assert_array_equal(all_of(one), EXPECTED)


def test_what_has_no_batch_in_a_set_is_one_sample(tmp_path: Path) -> None:
    """A state [2, 1, 128] beside x [1, 576]."""
    states = RNG.random((3, 2, 1, 6)).astype(np.float32)
    sets_in(tmp_path, [[X[i : i + 1], states[i]] for i in range(3)])
    data = load(f"testset:{tmp_path}", shape={"image": (3, 4, 5), "state": (2, 1, 6)})
    assert data.input_shape == {"image": (3, 4, 5), "state": (2, 1, 6)} and len(data.train) + len(data.test) == 3


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Write the module that names batches."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def write(text: str) -> str:
        (tmp_path / "my_batches.py").write_text(
            f"import numpy as np, torch\nX, T = (np.load(n) for n in ('x.npy', 't.npy'))\n{text}\n"
        )
        return "my_batches:batches"

    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "t.npy", TOKENS)
    yield write
    sys.modules.pop("my_batches", None)


FORMS = {
    "arrays": ("(X[i:i + 4] for i in (0, 4, 8))", (3, 4, 5), 0),
    "samples": ("list(X)", (3, 4, 5), 0),
    "tensors with classes": ("[(torch.tensor(X[i:i + 6]), torch.arange(6) % 2) for i in (0, 6)]", (3, 4, 5), 2),
    "several": ("[(X, T)]", BOTH, 0),
    "by name": ("[{'tokens': T, 'image': X, 'labels': np.arange(12) % 3}]", BOTH, 3),
    "a mask of no class": ("[(X, X)]", (3, 4, 5), 0),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_function_gives_batches(module: Callable[[str], str], form: str) -> None:
    text, shape, classes = FORMS[form]
    spec = module(f"def batches():\n    return {text}")
    assert check_spec(spec) == "function"
    data = load(spec, shape=shape)
    assert (data.input_shape, data.num_classes) == (shape, classes)
    np.testing.assert_array_equal(all_of(data), EXPECTED)
    assert data.preprocessing["data"] == "function"


def test_an_endless_function_is_read_up_to_a_limit(
    module: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(from_function, "MOST", 30)
    spec = module("def batches():\n    while True:\n        yield X")
    with pytest.warns(QuantizationWarning, match="the first 36 samples .* are taken"):
        assert len(load(spec).train) == 29
    monkeypatch.setattr(from_function, "LARGEST", X.nbytes + 1)
    with pytest.warns(QuantizationWarning, match="the first 24 samples"):
        load(spec)


WRONG = {
    "no batch": ("return []", "gives no batch"),
    "raises": ("raise ValueError('no such disk')", "failed: ValueError: no such disk"),
    "ends": ("raise SystemExit(0)", "failed: SystemExit"),
    "one sample": ("return [X[:1]]", "it has 1 sample"),
    "none": ("return 3", "failed: TypeError.* it takes no arguments"),
    "shapes": ("return [X, X[:, :2]]", r"batch 1 has inputs float32 of shape \[2, 4, 5\], the first one"),
    "text": ("return [['a', 'b']]", "is <U1: use float32, int64 or bool"),
    "NaN": ("return [X * np.nan]", "batch 0 holds NaN"),
    "flat": ("return [X[0, 0]]", r"has the shape \[4, 5\], a sample of the network's input \[3, 4, 5\]"),
}


@pytest.mark.parametrize("what", WRONG)
def test_functions_that_give_something_else_are_one_line(module: Callable[[str], str], what: str) -> None:
    text, message = WRONG[what]
    spec = module(f"def batches():\n    {text}")
    with pytest.raises(QuantizationError, match=message) as caught:
        load(spec, shape=(3, 4, 5))
    assert "\n" not in str(caught.value)


def test_names_are_missing(module: Callable[[str], str]) -> None:
    spec = module("def batches():\n    return [{'image': X}]")
    with pytest.raises(QuantizationError, match="batch 0 has no tokens, only image"):
        load(spec, shape=BOTH)
    with pytest.raises(QuantizationError, match="has no function or class 'batch'"):
        load("my_batches:batch")
    with pytest.raises(QuantizationError, match="there is no module 'no_module_of_mine'"):
        check_spec("no_module_of_mine:batches")
    with pytest.raises(QuantizationError, match=r"is unknown: use digits.* imagefolder"):
        check_spec("imagefoldr:pictures")


def test_damaged_directories_are_one_line(tmp_path: Path) -> None:
    for kind in ("npy", "testset"):
        with pytest.raises(QuantizationError, match="does not exist"):
            check_spec(f"{kind}:{tmp_path / 'nowhere'}")
    with pytest.raises(QuantizationError, match=r"holds no .npy file"):
        load(f"npy:{tmp_path}")
    with pytest.raises(QuantizationError, match="has no test_data_set_0"):
        load(f"testset:{tmp_path}")
    arrays_in(tmp_path, [*X[:3], X[3, :2]])
    with pytest.raises(QuantizationError, match=r"3.npy has samples float32 of shape \[2, 4, 5\], 0.npy others"):
        load(f"npy:{tmp_path}")
    (tmp_path / "3.npy").write_bytes(b"no array")
    with pytest.raises(QuantizationError, match=r"3.npy is no array that can be read"):
        load(f"npy:{tmp_path}")
    np.save(tmp_path / "3.npy", (X[3] * 255).astype(np.uint8))
    with pytest.raises(QuantizationError, match=r"3.npy is uint8: use float32.* \(npz:FILE takes images of uint8, too"):
        load(f"npy:{tmp_path}")
    with pytest.raises(QuantizationError, match=f"data '{tmp_path}' is unknown: .*npy:{tmp_path}"):
        check_spec(str(tmp_path))
    sets_in(tmp_path / "sets", [[X[:3]], [X[:3, :2]]])
    with pytest.raises(QuantizationError, match="test_data_set_1 has inputs of other names, types or sizes"):
        load(f"testset:{tmp_path / 'sets'}")
    (tmp_path / "sets/test_data_set_1/input_0.pb").write_bytes(b"\xff\xff")
    with pytest.raises(QuantizationError, match=r"input_0.pb is no tensor of ONNX"):
        load(f"testset:{tmp_path / 'sets'}")
    with pytest.raises(QuantizationError, match="test_data_set_0 has 1 input, the network takes 2"):
        load(f"testset:{tmp_path / 'sets'}", shape=BOTH)
    with pytest.raises(QuantizationError, match="leave --image-size"):
        load(f"testset:{tmp_path / 'sets'}", mean=[0.5])


def test_values_are_checked_when_they_are_read(tmp_path: Path) -> None:
    arrays_in(tmp_path, [*X[:4], X[4] * np.nan])
    data = load(f"npy:{tmp_path}")
    with pytest.raises(QuantizationError, match=r"4.npy holds NaN or infinity \(first at \[0, 0, 0\]\)"):
        all_of(data)


@pytest.mark.parametrize(
    "text", ["return [list(X)]", "return [X[:6].tolist(), X[6:].tolist()]", "return [[*X[:2]], [*X[2:]]]"]
)
def test_a_list_of_samples_is_a_batch(module: Callable[[str], str], text: str) -> None:
    data = load(module(f"def batches():\n    {text}"), shape=(3, 4, 5))
    np.testing.assert_array_equal(all_of(data), EXPECTED)


def test_what_a_function_cannot_mean_is_refused(module: Callable[[str], str]) -> None:
    spec = module("def batches():\n    return [(X, T, T)]")
    with pytest.raises(QuantizationError, match=r"batch 0 has 3 parts, the network takes 1 \(and a target\)"):
        load(spec, shape=(3, 4, 5))
    sys.modules.pop("my_batches")
    with pytest.raises(QuantizationError, match=r"batch 0: its inputs have \[0\] samples"):  # it would never end
        load(module("def batches():\n    while True:\n        yield X[:0]"), shape=(3, 4, 5))


def test_directories_that_mean_two_things_are_refused(tmp_path: Path) -> None:
    arrays_in(tmp_path / "image", X)
    arrays_in(tmp_path, X)
    with pytest.raises(QuantizationError, match=r"has .npy files and directories of them"):
        load(f"npy:{tmp_path}")


def test_one_directory_for_one_input_is_that_input(tmp_path: Path) -> None:
    arrays_in(tmp_path / "image", X)
    data = alone(load(f"npy:{tmp_path}", shape=(3, 4, 5)), (3, 4, 5))
    assert data.input_shape == (3, 4, 5)
    np.testing.assert_array_equal(all_of(data), EXPECTED)


def test_inputs_come_in_the_order_of_the_network(tmp_path: Path) -> None:
    """Whatever order a directory or an archive has."""
    arrays_in(tmp_path / "tokens", TOKENS)
    arrays_in(tmp_path / "image", X)
    data, takes = load(f"npy:{tmp_path}", shape=BOTH), Takes(("tokens", "image"), 2, integers=True)
    batch = next(iter(data.batches("train", 12)))
    ordered, ((read, _),) = takes.ordered(batch[0]), read_batches([batch], takes=takes)
    for x in (ordered, read):
        assert list(x.by_name) == list(takes.names)
        assert all(torch.equal(x.by_name[name], batch[0].by_name[name]) for name in takes.names)
    part = Takes(("tokens",)).ordered(batch[0])
    assert list(part.by_name) == ["tokens", "image"] and takes.ordered(X) is X


def test_a_sample_of_one_number_is_no_image(tmp_path: Path) -> None:
    """Where nothing is known of the network."""
    arrays_in(tmp_path, np.arange(6, dtype=np.float32)[:, None])
    data = load(f"npy:{tmp_path}")
    assert alone(data, None) is data and data.input_shape == (1,)


def test_sets_with_numbers_elsewhere_or_nothing_are_refused(tmp_path: Path) -> None:
    sets_in(tmp_path, [[X], [X]])
    path = tmp_path / "test_data_set_1/input_0.pb"
    tensor = onnx.load_tensor(path)
    tensor.data_type = 99
    onnx.save_tensor(tensor, path)
    with pytest.raises(QuantizationError, match="has data that do not fit its type and shape"):
        load(f"testset:{tmp_path}")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    onnx.save_tensor(tensor, path)
    with pytest.raises(QuantizationError, match="has its numbers in another file"):
        load(f"testset:{tmp_path}")
    path.unlink()
    with pytest.raises(QuantizationError, match=r"test_data_set_1 has no input_0.pb"):
        load(f"testset:{tmp_path}")
