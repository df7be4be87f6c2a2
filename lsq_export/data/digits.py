"""`digits`: real handwritten digits, shipped with scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from calib.errors import QuantizationError

from .dataset import Dataset, Source, TensorSplit
from .normalization import per_channel
from .splitting import DRAWN, stratified_split


def digits(
    image_size: int, channels: int, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> Dataset:
    """1797 real handwritten digits: 1438 to train, 359 to test.

    The source has 8x8 pixels with values 0 … 16 (UCI "Optical Recognition of Handwritten Digits").
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise QuantizationError("data 'digits' needs scikit-learn: pip install scikit-learn") from error
    source = load_digits()
    y = np.asarray(source.target, dtype=np.int64)
    images = np.asarray(source.images, dtype=np.float32)  # [M, 8, 8], 0 … 16
    x = torch.from_numpy(images / 16)[:, None]  # [M, 1, 8, 8], 0 … 1
    x = F.interpolate(x, size=(image_size, image_size), mode="bilinear", align_corners=False)
    x = x.expand(-1, channels, -1, -1)  # [M, C, H, W]
    train, test = stratified_split(y, "digits")
    own = x[torch.from_numpy(train)].double()
    means = per_channel("mean", mean, channels) or (round(float(own.mean()), 4),) * channels
    stds = per_channel("std", std, channels) or (round(float(own.std()), 4),) * channels
    x = (x - torch.tensor(means)[:, None, None]) / torch.tensor(stds)[:, None, None]
    labels = torch.from_numpy(y)
    return Dataset(
        name="digits",
        train=TensorSplit(x[torch.from_numpy(train)], labels[torch.from_numpy(train)]),
        test=TensorSplit(x[torch.from_numpy(test)], labels[torch.from_numpy(test)], images[test[:1]]),
        num_classes=10,
        input_shape=(channels, image_size, image_size),
        preprocessing={
            "data": "digits",
            "resize": [image_size, image_size],
            "interpolation": "bilinear",
            "crop": None,
            "divide_by": 16.0,
            "mean": list(means),
            "std": list(stds),
        },
        classes=tuple(str(name) for name in range(10)),
        source=Source(sizes="8×8", split=DRAWN),
    )
