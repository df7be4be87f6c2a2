"""Names that other public checkpoints give to the parameters of these networks.

resnet18 has the names of torchvision, which are timm's too; efficientnet_b0 and mixnet_s have those of timm.
torchvision's efficientnet_b0 is the same network with other names, and has no mixnet_s:

    ours (timm's)                     torchvision's
    conv_stem, bn1                    features.0.0, features.0.1
    blocks.S.B.<layer>                features.{S+1}.B.block.<place of the layer in the block>
    conv_head, bn2                    features.{stages+1}.0, features.{stages+1}.1
    classifier                        classifier.1
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# Places in torchvision's blocks, without and with an expanding convolution.
_SEPARABLE = {
    "conv_dw": "0.0",
    "bn1": "0.1",
    "se.conv_reduce": "1.fc1",
    "se.conv_expand": "1.fc2",
    "conv_pw": "2.0",
    "bn2": "2.1",
}
_INVERTED = {
    "conv_pw": "0.0",
    "bn1": "0.1",
    "conv_dw": "1.0",
    "bn2": "1.1",
    "se.conv_reduce": "2.fc1",
    "se.conv_expand": "2.fc2",
    "conv_pwl": "3.0",
    "bn3": "3.1",
}
_BLOCK = re.compile(r"blocks\.(\d+)\.(\d+)\.(.+)")


def torchvision_names(names: Iterable[str]) -> dict[str, str]:
    """{torchvision's name: ours} of the tensors of a network; empty where torchvision has no such network.

    names: those in the state dict of the network. Where torchvision has the same names, that is empty, too.
    """
    ours = list(names)
    inverted = {name.rpartition(".conv_pwl.")[0] for name in ours if ".conv_pwl." in name}
    stages = 1 + max((int(found[1]) for name in ours if (found := _BLOCK.fullmatch(name))), default=-1)
    ends = {
        "conv_stem": "features.0.0",
        "bn1": "features.0.1",
        "conv_head": f"features.{stages + 1}.0",
        "bn2": f"features.{stages + 1}.1",
        "classifier": "classifier.1",
    }
    theirs = {_theirs(name, ends, inverted): name for name in ours}
    return {} if None in theirs or not stages else {str(name): own for name, own in theirs.items()}


def _theirs(name: str, ends: dict[str, str], inverted: set[str]) -> str | None:
    """torchvision's name of one tensor; None where it has none."""
    found = _BLOCK.fullmatch(name)
    if found is None:
        layer, _, tensor = name.rpartition(".")
        return f"{ends[layer]}.{tensor}" if layer in ends else None
    layer, _, tensor = found[3].rpartition(".")
    places = _INVERTED if f"blocks.{found[1]}.{found[2]}" in inverted else _SEPARABLE
    return f"features.{int(found[1]) + 1}.{found[2]}.block.{places[layer]}.{tensor}" if layer in places else None
