"""Whole networks, W4A4 with real offsets, give the same bits in onnxruntime-web as in ONNX Runtime.

They have random weights and images of 64 pixels. What is compared is printed: make test-web.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from isa.compare import count_different
from isa.machines import WEB_VERSION
from isa.worker import read, write

from lsq_export.bench.network import named_network, subject_of_network
from lsq_export.bench.sessions import STOCK, open_session
from lsq_export.bundle.layout import LOOKUP
from lsq_export.kernels import is_built

ROOT = Path(__file__).parents[2]
WEB = ROOT / ".cache/isa/wasm"  # where make test-isa puts it
SIZE, IMAGES = 64, 16


def node() -> str:
    """The program that runs JavaScript; without it or onnxruntime-web, the test is skipped."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("node is not installed: onnxruntime-web cannot run")
    package = WEB / "node_modules/onnxruntime-web/package.json"
    if not package.is_file() or json.loads(package.read_text())["version"] != WEB_VERSION:
        pytest.skip(f"onnxruntime-web {WEB_VERSION} is not in {WEB}: make test-isa ISA=wasm puts it there")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "mixnet_s"])
def test_whole_networks_have_the_same_bits_in_a_browser(name: str, tmp_path: Path) -> None:
    program = node()
    models = subject_of_network(named_network(name, SIZE, offset="real"), peer=False).models
    x = np.random.default_rng(5).standard_normal((IMAGES, 3, SIZE, SIZE)).astype(np.float32)
    files = {LOOKUP: models[STOCK], "qoperator": models["qoperator"]}
    (feed,) = ({value.name: x} for value in open_session("qoperator", files["qoperator"], 1).get_inputs())
    write(tmp_path, "in", feed)
    jobs = []
    for kind, source in files.items():
        assert isinstance(source, bytes)
        (tmp_path / f"{kind}.onnx").write_bytes(source)
        jobs.append({"model": f"{kind}.onnx", "level": "default", "inputs": "in", "outputs": f"{kind}.out"})
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    command = [program, str(ROOT / "tests/isa/worker.mjs"), str(tmp_path), str(WEB)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    natively = {LOOKUP: LOOKUP, STOCK: LOOKUP, "qoperator": "qoperator"}  # with our operators, and without
    for opened, kind in natively.items():
        if opened == LOOKUP and not is_built():
            continue
        session = open_session(opened, files[kind], 1)
        (output,) = session.get_outputs()
        ours = session.run(None, feed)[0]
        differing = count_different(ours, read(tmp_path, f"{kind}.out").get(output.name))
        print(f"{name}, {opened}: {differing} of {ours.size:,} elements differ in {done.stdout.strip()}")
        assert differing == 0
        assert len(np.unique(ours)) > 100  # a network that says the same of all images would prove nothing
