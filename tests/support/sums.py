"""Checksums of what an installed lsq-export writes, to show that a change of the code changed no byte of the exports.

    python tests/support/sums.py sums.json          # with one version's environment: ten minutes on an idle machine
    python tests/support/sums.py other.json         # with another's, on the same machine
    python tests/support/sums.py --compare sums.json other.json

It uses nothing of lsq-export but what the documentation promises, so that it runs with every version. Networks have
random weights from fixed seeds: ResNet-18, EfficientNet-B0 and MixNet-S on images of 64×64, and 40 small random
networks, at 2, 4 and 8 bits.

Before a sum is taken, the producer's version is removed, and nodes and inner tensors are numbered in the order in which
they appear: a better name is no difference, another number is one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from torch import nn

import calib
import lsq_export
from lsq_export import models
from support.published import published

NETWORKS = ("resnet18", "efficientnet_b0", "mixnet_s")
RANDOM = 40
BITS = (2, 4, 8)
BLOCKS = ("conv", "norm", "relu6", "residual", "concat", "twice", "pool", "average", "preact", "squeeze")
FUNCTIONS = {
    "silu": F.silu,
    "hardswish": F.hardswish,
    "leaky": lambda x: F.leaky_relu(x, 0.1),
    "tanh": torch.tanh,
    "square": lambda x: x * x,
    "constants": lambda x: 0.4 - x / 3,
    "pad": lambda x: F.pad(x, (0, 1, 1, 0), value=0.3),
    "resize": lambda x: F.interpolate(x, scale_factor=2)[:, :, 1:9, :-3],
    "split": lambda x: torch.cat([x[:, 3:], F.relu(x[:, :3])], 1),
    "matmul": lambda x: x @ x.transpose(2, 3),
    "gelu": F.gelu,
    "softmax": lambda x: F.softmax(x, 1),
}


def canonical(proto: onnx.ModelProto) -> bytes:
    """The file without what may change: names of nodes and inner tensors, the producer's version."""
    proto.producer_version = ""
    graph = proto.graph
    names = {value.name: value.name for value in [*graph.input, *graph.output]} | {"": ""}

    def number(name: str) -> str:
        return names.setdefault(name, f"t{len(names)}")

    for index, node in enumerate(graph.node):
        node.name = f"n{index}"
        node.input[:] = [number(name) for name in node.input]
        node.output[:] = [number(name) for name in node.output]
    for kind in (graph.initializer, graph.value_info):
        for entry in kind:
            entry.name = number(entry.name)
        ordered = sorted(kind, key=lambda entry: (len(entry.name), entry.name))
        del kind[:]
        kind.extend(ordered)
    return proto.SerializeToString(deterministic=True)


def sums_of(bundle: lsq_export.Bundle) -> dict[str, str]:
    """{file: sha256} of the models and golden vectors of a bundle."""
    found = {}
    for name, path in sorted(bundle.models.items()):
        found[f"{name}/model.onnx"] = hashlib.sha256(canonical(onnx.load(path))).hexdigest()
        for golden in sorted((path.parent / "test_data_set_0").iterdir()):
            found[f"{name}/{golden.name}"] = hashlib.sha256(golden.read_bytes()).hexdigest()
    return found


class Block(nn.Module):
    """One block of a random network. out: its channels, a multiple of 4."""

    def __init__(self, kind: str, channels: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.kind, self.out = kind, channels
        width = int(rng.choice([8, 12]))
        self.norm: nn.Module = nn.Identity()
        if kind in ("conv", "norm", "relu6"):
            size, groups = int(rng.integers(1, 6)), int(rng.choice([1, 1, 4]))
            stride, bias = int(rng.choice([1, 1, 2])), bool(rng.integers(2))
            self.conv: nn.Module = nn.Conv2d(channels, width, size, stride, size // 2, groups=groups, bias=bias)
            self.out = width
        elif kind in ("residual", "twice"):
            self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=bool(rng.integers(2)))
        elif kind == "concat":
            self.conv, self.other, self.out = nn.Conv2d(channels, 4, 3, padding=1), nn.Conv2d(channels, 8, 1), 12
        elif kind == "squeeze":
            self.conv, self.other = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)
        elif kind == "preact":
            self.conv = nn.Conv2d(channels, channels, 1, groups=channels if rng.integers(2) else 1)
        elif kind in FUNCTIONS:
            self.conv = nn.Conv2d(channels, channels, 1) if rng.integers(2) else nn.Identity()
        if kind in ("norm", "residual", "preact", "relu6"):
            self.norm = _norm(channels if kind == "preact" else self.out, rng)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.kind in FUNCTIONS:
            return FUNCTIONS[self.kind](self.conv(x))
        return {
            "conv": lambda: self.conv(x),
            "norm": lambda: F.relu(self.norm(self.conv(x))),
            "relu6": lambda: F.relu6(self.norm(self.conv(x))),
            "residual": lambda: F.relu(x + self.norm(self.conv(x))),
            "twice": lambda: self.conv(F.relu(self.conv(x))),
            "concat": lambda: torch.cat([F.relu(self.conv(x)), self.other(x)], 1),
            "squeeze": lambda: x * torch.sigmoid(self.other(F.silu(self.conv(x.mean((2, 3), keepdim=True))))),
            "preact": lambda: self.conv(F.relu(self.norm(x))),
            "pool": lambda: F.max_pool2d(x, 3, 1, 1),
            "average": lambda: F.avg_pool2d(x, 3, 1, 1),
        }[self.kind]()


def _norm(channels: int, rng: np.random.Generator) -> nn.BatchNorm2d:
    """As after training, with γ of both signs, and one that is nearly or exactly zero."""
    norm = nn.BatchNorm2d(channels)
    gamma = rng.normal(1, 0.7, channels)
    gamma[rng.integers(channels)] = rng.choice([0.0, 1e-12, -0.8])
    values = {"weight": gamma, "running_var": rng.uniform(0.3, 2, channels)}
    values |= {name: rng.normal(0, 0.3, channels) for name in ("bias", "running_mean")}
    with torch.no_grad():
        for name, value in values.items():
            getattr(norm, name).copy_(torch.from_numpy(value))
    return norm


class RandomNetwork(nn.Module):
    """A stem, one to six blocks by chance, a mean over the pixels, a head."""

    def __init__(self, rng: np.random.Generator) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=int(rng.choice([1, 2])), padding=1)
        blocks, channels = [], 8
        for kind in rng.choice([*BLOCKS, *BLOCKS, *FUNCTIONS], rng.integers(1, 7)):
            blocks.append(Block(str(kind), channels, rng))
            channels = blocks[-1].out
        self.blocks, self.head = nn.Sequential(*blocks), nn.Linear(channels, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


def cases(only: str) -> Iterator[tuple[str, nn.Module, lsq_export.QATConfig, torch.Tensor, str]]:
    """(name, float model, config, images, target)."""
    for bits in BITS:
        for name in NETWORKS:
            if only in ("all", "networks"):
                torch.manual_seed(0)
                net = models.build(name, num_classes=10).eval()
                config = published(weight_bits=bits, activation_bits=bits)
                yield f"{name} W{bits}A{bits}", net, config, _images(0, 4, 64), "ort-cpu"
        for seed in range(RANDOM):
            if only in ("all", "random"):
                yield _random_case(seed, bits)


def _random_case(seed: int, bits: int) -> tuple[str, nn.Module, lsq_export.QATConfig, torch.Tensor, str]:
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    net = RandomNetwork(rng).eval()
    config = lsq_export.QATConfig(
        weight_bits=bits,
        activation_bits=bits,
        activation_grid=str(rng.choice(["unsigned-asymmetric", "signed-asymmetric", "signed-symmetric"])),  # type: ignore[arg-type]
        weight_granularity=str(rng.choice(["tensor", "channel"])),  # type: ignore[arg-type]
        first_last_bits=[8, None][int(rng.integers(2))],
        offset=str(rng.choice(["real", "real", "integer", "container"])),  # type: ignore[arg-type]
        edges=str(rng.choice(["calibrated", "calibrated", "trained"])),  # type: ignore[arg-type]
    )
    target = "native-low-bit" if seed % 4 == 3 else "ort-cpu"
    return f"random {seed} W{bits}A{bits} {target}", net, config, _images(seed, 8, 12), target


def _images(seed: int, count: int, size: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed + 1).normal(0, 1.5, (count, 3, size, size)).astype(np.float32))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="JSON file to write, or the first of two to compare")
    parser.add_argument("other", type=Path, nargs="?", help="the second file to compare")
    parser.add_argument("--compare", action="store_true", help="compare two files; exit code 1 where they differ")
    parser.add_argument("--only", choices=["all", "networks", "random"], default="all")
    options = parser.parse_args()
    if options.compare:
        return compare(json.loads(options.file.read_text()), json.loads(options.other.read_text()))
    torch.set_num_threads(1)
    found: dict[str, dict[str, str]] = {}
    for name, net, config, images, target in cases(options.only):
        with tempfile.TemporaryDirectory() as directory:
            try:
                model = lsq_export.prepare(net, config)
                calib.initialize(model, [images], method="mse")
                bundle = lsq_export.export(model, images[:1], f"{directory}/out", calibration=[images], target=target)
                found[name] = sums_of(bundle)
                seen = f"{len(found[name])} files"
            except lsq_export.QuantizationError as error:
                found[name], seen = {"refused": "yes"}, f"refused: {error}"
        print(f"{len(found)}: {name}: {seen}", flush=True)
        options.file.write_text(json.dumps(found, indent=1) + "\n")
    return 0


def compare(first: dict[str, dict[str, str]], second: dict[str, dict[str, str]]) -> int:
    """Print what differs; 1 if anything does."""
    differing = [name for name in sorted({*first, *second}) if first.get(name) != second.get(name)]
    for name in differing:
        one, other = first.get(name, {}), second.get(name, {})
        print(f"differs: {name}: {', '.join(f for f in sorted({*one, *other}) if one.get(f) != other.get(f))}")
    files = sum(len(entry) for entry in first.values() if "refused" not in entry)
    refused = sum("refused" in entry for entry in first.values())
    print(f"{len(first)} exports, {files} files, {refused} refused, {len(differing)} exports differ")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
