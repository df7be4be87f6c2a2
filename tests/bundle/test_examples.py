"""example.mjs and example.cpp, as the receiver of a bundle runs them.

JavaScript runs with a runtime that was made up, and with onnxruntime-web where NODE_PATH has it. C++ needs the headers
and the library of ONNX Runtime, in the directory that ONNXRUNTIME names.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import fastjsonschema
import numpy as np
import pytest

import lsq_export
from lsq_export.bundle.golden import read_golden
from lsq_export.bundle.reading import Files
from support.exported import Exported

NODE, COMPILER = shutil.which("node"), shutil.which("g++")
WEB = Path(os.environ.get("NODE_PATH", ".cache/isa/node_modules"), "onnxruntime-web").absolute()
ORT = Path(os.environ.get("ONNXRUNTIME", "nothing")).absolute()
# A runtime that says what outputs.json has, whatever it is fed.
FAKE = """
import { readFileSync } from "node:fs";
export class Tensor { constructor(type, data, dims) { Object.assign(this, { type, data, dims }); } }
export const InferenceSession = { create: async () => ({ run: async (feeds) => {
  const entries = Object.values(feeds);
  if (entries.some((x) => x.data.length !== x.dims.reduce((a, b) => a * b, 1))) throw new Error("a wrong shape");
  const { shape, values } = JSON.parse(readFileSync("outputs.json"));
  return { output: { dims: shape, data: Float32Array.from(values) } };
} }) };
"""

needs_node = pytest.mark.skipif(NODE is None, reason="there is no node")


def javascript(bundle: lsq_export.Bundle, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(NODE), "example.mjs", *arguments]
    return subprocess.run(command, cwd=bundle.directory, capture_output=True, text=True, check=False)


def with_fake(bundle: lsq_export.Bundle, values: np.ndarray) -> None:
    package = bundle.directory / "node_modules/onnxruntime-web"
    package.mkdir(parents=True)
    (package / "package.json").write_text('{"name": "onnxruntime-web", "type": "module", "main": "index.js"}')
    (package / "index.js").write_text(FAKE)
    outputs = {"shape": list(values.shape), "values": values.reshape(-1).tolist()}
    (bundle.directory / "outputs.json").write_text(json.dumps(outputs))


@needs_node
@pytest.mark.parametrize(
    ("moved", "code", "said"),
    [(0.0, 0, "output: 0 of 10 values differ"), (1.0, 1, "output: 1 of 10 values differ, by 1.0")],
)
def test_javascript_compares(exported: Exported, tmp_path: Path, moved: float, code: int, said: str) -> None:
    bundle = exported.copy(tmp_path)
    outputs = read_golden(Files(bundle.directory), "qdq")[1]["output"].astype(np.float64)
    outputs[1, 2] += moved
    with_fake(bundle, outputs)
    done = javascript(bundle, "qdq")
    assert done.returncode == code and said in done.stdout, done.stdout + done.stderr


@needs_node
def test_javascript_says_what_it_lacks(exported: Exported, tmp_path: Path) -> None:
    bundle = exported.copy(tmp_path)
    done = javascript(bundle)
    assert (done.returncode, done.stderr) == (2, "error: there is no ONNX Runtime: npm install onnxruntime-web\n")
    with_fake(bundle, np.zeros((2, 5)))
    path = bundle.directory / "qdq/test_data_set_0/input_0.pb"
    path.write_bytes(path.read_bytes()[:-3])
    done = javascript(bundle, "qdq")
    assert (done.returncode, done.stderr) == (2, "error: the file ends too early\n")


@needs_node
@pytest.mark.skipif(not WEB.is_dir(), reason="there is no onnxruntime-web: NODE_PATH names where it is")
@pytest.mark.parametrize("name", ["qdq", "qoperator"])
def test_javascript_with_onnxruntime_web(exported: Exported, tmp_path: Path, name: str) -> None:
    bundle = exported.copy(tmp_path)
    (bundle.directory / "node_modules").symlink_to(WEB.parent)
    done = javascript(bundle, name)
    assert done.returncode == 0 and "output: 0 of 10 values differ" in done.stdout, done.stderr


@pytest.mark.skipif(COMPILER is None or not (ORT / "include").is_dir(), reason="ONNXRUNTIME names no ONNX Runtime")
def test_cpp(exported: Exported, tmp_path: Path) -> None:
    bundle = exported.copy(tmp_path)
    where = ["-I", ORT / "include", "-L", ORT / "lib", "-lonnxruntime", f"-Wl,-rpath,{ORT / 'lib'}"]
    command = [str(COMPILER), "-std=c++17", "-Wall", "example.cpp", *map(str, where), "-o", "example"]
    subprocess.run(command, cwd=bundle.directory, check=True)
    for name in ("qdq", "qoperator"):
        done = subprocess.run(
            [bundle.directory / "example", name], cwd=bundle.directory, capture_output=True, text=True
        )
        assert done.returncode == 0 and done.stdout.startswith("output: 0 of 10 values differ"), done.stderr
    path = bundle.directory / "qdq/test_data_set_0/output_0.pb"
    content = bytearray(path.read_bytes())
    content[-1] ^= 0x40  # the exponent of the last float
    path.write_bytes(content)
    done = subprocess.run([bundle.directory / "example", "qdq"], cwd=bundle.directory, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout.startswith("output: 1 of 10 values differ")


def test_the_schema_of_the_manifest_is_in_the_bundle(exported: Exported) -> None:
    schema = json.loads((exported.bundle.directory / "manifest.schema.json").read_text(encoding="utf-8"))
    check = fastjsonschema.compile(schema)
    check(exported.bundle.manifest)
    with pytest.raises(fastjsonschema.JsonSchemaValueException):
        check({**exported.bundle.manifest, "formats": 3})
