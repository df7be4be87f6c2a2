"""The files of minisign (https://jedisct1.github.io/minisign), read and written; Ed25519 is that of `cryptography`.

    secret key   comment, base64("Ed" kdf "B2" salt[32] opslimit[8] memlimit[8] sealed[104]), where sealed is
                 id[8] secret[64] checksum[32], with a password exclusive or scrypt's bytes
    public key   comment, base64("Ed" id[8] key[32])
    signature    comment, base64("ED" id[8] signature[64]), trusted comment, base64(signature of both of these [64])

"ED" signs the BLAKE2b-512 of a file, the older "Ed" the file itself: both are checked, the first is written. The first
line of each file is a comment that nothing covers.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass
from typing import Any

from calib.errors import QuantizationError

PLAIN, HASHED, SCRYPT, NO_KDF = b"Ed", b"ED", b"Sc", b"\0\0"
UNTRUSTED, TRUSTED = "untrusted comment: ", "trusted comment: "
LARGEST_MEMORY = 2**30  # bytes that scrypt may take: what minisign asks for
MISSING = "signatures need the package cryptography: pip install cryptography"


class WrongSignatureError(ValueError):
    """What a signature does not fit: the end of a sentence."""


@dataclass(frozen=True)
class PublicKey:
    """id: 8 bytes. key: of Ed25519, 32 bytes."""

    id: bytes
    key: bytes


@dataclass(frozen=True)
class SecretKey:
    """id: 8 bytes. seed: of Ed25519, 32 bytes."""

    id: bytes
    seed: bytes


def public_key(text: str) -> PublicKey:
    """Of a public key file, or of its second line alone. Errors (ValueError): it is none."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith(UNTRUSTED)]
    if len(lines) != 1:
        raise ValueError("is no public key of minisign")
    found = _bytes(lines[0], 42, "public key")
    if found[:2] != PLAIN:
        raise ValueError("is no public key of minisign")
    return PublicKey(found[2:10], found[10:])


def is_encrypted(text: str) -> bool:
    """Whether a secret key needs a password. Errors (ValueError): it is none."""
    return _secret_bytes(text)[2:4] != NO_KDF


def secret_key(text: str, password: str = "") -> SecretKey:
    """Of a secret key file. Errors (ValueError): it is none, or the password is another."""
    found = _secret_bytes(text)
    kdf, salt, sealed = found[2:4], found[6:38], found[54:]
    operations, memory = (int.from_bytes(found[at : at + 8], "little") for at in (38, 46))
    if kdf == SCRYPT:
        stream = _scrypt(password, salt, operations, memory)
        sealed = bytes(a ^ b for a, b in zip(sealed, stream, strict=True))
    elif kdf != NO_KDF:
        raise ValueError("is a secret key of an unknown form")
    key_id, secret, checksum = sealed[:8], sealed[8:72], sealed[72:]
    expected = hashlib.blake2b(PLAIN + key_id + secret, digest_size=32).digest()
    if kdf == SCRYPT and not hmac.compare_digest(checksum, expected):
        raise ValueError("has another password")
    private = _library().Ed25519PrivateKey.from_private_bytes(secret[:32])
    if private.public_key().public_bytes_raw() != secret[32:]:  # keys without a password have no checksum
        raise ValueError("is a damaged secret key")
    return SecretKey(key_id, secret[:32])


def signed(content: bytes, key: SecretKey, trusted: str, untrusted: str) -> str:
    """A signature file. trusted: a comment that is signed as well; untrusted: one that is not. One line each."""
    private = _library().Ed25519PrivateKey.from_private_bytes(key.seed)
    signature = private.sign(hashlib.blake2b(content).digest())
    both = private.sign(signature + trusted.encode())
    lines = (UNTRUSTED + untrusted, _text(HASHED + key.id + signature), TRUSTED + trusted, _text(both))
    return "".join(f"{line}\n" for line in lines)


def check(content: bytes, signature: str, key: PublicKey) -> str:
    """The trusted comment. Errors (WrongSignatureError): the signature is none, of another key, of other content."""
    lines = signature.splitlines()
    if len(lines) != 4 or not lines[0].startswith(UNTRUSTED) or not lines[2].startswith(TRUSTED):
        raise WrongSignatureError("is no signature of minisign")
    try:
        found, both = _bytes(lines[1], 74, "signature"), _bytes(lines[3], 64, "signature")
    except ValueError as error:
        raise WrongSignatureError(str(error)) from error
    kind, key_id, first = found[:2], found[2:10], found[10:]
    if kind not in (PLAIN, HASHED):
        raise WrongSignatureError("is a signature of an unknown form")
    if key_id != key.id:
        raise WrongSignatureError(f"was made with the key {named(key_id)}, not with {named(key.id)}")
    trusted = lines[2].removeprefix(TRUSTED)
    if not _fits(key, first, hashlib.blake2b(content).digest() if kind == HASHED else content):
        raise WrongSignatureError("is no signature of what is there")
    if not _fits(key, both, first + trusted.encode()):
        raise WrongSignatureError("has another trusted comment than was signed")
    return trusted


def named(key_id: bytes) -> str:
    """As minisign prints it."""
    return key_id[::-1].hex().upper()


def _secret_bytes(text: str) -> bytes:
    lines = text.splitlines()
    if len(lines) < 2 or not lines[0].startswith(UNTRUSTED):
        raise ValueError("is no secret key of minisign")
    found = _bytes(lines[1], 158, "secret key")
    if found[:2] != PLAIN or found[4:6] != b"B2":
        raise ValueError("is no secret key of minisign")
    return found


def _scrypt(password: str, salt: bytes, operations: int, memory: int) -> bytes:
    """104 bytes, with N, r and p as libsodium takes them from its two limits. Errors (ValueError): it is too much."""
    if memory > LARGEST_MEMORY:
        raise ValueError("asks for more than 1 GiB of memory")
    operations, r = max(operations, 32768), 8
    cheap = operations < memory // 32
    most = operations // (4 * r) if cheap else memory // (128 * r)
    n = 2
    while n <= most // 2:
        n *= 2
    p = 1 if cheap else max(1, min(operations // 4 // n, 0x3FFFFFFF) // r)
    return hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=2**31 - 1, dklen=104)


def _fits(key: PublicKey, signature: bytes, content: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        _library().Ed25519PublicKey.from_public_bytes(key.key).verify(signature, content)
    except InvalidSignature:
        return False
    return True


def _library() -> Any:
    """Errors (QuantizationError): it is not installed."""
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ModuleNotFoundError as error:
        raise QuantizationError(MISSING) from error
    return ed25519


def _bytes(line: str, count: int, what: str) -> bytes:
    try:
        found = base64.b64decode(line.strip(), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"is no {what} of minisign") from error
    if len(found) != count or _text(found) != line.strip():
        raise ValueError(f"is no {what} of minisign")
    return found


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
