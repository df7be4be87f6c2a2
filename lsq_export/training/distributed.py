"""Several processes that train one model: `torchrun --nproc-per-node 2 -m lsq_export train …`.

    with launch() as processes:
        fit(model, data, recipe, processes=processes)

`launch` reads torchrun's environment variables; without them there is one process, and no process group. The processes
train with DistributedDataParallel, over gloo, on GPUs over nccl.

Each step's batch is that of a single process: rank r of n has its samples r, r + n, …. With L_r the sum of the losses
of rank r's samples and N the samples of all ranks, rank r learns from n·L_r/N: DistributedDataParallel's mean over
ranks is then the gradient of ΣL_r/N, uneven batches included.
"""

from __future__ import annotations

import datetime
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from calib.errors import QuantizationError, one_line
from calib.statistics.observers import Observer
from calib.statistics.shared_observer import SharedObserver

TIMEOUT = datetime.timedelta(minutes=10)  # of waiting for the other ranks; a step, a test or a checkpoint takes less
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130  # exit codes of ranks that say nothing


@dataclass(frozen=True)
class Processes:
    """This process: rank `rank` of `world`, and its device (None: as a single process chooses it)."""

    rank: int = 0
    world: int = 1
    device: str | None = None

    @property
    def first(self) -> bool:
        """The one that prints and writes."""
        return self.rank == 0

    @property
    def share(self) -> tuple[int, int]:
        """The `share` of `data.Batches`."""
        return self.rank, self.world

    @property
    def observer(self) -> Callable[[str], Observer]:
        """The `observer` of `calib.initialize`, whose batches are then this rank's share."""
        return Observer if self.world == 1 else partial(SharedObserver, device=self.device or "cpu")

    def sums(self, *values: float) -> tuple[float, ...]:
        """Each value summed over the ranks, with the same bits on all of them."""
        if self.world == 1:
            return values
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return tuple(total.tolist())

    def gather(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """The tensors of all ranks (one shape and type), on the CPU."""
        if self.world == 1:
            return [tensor]
        parts = [torch.empty_like(tensor, device=self.device) for _ in range(self.world)]
        dist.all_gather(parts, tensor.to(parts[0].device))
        return [part.cpu() for part in parts]

    def parallel(self, model: nn.Module) -> nn.Module:
        """What to call in training: the model, or its wrapper that averages gradients. Rank 0's state goes to all."""
        if self.world == 1:
            return model
        devices = None if self.device == "cpu" else [torch.device(str(self.device))]
        # static_graph: parameters that no loss depends on are no error. Batch norms are synchronized, so buffers stay
        # the same without a broadcast.
        return nn.parallel.DistributedDataParallel(
            model, device_ids=devices, forward_sync_buffers=False, static_graph=True
        )

    def check_same(self, model: nn.Module) -> None:
        """Errors (QuantizationError, on every rank): a tensor of the model's state differs from rank 0's in a bit."""
        if self.world == 1:
            return
        state = model.state_dict()
        wrong = torch.zeros(len(state), device=self.device)
        for i, tensor in enumerate(state.values()):
            own = tensor.detach().to(wrong.device).contiguous()
            first = own.clone()
            dist.broadcast(first, 0)
            wrong[i] = not _same_bits(first, own)
        dist.all_reduce(wrong)
        if bool(wrong.any()):
            name = list(state)[int(wrong.nonzero()[0])]
            raise QuantizationError(
                f"{name} is not the same on all ranks: keep randomness and data of your own out of the model's forward"
            )


SINGLE = Processes()


@contextmanager
def launch(device: str | None = None, *, timeout: datetime.timedelta = TIMEOUT) -> Iterator[Processes]:
    """Join the processes that torchrun started, or be the single one.

    device: cpu, or cuda, where each rank has a GPU of its own; None: cuda where there is one.
    timeout: how long to wait for the other ranks.

    An error, or Ctrl-C, on any rank ends all of them: the first rank that fails raises it, the others exit without a
    word. Errors (QuantizationError): variables that torchrun would not set, fewer GPUs than ranks, ranks that do not
    come.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield SINGLE
        return
    processes = _processes(device)
    try:
        store, rank, world = next(iter(rendezvous("env://", timeout=timeout)))
        store.set_timeout(timeout)
        backend = "gloo" if processes.device == "cpu" else "nccl"
        of_group = PrefixStore("group", store)
        dist.init_process_group(backend, store=of_group, rank=rank, world_size=world, timeout=timeout)
    except (ValueError, RuntimeError) as error:
        raise QuantizationError(
            f"rank {processes.rank} does not find the other processes of torchrun ({one_line(error)[:300]})"
        ) from error
    try:
        with warnings.catch_warnings():
            # A convolution of one input channel has two descriptions of the same strides.
            warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides", UserWarning)
            yield processes
        processes.sums(0.0)  # all have come this far: nobody leaves while others still need it
    except BaseException as error:
        _leave(error, store, processes)
    finally:
        dist.destroy_process_group()


def _leave(error: BaseException, store: Any, processes: Processes) -> NoReturn:
    """Raise the error, or exit where another rank has failed before.

    What is seen here then is most likely the loss of that rank. store: that of the rendezvous.
    """
    try:
        earlier = store.add("failures", 1) > 1
    except RuntimeError:  # the store has gone with the launcher, or with the rank that kept it
        earlier = True
    if not earlier:
        if isinstance(error, RuntimeError):
            reason = f"{one_line(error)[:200]} (where another process has ended or hangs, that is the cause)"
            raise _loud(QuantizationError(f"rank {processes.rank} of {processes.world}: {reason}")) from error
        raise _loud(error)
    if isinstance(error, KeyboardInterrupt):
        raise SystemExit(INTERRUPTED) from error
    raise SystemExit(BAD_INPUT if isinstance(error, QuantizationError) else FAILED) from error


def _loud(error: BaseException) -> BaseException:
    """Mark the error: the command line prints it, although this may not be rank 0."""
    error.first_to_fail = True  # type: ignore[attr-defined]
    return error


def _processes(device: str | None) -> Processes:
    missing = [name for name in VARIABLES if name not in os.environ]
    if missing:
        raise QuantizationError(
            f"RANK is set and {missing[0]} is not: start several processes with torchrun, or unset RANK for a single "
            "one"
        )
    try:
        rank, world, local = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    except ValueError as error:
        raise QuantizationError(
            f"RANK, WORLD_SIZE and LOCAL_RANK are whole numbers ({error}): let torchrun set them"
        ) from error
    if device == "cpu" or not torch.cuda.is_available():
        return Processes(rank, world, "cpu")
    if device not in (None, "cuda"):
        raise QuantizationError(f"device {device!r}: under torchrun use cpu or cuda, each process has a GPU of its own")
    if local >= torch.cuda.device_count():
        raise QuantizationError(
            f"process {local} of this machine has no GPU, there are {torch.cuda.device_count()}: start no more, or use "
            "cpu"
        )
    torch.cuda.set_device(local)
    return Processes(rank, world, f"cuda:{local}")


def _same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether the tensors are equal, where NaN equals NaN: two diverged ranks are the same."""
    return bool(torch.equal(a, b)) or bool(((a == b) | ((a != a) & (b != b))).all())
