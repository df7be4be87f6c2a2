"""models.in_source: the networks of a user's module, read from its source and never run."""

from __future__ import annotations

from pathlib import Path

import pytest

from calib.errors import QuantizationError
from lsq_export import models
from lsq_export.models.in_source import hint

STOPS = "raise SystemExit('this was executed')\n"
IMPORTS = ("from torch import nn", "import torch.nn as nn", "import torch as t", "from torch.nn import Module as M")
BASES = ("nn.Module", "nn.Module", "t.nn.Module", "M")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("imported", "base"), [*zip(IMPORTS, BASES, strict=True)])
def test_a_forgotten_class_is_named_and_nothing_runs(imported: str, base: str, here: Path) -> None:
    (here / "mynet.py").write_text(f"{STOPS}{imported}\nclass Settings:\n    pass\nclass Net({base}):\n    pass\n")
    with pytest.raises(QuantizationError, match=r"'mynet' is unknown: .* \(did you mean mynet:Net\?\)"):
        models.build("mynet")
    (here / "nets").mkdir()
    (here / "mynet.py").rename(here / "nets" / "own.py")
    for name in ("nets.own", "nets/own.py", "./nets/own.py"):
        assert hint(name) == " (did you mean nets.own:Net?)"


def test_parts_of_networks_are_left_out(here: Path) -> None:
    source = "from torch import nn\nclass Block(nn.Module):\n    pass\n"
    source += "class Base(nn.Module):\n    part = Block\nclass A(Base):\n    pass\nclass B(nn.Sequential):\n    pass\n"
    (here / "mynet.py").write_text(source)
    assert hint("mynet") == " (did you mean mynet:A or mynet:B?)"


@pytest.mark.parametrize(
    "source",
    [
        "",
        "def build(:",
        "\0",
        "class Net(Module):\n    pass\n",
        "class Net(other.Module):\n    pass\n",
    ],
)
def test_what_cannot_be_known_is_asked_for(source: str, here: Path) -> None:
    (here / "mynet").mkdir()
    (here / "mynet" / "__init__.py").write_text(source)
    assert hint("mynet").startswith(" (mynet/__init__.py is here: give mynet:factory, the class or function in it")


@pytest.mark.parametrize("name", ["mynet", "my-net", "net.pth", "", "..", "/", "a b"])
def test_without_a_file_there_is_no_hint(name: str) -> None:
    assert hint(name) == ""
