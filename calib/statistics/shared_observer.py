"""Statistics of data that several processes share.

Each process runs the network on its share of a batch; what a quantizer sees there is gathered, so that every process
has the statistics of a single one that sees all of the data. Initialization looks at a few batches only.
"""

from __future__ import annotations

import torch
import torch.distributed as dist

from .observers import POINTS, Observer


class SharedObserver(Observer):
    """Every process of the default group calls `update` equally often, with its share of the same tensor."""

    def __init__(self, name: str = "tensor", limit: int = POINTS, *, device: torch.device | str = "cpu") -> None:
        """device: one that the group's backend can reach."""
        super().__init__(name, limit)
        self._reach = device

    def update(self, x: torch.Tensor) -> None:
        """Add the share x [n, …] of this rank: rank r of R has the rows r, r + R, … of the whole.

        So n may differ by one between ranks, and may be 0.
        """
        super().update(gather_rows(x.detach(), self._reach).to(x.device))


def gather_rows(x: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """The rows of all ranks: the first one of each rank, then the second one of each, …

    x: [n, …], where each rank may have another n. Returns [rows of all ranks, elements of a row].
    """
    rows = x[:, None] if x.dim() == 1 else x.flatten(1)  # [n, elements]
    counts = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, torch.tensor([len(rows)], device=device))
    sizes = [int(count) for count in counts]
    padded = torch.zeros((max(sizes), rows.shape[1]), dtype=rows.dtype, device=device)
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(parts, padded)
    present = torch.stack([torch.arange(max(sizes)) < size for size in sizes], 1)  # [n, ranks]
    return torch.stack(parts, 1)[present.to(device)]  # [rows of all, elements]
