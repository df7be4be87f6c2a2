"""The integer reference: what an exported `qoperator` file means, in exact integer arithmetic.

    codes = run("out/qoperator/model.onnx", {"input": x})          # every tensor by name
    bounds = accumulator_bounds("out/qoperator/model.onnx")        # proof that every accumulator fits 32 bits

Every layer is an int32 accumulator and a requantization (E9):

    acc = Σ (w - z_w)·(x - Z_x) + bias
    y   = clamp(round_half_even(float32(acc)·M) + Z_y),   M = float32(float32(S_x·s_w) / S_y)

Every tensor equals the one that ONNX Runtime's CPU provider (1.32, x86 with AVX2 or newer) computes, to the bit, with
graph optimization on and off; in exported files, whose sums keep clear of ties (calib/rounding/ties.py), also on ARM64
and in WebAssembly (`make test-isa`). One file holds one operator family; each formula stands once, in the function of
its operator. Nothing here comes from the code that writes such files: the reference is to find its errors.
"""

from __future__ import annotations

from .bounds import accumulator_bounds
from .evaluate import run

__all__ = ["accumulator_bounds", "run"]
