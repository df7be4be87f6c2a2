"""The runtimes that `replay` knows, as data. What each does with a file is in adapters/run_<adapter>.py."""

from __future__ import annotations

from dataclasses import dataclass

from calib.errors import QuantizationError, near


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """A runtime.

    name         of `--runtime`
    adapter      the end of the name of its file in adapters/
    packages     what it needs besides numpy, with the versions that it was tried with
    extra        of this project's package, which installs them; "" where they are installed anyway, or are not Python
    target       what to export for where a file is not for it (`lsq_export.targets`)
    what         it is, in some words
    compiles     a model for a time that grows with it, so that few tensors inside are asked for
    """

    name: str
    adapter: str
    packages: tuple[str, ...]
    extra: str
    target: str
    what: str
    compiles: bool = False

    @property
    def install(self) -> str:
        """The line that installs it."""
        return f"{'npm' if '@' in self.packages[0] else 'pip'} install {' '.join(self.packages)}"


_RUNTIMES = {
    runtime.name: runtime
    for runtime in (
        Runtime(
            name="onnxruntime",
            adapter="onnxruntime",
            packages=("onnxruntime==1.32.0",),
            extra="",
            target="ort-cpu",
            what="ONNX Runtime's CPU provider, default session",
        ),
        Runtime(
            name="onnxruntime-web",
            adapter="web",
            packages=("onnxruntime-web@1.30.0",),
            extra="",
            target="web",
            what="ONNX Runtime in WebAssembly, in node",
        ),
        Runtime(
            name="reference",
            adapter="reference",
            packages=("onnx==1.23.2",),
            extra="",
            target="onnx-standard",
            what="onnx.reference.ReferenceEvaluator",
        ),
        Runtime(
            name="openvino",
            adapter="openvino",
            packages=("openvino==2026.4.1",),
            extra="openvino",
            target="openvino",
            what="OpenVINO's CPU plugin, INFERENCE_PRECISION_HINT f32",
            compiles=True,
        ),
        Runtime(
            name="opencv",
            adapter="opencv",
            packages=("opencv-python-headless==5.0.0.93",),
            extra="opencv",
            target="opencv",
            what="OpenCV's dnn module",
        ),
        Runtime(
            name="tract",
            adapter="tract",
            packages=("tract==0.23.9",),
            extra="tract",
            target="tract",
            what="tract (Rust)",
        ),
        Runtime(
            name="tvm",
            adapter="tvm",
            packages=("apache-tvm==0.27.0.post1", "onnx==1.23.2"),
            extra="tvm",
            target="portable",
            what="Apache TVM (Relax, LLVM)",
            compiles=True,
        ),
        Runtime(
            name="iree",
            adapter="iree",
            packages=("iree-base-compiler==3.13.0", "iree-base-runtime==3.13.0", "onnx==1.23.2"),
            extra="iree",
            target="portable",
            what="IREE (llvm-cpu)",
            compiles=True,
        ),
        Runtime(
            name="emx",
            adapter="emx",
            packages=("emx-onnx-cgen==1.4.0", "onnx==1.23.2"),
            extra="emx",
            target="portable",
            what="emx-onnx-cgen: C source, compiled by gcc",
            compiles=True,
        ),
        Runtime(
            name="qonnx",
            adapter="qonnx",
            packages=("qonnx==1.0.0",),
            extra="qonnx",
            target="qonnx",
            what="qonnx's executor (FINN, hls4ml)",
        ),
        Runtime(
            name="litert",
            adapter="litert",
            packages=("onnx2tf==2.6.9",),  # which wants ai-edge-litert 2.1.2
            extra="litert",
            target="litert",
            what="LiteRT (TensorFlow Lite), of what onnx2tf makes",
            compiles=True,
        ),
    )
}


def names() -> list[str]:
    """Names that `get` knows."""
    return list(_RUNTIMES)


def everything() -> list[Runtime]:
    """All runtimes."""
    return list(_RUNTIMES.values())


def get(name: str) -> Runtime:
    """The runtime of that name.

    Errors (QuantizationError): an unknown name.
    """
    if name not in _RUNTIMES:
        raise QuantizationError(f"runtime {name!r} is unknown: use {', '.join(_RUNTIMES)}{near(name, _RUNTIMES)}")
    return _RUNTIMES[name]
