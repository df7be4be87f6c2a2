"""models: the registry and user factories. The networks against the public reference: test_models_reference.py."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from calib.errors import QuantizationError
from lsq_export import models


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current directory; what is imported from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize("name", models.names())
@pytest.mark.parametrize("channels,size", [(1, 16), (3, 32), (3, 17)])
def test_every_model_takes_channels_classes_and_any_size(name: str, channels: int, size: int) -> None:
    model = models.build(name, num_classes=7, in_channels=channels).eval()
    assert model(torch.zeros(2, channels, size, size)).shape == (2, 7)


def test_tiny_is_small() -> None:
    assert sum(p.numel() for p in models.build("tiny", num_classes=10).parameters()) < 12_000


def test_listing_names_does_not_import_torch() -> None:
    """With the packages' own __init__ replaced: this is about models/__init__.py alone."""
    code = (
        "import sys, types, importlib.util as u\n"
        "for name in ('calib',):\n"
        "    package = types.ModuleType(name); package.__path__ = [sys.argv[2]]; sys.modules[name] = package\n"
        "spec = u.spec_from_file_location('m', sys.argv[1], submodule_search_locations=[sys.argv[3]])\n"
        "m = u.module_from_spec(spec); sys.modules['m'] = m; spec.loader.exec_module(m)\n"
        "assert m.names() == ['efficientnet_b0', 'mixnet_s', 'resnet18', 'tiny'] and 'torch' not in sys.modules\n"
    )
    calib = Path(sys.modules["calib"].__file__ or "").parent
    here = Path(models.__file__)
    subprocess.run([sys.executable, "-c", code, str(here), str(calib), str(here.parent)], check=True)


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(
        QuantizationError,
        match=r"'resnet19' is unknown: use one of efficientnet_b0, mixnet_s, resnet18, tiny, or package.module:factory",
    ):
        models.build("resnet19")


USER = """
from torch import nn
def build(num_classes, width=4):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(width), nn.Linear(width, num_classes))
def plain():
    return nn.Linear(3, 2)
def anything(**kw):
    assert kw == {"num_classes": 5, "in_channels": 1}
    return nn.Identity()
def wrong():
    return "a string"
def broken():
    raise RuntimeError("two\\nlines")
number = 3
"""


def test_user_factory_wins_over_our_package_name(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package `models` in the current directory is the user's, ours is lsq_export.models."""
    for name in [
        name for name in sys.modules if name.split(".")[0] == "models"
    ]:  # a user's process has not imported our checkout's
        monkeypatch.delitem(sys.modules, name)
    (project / "models").mkdir()
    (project / "models" / "__init__.py").write_text("")
    (project / "models" / "net.py").write_text(USER)
    model = models.build("models.net:build", num_classes=5, width=6)
    assert isinstance(model[2], torch.nn.Linear)  # type: ignore[index]
    assert (model[2].in_features, model[2].out_features) == (6, 5)  # type: ignore[index]


def test_user_factory_gets_only_what_its_signature_takes(project: Path) -> None:
    (project / "usernet_a.py").write_text(USER)
    assert isinstance(models.build("usernet_a:plain", num_classes=5), torch.nn.Linear)
    assert isinstance(models.build("usernet_a:anything", num_classes=5, in_channels=1), torch.nn.Identity)


@pytest.mark.parametrize(
    "name,message",
    [
        ("nowhere_at_all:build", "no module 'nowhere_at_all'"),
        ("usernet_b.deeper:build", "no module 'usernet_b.deeper'"),
        ("usernet_b:missing", "has no function or class 'missing'"),
        ("usernet_b:number", "has no function or class 'number'"),
        ("usernet_b:wrong", "returned str, not a torch.nn.Module"),
        ("usernet_b:broken", "RuntimeError: two lines"),
        ("usernet_b:", "write package.module:factory"),
        (":build", "write package.module:factory"),
        ("usernet_b:a:b", "write package.module:factory"),
        ("usernet_c:build", "usernet_c imports 'not_installed_here'"),
        ("usernet_d:build", "importing usernet_d failed: SyntaxError"),
    ],
)
def test_bad_user_factory_is_one_line(project: Path, name: str, message: str) -> None:
    (project / "usernet_b.py").write_text(USER)
    (project / "usernet_c.py").write_text("import not_installed_here")
    (project / "usernet_d.py").write_text("def build(:")
    with pytest.raises(QuantizationError) as caught:
        models.build(name)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["efficientnet_b0", "mixnet_s"])
def test_variants_have_the_names_of_the_command_line(name: str) -> None:
    def shapes(**kw: Any) -> list[torch.Size]:
        with torch.device("meta"):
            return [value.shape for value in models.build(name, num_classes=3, **kw).state_dict().values()]

    small = models.build(name, num_classes=3, variant="small")
    assert shapes(variant="small") == shapes(**models.keywords(name, 32)) != shapes() == shapes(variant="published")
    assert small.eval()(torch.zeros(1, 3, 8, 8)).shape == (1, 3)
    assert shapes(variant="small", width=1.0) != shapes(variant="small")


@pytest.mark.parametrize(
    ("name", "keyword", "says"),
    [
        ("resnet18", {"variant": "small"}, "variant 'small' (--variant) is not one of model 'resnet18': use published"),
        ("mixnet_s", {"variants": "small"}, "has no keyword 'variants': it takes num_classes, in_channels, variant, "),
        ("mixnet_s", {"widths": 0.5}, "variant, width, stem_stride (did you mean width?)"),
        ("tiny", {"width": 0.5}, "model 'tiny' has no keyword 'width': it takes num_classes, in_channels, variant"),
    ],
)
def test_keywords_that_a_network_does_not_have(name: str, keyword: dict[str, Any], says: str) -> None:
    with pytest.raises(QuantizationError, match=re.escape(says)) as caught:
        models.build(name, **keyword)
    assert "\n" not in str(caught.value)


def test_a_variant_of_ones_own(project: Path) -> None:
    (project / "usernet_v.py").write_text(
        "from torch import nn\ndef build(variant):\n    return nn.Linear(1, len(variant))\n"
    )
    assert models.build("usernet_v:build", variant="seven").out_features == 5


@pytest.mark.parametrize("name", models.names())
def test_small_images_get_smaller_variants(name: str) -> None:
    small, large = models.keywords(name, 32), models.keywords(name, 224)
    assert large == {} and small == (
        {"width": 0.5, "stem_stride": 1} if name in ("efficientnet_b0", "mixnet_s") else {}
    )
    assert models.build(name, num_classes=3, **small)(torch.zeros(2, 3, 32, 32)).shape == (2, 3)


def test_a_name_is_checked_without_importing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "someones_nets.py").write_text("raise SystemExit('imported')\n", encoding="utf-8")
    models.check_name("someones_nets:build")
    models.check_name("torch.nn:Identity")
    models.check_name("resnet18")
    with pytest.raises(QuantizationError, match="there is no module 'nobodys_nets' in "):
        models.check_name("nobodys_nets:build")


def test_sizes_that_are_not_known_are_those_of_the_factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "usernet_b.py").write_text(
        "from torch import nn\n"
        "def own(num_classes=2, in_channels=4):\n    return nn.Linear(in_channels, num_classes)\n"
        "def needed(num_classes):\n    return nn.Linear(1, num_classes)\n"
    )
    assert models.build("usernet_b:own").weight.shape == (2, 4)
    assert models.build("usernet_b:own", num_classes=7).weight.shape == (7, 4)
    assert models.build("usernet_b:needed").weight.shape == (1000, 1)
    assert models.build("tiny").state_dict().keys() == models.build("tiny", 1000, 3).state_dict().keys()
