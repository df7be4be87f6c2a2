"""The operator in ONNX Runtime: the same bits with the library and without it, and one line where it cannot run."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from lsq_export.kernels import KERNEL_VARIABLE, SOURCE, find_compiler, register
from support import lookups

ROOT = Path(__file__).parents[2]
LEVELS = ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL")
TYPES = (np.uint8, np.int8)
PAIRS = [(codes, out) for codes in TYPES for out in TYPES]


def draw(dtype: type, *shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8).view(dtype)


def wanted(codes: np.ndarray, table: np.ndarray) -> np.ndarray:
    return table[codes.astype(int) - np.iinfo(codes.dtype).min]


def with_shapes(model: bytes) -> onnx.ModelProto:
    """The model for one shape, which onnx's checker asks for."""
    loaded = onnx.load_from_string(model)
    for value in (*loaded.graph.input, *loaded.graph.output):
        value.type.tensor_type.shape.dim.add(dim_value=256)
    return loaded


@pytest.mark.parametrize("kernel", ["", "amx", "avx512vbmi", "avx2", "neon", "portable"])
@pytest.mark.parametrize(("codes", "out"), PAIRS)
def test_every_pair_of_types(
    codes: type, out: type, kernel: str, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KERNEL_VARIABLE, kernel)
    table = draw(out, 256)
    model = lookups.one(codes, table)
    fast = lookups.session_of_kernel(model, library, kernel)
    plain = lookups.session(model, None)
    for shape in ((), (0, 3), (7,), (2, 3, 5), (1, 1, 600, 900)):  # the last one is shared by the threads
        x = draw(codes, *shape)
        (found,), (stock,) = fast.run(None, {"codes": x}), plain.run(None, {"codes": x})
        assert found.dtype == out and found.shape == shape
        assert np.array_equal(found, wanted(x, table)) and np.array_equal(found, stock)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", TYPES)
def test_a_chain_of_stock_operators_is_one_node(dtype: type, level: str, library: Path, tmp_path: Path) -> None:
    lowest = np.iinfo(dtype).min
    grids = [np.float32(0.05), dtype(lowest + 90), np.float32(1 / 256), dtype(lowest), np.float32(0.03), dtype(3)]
    constants = {name: np.asarray(value) for name, value in zip(lookups.SILU[2:], grids, strict=True)}
    every = np.arange(lowest, lowest + 256).astype(dtype)
    placeholder = {"table": np.zeros(256, dtype)}
    model = lookups.file(
        dtype, [lookups.lookup("Lookup0", lookups.SILU)], dtype, placeholder | constants, [lookups.silu("Lookup0")]
    )
    (table,) = lookups.session(model, None).run(None, {"codes": every})
    nodes = [
        lookups.lookup("Lookup0", lookups.SILU, "first"),
        lookups.lookup("Lookup0", ("first", *lookups.SILU[1:]), "entries"),
    ]
    model = lookups.file(dtype, nodes, dtype, {"table": table} | constants, [lookups.silu("Lookup0")])
    onnx.checker.check_model(with_shapes(model))
    results, operators = [], []
    for path in (library, None):
        out = tmp_path / "optimized.onnx"
        found = lookups.session(
            model, path, level=getattr(onnxruntime.GraphOptimizationLevel, level), optimized=out
        ).run(None, {"codes": every.reshape(4, 64)})
        results += found
        optimized = onnx.load(out)
        assert not optimized.functions
        operators.append([node.op_type for node in optimized.graph.node])
    assert np.array_equal(*results) and len(np.unique(results[0])) > 20
    assert operators == [["Lookup0"] * 2, ["QLinearSigmoid", "QLinearMul"] * 2]


def test_codes_that_are_read_again_are_kept(library: Path) -> None:
    """The output may be placed where the codes were only if nobody needs these any more."""
    table = (255 - np.arange(256)).astype(np.uint8)
    unit = {"scale": np.float32(1), "zero": np.uint8(0), "half": np.float32(2)}
    sides = ["codes", "scale", "zero", "entered", "scale", "zero", "half", "zero"]
    nodes = [
        lookups.lookup("Lookup1", output="turned"),
        lookups.lookup("Lookup1", ("turned", "table"), "entered"),
        onnx.helper.make_node("QLinearAdd", sides, ["entries"], domain="com.microsoft"),
    ]
    constants = {"table": table} | {name: np.asarray(value) for name, value in unit.items()}
    model = lookups.file(np.uint8, nodes, np.uint8, constants, [lookups.gather(np.uint8, "Lookup1")])
    x = draw(np.uint8, 3, 300)
    (found,) = lookups.session(model, library).run(None, {"codes": x})
    assert np.array_equal(found, x)


def test_further_inputs_of_any_type_are_ignored_and_shapes_are_inferred(library: Path) -> None:
    more = {"a": np.float32([1, 2]), "b": np.array(3), "c": np.array([True]), "d": np.float16(1).reshape(())}
    table = draw(np.int8, 256)
    node = lookups.lookup("Lookup63", ("codes", "table", *more))
    model = onnx.load_from_string(lookups.file(np.uint8, [node], np.int8, {"table": table} | more, []))
    model.graph.input[0].CopyFrom(onnx.helper.make_tensor_value_info("codes", lookups.element(np.uint8), ["N", 3]))
    running = lookups.session(model.SerializeToString(), library)
    assert running.get_outputs()[0].shape == ["N", 3]
    x = draw(np.uint8, 4, 3)
    assert np.array_equal(running.run(None, {"codes": x})[0], wanted(x, table))


@pytest.mark.parametrize("entries", [0, 1, 16, 255, 257])
def test_a_table_of_another_size_is_one_line(entries: int, library: Path) -> None:
    table = draw(np.uint8, entries)
    line = f"the table has {entries} entries: it needs 256"
    with pytest.raises(Exception, match=f"lsq_export::Lookup node of entries: {line}$"):
        lookups.session(lookups.one(np.uint8, table), library)
    running = lookups.session(lookups.one(np.uint8, table, fed=["table"]), library)
    with pytest.raises(Exception, match=f"Name:'node of entries' Status Message: lsq_export::Lookup: {line}$"):
        running.run(None, {"codes": draw(np.uint8, 5), "table": table})
    good = draw(np.uint8, 256)
    assert np.array_equal(running.run(None, {"codes": good, "table": good})[0], good[good])


@pytest.mark.parametrize(("codes", "out", "what"), [(np.uint8, np.int32, "table"), (np.int16, np.uint8, "codes")])
def test_another_type_is_one_line(codes: type, out: type, what: str, library: Path) -> None:
    model = lookups.one(codes, np.zeros(256, out))
    with pytest.raises(Exception, match=rf"Type 'tensor\(int\d\d\)' of input parameter \({what}\).*is invalid\.$"):
        lookups.session(model, library)


def test_an_older_runtime_is_one_line(library: Path) -> None:
    """Called as ONNX Runtime 1.17 calls it: it has no version 18 of its interface, but the first slot of version 1."""
    told: list[tuple[int, bytes]] = []

    @ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p)
    def create_status(code: int, message: bytes) -> int:
        told.append((code, message))
        return 77

    version_1 = (ctypes.c_void_p * 1)(ctypes.cast(create_status, ctypes.c_void_p))

    @ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint32)
    def get_api(version: int) -> int | None:
        return ctypes.addressof(version_1) if version <= 17 else None

    number = ctypes.create_string_buffer(b"1.17.3")

    @ctypes.CFUNCTYPE(ctypes.c_void_p)
    def get_version() -> int:
        return ctypes.addressof(number)

    base = (ctypes.c_void_p * 2)(*(ctypes.cast(function, ctypes.c_void_p) for function in (get_api, get_version)))
    entry = ctypes.CDLL(str(library)).RegisterCustomOps
    entry.restype = ctypes.c_void_p
    assert entry(None, ctypes.byref(base)) == 77
    assert told == [(1, b"lsq_export: the library needs ONNX Runtime 1.18 or newer, this is 1.17.3")]


def test_options_of_several_sessions(library: Path) -> None:
    """A library is loaded once; each object of options has its own registration."""
    table = draw(np.uint8, 256)
    for _ in range(3):
        options = onnxruntime.SessionOptions()
        register(options)
        for _ in range(2):
            running = onnxruntime.InferenceSession(
                lookups.one(np.uint8, table), options, providers=["CPUExecutionProvider"]
            )
            assert np.array_equal(running.run(None, {"codes": table})[0], table[table])


@pytest.mark.slow
def test_sanitizers_find_nothing_in_the_operator(tmp_path: Path) -> None:
    """The tests above once more, with a library that watches its own memory; ONNX Runtime's leaks are its own."""
    compiler = find_compiler()
    if compiler is None:
        pytest.skip("there is no C compiler")
    out = tmp_path / "sanitized.so"
    flags = ("-std=c11", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-shared", "-fPIC")
    done = subprocess.run([*compiler, *flags, "-o", out, *SOURCE.glob("*.c")], capture_output=True, check=False)
    names = ("libasan.so", "libubsan.so")
    found = [subprocess.check_output([*compiler, f"-print-file-name={name}"], text=True).strip() for name in names]
    if done.returncode != 0 or not all(Path(name).is_file() for name in found):
        pytest.skip("the compiler has no shared sanitizers")
    code = (
        "import sys, pytest; from lsq_export.kernels import compile; import shutil; "
        f"compile.compile_library = lambda to: shutil.copy({str(out)!r}, to) and None; "
        "files = [f'tests/kernels/test_{name}.py' for name in ('lookup', 'pair', 'convolutions')]; "
        "words = ['-q', '-x', '-p', 'no:cacheprovider', '-m', 'not slow', *files]; "
        "sys.exit(pytest.main(words))"
    )
    watched = {"LD_PRELOAD": " ".join(found), "ASAN_OPTIONS": "detect_leaks=0", "PYTHONPATH": str(ROOT)}
    environment = os.environ | watched
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
