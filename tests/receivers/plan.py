"""What is run: networks, targets and runtimes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lsq_export.replaying import runtime

IMAGES = 359  # the test images of digits
INSIDE = 8  # of them, on which all integers inside are compared
GOLDEN = ("tiny-w4a4", "tiny-w8a8", "resnet18-w4a4", "resnet18-w8a8")  # whose files of other targets are run, too
DIGITS = (
    *("resnet18-w8a8", "resnet18-w4a4", "resnet18-w2a2", "mixnet_s-w8a8", "mixnet_s-w4a4"),
    *("efficientnet_b0-w8a8", "efficientnet_b0-w4a4"),
)  # which are run on all test images
NETWORKS = tuple(dict.fromkeys([*GOLDEN, *DIGITS]))
FOR_ALL = ("ort-cpu", "portable")  # targets whose files every runtime is given, besides those of its own
FLOATS = ("openvino-float", ("openvino",))  # a second target of a runtime, for any processor
BATCHES = {"qonnx": 60}  # its executor opens a session for each node of each batch

# Epochs of the float network, which the first of its rows trains, and of the low-bit one; tiny has its recipe's.
EPOCHS = {
    "resnet18-w4a4": (2, 1),
    "resnet18-w8a8": (2, 1),
    "resnet18-w2a2": (2, 3),
    "mixnet_s-w8a8": (4, 1),
    "mixnet_s-w4a4": (4, 2),
    "efficientnet_b0-w8a8": (10, 1),
    "efficientnet_b0-w4a4": (10, 1),
}


@dataclass(frozen=True)
class Job:
    """A network, exported for a target, in these runtimes: on so many test images besides its golden inputs."""

    network: str
    target: str
    runtimes: tuple[str, ...]
    images: int = 0
    batch: int | None = None  # of the file; None: as the target has it


def plan(networks: Sequence[str]) -> Iterator[Job]:
    """All jobs of these networks, those on test images first."""
    known = runtime.everything()
    for network in networks:
        if network in DIGITS:
            for target in dict.fromkeys(one.target for one in known):
                names = tuple(one.name for one in known if one.target == target)
                yield Job(network, target, names, IMAGES, BATCHES.get(target))
            yield Job(network, *FLOATS, IMAGES)
    for network in networks:
        if network in GOLDEN:
            for target in dict.fromkeys([*FOR_ALL, *(one.target for one in known)]):
                yield Job(network, target, tuple(one.name for one in known if target in (*FOR_ALL, one.target)))
