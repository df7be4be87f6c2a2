"""files.digest: what sha256sum prints, for files of more than one block as well."""

from __future__ import annotations

import hashlib
from pathlib import Path

from lsq_export.files.digest import BLOCK, sha256


def test_digest_of_a_file(tmp_path: Path) -> None:
    for size in (0, 3, BLOCK, 2 * BLOCK + 1):
        content = bytes(size)
        (tmp_path / "f").write_bytes(content)
        assert sha256(tmp_path / "f") == hashlib.sha256(content).hexdigest()
