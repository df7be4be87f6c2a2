"""The integer reference: the meaning of an exported `qoperator` file, in exact integer arithmetic (design part 2, E9).

    codes = run("out/qoperator/model.onnx", {"input": x})          # every tensor by name
    bounds = accumulator_bounds("out/qoperator/model.onnx")        # proof that every accumulator fits 32 bits

Every tensor equals the one that ONNX Runtime's CPU provider (1.32, x86 with AVX2 or newer) computes, to the bit, with
graph optimization on and off; in exported files, whose sums keep clear of ties (calib/rounding/ties.py), also on ARM64
and in WebAssembly (`make test-isa`). One operator family a file; each formula stands once, in the function of its
operator."""

from __future__ import annotations

from .bounds import accumulator_bounds
from .evaluate import run

__all__ = ["accumulator_bounds", "run"]
