"""Where a training stands, as a file: safetensors, and JSON in its metadata. Nothing is unpickled.

    file = StateFile(Path("r18.state.safetensors"), job.identity(data))
    file.write("low-bit", loop.state(), {"initialized": 0.9})
    saved = file.read()
    loop.restore(saved.state)

A kill at any moment leaves the old file or the new one. A state of another job is refused by the option that differs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from calib.errors import QuantizationError, one_line
from lsq_export.files import sealed, tensor_file
from lsq_export.files.atomic import sweep

FORMAT = "2"  # raise it when the meaning of the content changes
_FORMATS = (FORMAT, "1")  # 1 had no digest
_KEY = "lsq_export_state"
ANEW = "--force starts anew"
# Fields of a job whose option has another name, and those of float_recipe that have an option of their own.
OPTIONS = {"model_name": "model", "data_spec": "data", "activation_grid": "grid", "weight_granularity": "granularity"}
FLOAT = ("epochs", "lr")


@dataclass(frozen=True)
class State:
    """A training loop between two steps: plain values, and tensors by "<part>.<name>"."""

    values: dict[str, Any]
    tensors: dict[str, torch.Tensor]

    def part(self, name: str) -> dict[str, torch.Tensor]:
        """The tensors of one part, without its name."""
        return {key[len(name) + 1 :]: tensor for key, tensor in self.tensors.items() if key.startswith(f"{name}.")}


@dataclass(frozen=True)
class Saved:
    """A state, its phase ("float" or "low-bit"), and what else the phase had to keep."""

    phase: str
    state: State
    results: dict[str, Any]


@dataclass(frozen=True)
class StateFile:
    """The file that keeps a state. identity: everything that decides the result, as plain values."""

    path: Path
    identity: dict[str, Any]

    def write(self, phase: str, state: State, results: dict[str, Any]) -> None:
        """Replace the file by this state, at once or not at all."""
        fields = {"phase": phase, "identity": self.identity, "results": results, "values": state.values}
        metadata = {_KEY: FORMAT} | {name: json.dumps(value) for name, value in fields.items()}
        tensor_file.write(self.path, state.tensors, metadata, "state")

    def read(self) -> Saved:
        """What was written.

        Errors (QuantizationError): missing, damaged, not ours, of another job (which option differs).
        """
        if not self.path.is_file():
            raise QuantizationError(
                f"--resume: {self.path} does not exist, so no run was interrupted here; leave --resume out"
            )
        try:
            tensors, metadata = sealed.read(self.path)
        except (SafetensorError, OSError, ValueError) as error:
            raise self._damaged(one_line(error)) from error
        if metadata.get(_KEY) not in _FORMATS:
            raise QuantizationError(f"--resume: {self.path} is no state of this version of lsq-export train; {ANEW}")
        if metadata[_KEY] == FORMAT and sealed.DIGEST not in metadata:
            raise self._damaged("it lacks its digest")
        try:
            phase, identity, results, values = (
                json.loads(metadata[name]) for name in ("phase", "identity", "results", "values")
            )
        except (KeyError, ValueError, RecursionError) as error:
            raise self._damaged(one_line(error)) from error
        self._check(identity)
        return Saved(phase, State(values, tensors), results)

    def remove(self) -> None:
        """Remove the file: the run is complete."""
        self.path.unlink(missing_ok=True)
        sweep(self.path)

    def _damaged(self, why: str) -> QuantizationError:
        return QuantizationError(f"--resume: {self.path} is damaged ({why}); {ANEW}")

    def _check(self, identity: dict[str, Any]) -> None:
        before, now = dict(_flat(identity)), dict(_flat(json.loads(json.dumps(self.identity))))
        for name in {**now, **before}:
            if before.get(name) != now.get(name):
                had, has = f"{option(name)} {_shown(before.get(name))}", _shown(now.get(name))
                raise QuantizationError(
                    f"--resume: the interrupted run had {had}, this one has {has}; give the same options, or {ANEW}"
                )


def is_state(path: Path) -> bool:
    """Whether a state was written there, by any version."""
    try:
        with safe_open(path, framework="pt") as file:
            return _KEY in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def kept_in(path: Path, field: str) -> Any:
    """A field of the identity that was written there; None where there is none."""
    try:
        with safe_open(path, framework="pt") as file:
            return json.loads((file.metadata() or {}).get("identity", "{}")).get(field)
    except (SafetensorError, OSError, ValueError, RecursionError):
        return None  # `read` says what is wrong


def standing(path: Path) -> tuple[str, int, int] | None:
    """(phase, its completed epochs, of how many) of the state that was written there; None where there is none."""
    try:
        with safe_open(path, framework="pt") as file:
            phase, identity, values = (json.loads(file.metadata()[name]) for name in ("phase", "identity", "values"))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError):
        return None
    return phase, len(values["history"]), identity["float_recipe" if phase == "float" else "recipe"]["epochs"]


def option(name: str) -> str:
    """The option of `lsq-export train` that sets a field: float_recipe.lr -> --float-lr."""
    *parents, field = name.split(".")
    prefix = "float-" if "float_recipe" in parents and field in FLOAT else ""
    return f"--{prefix}{OPTIONS.get(field, field).replace('_', '-')}"


def _flat(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _shown(value: Any) -> str:
    return "no value" if value is None else str(value)
