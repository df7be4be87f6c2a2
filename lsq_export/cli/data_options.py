"""Where commands get their data: from an option, or from what a checkpoint or bundle says it was trained on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calib.errors import QuantizationError

if TYPE_CHECKING:
    import torch

    from lsq_export.data.dataset import Batches, Dataset
    from lsq_export.training.checkpoint import Checkpoint

BATCH = 64  # images at a time


def check_data(checkpoint: Path, spec: str | None, *, option: str = "--data") -> None:
    """Whether the data of `option`, or else those that the checkpoint was trained on, can be there.

    Errors (QuantizationError).
    """
    from lsq_export.training.checkpoint_header import check_trained

    if spec is not None:
        return  # `DATA` has checked it
    extra = check_trained(checkpoint)["extra"]
    check_known(extra.get("data") if isinstance(extra, dict) else None, option=option)


def check_known(spec: object, *, option: str) -> None:
    """Whether data that a checkpoint or bundle names can be there. Errors (QuantizationError): they name none, too."""
    from lsq_export.data.specs import check_spec

    if not isinstance(spec, str):
        raise no_data(option)
    try:
        check_spec(spec)
    except QuantizationError as error:
        raise QuantizationError(
            f"{error}: the network was made with {spec}, {option} SPEC names these data elsewhere, or others"
        ) from error


def no_data(option: str) -> QuantizationError:
    """The error where nothing names the data."""
    return QuantizationError(
        f"no data is known for this model: give {option} digits, {option} imagefolder:DIR, {option} npz:FILE or another"
    )


def load_data(spec: str | None, input_shape: Any, *, option: str, like: Mapping[str, Any] | None = None) -> Dataset:
    """The data set, in the shape that the network takes.

    spec: None where neither `option` nor anything else names the data. like: the preprocessing that the network was
    trained with; data of the same kind are normalized by its mean and std. Errors (QuantizationError): no data, or data
    of another shape.
    """
    from calib.samples import in_words
    from lsq_export.data.loading import load
    from lsq_export.data.specs import IMAGES

    if not isinstance(spec, str):
        raise no_data(option)
    kind = spec.partition(":")[0]
    how = like if like and like.get("data") == kind else {}
    mean, std = how.get("mean"), how.get("std")
    images = kind in IMAGES
    if isinstance(input_shape, Mapping) or (len(input_shape) != 3 and not images):
        data = alone(load(spec, mean=mean, std=std, shape=input_shape), input_shape)
        return _of_inputs(data, input_shape, f"{option} {spec}")
    if len(input_shape) != 3:
        raise QuantizationError(
            f"{option} {spec}: the model takes inputs of the shape {list(input_shape)}, and these data are images: "
            "give npz:FILE with such inputs"
        )
    channels, height, width = input_shape
    if images and height != width:
        raise QuantizationError(
            f"{option} {spec}: the model takes {height} × {width} pixels, this data only gives squares; use npz:FILE"
        )
    data = load(
        spec,
        image_size=height if images else None,
        channels=channels if images and channels in (1, 3) else None,
        mean=mean,
        std=std,
        resize=_resize(how, height) if kind == "imagefolder" else None,
        shape=input_shape,
    )
    data = alone(data, input_shape)
    if data.input_shape != tuple(input_shape):
        has = f"{'inputs of shape' if data.of_images else 'the inputs'} {in_words(data.input_shape)}"
        raise QuantizationError(f"{option} {spec} has {has}, the model takes {list(input_shape)}: give such data")
    return data


def alone(data: Dataset, wanted: Any) -> Dataset:
    """Data of one input by name, without the name, where the network takes one input. wanted: the shape it takes.

    Arrays x [N, C, T] are taken for gray images; where the network takes [C, T], they are what they were.
    """
    from lsq_export.data.dataset import TensorSplit

    if wanted is not None and data.of_images and data.input_shape == (1, *wanted):
        flat = [TensorSplit(split.x[:, 0], split.y) for split in (data.train, data.test)]  # type: ignore[attr-defined]
        return replace(data, train=flat[0], test=flat[1], input_shape=tuple(wanted))
    if isinstance(wanted, Mapping) or not isinstance(data.input_shape, Mapping) or len(data.input_shape) > 1:
        return data
    (shape,) = data.input_shape.values()
    train, test = (split.without_name() for split in (data.train, data.test))  # type: ignore[attr-defined]
    return replace(data, train=train, test=test, input_shape=shape)


def _of_inputs(data: Dataset, wanted: Any, what: str) -> Dataset:
    """Errors (QuantizationError): data of other inputs than the network takes."""
    from calib.samples import in_words, same_shape

    missing = sorted({*wanted} - {*data.input_shape}) if isinstance(wanted, Mapping) and not data.of_images else []
    if missing and len(wanted) > 1:
        raise QuantizationError(f"{what} has no {missing[0]!r}, only {in_words(data.input_shape)}: add that input")
    if not same_shape(data.input_shape, wanted):
        raise QuantizationError(
            f"{what} has inputs of shape {in_words(data.input_shape)}, the model takes {in_words(wanted)}: give such "
            "data (of arrays that are no images by another name than x: numpy.savez(FILE, signal=…))"
        )
    return data


def example_of(data: Dataset) -> Any:
    """The first training sample, as the network takes it, [1, …]."""
    import torch

    return data.train.fetch(torch.zeros(1, dtype=torch.int64))[0]


def _resize(how: Mapping[str, Any], size: int) -> int | str | None:
    """How images were resized, if they were cut to the same size then. None: as is usual."""
    resize, crop = how.get("resize"), how.get("crop")
    if isinstance(resize, int):
        return resize if crop == size else None
    return "stretch" if resize == [size, size] and crop is None else None


def calibration_batches(data: Dataset, images: int) -> Batches:
    """At least that many training images, in an order that does not depend on the machine."""
    size = min(images, BATCH)
    return data.batches("train", size, shuffle=0, limit=-(-images // size))


def first(
    images: int, batches: Iterable[tuple[torch.Tensor, torch.Tensor]]
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The first `images` images, in batches; the last batch is cut."""
    for x, y in batches:
        if images > 0:
            yield x[:images], y[:images]
        images -= len(x)


def described(checkpoint: Checkpoint, data: Dataset, *, trained_on: bool) -> dict[str, Any]:
    """Those keywords of `export` that say what the network was trained on.

    trained_on: whether `data` is what the checkpoint was trained on. Where data are prepared in another way, there is
    no sample of them.
    """
    known = checkpoint.extra.get("classes") or checkpoint.preprocessing.get("classes")
    classes = known or (data.classes if trained_on else None)
    sample = data.sample() if data.preprocessing == checkpoint.preprocessing else None
    own = data.classes
    if sample is not None and classes is not None and own is not None and classes not in (own, list(own)):
        sample = replace(sample, label=None)  # it counts other names
    return {"preprocessing": checkpoint.preprocessing, "classes": classes, "sample": sample}


def source_of(checkpoint: Checkpoint, data_spec: str | None) -> dict[str, Any]:
    """What a bundle is made from, for its manifest."""
    return {
        "model": checkpoint.model_spec,
        "config": checkpoint.config,
        "checkpoint": checkpoint.path.name,
        "data": data_spec or checkpoint.extra.get("data"),
        "accuracy": checkpoint.extra.get("accuracy"),
    }
