"""The float parameters of a checkpoint, under the names of the network: all of them, and no others."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from torch import fx, nn

from calib.errors import QuantizationError
from lsq_export.qat.layer_types import CONVOLUTIONS, TRANSPOSED

from .libraries import Library
from .mapping import UserMapping
from .sites import module_at
from .stubs import OBSERVER, WRAPPER

COUNTER = "num_batches_tracked"
SHOWN = 3
KINDS: dict[str, type[nn.Module]] = {
    **{f"conv{n}d": kind for n, kind in enumerate(CONVOLUTIONS, 1)},
    **{f"conv_transpose{n}d": kind for n, kind in enumerate(TRANSPOSED, 1)},
    "linear": nn.Linear,
}


class Names:
    """Names of modules and tensors in a checkpoint -> those of the network."""

    def __init__(
        self, traced: fx.GraphModule, library: Library | None, mapping: UserMapping, pairs: Mapping[str, str]
    ) -> None:
        self._renamed = library.renamed if library is not None else ()
        self._ordered = library.ordered if library is not None else None
        self._own = dict(mapping.names)
        self._nested = {f"{layer}.bn": norm for layer, norm in pairs.items()}
        self._modules = {name for name, _ in traced.named_modules()}
        self._state = set(traced.state_dict())
        self._flat = {name.replace(".", "_"): name for name in self._modules}
        self._calls: dict[str, list[str]] = {}
        for node in traced.graph.nodes:
            module = module_at(traced, node)
            for kind, cls in KINDS.items():
                if isinstance(module, cls):
                    self._calls.setdefault(kind, []).append(str(node.target))

    def of(self, name: str) -> str:
        """The name here; itself where nothing is known."""
        for table in (self._own, self._nested):
            for theirs, ours in table.items():
                if name == theirs or name.startswith(f"{theirs}."):
                    return ours + name.removeprefix(theirs)
        for pattern, replacement in self._renamed:
            if (match := pattern.fullmatch(name)) and not self._is_ours(name):
                name = match.expand(replacement)
        head, dot, tail = name.partition(".")
        if self._ordered is not None and (match := self._ordered.fullmatch(head)):
            calls, number = self._calls.get(match[1], []), int(match[2] or 0)
            head = calls[number] if number < len(calls) else head
        elif head not in self._modules and head in self._flat:
            head = self._flat[head]
        return f"{head}{dot}{tail}"

    def apart(self, tensors: Iterable[str]) -> set[str]:
        """Modules that have tensors of their own, quantizers included: batch norms that no layer has taken in."""
        fused = tuple(f"{nested}." for nested in self._nested)
        own = [self.of(name) for name in tensors if not name.startswith(fused) or self._is_ours(name)]
        return {name.rpartition(".")[0] for name in own} | {name.partition(f".{OBSERVER}")[0] for name in own}

    def _is_ours(self, name: str) -> bool:
        return name in self._modules or name in self._state


def without_grids(tensors: Mapping[str, Any], used: Collection[str], prefixes: Collection[str]) -> dict[str, Any]:
    """What belongs to no quantizer. used: tensors; prefixes: of quantizers that are modules of their own."""
    return {
        name: value
        for name, value in tensors.items()
        if name not in used
        and not any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)
        and isinstance(value, torch.Tensor)
    }


@torch.no_grad()
def load_strictly(traced: nn.Module, tensors: Mapping[str, torch.Tensor], where: str) -> None:
    """Errors (QuantizationError): tensors that are missing, that are unexpected, of another shape, no finite floats."""
    state = traced.state_dict()
    missing = [name for name in state if name not in tensors and not name.endswith(COUNTER)]
    unexpected = [name for name in tensors if name not in state]
    if missing or unexpected:
        parts = [f"lacks {_some(missing)}"] * bool(missing) + [f"has {_some(unexpected)} beside"] * bool(unexpected)
        raise QuantizationError(
            f"{where} {' and '.join(parts)}: it is of another network, or a mapping file has to say more: [names] "
            "that differ, tensors to leave out (skip)"
        )
    for name, value in state.items():
        if name not in tensors:
            continue
        given = tensors[name]
        if given.shape != value.shape:
            raise QuantizationError(
                f"{where}: {name} has the shape {list(given.shape)}, the network's {list(value.shape)}: it is of "
                "another network"
            )
        if not is_plain(given) or given.is_floating_point() != value.is_floating_point():
            raise QuantizationError(f"{where}: {name} is {given.dtype}, or packed: give floats")
        given = given.to(value.dtype)
        if given.is_floating_point() and not torch.isfinite(given).all():
            raise QuantizationError(f"{where}: {name} has NaN or infinity: take weights of a training that went well")
        value.copy_(given)


def is_plain(tensor: torch.Tensor) -> bool:
    """Numbers, one beside the other."""
    odd = tensor.is_complex() or tensor.is_quantized or tensor.is_meta
    return not odd and tensor.layout == torch.strided


def _some(names: list[str]) -> str:
    more = f", … ({len(names)} in all)" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def drop_prefix(tensors: Mapping[str, Any], own: Collection[str]) -> dict[str, Any]:
    """Without what wrappers (DataParallel, torch.compile, Lightning) put before all names."""
    stubs = {name: value for name, value in tensors.items() if name.startswith(WRAPPER)}
    found = {name: value for name, value in tensors.items() if name not in stubs}
    for prefix in ("module.", "_orig_mod.", "model.", "net."):
        if found and all(name.startswith(prefix) for name in found) and not any(n.startswith(prefix) for n in own):
            found = {name.removeprefix(prefix): value for name, value in found.items()}
    return {**stubs, **found}
