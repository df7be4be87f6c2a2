"""A signed bundle: whatever is changed, taken away or added is named; minisign itself agrees, where there is one."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("cryptography", reason="there is no cryptography")

import lsq_export
from calib.errors import DamagedError, QuantizationError
from lsq_export.bundle.place import check_target
from lsq_export.bundle.sums import changed_files, strange_files
from lsq_export.signing.bundle_signature import check_signature, sign
from support.commands import invoke
from support.exported import Exported
from support.minisign_keys import keys

MINISIGN = shutil.which("minisign")


@pytest.fixture
def bundle(exported: Exported, tmp_path: Path) -> lsq_export.Bundle:
    """Signed with the key 1."""
    copy = exported.copy(tmp_path)
    sign(copy, keys(tmp_path, 1)[0])
    return copy


def test_it_is_good_and_still_a_bundle(bundle: lsq_export.Bundle, tmp_path: Path) -> None:
    public = tmp_path / "1.pub"
    assert check_signature(bundle, str(public)) == "01" * 8
    assert check_signature(bundle.directory, public.read_text().splitlines()[1]) == "01" * 8
    assert (changed_files(bundle), strange_files(bundle)) == ([], [])
    check_target(bundle.directory, force=True)  # it may be replaced as any other


def test_the_same_signature_is_written_again(bundle: lsq_export.Bundle, tmp_path: Path) -> None:
    before = (bundle.directory / "SHA256SUMS.minisig").read_bytes()
    sign(bundle, tmp_path / "1.key")
    assert (bundle.directory / "SHA256SUMS.minisig").read_bytes() == before
    other = keys(tmp_path, 2)
    with pytest.raises(QuantizationError, match="has a signature: force=True"):
        sign(bundle, other[0])
    sign(bundle, other[0], force=True)
    assert check_signature(bundle, str(other[1])) == "02" * 8


def test_a_flipped_bit_in_any_file_is_named(bundle: lsq_export.Bundle, tmp_path: Path) -> None:
    files = sorted(path for path in bundle.directory.rglob("*") if path.is_file())
    assert len(files) >= 15
    for path in files:
        content, name = path.read_bytes(), str(path.relative_to(bundle.directory))
        at = len(content) // 2  # in the signature: behind its first line, which nothing covers
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        done = invoke("verify", bundle.directory, "--public-key", tmp_path / "1.pub")
        assert done.exit_code == 1 and name in done.output and done.output.count("\n") == 1, done.output
        path.write_bytes(content)
    assert check_signature(bundle, str(tmp_path / "1.pub"))


def test_sums_that_were_made_anew_are_no_help(bundle: lsq_export.Bundle, tmp_path: Path) -> None:
    from lsq_export.bundle.sums import write_sums

    (bundle.directory / "run.py").write_text("pass")
    (bundle.directory / "SHA256SUMS.minisig").rename(tmp_path / "kept")
    write_sums(bundle.directory)
    (tmp_path / "kept").rename(bundle.directory / "SHA256SUMS.minisig")
    assert changed_files(bundle) == []  # sums alone do not see it
    with pytest.raises(DamagedError, match="SHA256SUMS is no signature of what is there"):
        check_signature(bundle, str(tmp_path / "1.pub"))


@pytest.mark.parametrize("name", ["more.txt", "__pycache__/run.cpython-311.pyc", "qdq/link"])
def test_what_was_added_is_named(bundle: lsq_export.Bundle, tmp_path: Path, name: str) -> None:
    path = bundle.directory / name
    path.parent.mkdir(exist_ok=True)
    path.symlink_to("model.onnx") if name.endswith("link") else path.write_text("x")
    with pytest.raises(DamagedError, match="which no sum lists"):
        check_signature(bundle, str(tmp_path / "1.pub"))


def test_what_is_missing(bundle: lsq_export.Bundle, tmp_path: Path) -> None:
    (bundle.directory / "example.cpp").unlink()
    with pytest.raises(DamagedError, match=r"example\.cpp: not what was exported"):
        check_signature(bundle, str(tmp_path / "1.pub"))
    (bundle.directory / "SHA256SUMS.minisig").unlink()
    with pytest.raises(DamagedError, match=r"is not signed: there is no SHA256SUMS\.minisig"):
        check_signature(bundle, str(tmp_path / "1.pub"))
    with pytest.raises(DamagedError, match=r"example\.cpp: not what was exported"):
        sign(bundle, tmp_path / "1.key")  # nobody signs a damaged bundle
    assert not (bundle.directory / "SHA256SUMS.minisig").exists()


def test_the_commands(exported: Exported, tmp_path: Path) -> None:
    bundle, (secret, public) = exported.copy(tmp_path), keys(tmp_path, 3)
    done = invoke("sign", bundle.directory, "--key", secret)
    assert done.exit_code == 0 and "SHA256SUMS.minisig" in done.output
    before = (bundle.directory / "SHA256SUMS").read_bytes()
    done = invoke("verify", bundle.directory, "--public-key", public, "--images", 8)
    assert done.exit_code == 0 and "of the key 0303030303030303, over every file" in done.output, done.output
    assert (bundle.directory / "SHA256SUMS").read_bytes() == before  # it stays what was signed
    done = invoke("verify", bundle.directory, "--images", 8)  # somebody who has no key
    assert done.exit_code == 0 and "is signed, so the result is not kept" in done.output, done.output
    assert (bundle.directory / "SHA256SUMS").read_bytes() == before
    os.mkfifo(tmp_path / "pipe")
    for arguments, code, said in (
        (("verify", "--public-key", tmp_path / "pipe"), 2, "pipe is a pipe: give a file"),
        (("sign", "--key", tmp_path / "pipe"), 2, "pipe is a pipe: give a file"),
        (("verify", "--public-key", keys(tmp_path, 4)[1]), 1, "made with the key 0303030303030303, not with 0404"),
        (("verify", "--public-key", "nothing"), 2, "nothing is no file, and is no public key"),
        (("verify", "--public-key", public, "--record"), 2, "--record changes what --public-key checks"),
        (("sign", "--key", public), 2, "is no secret key of minisign"),
        (("sign", "--key", tmp_path / "none"), 2, "cannot be read (No such file or directory)"),
        (("sign", "--key", keys(tmp_path, 6, "x")[0]), 2, "has a password"),
        (("sign", "--key", keys(tmp_path, 4)[0]), 2, "has a signature: --force replaces it"),
    ):
        done = invoke(arguments[0], bundle.directory, *arguments[1:])
        assert done.exit_code == code and said in done.output and done.output.count("\n") == 1, done.output


@pytest.mark.skipif(MINISIGN is None, reason="there is no minisign")
def test_minisign_itself_agrees(exported: Exported, tmp_path: Path) -> None:
    bundle = exported.copy(tmp_path)
    secret, public = tmp_path / "its.key", tmp_path / "its.pub"
    subprocess.run([str(MINISIGN), "-G", "-W", "-p", public, "-s", secret], check=True, capture_output=True)
    path = sign(bundle, secret)
    verifying = [str(MINISIGN), "-Vm", bundle.directory / "SHA256SUMS", "-p", public]
    assert subprocess.run(verifying, capture_output=True, check=False).returncode == 0
    ours = path.read_bytes()
    path.write_bytes(ours.replace(b"hashed", b"other!"))
    assert subprocess.run(verifying, capture_output=True, check=False).returncode != 0
    path.unlink()
    subprocess.run([str(MINISIGN), "-S", "-s", secret, "-m", bundle.directory / "SHA256SUMS"], check=True)
    assert path.read_bytes() != ours and len(check_signature(bundle, str(public))) == 16
