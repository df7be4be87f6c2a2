"""The compiled library: where it is, whether it is the right one, and its registration with ONNX Runtime."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

from calib.errors import QuantizationError, one_line

from .compile import LIBRARY, compile_library

VERSION = 4  # LIBRARY_VERSION in source/operator.h
LIBRARY_VARIABLE = "LSQ_EXPORT_LIBRARY"  # a library elsewhere, in place of the package's own
KERNEL_VARIABLE = "LSQ_EXPORT_KERNEL"  # the kernel to run, in place of the processor's best; read by the library
BUILD = "lsq-export kernels --build compiles it, with a C compiler"
UNSET = "name a library that was compiled from this lsq-export, or unset the variable"


def _advice() -> str:
    return UNSET if os.environ.get(LIBRARY_VARIABLE) else BUILD


def library_path() -> Path:
    """The library that `SessionOptions.register_custom_ops_library` takes.

    The environment variable LSQ_EXPORT_LIBRARY may name another file than the package's own. Nothing is loaded.
    Errors (QuantizationError): it was not built.
    """
    named = os.environ.get(LIBRARY_VARIABLE)
    path = Path(named) if named else LIBRARY
    if not path.is_file():
        if named:
            raise QuantizationError(f"{LIBRARY_VARIABLE} is {named!r}, which is no file: {UNSET}")
        raise QuantizationError(f"the library of kernels was not built (there is no {path}): {BUILD}")
    return path.absolute()


def kernel_name() -> str:
    """The kernel that runs on this processor: amx, avx512vbmi, avx2, neon or portable.

    Errors (QuantizationError): no library, one that cannot be loaded or has another version, or a name in
    LSQ_EXPORT_KERNEL that it does not have or that this processor cannot run.
    """
    path = library_path()
    try:
        library = ctypes.CDLL(str(path))
        version = int(library.lsq_export_version())
        function = library.lsq_export_kernel
    except (OSError, AttributeError) as error:
        raise QuantizationError(
            f"{path} is no library of kernels for this machine ({one_line(error)}): {_advice()}"
        ) from error
    if version != VERSION:
        raise QuantizationError(f"{path} has version {version}, this lsq-export needs {VERSION}: {_advice()}")
    function.restype = ctypes.c_char_p
    name: str = function().decode()
    if not name:
        wanted = os.environ.get(KERNEL_VARIABLE)
        raise QuantizationError(
            f"{KERNEL_VARIABLE} is {wanted!r}, which is no kernel that this processor can run: use amx, avx512vbmi, "
            "avx2, neon or portable, or unset it"
        )
    return name


def is_built() -> bool:
    """Whether there is a library that this machine can run."""
    try:
        kernel_name()
    except QuantizationError:
        return False
    return True


def register(options: Any) -> None:
    """Register the library with `onnxruntime.SessionOptions`, so that nodes lsq_export::Lookup run its kernel.

    Once for each object of options: ONNX Runtime makes no session from options that have it twice.

    Errors (QuantizationError): those of `kernel_name`, and an ONNX Runtime older than 1.18.
    """
    kernel_name()
    path = library_path()
    try:
        options.register_custom_ops_library(str(path))
    except Exception as error:  # ONNX Runtime's errors have no common type but this
        raise QuantizationError(f"ONNX Runtime does not take {path}: {one_line(error)}") from error


def build() -> Path:
    """Compile the library into the package's folder, in place of one that is there.

    Errors (QuantizationError): there is no C compiler, it failed, or the folder cannot be written.
    """
    why = compile_library(LIBRARY)
    if why is not None:
        raise QuantizationError(f"the library of kernels cannot be built in {LIBRARY.parent}: {why}")
    return LIBRARY
