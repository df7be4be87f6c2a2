"""Fixtures of all rooms: one exported bundle for the tests that look at bundles, and exports that take less time.

The bundle is shared: take `exported.copy(tmp_path)` before you change a file.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import numpy as np
import pytest
import torch

import lsq_export
from lsq_export.graph.capture import capture
from lsq_export.rewrite.fold import Folded, fold
from support.exported import SHAPE, Exported, content, images, prepared, save
from support.exporter import operator_tables_made_once


@pytest.fixture(scope="session", autouse=True)
def _quick_exports() -> Iterator[None]:
    """Exports in the test's own process take half the time; processes that a test starts have torch as it is.

    Nothing waits for the disk: no test takes the power away.
    """
    thresholds = gc.get_threshold()
    gc.set_threshold(10_000, 20, 50)  # a capture makes many objects; looking for garbage took a tenth of its time
    with operator_tables_made_once(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield
    gc.set_threshold(*thresholds)


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exported]:
    """W4A4, both formats, exported through the Python API."""
    directory = tmp_path_factory.mktemp("exported")
    model, (x, y) = prepared(seed=0), images(seed=0)
    np.savez(directory / "data.npz", x_train=x.numpy(), y_train=y.numpy(), x_test=x.numpy(), y_test=y.numpy())
    batches = ((x[:16], y[:16]), (x[16:], y[16:]))
    data = f"npz:{directory / 'data.npz'}"
    bundle = lsq_export.export(
        model, x[:1], directory / "out", calibration=batches, source={"data": data}, preprocessing={"data": "npz"}
    )
    before = content(directory)
    yield Exported(model, batches, bundle, save(model, directory / "trained.safetensors", data), data)
    assert content(directory).items() >= before.items(), "a test changed the shared bundle: let it use a copy"


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """The networks are too small for more, and threads that wait for each other on a busy machine take 20 times as
    long.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def other() -> Folded:
    """The graphs of a network like the exported one, with other weights."""
    return fold(capture(prepared(seed=1), torch.zeros(1, *SHAPE)), [images(seed=1)[0]])
