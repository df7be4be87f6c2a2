"""What commands do with networks that were not trained here: their data, their bundle, what stays float."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .bundle_options import BundleOptions
from .output import console, say

if TYPE_CHECKING:
    from lsq_export.adoption.left import Left
    from lsq_export.bundle.directory import Bundle
    from lsq_export.data.dataset import Dataset

SHOWN = 8  # lines about what stays as it is


def shaped_data(
    spec: str,
    shape: Any,
    image_size: int | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
) -> Dataset:
    """The data, in the shape that the network takes. image_size: where the network takes any.

    mean, std: of images, as in `load`. shape: [C, H, W] with None for open sizes, or None; {name: shape} of several
    inputs.
    Errors (QuantizationError): other shapes.
    """
    from lsq_export.adoption.sizes import is_open
    from lsq_export.data.loading import load
    from lsq_export.data.specs import IMAGES

    from .data_options import alone, load_data

    if not is_open(shape):
        like = {"data": spec.partition(":")[0], "mean": mean, "std": std}
        return load_data(spec, shape, option="--data", like=like)
    images = spec.partition(":")[0] in IMAGES
    channels = shape[0] if images and isinstance(shape, tuple) and len(shape) == 3 and shape[0] in (1, 3) else None
    size = image_size if images else None
    data = alone(load(spec, image_size=size, channels=channels, mean=mean, std=std, shape=shape), shape)
    shape = data.input_shape
    sizes = [f"{name} {_by(each)}" for name, each in shape.items()] if isinstance(shape, Mapping) else [_by(shape)]
    other = "--image-size for another one" if images else "for another one give such data"
    say(
        f"note: the file takes inputs of any size, the bundle of the size of these data: {', '.join(sizes)} ({other})",
        err=True,
    )
    return data


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def print_left(left: Sequence[Left], what: str = "stays float") -> None:
    """What is computed otherwise than in the file, mostly in float."""
    for entry in left[:SHOWN]:
        say(f"{what}: {entry.name} ({entry.why})")
    if len(left) > SHOWN:
        say(f"{what}: {len(left) - SHOWN} more")


def _classes_of(model: Any, example: Any) -> int | None:
    """How many numbers the first output of a PyTorch model has for a sample, if it is [N, classes]."""
    from lsq_export.graph.capture import forward

    first = forward(model, example)[0]
    return int(first.shape[1]) if first.dim() == 2 else None


def write_bundle(
    network: Any,
    example: Any,
    data: Dataset,
    spec: str,
    written: BundleOptions,
    source: Mapping[str, Any] | None = None,
) -> Bundle:
    """Export a network that has grids. example: an input of a PyTorch model; None of an ONNX network. source: what the
    manifest says of it beside the data.
    """
    from lsq_export.pipeline import export
    from lsq_export.progress import stages

    from .data_options import calibration_batches

    classes = network.classes if example is None else _classes_of(network, example)
    with stages(console(stderr=True), "export") as on_stage:
        return export(
            network,
            example,
            written.out,
            calibration=calibration_batches(data, written.images),
            preprocessing=data.preprocessing,
            source={**(source or {}), "data": spec},
            classes=data.classes if classes == data.num_classes else None,
            sample=False if written.no_sample else data.sample(),
            on_stage=on_stage,
            **written.keywords,
        )
