"""Do the data still fit the learned grids? What each quantizer sees now, against what it saw in calibration."""

from calib.drift.drifted import (
    RECORD,
    Drift,
    DriftMonitor,
    Thresholds,
    compare,
    from_record,
    measure,
    reinitialize,
    to_record,
)

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
