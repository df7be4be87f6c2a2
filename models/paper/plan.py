"""Which runs the tables consist of, and the settings of each network.

Table 1: each configuration at each width. Table 2: configuration 4 at W2A2 from each initialization. Table 3:
configurations 2 to 4 at W3A3 from LSQ's initialization and from LSQ+'s. What several tables need is run once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from calib.errors import QuantizationError

from .digits import HardDigits

NETWORKS = ("efficientnet_b0", "resnet18", "mixnet_s")
SWISH_NETWORKS = ("efficientnet_b0", "mixnet_s")
BITS = (2, 3, 4)
INITS = ("minmax", "lsq", "mse")
INIT_NAMES = {"minmax": "min-max", "lsq": "LSQ", "mse": "LSQ+"}
TABLE_2 = ("4", 2)  # configuration and width of the second table
TABLE_3 = (("2", "3", "4"), 3)  # configurations and width of the third
TABLE_3_INITS = ("lsq", "mse")
# (configuration, initialization) of the first grids that are looked at
FIRST_GRIDS = (*((name, init) for name in ("1s", "2", "3", "4") for init in TABLE_3_INITS), ("4", "minmax"))
TABLES = ("table1", "table2", "table3")


@dataclass(frozen=True)
class Configuration:
    """A row of table 1: the grid of activations, and where scales and offsets start.

    signed_inputs: layers whose inputs go below what Swish can give (linear bottlenecks) get signed codes all the same.
    """

    name: str
    grid: str
    init: str
    signed_inputs: bool = False

    @property
    def description(self) -> str:
        """How the tables describe it."""
        return f"{self.grid_description}; {INIT_NAMES[self.init]} initialization"

    @property
    def grid_description(self) -> str:
        """The grid alone."""
        return self.grid.replace("-", ", ") + (", signed after linear bottlenecks" if self.signed_inputs else "")


CONFIGURATIONS = {
    c.name: c
    for c in (
        Configuration("1", "unsigned-symmetric", "lsq"),  # LSQ
        Configuration("1s", "unsigned-symmetric", "lsq", signed_inputs=True),
        Configuration("2", "signed-symmetric", "mse"),
        Configuration("3", "signed-asymmetric", "mse"),
        Configuration("4", "unsigned-asymmetric", "mse"),
    )
}


@dataclass(frozen=True)
class Run:
    """One training run."""

    network: str
    bits: int
    configuration: str
    init: str
    seed: int

    def __str__(self) -> str:
        return (
            f"{self.network} W{self.bits}A{self.bits} configuration {self.configuration} {self.init} seed {self.seed}"
        )


@dataclass(frozen=True)
class Phase:
    """Settings of one training, as in `lsq_export.training.fit.Recipe`. The rest is that of the recipes there."""

    epochs: int
    lr: float
    batch_size: int
    clip_norm: float


@dataclass(frozen=True)
class Settings:
    """Everything besides a `Run` that decides its result.

    phase          the low-bit training
    data           "digits" or "imagefolder:DIR"
    hard           how digits are made hard; None for a folder
    init_batches   how many training batches scales and offsets start from
    float_seed     seed of the one float model of the network
    norm_eps       ε of the batch norms, in float and low-bit training; None: PyTorch's 1e-5
    """

    phase: Phase
    data: str = "digits"
    hard: HardDigits | None = field(default_factory=HardDigits)
    image_size: int | None = None
    float_phase: Phase = Phase(epochs=15, lr=0.05, batch_size=64, clip_norm=0.0)
    init_batches: int = 4
    first_last_bits: int | None = 8
    float_seed: int = 0
    norm_eps: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Settings:
        """The inverse of to_dict.

        Errors (TypeError, KeyError): missing (but for norm_eps, which early records do not have) or unknown names.
        """
        values = {"norm_eps": None, **values}
        if set(values) != {f.name for f in fields(cls)}:
            raise TypeError(f"settings with the names {', '.join(values)}")
        hard = values["hard"]
        phases = {name: Phase(**values[name]) for name in ("phase", "float_phase")}
        return cls(**{**values, **phases, "hard": None if hard is None else HardDigits(**hard)})

    @property
    def float_digest(self) -> str:
        """Twelve hexadecimal digits that name what decides the float model: the low-bit phase does not."""
        values = {k: v for k, v in self.to_dict().items() if k not in ("phase", "init_batches", "first_last_bits")}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


# Settings of the committed tables: small enough for two cores, long enough that W4A4 learns; the same for all
# configurations and initializations. Swish networks: with PyTorch's ε of 1e-5 EfficientNet-B0 had gradient norms in the
# hundreds, and W4A4 stayed near guessing, at 16 and at 24 pixels; with 1e-2 it learned. The cause is probably channels
# that coarse codes make constant: their batch norm passes gradients on up to 1/√ε times as large.
_RESNET = Settings(phase=Phase(epochs=3, lr=0.03, batch_size=32, clip_norm=1.0))
_SWISH = Settings(
    phase=Phase(epochs=10, lr=0.03, batch_size=32, clip_norm=3.0),
    hard=HardDigits(image_size=24, shift=3),
    float_phase=Phase(epochs=14, lr=0.05, batch_size=32, clip_norm=0.0),
    norm_eps=0.01,
)


def settings_of(network: str) -> Settings:
    """The settings of the committed tables for a network."""
    return _SWISH if network in SWISH_NETWORKS else _RESNET


def plan(networks: Sequence[str] = NETWORKS, seeds: int = 5, only: Iterable[str] = TABLES) -> tuple[Run, ...]:
    """All runs: the first seed of every cell comes before the second one of any, so an unfinished record is balanced.

    only: the runs of these tables.
    """
    if seeds < 1:
        raise QuantizationError(f"the number of seeds is {seeds}: use 1 or more")
    tables = set(only)
    runs: dict[Run, None] = {}  # an ordered set
    for seed in range(seeds):
        for network in networks:
            if "table2" in tables:
                configuration, bits = TABLE_2
                runs.update(dict.fromkeys(Run(network, bits, configuration, init, seed) for init in INITS))
            if "table1" in tables:
                cells = ((bits, row) for bits in BITS for row in rows(network))
                runs.update(dict.fromkeys(Run(network, bits, row.name, row.init, seed) for bits, row in cells))
            if "table3" in tables:
                names, bits = TABLE_3
                pairs = ((name, init) for name in names for init in TABLE_3_INITS)
                runs.update(dict.fromkeys(Run(network, bits, name, init, seed) for name, init in pairs))
    return tuple(runs)


def starts(network: str) -> tuple[tuple[str, str], ...]:
    """(configuration, initialization) of the first grids that are looked at."""
    known = {c.name for c in rows(network)}
    return tuple((name, init) for name, init in FIRST_GRIDS if name in known)


def rows(network: str) -> tuple[Configuration, ...]:
    """The rows of table 1 for a network: 1s only where it is something else than 1."""
    return tuple(c for c in CONFIGURATIONS.values() if network in SWISH_NETWORKS or not c.signed_inputs)
