"""What a training job is: everything that decides its result."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from calib.errors import QuantizationError
from calib.samples import in_words, plain_shape
from lsq_export.data.dataset import Dataset
from lsq_export.data.loading import load
from lsq_export.files.digest import sha256
from lsq_export.models import keywords
from lsq_export.models.own import is_own
from lsq_export.qat.config import QATConfig

from .distributed import SINGLE, Processes
from .recipe import FINETUNE, PRETRAIN, Recipe


@dataclass(frozen=True)
class Job:
    """Everything that decides the result. A recipe with 0 epochs skips that phase.

    device: None is CUDA where there is one, else the CPU.
    fused: low-bit training uses the kernels of `lsq_export.qat.fuse`, which add gradients of scales and offsets in
    another order.
    save_memory: low-bit training works as in `lsq_export.qat.save_memory`, more slowly, to the same bits.
    channels, mean, std, resize: of the images, as in `lsq_export.data.load`.
    variant: of the network, as in `lsq_export.models.keywords`.
    new_head, use_ema: how a float checkpoint is read, as new_head and ema of `load_weights`.
    threads: of the CPU, which can change the last bits; None: as many as torch uses now, see `step_threads`.
    anyway: start with weights of a checkpoint even if they are hardly better than guessing.
    """

    model_name: str
    data_spec: str
    config: QATConfig = field(default_factory=QATConfig)
    float_recipe: Recipe = PRETRAIN
    recipe: Recipe = FINETUNE
    init_method: Any = "mse"
    weight_init: Any = "lsq+"
    init_batches: int = 4
    image_size: int | None = None
    seed: int = 0
    device: str | None = None
    fused: bool = False
    save_memory: bool = False
    channels: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    variant: str | None = None
    new_head: bool = False
    use_ema: bool = False
    threads: int | None = None
    resize: int | str | None = None
    anyway: bool = False

    def __post_init__(self) -> None:
        if self.device is not None and not is_available(self.device):
            raise QuantizationError(f"device {self.device!r} is not available here: use cpu, or leave it out")
        if self.float_recipe.distill:
            raise QuantizationError(
                "distill is for low-bit training, whose teacher the float model is: leave it out of the float recipe"
            )

    def load_data(self) -> Dataset:
        """The data set of `data_spec`."""
        size, resize = self.image_size, self.resize
        return load(
            self.data_spec, image_size=size, channels=self.channels, mean=self.mean, std=self.std, resize=resize
        )

    def identity(self, data: Dataset, start: Path | None = None, processes: Processes = SINGLE) -> dict[str, Any]:
        """What a run must have in common with the one that it resumes, as plain values.

        start: the float checkpoint that it starts from: its name and its content count.
        """
        device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        samples = {
            "train": len(data.train),
            "test": len(data.test),
            "input_shape": plain_shape(data.input_shape),
            "resize": data.preprocessing.get("resize"),
            "classes": data.num_classes,
        }
        place = str(torch.device(device)) if processes.world == 1 else str(processes.device).partition(":")[0]
        return {
            **{name: value for name, value in asdict(self).items() if name != "anyway"},
            "device": place,
            "float_checkpoint": start and _named(start),
            "nproc_per_node": processes.world,
            "data": samples,
        }

    def model_spec(self, data: Dataset) -> dict[str, Any]:
        """The keywords of `models.build`. Of several inputs nothing is told but the classes."""
        classes = {"num_classes": data.num_classes} if data.num_classes else {}
        if not data.of_images:
            if not is_own(self.model_name):
                raise QuantizationError(
                    f"{self.model_name} takes images, {self.data_spec} has the inputs {in_words(data.input_shape)}: "
                    "name a network of your own, package.module:factory"
                )
            return {"name": self.model_name, **classes}
        adapted = keywords(self.model_name, min(data.input_shape[1:]), self.variant)
        return {"name": self.model_name, **classes, "in_channels": data.input_shape[0], **adapted}


def is_available(device: str) -> bool:
    """Whether torch can compute there. What is no device at all (meta), or a second CPU, is not."""
    try:
        place = torch.device(device)
        torch.empty(0, device=place)  # a second CPU makes no difference to it
    except (RuntimeError, AssertionError):
        return False
    return place.type != "meta" and (place.type != "cpu" or not place.index)


def _named(path: Path) -> str:
    """The name of a file and, where it is there, a digest of what it holds."""
    return f"{path} (SHA-256 {sha256(path)[:16]})" if path.is_file() else str(path)
