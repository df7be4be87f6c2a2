"""PP-OCRv4: detection, orientation and recognition of text, on text that Pillow draws.

The text is that of Python's docstrings; calibration and evaluation have other words.
"""

from __future__ import annotations

import shutil
from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from scipy.ndimage import label

from .network import Network, Samples, folder_of, same
from .prose import words

THRESHOLD = 0.3  # of the map of text, as RapidOCR has it
PAGE = 320


class _Ocr(Network):
    file: ClassVar[str]
    calibrating: ClassVar[int] = 128
    evaluation: ClassVar[int] = 300

    def model(self, path: Path) -> None:
        shutil.copyfile(folder_of("rapidocr_onnxruntime") / "models" / self.file, path)

    def samples(self, model: Path) -> Samples:
        parts, text = [], words()
        for index, count in enumerate((self.calibrating, self.evaluation)):
            random = np.random.default_rng(index)
            half = text[index * len(text) // 2 : (index + 1) * len(text) // 2]
            parts.append([self.sample(half, random) for _ in range(count)])
        images = [np.stack([image for image, _ in part]) for part in parts]
        return Samples({"x": images[0]}, {"x": images[1]}, np.array([text for _, text in parts[1]]))

    @abstractmethod
    def sample(self, text: tuple[str, ...], random: np.random.Generator) -> tuple[np.ndarray, str]:
        """An image as the network takes it, float32 [3, H, W], and its text."""


class Detector(_Ocr):
    name, metric, file = "ppocr-v4-det", "overlap (IoU) with float's map", "ch_PP-OCRv4_det_infer.onnx"
    calibrating, evaluation, batch = 128, 100, 4

    def sample(self, text: tuple[str, ...], random: np.random.Generator) -> tuple[np.ndarray, str]:
        paper, ink = _colors(random)
        page = Image.new("RGB", (PAGE, PAGE), paper)
        draw = ImageDraw.Draw(page)
        y = int(random.integers(5, 40))
        while y < PAGE - 30:
            size = int(random.integers(12, 36))
            draw.text((int(random.integers(0, 100)), y), _phrase(text, random), ink, ImageFont.load_default(size))
            y += size + int(random.integers(6, 50))
        return _input(_worn(page.rotate(random.uniform(-6, 6), fillcolor=paper), random)), ""

    def score(self, outputs: list[np.ndarray], expected: list[np.ndarray], truth: np.ndarray | None) -> float:
        found, wanted = outputs[0] > THRESHOLD, expected[0] > THRESHOLD  # [N, 1, H, W]
        both, either = (np.sum(x, axis=(1, 2, 3)) for x in (found & wanted, found | wanted))
        return float(np.mean(np.where(either, both / np.maximum(either, 1), 1.0)))

    def boxes(self, outputs: list[np.ndarray]) -> list[int]:
        """How many areas of text each image has."""
        return [int(label(image[0] > THRESHOLD)[1]) for image in outputs[0]]


class _Line(_Ocr):
    width: ClassVar[int]

    def sample(self, text: tuple[str, ...], random: np.random.Generator) -> tuple[np.ndarray, str]:
        paper, ink = _colors(random)
        line, font = _phrase(text, random), ImageFont.load_default(int(random.integers(22, 36)))
        while font.getlength(line) > self.width - 12 and " " in line:
            line = line.rpartition(" ")[0]
        image = Image.new("RGB", (self.width, 48), paper)
        ImageDraw.Draw(image).text((int(random.integers(2, 10)), int(random.integers(2, 10))), line, ink, font)
        return self.turned(image.rotate(random.uniform(-2, 2), fillcolor=paper), random), line

    def turned(self, image: Image.Image, random: np.random.Generator) -> np.ndarray:
        return _input(_worn(image, random))


class Classifier(_Line):
    name, metric, file = "ppocr-v2-cls", "same orientation as float", "ch_ppocr_mobile_v2.0_cls_infer.onnx"
    width = 192

    def turned(self, image: Image.Image, random: np.random.Generator) -> np.ndarray:
        return super().turned(image.rotate(180 * int(random.integers(2))), random)

    def score(self, outputs: list[np.ndarray], expected: list[np.ndarray], truth: np.ndarray | None) -> float:
        return same(outputs[0], expected[0])


class Recognizer(_Line):
    name, metric, file = "ppocr-v4-rec", "same text as float", "ch_PP-OCRv4_rec_infer.onnx"
    width = 320

    def score(self, outputs: list[np.ndarray], expected: list[np.ndarray], truth: np.ndarray | None) -> float:
        found, wanted = (_read(x[0].argmax(-1)) for x in (outputs, expected))
        return float(np.mean([a == b for a, b in zip(found, wanted, strict=True)]))

    def right(self, outputs: list[np.ndarray], truth: np.ndarray, model: Path) -> float:
        """Share of lines whose text, but for spaces, is the one that was drawn."""
        found = {entry.key: entry.value for entry in onnx.load(model).metadata_props}["character"].splitlines()
        names = ["", *found, " "]
        texts = ["".join(names[index] for index in codes) for codes in _read(outputs[0].argmax(-1))]
        return float(np.mean([a.replace(" ", "") == b.replace(" ", "") for a, b in zip(texts, truth, strict=True)]))


def _read(codes: np.ndarray) -> list[tuple[int, ...]]:
    """Characters of each line: those of a run count once, 0 is none (CTC). codes: [N, steps]."""
    return [
        tuple(int(code) for before, code in zip((0, *line[:-1]), line, strict=True) if code and code != before)
        for line in codes
    ]


def _phrase(text: tuple[str, ...], random: np.random.Generator) -> str:
    start = int(random.integers(len(text) - 6))
    return " ".join(text[start : start + int(random.integers(1, 5))])


def _colors(random: np.random.Generator) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of paper and ink, far enough from each other."""
    light, dark = random.integers(160, 256, 3), random.integers(0, 90, 3)
    pair = tuple(map(int, light)), tuple(map(int, dark))
    return pair if random.random() < 0.7 else pair[::-1]


def _worn(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Blurred a little, with noise."""
    image = image.filter(ImageFilter.GaussianBlur(random.uniform(0, 1.2)))
    noisy = np.asarray(image, np.float32) + random.normal(0, random.uniform(0, 12), (image.height, image.width, 3))
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def _input(image: Image.Image) -> np.ndarray:
    """float32 [3, H, W] from -1 to 1."""
    return np.ascontiguousarray((np.asarray(image, np.float32) / 127.5 - 1).transpose(2, 0, 1))
