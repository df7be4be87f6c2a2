"""The signature of a bundle: SHA256SUMS.minisig, of SHA256SUMS, which has the sums of all other files.

`minisign -Vm SHA256SUMS -p KEY.pub` checks it as well, and `sha256sum -c SHA256SUMS` then the files.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from calib.errors import DamagedError, QuantizationError, shown
from lsq_export.bundle.directory import Bundle, open_bundle
from lsq_export.bundle.layout import SIGNATURE, SUMS
from lsq_export.bundle.reading import Files, damaged
from lsq_export.files import regular, temporary
from lsq_export.files.text import write_text

from . import minisign

LARGEST = 2**14  # bytes of a key or a signature
COMMENT = "signature of a bundle of lsq-export"
TRUSTED_COMMENT = f"file:{SUMS}\thashed"


def sign(
    bundle: Bundle | str | os.PathLike[str],
    key: str | os.PathLike[str],
    ask: Callable[[], str] | None = None,
    *,
    force: bool = False,
) -> Path:
    """Write SHA256SUMS.minisig into a bundle. The same key and bundle give the same bytes.

    key: the file of a secret key that `minisign -G` made. ask: gives its password, if it has one. force: replace a
    signature that does not fit any more, or is of another key.
    Errors (QuantizationError): no such key, another password, a signature that is there; of these a DamagedError:
    files that are not what was exported, or that no sum lists, which are named.
    """
    bundle = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
    path = bundle.directory / SIGNATURE
    secret = _secret_key(Path(key), ask)
    with temporary.locked(bundle.directory):
        _check_files(bundle.directory)
        content = _content(bundle.directory, SUMS)
        text = minisign.signed(content, secret, TRUSTED_COMMENT, COMMENT)
        if os.path.lexists(path) and not force:
            if regular_text(bundle.directory) == text:
                return path
            raise QuantizationError(f"bundle {shown(bundle.directory)} has a signature: force=True replaces it")
        write_text(path, text, follow=False)
    return path


def check_signature(bundle: Bundle | str | os.PathLike[str], public_key: str) -> str:
    """The id of the key, if it signed the bundle, and every file in it is what was signed.

    public_key: the file of one, or its second line.
    Errors (QuantizationError): no public key; of these a DamagedError: no signature, one of another key, files that
    changed, are missing or were added, which are named.
    """
    key = _public_key(public_key)
    bundle = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
    directory = bundle.directory
    with temporary.locked(directory, shared=True):
        if not os.path.lexists(directory / SIGNATURE):
            raise DamagedError(f"bundle {shown(directory)} is not signed: there is no {SIGNATURE}")
        text = regular_text(directory)
        try:
            minisign.check(_content(directory, SUMS), text, key)
        except minisign.WrongSignatureError as error:
            raise DamagedError(f"bundle {shown(directory)}: {SIGNATURE} of {SUMS} {error}") from error
        _check_files(directory)
    return minisign.named(key.id)


def regular_text(directory: Path) -> str:
    """The signature. Errors (DamagedError): a link, a pipe, too large."""
    return _content(directory, SIGNATURE).decode("utf-8", "replace")


def _content(directory: Path, name: str) -> bytes:
    try:
        return regular.read(directory, name, 2**20 if name == SUMS else LARGEST)
    except regular.UnreadableError as error:
        raise DamagedError(f"bundle {shown(directory)}: {name} {error}") from error


def _check_files(directory: Path) -> None:
    """Errors (DamagedError): files that differ from their sums, are missing, or are in no sum. All are named."""
    files = Files(directory)
    found = (path for path in directory.rglob("*") if path.is_symlink() or not path.is_dir())
    added = {str(path.relative_to(directory)) for path in found} - {*files.sums, SUMS, SIGNATURE}
    if changed := files.changed():
        raise damaged(directory, changed)
    if added:
        names = ", ".join(map(shown, sorted(added)[:5]))
        raise DamagedError(f"bundle {shown(directory)} holds {names}, which no sum lists: take it out of there")


def _secret_key(path: Path, ask: Callable[[], str] | None) -> minisign.SecretKey:
    text = _key_text(path)
    try:
        if not minisign.is_encrypted(text):
            return minisign.secret_key(text)
        if ask is None:
            raise QuantizationError(f"the key {shown(path)} has a password: give it, or a key of minisign -G -W")
        return minisign.secret_key(text, ask())
    except ValueError as error:
        if isinstance(error, QuantizationError):
            raise
        raise QuantizationError(f"the key {shown(path)} {error}: give a secret key that minisign -G made") from error


def _public_key(given: str) -> minisign.PublicKey:
    is_file = os.path.lexists(given)
    try:
        return minisign.public_key(_key_text(Path(given)) if is_file else given)
    except ValueError as error:
        if isinstance(error, QuantizationError):
            raise
        what = shown(given) if is_file else f"{shown(given)} is no file, and"
        raise QuantizationError(f"the public key {what} {error}: give that of whoever signed the bundle") from error


def _key_text(path: Path) -> str:
    if Path(os.path.realpath(path)).is_fifo():  # it would wait for a writer; a shell's own pipes are no files
        raise QuantizationError(f"the key {shown(path)} is a pipe: give a file")
    try:
        with path.open("rb") as file:
            return file.read(LARGEST).decode("utf-8")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise QuantizationError(f"the key {shown(path)} cannot be read ({why}): give another file") from error
