"""Keys in minisign's form, made without the product; and what minisign 0.11 itself wrote."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

# `minisign -G -W`, and `minisign -S` (with -l: the older form) of a file with these bytes.
CONTENT = b"abc  file\n"
PUBLIC = "RWRlD9DmyiZba+rdCpG2lHza8KtsofM/ECdCmGbicMUtwmhAKZ8RmYqG"
SECRET = (
    "untrusted comment: minisign encrypted secret key\n"
    "RWQAAEIyAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAZQ/Q5somW2vhVPIiB7qdln1CgFb96f1uR+ul"
    "hBplXf2kMHeny0qQDurdCpG2lHza8KtsofM/ECdCmGbicMUtwmhAKZ8RmYqGAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
)
HASHED = (
    "untrusted comment: signature from minisign secret key\n"
    "RURlD9DmyiZba+Zq0avFUycddfNo29AXDA/ARwZO7TAXgrx6P4Rsj1k5rLNcjhZX7o+aKhRnwKPj/M974jMUJreoLaCmrasgVAg=\n"
    "trusted comment: a comment\n"
    "VAPsPGwqH+mMxt4zr2MJxBoTw11/wnvj88HzSzOrjj1OM9LxNCkZkwZZUnDWx4tHPYgk/0tCd157nbPuCqG7Dw==\n"
)
OLDER = (
    "untrusted comment: signature from minisign secret key\n"
    "RWRlD9DmyiZba66xQdVyZb5M4AbLF4kePO3WdBqF8/zbToYGeqAuZ6P5cFxduh4v0KzlVS8kcwfg812vlYg4/CG+5G10z21n9QM=\n"
    "trusted comment: older\n"
    "em1qt9gUmQaNLyyhDg736xLM4efR5LKlD+uSgCu40rYDQGUYHna95O4s986ZJpQGyrUXgPE7zyhPPg1I1jCAAA==\n"
)


def keys(folder: Path, seed: int, password: str | None = None) -> tuple[Path, Path]:
    """(secret, public) key files. With a password: the least that libsodium allows, so N = 1024, r = 8, p = 1."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    start = bytes([seed]) * 32
    public = Ed25519PrivateKey.from_private_bytes(start).public_key().public_bytes_raw()
    number, salt = bytes([seed]) * 8, bytes(range(32))
    body = number + start + public
    body += hashlib.blake2b(b"Ed" + body, digest_size=32).digest()
    limits = (32768).to_bytes(8, "little") + (16 * 2**20).to_bytes(8, "little")
    if password is not None:
        stream = hashlib.scrypt(password.encode(), salt=salt, n=1024, r=8, p=1, dklen=104)
        body = bytes(a ^ b for a, b in zip(body, stream, strict=True))
    kdf = b"\0\0" if password is None else b"Sc"
    secret = _file(folder / f"{seed}.key", b"Ed" + kdf + b"B2" + salt + limits + body)
    return secret, _file(folder / f"{seed}.pub", b"Ed" + number + public)


def _file(path: Path, content: bytes) -> Path:
    path.write_text(f"untrusted comment: made for a test\n{base64.b64encode(content).decode()}\n")
    return path
