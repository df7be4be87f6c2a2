"""Files of minisign 0.11 are read, and what is written has the bytes that minisign would check."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

pytest.importorskip("cryptography", reason="there is no cryptography")

from lsq_export.signing import minisign
from support.minisign_keys import CONTENT, HASHED, OLDER, PUBLIC, SECRET, keys

KEY = minisign.public_key(PUBLIC)


@pytest.mark.parametrize(("signature", "comment"), [(HASHED, "a comment"), (OLDER, "older")])
def test_signatures_of_minisign_are_right(signature: str, comment: str) -> None:
    assert minisign.check(CONTENT, signature, KEY) == comment
    with pytest.raises(minisign.WrongSignatureError, match="is no signature of what is there"):
        minisign.check(CONTENT + b" ", signature, KEY)


def test_ours_has_the_very_bytes_of_minisign() -> None:
    """Ed25519 is deterministic."""
    untrusted = "signature from minisign secret key"
    assert minisign.signed(CONTENT, minisign.secret_key(SECRET), "a comment", untrusted) == HASHED


def test_every_byte_of_a_signature_matters_but_for_the_first_line() -> None:
    start = HASHED.index("\n") + 1
    for at in range(start, len(HASHED) - 1):
        other = "B" if HASHED[at] == "A" else "A"
        with pytest.raises(minisign.WrongSignatureError):
            minisign.check(CONTENT, f"{HASHED[:at]}{other}{HASHED[at + 1 :]}", KEY)
    assert minisign.check(CONTENT, "untrusted comment: x" + HASHED[start - 1 :], KEY) == "a comment"


def test_another_key_is_named(tmp_path: Path) -> None:
    other = minisign.public_key(keys(tmp_path, 7)[1].read_text())
    with pytest.raises(minisign.WrongSignatureError, match="made with the key 6B5B26CAE6D00F65, not with 0707"):
        minisign.check(CONTENT, HASHED, other)
    with pytest.raises(minisign.WrongSignatureError, match="is no signature of what is there"):
        minisign.check(CONTENT, HASHED, minisign.PublicKey(KEY.id, other.key))


def test_a_password(tmp_path: Path) -> None:
    text = keys(tmp_path, 5, "a password")[0].read_text()
    assert minisign.is_encrypted(text) and not minisign.is_encrypted(SECRET)
    assert minisign.secret_key(text, "a password").seed == bytes([5]) * 32
    with pytest.raises(ValueError, match="has another password"):
        minisign.secret_key(text, "another")


def test_a_damaged_key_and_one_that_asks_for_too_much(tmp_path: Path) -> None:
    comment, line = SECRET.splitlines()
    content = bytearray(base64.b64decode(line))
    content[70] ^= 1
    with pytest.raises(ValueError, match="is a damaged secret key"):
        minisign.secret_key(f"{comment}\n{base64.b64encode(content).decode()}\n")
    content = bytearray(base64.b64decode(keys(tmp_path, 5, "x")[0].read_text().splitlines()[1]))
    content[46:54] = (2**40).to_bytes(8, "little")
    with pytest.raises(ValueError, match="more than 1 GiB"):
        minisign.secret_key(f"{comment}\n{base64.b64encode(content).decode()}\n", "x")


@pytest.mark.parametrize("text", ["", "nothing", "a\nb\nc", HASHED, SECRET, PUBLIC[:-1], "RWQ" * 30])
def test_what_is_no_public_key(text: str) -> None:
    with pytest.raises(ValueError, match="is no public key"):
        minisign.public_key(text)


@pytest.mark.parametrize("text", ["", "nothing", PUBLIC, HASHED])
def test_what_is_no_secret_key(text: str) -> None:
    with pytest.raises(ValueError, match="is no secret key"):
        minisign.secret_key(text)
