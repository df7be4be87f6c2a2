"""The integers of all tensors inside of a file, in a runtime, against the integer reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from calib.errors import QuantizationError
from calib.words import counted
from lsq_export import integer

from .difference import Difference, difference, joined
from .expected import Reference, Task
from .probing import Probe
from .processes import Place
from .runtime import Runtime

NO_CODES = "no tensor of codes there has the name of one of the bundle's, so that outputs alone were compared"


@dataclass(frozen=True, kw_only=True)
class Inside:
    """What is inside, asked for at once as further outputs: a runtime may fuse fewer operators then.

    images: that were run. tensors: of codes that the runtime showed. difference: of all of them together; None where it
    does not run the file with them. alone: the same, but the reference is given the runtime's codes as inputs of each
    operator, so that a code that was rounded to the other side of a tie does not multiply. differing: names of tensors
    that differ then, in the order of the file. why: the reason where there is no difference to tell.
    """

    images: int
    tensors: int = 0
    difference: Difference | None = None
    alone: Difference | None = None
    differing: tuple[str, ...] = ()
    why: str = ""

    @property
    def line(self) -> str:
        """One line."""
        if self.difference is None or self.alone is None:
            return f"inside: {self.why}"
        one, alone, names = self.difference, self.alone, self.differing
        text = (
            f"inside: {one.differing:,} of {one.elements:,} integers of {counted(self.tensors, 'tensor')} differ, "
            f"on {self.images} {'input' if self.images == 1 else 'inputs'}"
        )
        if not one.differing:
            return text
        where = f": {', '.join(names[:3])}{', …' if len(names) > 3 else ''}" if names else ""
        return f"{text}; {alone.differing:,} if each operator is given the same integers, by {alone.largest:g}{where}"


def inside_of(place: Place, runtime: Runtime, task: Task, reference: Reference, images: int) -> Inside:
    """All tensors of codes of a file, on the last so many samples: what was given comes behind the golden ones."""
    feeds = {name: value[-images:] for name, value in task.feeds.items()}
    few = replace(task, feeds=feeds, golden={name: value[-images:] for name, value in task.golden.items()})
    try:
        probe = Probe(place, runtime, few, reference)
    except QuantizationError as error:
        return Inside(images=few.images, why=str(error))
    ran, codes = probe.seen()
    if not codes:
        why = ran.why if ran is not None and ran.how != "ran" else NO_CODES
        return Inside(images=few.images, why=why)
    alone = _alone(reference, few, codes)
    return Inside(
        images=few.images,
        tensors=len(codes),
        difference=joined([difference(value, probe.expected(name)) for name, value in codes.items()]),
        alone=joined([*alone.values()]),
        differing=tuple(name for name, one in alone.items() if one.differing),
    )


def _alone(reference: Reference, task: Task, codes: Mapping[str, np.ndarray]) -> dict[str, Difference]:
    """{tensor: difference}, where every operator of the reference is given the codes of the runtime."""
    found: dict[str, Difference] = {}

    def compared(name: str, made: np.ndarray) -> None:
        if name in codes:
            found[name] = difference(codes[name], made)

    proto = reference.proto()
    kinds = integer.run(proto, {name: value[:1] for name, value in task.feeds.items()}, outputs=[*codes])
    typed = {name: value.astype(kinds[name].dtype) for name, value in codes.items() if _fits(value, kinds[name])}
    integer.run(proto, dict(task.feeds), outputs=[*codes], on_tensor=compared, given=typed)
    return found


def _fits(codes: np.ndarray, like: np.ndarray) -> bool:
    """Whether codes are of the shape and within the type of what the reference makes for one sample."""
    limits = np.iinfo(like.dtype)
    within = codes.size == 0 or (codes.min() >= limits.min and codes.max() <= limits.max)
    return codes.shape[1:] == like.shape[1:] and bool(within)
