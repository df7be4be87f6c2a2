"""What distinguishes the libraries, beside how they keep a grid (lsq_export/inspection/conventions.py): one row each.

norms         what a weight's grid belongs to: "apart", the weight, with the batch norm behind its layer; "scaled", the
              weight times γ/σ. Where a file has no batch norms, and biases in their place, they went into the layers
              before, whatever the library
numbered      quantizers that have numbers for names, in the order of the graph
nested        a batch norm that a layer took in is a part of it (conv1.bn); one that is not is apart
follows       an output's quantizer is behind the batch norm and the ReLU that the library fused into the layer
narrow        weights do without the lowest code, where the file does not say it
largest       weights without a quantizer in the file have the grid of their largest magnitude
steps         how weights become steps of their grid (`learned.Steps`)
frozen        the file is of a converted graph: numbers of weights say nothing, activations are not in it
power_of_two  thresholds of activations are rounded up to powers of two when the model is deployed
renamed       (pattern, replacement) of names of parameters and places
ordered       names that count the layers of a kind in the order of their calls
one_axis      lists of scales of weights are along the same axis of all layers' own weights, mostly the first
marks         what only a file of this library has, where several keep grids alike
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from .learned import Steps

Norms = Literal["apart", "scaled"]


@dataclass(frozen=True, kw_only=True)
class Numbered:
    """Names with numbers. flat: reshapes (flatten, view) have one, too. weights: so do weights. late: an input of the
    network is counted where it is read first.
    """

    pattern: re.Pattern[str]
    flat: bool = True
    weights: bool = False
    late: bool = False


@dataclass(frozen=True, kw_only=True)
class Library:
    """A row, as the head of this file says. conventions: names of `Convention`s."""

    name: str
    conventions: tuple[str, ...]
    norms: Norms = "apart"
    numbered: Numbered | None = None
    nested: bool = False
    follows: bool = False
    narrow: bool = False
    renamed: tuple[tuple[re.Pattern[str], str], ...] = ()
    ordered: re.Pattern[str] | None = None
    power_of_two: bool = False
    frozen: bool = False
    steps: Steps = "divided"
    largest: bool = False
    one_axis: bool = False
    marks: re.Pattern[str] | None = None


def _names(*pairs: tuple[str, str]) -> tuple[tuple[re.Pattern[str], str], ...]:
    return tuple((re.compile(pattern), replacement) for pattern, replacement in pairs)


LIBRARIES: tuple[Library, ...] = (
    Library(
        name="torch.ao",
        conventions=("torch.ao / torchao",),
        marks=re.compile(r".*\.weight_fake_quant\..*"),
        steps="multiplied",
        norms="scaled",
        numbered=Numbered(pattern=re.compile(r"activation_post_process_(\d+)"), late=True),
        nested=True,
        follows=True,
    ),
    Library(
        name="MQBench",
        conventions=("torch.ao / torchao", "MQBench"),
        marks=re.compile(r".*_post_act_fake_quantizer\..*"),
        steps="multiplied",
        norms="scaled",
        nested=True,
        follows=True,
    ),
    Library(
        name="torchao",
        conventions=("torch.ao / torchao",),
        norms="scaled",
        numbered=Numbered(pattern=re.compile(r"activation_post_process_(\d+)"), weights=True),
        steps="multiplied",
        follows=True,
    ),
    Library(
        name="torchao, converted",
        conventions=("torchao, converted",),
        frozen=True,
        steps="multiplied",
        renamed=_names((r"(.*)\.weight_bias", r"\1.bias")),
    ),
    Library(name="Brevitas", conventions=("Brevitas",), narrow=True, largest=True),
    Library(name="NNCF", conventions=("NNCF",), narrow=True, steps="ranged"),
    Library(name="AIMET", conventions=("AIMET",), renamed=_names((r"module_(\w+)", r"\1"))),
    Library(name="ModelOpt", conventions=("ModelOpt",)),
    Library(
        name="Quark",
        conventions=("Quark",),
        numbered=Numbered(pattern=re.compile(r"fake_quantizer_(\d+)"), flat=False),
        steps="multiplied",
        one_axis=True,
        ordered=re.compile(r"(conv[123]d|conv_transpose[123]d|linear)(?:_(\d+))?_quantized_module"),
    ),
    Library(
        name="MCT",
        conventions=("MCT",),
        renamed=_names((r"(.*)\.layer\.bias", r"\1.bias"), (r"(.*)_bn(\..*)?", r"\1\2")),
        power_of_two=True,
    ),
    Library(name="LSQ, LSQ+", conventions=("LSQ", "LSQ+")),
)


def library_of(conventions: Iterable[str], names: Iterable[str]) -> Library | None:
    """Whose file has quantizers of these ways, and tensors of these names; None: of several, or of an unknown one."""
    found, listed = set(conventions), list(names)
    for library in LIBRARIES:
        marked = library.marks is None or any(library.marks.fullmatch(name) for name in listed)
        if found and found <= set(library.conventions) and marked:
            return library
    return None


def named(name: str) -> Library | None:
    """The row of that name, in any spelling of upper and lower case."""
    return next((library for library in LIBRARIES if library.name.lower() == name.lower()), None)
