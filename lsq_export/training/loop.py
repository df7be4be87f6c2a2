"""What changes while a model trains: model, optimizer, schedule, average, place in the data.

It is one object, so that it can be kept and resumed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from calib.errors import QuantizationError, one_line
from calib.quantized import quantized_modules
from calib.samples import Input, called, each
from lsq_export.data.dataset import Batches, Dataset

from .distributed import SINGLE, Processes
from .loss import loss_sum
from .optimizer import make_optimizer, make_schedule, optimizer_state, restore_optimizer
from .predict import TEST_BATCH, evaluate
from .recipe import Epoch, Recipe
from .state import State


class Loop:
    """The training of one model.

    epoch: how many are completed. step: how many are done in the next one. sums: loss, right answers and samples of
    these steps.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Dataset,
        recipe: Recipe,
        *,
        seed: int,
        device: torch.device,
        teacher: nn.Module | None = None,
        processes: Processes = SINGLE,
    ) -> None:
        if recipe.distill and teacher is None:
            raise QuantizationError(f"distill is {recipe.distill} and there is no teacher: give a float model")
        self.model, self.data, self.recipe, self.seed = model, data, recipe, seed
        self.device, self.processes = device, processes
        self.teacher = teacher.to(device).eval() if teacher is not None and recipe.distill else None
        self.steps = len(self._batches(0))
        self.optimizer = make_optimizer(model, recipe)
        self.schedule = make_schedule(self.optimizer, recipe, self.steps)
        self.average = _average(model, recipe.ema) if recipe.ema else None
        self.parallel = processes.parallel(model)
        self.quantizers = list(quantized_modules(model).values())
        self.epoch = self.step = 0
        self.sums = (0.0, 0.0, 0.0)
        self.seconds = 0.0
        self.history: tuple[Epoch, ...] = ()
        self.good = snapshot(self.result)

    @property
    def result(self) -> nn.Module:
        """The model that is tested and kept: the average, where there is one."""
        return self.model if self.average is None else self.average.module

    @property
    def remaining(self) -> int:
        """Steps that are left, of all epochs."""
        return (self.recipe.epochs - self.epoch) * self.steps - self.step

    def run_epoch(self, show: Callable[[str], None], after_step: Callable[[], None]) -> Epoch:
        """Train for the rest of the epoch and test.

        Loss and accuracy are those of the forward passes that it learns from.
        """
        begin = time.perf_counter() - self.seconds
        self.model.train()
        lr = math.nan
        for x, y in self._batches(self.epoch + 1, skip=self.step):
            lr = self.optimizer.param_groups[0]["lr"]
            self._step(each(x, lambda tensor: tensor.to(self.device)), y.to(self.device))
            self.seconds = time.perf_counter() - begin
            loss, right, count = self.sums
            show(
                f"epoch {self.epoch + 1}/{self.recipe.epochs}  loss {loss / count:.4f}  training accuracy "
                f"{right / count:.1%}"
            )
            if self.step < self.steps:
                after_step()
        loss, right, count = self.sums
        self.processes.check_same(self.model)
        test = self.data.batches("test", TEST_BATCH, share=self.processes.share)
        tested = evaluate(self.result, test, device=self.device, processes=self.processes)
        done = Epoch(self.epoch + 1, loss / count, right / count, tested, time.perf_counter() - begin, lr)
        self.history = (*self.history, done)
        self.epoch, self.step, self.sums, self.seconds = self.epoch + 1, 0, (0.0, 0.0, 0.0), 0.0
        self.good = snapshot(self.result)
        return done

    def _step(self, x: Input, y: torch.Tensor) -> None:
        taught = None
        if self.teacher is not None:
            with torch.no_grad():
                taught = called(self.teacher, x)
        logits = called(self.parallel, x)  # [N, classes]
        loss = loss_sum(logits, y, self.recipe, taught)
        right = int((logits.detach().argmax(1) == y).sum())
        total, right_of_all, count = self.processes.sums(loss.item(), right, len(y))
        if not math.isfinite(total):
            wrong = f"the loss is {total} in epoch {self.epoch + 1}, step {self.step + 1}"
            raise QuantizationError(f"{wrong}: lower the learning rate (now {self.recipe.lr}) or check the data")
        self.optimizer.zero_grad()
        torch.autograd.backward(loss / (count / self.processes.world))
        if self.recipe.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        self.optimizer.step()
        self.schedule.step()
        with torch.no_grad():
            # As forward will do, but the average, the test and the checkpoint come before it.
            for quantizer in self.quantizers:
                quantizer.scale.clamp_(min=quantizer.floor)
        if self.average is not None:
            self.average.update_parameters(self.model)
        self.sums = (self.sums[0] + total, self.sums[1] + right_of_all, self.sums[2] + count)
        self.step += 1

    def state(self) -> State:
        """Everything that the rest of the training depends on. Its tensors are the living ones."""
        moments, groups = optimizer_state(self.optimizer)
        average = {} if self.average is None else self.average.state_dict()
        parts = {"model": self.model.state_dict(), "optimizer": moments, "average": average, "random": self._random()}
        if self.step:  # between epochs it is `result`
            parts["good"] = self.good
        tensors = {f"{part}.{name}": tensor for part, content in parts.items() for name, tensor in content.items()}
        values = {
            "epoch": self.epoch,
            "step": self.step,
            "sums": list(self.sums),
            "seconds": self.seconds,
            "history": [asdict(epoch) for epoch in self.history],
            "groups": groups,
            "schedule": self.schedule.state_dict(),
        }
        return State(values, tensors)

    def restore(self, state: State) -> None:
        """Go on from there. Errors (QuantizationError): it is of another model."""
        try:
            self.model.load_state_dict(state.part("model"))
            if self.average is not None:
                self.average.load_state_dict(state.part("average"))
            restore_optimizer(self.optimizer, state.part("optimizer"), state.values["groups"])
        except (RuntimeError, ValueError, IndexError) as error:
            raise QuantizationError(
                f"the state does not fit the model ({one_line(error)}): its code has changed since; start anew"
            ) from error
        self.schedule.load_state_dict(state.values["schedule"])
        self.epoch, self.step, self.seconds = (state.values[name] for name in ("epoch", "step", "seconds"))
        loss, right, count = state.values["sums"]
        self.sums = (loss, right, count)
        self.history = tuple(Epoch(**epoch) for epoch in state.values["history"])
        self.good = (
            {name: tensor.to(self.device) for name, tensor in state.part("good").items()}
            if self.step
            else snapshot(self.result)
        )

    def restore_random(self, state: State) -> None:
        """Set the generators that dropout draws from."""
        kept, rank = state.part("random"), self.processes.rank
        torch.set_rng_state(kept[f"cpu.{rank}"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(kept[f"cuda.{rank}"], self.device)

    def _random(self) -> dict[str, torch.Tensor]:
        """{"<device>.<rank>": state} of the generators of all ranks."""
        states = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self.device)
        return {
            f"{kind}.{rank}": state
            for kind, own in states.items()
            for rank, state in enumerate(self.processes.gather(own))
        }

    def _batches(self, epoch: int, skip: int = 0) -> Batches:
        """This rank's share of an epoch's batches, which are the same for the same seed. skip: leave out that many."""
        order = self.seed * 100_003 + epoch
        how: dict[str, Any] = {"augment": self.recipe.augment, "drop_single": True, "share": self.processes.share}
        return self.data.batches("train", self.recipe.batch_size, shuffle=order, skip=skip, **how)


def _average(model: nn.Module, decay: float) -> AveragedModel:
    average: Any = get_ema_multi_avg_fn  # which has no types
    return AveragedModel(model, multi_avg_fn=average(decay))


def snapshot(model: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of a model's state."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
