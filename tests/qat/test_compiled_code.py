"""compiled_code: machine code that torch.compile would run from a folder of somebody else is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from calib.errors import QuantizationError
from lsq_export.qat import kernels
from lsq_export.qat.compiled_code import check_compiled_code


def test_only_the_users_own_folder_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "torchinductor_me"
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder))
    check_compiled_code()
    assert folder.is_dir()
    folder.chmod(0o777)
    with pytest.raises(QuantizationError, match="torchinductor_me, a folder that everybody may write into: set TORCH"):
        check_compiled_code()
    folder.chmod(0o755)
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "link"))
    check_compiled_code()
    somebody = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: somebody)
    with pytest.raises(QuantizationError, match="a folder of another user"):
        check_compiled_code()
    kernels.fused_kernels.cache_clear()
    with pytest.raises(QuantizationError, match="a folder of another user"):
        kernels.fused_kernels()
