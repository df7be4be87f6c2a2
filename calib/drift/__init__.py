"""Do the data still fit the learned grids?

LSQ+ learns s and β for the data that it sees (arXiv:2004.09576, part 3); other data meet a grid that clips them or
leaves its codes unused. This compares how each activation quantizer is used now with how it was used in calibration.

    before = drift.measure(model, calibration_batches)       # {name: RangeUse}; train writes it into the checkpoint
    now = drift.measure(model, deployment_batches)
    left = [d for d in drift.compare(before, now) if d.reasons]
    drift.reinitialize(model, deployment_batches, [d.name for d in left])

A reason is a text like "clips 7.3% above (0.4% in calibration)". The model runs quantized, in eval mode: what a layer
receives is what it receives in use, after the clipping of the layers before it. A quantizer that clips therefore hides
the drift from those downstream; they may leave their range once it is re-initialized, so compare again afterwards.
"""

from .comparison import Drift, Thresholds, compare
from .monitor import DriftMonitor, measure
from .new_grids import reinitialize
from .records import RECORD, from_record, to_record

__all__ = [
    "RECORD",
    "Drift",
    "DriftMonitor",
    "Thresholds",
    "compare",
    "from_record",
    "measure",
    "reinitialize",
    "to_record",
]
