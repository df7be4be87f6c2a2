"""Where torch.compile keeps machine code, and runs it from: it must be this user's alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from calib.errors import QuantizationError


def check_compiled_code() -> None:
    """Before anything is compiled. By default the folder lies in /tmp, by a name that everybody on this machine knows.

    Errors (QuantizationError): it is another user's, or everybody may write into it.
    """
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    folder = Path(cache_dir())  # which makes it
    status = folder.stat()
    if status.st_uid != os.getuid() or status.st_mode & stat.S_IWOTH:
        whose = "of another user" if status.st_uid != os.getuid() else "that everybody may write into"
        raise QuantizationError(
            f"compiled code would run from {folder}, a folder {whose}: set TORCHINDUCTOR_CACHE_DIR to one of yours, or "
            "train without fused kernels"
        )
