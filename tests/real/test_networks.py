"""What the comparison asks of each network is there: batches of its samples, and a score."""

from __future__ import annotations

import numpy as np
import pytest

from .networks import NETWORKS
from .networks.network import Network


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_answers_what_is_asked(name: str) -> None:
    network = NETWORKS[name]
    assert isinstance(network, Network) and network.name == name
    assert all(callable(getattr(network, asked)) for asked in ("model", "samples", "outputs", "calibration", "score"))


@pytest.mark.parametrize("name", [name for name, network in NETWORKS.items() if name != "silero-vad"])
def test_the_batches_of_the_calibration_are_all_samples(name: str) -> None:
    """That of speech goes sample after sample through the states of the network."""
    samples = {"x": np.arange(40).reshape(20, 2)}
    parts = [batch["x"] for batch in NETWORKS[name].calibration(samples)]
    np.testing.assert_array_equal(np.concatenate(parts), samples["x"])
