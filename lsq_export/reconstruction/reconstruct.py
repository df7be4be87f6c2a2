"""Reconstruction: scales, offsets and the rounding of weights are learned so that blocks make what they make in float.

As in AdaRound (arXiv:2004.10568) and BRECQ (arXiv:2102.05426), here with real offsets (LSQ+): block after block, on
what the quantized blocks before it give, against what the float network has there; no labels. Each block is learned
with Adam for some hundred looks at a sample, and keeps what it learned only where that is better on samples apart; so
does the network.

The samples are the same for any order and batches of the data, and all that is drawn comes from the seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, repeat

import torch

from calib.samples import Input, named

from .block_grids import BlockGrids, New
from .block_values import BlockValues, Values
from .blocks import Block, blocks_of
from .sample_batches import steps_of
from .subjects import Subject

LEAST = 4  # batches
APART, BATCHES_APART = 64, 16  # samples, and batches at most, that are not learned from, but compared on
VALUES = 2**27  # numbers between two blocks that are held, of all samples, twice: 1 GB
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Task:
    """One block: what it is given in the quantized network, and what it makes in float; lists of batches of `size`."""

    block: Block
    given: Sequence[Values]
    wanted: Sequence[Values]
    values: BlockValues
    size: int

    def made(self, index: int, grids: BlockGrids) -> Values:
        """What the block makes of a batch."""
        return self.values.run(self.block, self.given[index], grids)

    def errors(self) -> Callable[[int, Values], torch.Tensor]:
        """(index of a batch, what is made of it) -> error, of what goes on from the block."""
        return errors([{value: batch[value] for value in self.block.made} for batch in self.wanted])


def errors(wanted: Sequence[Values]) -> Callable[[int, Values], torch.Tensor]:
    """(index of a batch, what is made of it) -> squared error, as a share of the mean square of what is wanted there.

    It is that of all batches, and 1 where that is 0. Integers do not count.
    """
    powers = {
        value: sum(float(batch[value].square().mean()) for batch in wanted) / len(wanted) or 1.0
        for value, tensor in wanted[0].items()
        if tensor.is_floating_point()
    }

    def error(index: int, made: Values) -> torch.Tensor:
        parts = [(made[value] - wanted[index][value]).square().mean() / power for value, power in powers.items()]
        return torch.stack(parts).sum() if parts else torch.zeros(())

    return error


def reconstruct(
    subject: Subject, samples: Sequence[Input], *, seed: int = 0, progress: Progress = lambda text: None
) -> None:
    """Learn the grids of activations and the rounding of weights, in place.

    subject: every quantizer has its first grid. samples: in batches of one size, as the graph takes them.
    progress: called before each block with its number and its name.
    """
    values, blocks, inputs = BlockValues(), blocks_of(subject.graph), subject.graph.inputs
    names = [str(value.name) for value in inputs]
    batches = [{v: named(x, names)[str(v.name)] for v in inputs} for x in samples]
    plain = rounded = list(_held(values, blocks, batches))
    size = len(samples[0])
    first = [plain[index] for index in _apart(len(plain), size)]  # the network on its first grids
    start, grids = subject.state(), BlockGrids(subject)
    generator = torch.Generator().manual_seed(seed)
    for number, block in enumerate(blocks, 1):
        progress(f"block {number} of {len(blocks)}: {block.name}")
        with torch.no_grad():
            plain = [values.run(block, x, None) for x in plain]
            first = [values.run(block, x, subject.on_first_grids) for x in first]
        known = learn(grids, Task(block, rounded, plain, values, size), generator)
        with torch.no_grad():
            rounded = [known[i] if i in known else values.run(block, x, grids) for i, x in enumerate(rounded)]
    error_of = errors(plain)
    apart = _apart(len(plain), size)
    if not sum(map(error_of, apart, rounded)) < sum(map(error_of, apart, first)):
        subject.restore(start)  # each block is better, the network is not
        return
    with torch.no_grad():
        for name, weight in grids.weights.items():
            subject.write(name, weight.value())


def learn(grids: BlockGrids, task: Task, generator: torch.Generator) -> dict[int, Values]:
    """Fit what is new in this block, and keep it where it is better on the samples apart.

    Returns what the block then makes of those, {index of a batch: values}.
    """
    count, error = len(task.given), task.errors()
    apart = _apart(count, task.size)
    learned_from = range(len(apart) if len(apart) < count else 0, count)

    @torch.no_grad()
    def made_apart() -> tuple[dict[int, Values], float]:
        made = {index: task.made(index, grids) for index in apart}
        return made, sum(float(error(index, values)) for index, values in made.items())

    with grids.opening() as new:
        made, before = made_apart()
    start = new.state()
    if start:
        steps = steps_of(task.size)
        drawn = _drawn(learned_from, steps, generator)
        _fit(new, (error(index, task.made(index, grids)) for index in drawn), steps)
        learned, after = made_apart()
        if after < before:  # and no NaN
            made = learned
        else:
            new.restore(start)
    new.close()
    return made


@torch.enable_grad()
def _fit(new: New, losses: Iterable[torch.Tensor], steps: int) -> None:
    """A step of Adam for each loss, shorter and shorter ones. Nothing, where nothing new has a part in them."""
    optimizer = new.optimizer(steps)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for loss in losses:
        if not loss.requires_grad:
            return
        new.forget_gradients()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()


def _drawn(numbers: Sequence[int], count: int, generator: torch.Generator) -> Iterator[int]:
    """So many of the numbers, all of them in one order after the other."""
    orders = (int(i) for _ in repeat(None) for i in torch.randperm(len(numbers), generator=generator))
    return (numbers[i] for i in islice(orders, count))


def _apart(count: int, size: int) -> range:
    """The batches that are compared on, of so many: they are not learned from, where there are enough."""
    apart = max(1, min(BATCHES_APART, APART // size))
    return range(apart if count > 2 * apart else count)


def _held(values: BlockValues, blocks: Sequence[Block], batches: Sequence[Values]) -> Sequence[Values]:
    """As many batches as can be held between two blocks."""
    state, most = batches[0], 1
    with torch.no_grad():
        for block in blocks:
            state = values.run(block, state, None)
            most = max(most, sum(tensor.numel() for tensor in state.values()))
    return batches[: max(LEAST, VALUES // most)]
