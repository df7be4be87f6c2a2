"""data.loading: specs that cannot be loaded, and packages that are missing."""

from __future__ import annotations

import builtins
from typing import Any

import pytest

from support.unusable import assert_unusable


@pytest.mark.parametrize(
    "spec,options,message",
    [
        (
            "mnist",
            {},
            "data 'mnist' is unknown: use digits, imagefolder:DIR, npz:FILE, npy:DIR",
        ),
        ("npz:", {}, "is unknown"),
        ("digits:x", {}, "is unknown"),
        ("digits", {"channels": 2}, "channels is 2"),
        ("digits", {"image_size": 0}, "image size is 0"),
        ("digits", {"image_size": 10**8}, "image size is 100000000: use 1 to 16,384 pixels"),
        ("imagefolder:x", {"resize": 10**8}, r"resize \(--resize\) is 100000000: use 16,384 pixels or less"),
        ("npz:nowhere.npz", {}, "nowhere.npz does not exist"),
        ("imagefolder:nowhere", {}, "nowhere does not exist"),
    ],
)
def test_bad_spec(spec: str, options: dict[str, Any], message: str) -> None:
    assert_unusable(spec, message, **options)


@pytest.mark.parametrize(
    "spec,module,package", [("digits", "sklearn", "scikit-learn"), ("imagefolder:.", "PIL", "pillow")]
)
def test_missing_extra_says_what_to_install(
    spec: str, module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def fake(name: str, *args: Any, **kw: Any) -> Any:
        if name.split(".")[0] == module:
            raise ModuleNotFoundError(name)
        return real(name, *args, **kw)

    monkeypatch.setattr(builtins, "__import__", fake)
    assert_unusable(spec, rf"needs {package}: pip install {package}$")
