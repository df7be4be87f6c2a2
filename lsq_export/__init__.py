"""lsq-export: from LSQ+ training (learned scale and real-valued offset) to integer ONNX, exactly.

    prepare -> calib.initialize -> train -> export -> verify

Names are imported when they are first used, so that `lsq-export --help` does not wait for PyTorch.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from calib.lazy import attributes_of

from .version import VERSION

if TYPE_CHECKING:
    from calib.errors import ParityWarning as ParityWarning
    from calib.errors import QuantizationError as QuantizationError
    from calib.errors import QuantizationWarning as QuantizationWarning
    from lsq_export.bundle.directory import Bundle as Bundle
    from lsq_export.bundle.directory import open_bundle as open_bundle
    from lsq_export.checkpoints.prepared_places import places_of as places_of
    from lsq_export.linting.lint_file import Lint as Lint
    from lsq_export.linting.lint_file import lint as lint
    from lsq_export.ptq.one_by_one import Sensitivity as Sensitivity
    from lsq_export.ptq.one_by_one import sensitivity as sensitivity
    from lsq_export.qat.config import QATConfig as QATConfig
    from lsq_export.qat.groups import parameter_groups as parameter_groups
    from lsq_export.qat.prepare_model import layer_names as layer_names
    from lsq_export.qat.prepare_model import prepare as prepare
    from lsq_export.qat.prepare_model import quantizers as quantizers
    from lsq_export.replaying.replaying import replay as replay
    from lsq_export.replaying.result import Replay as Replay
    from lsq_export.rewrite.outlook import check as check
    from lsq_export.verification.parity import Parity as Parity

    from .adopting import adopt as adopt
    from .calibrating import calibrate as calibrate
    from .pipeline import export as export
    from .pipeline import verify as verify

__all__ = [
    "Bundle",
    "Lint",
    "Parity",
    "ParityWarning",
    "QATConfig",
    "QuantizationError",
    "QuantizationWarning",
    "Replay",
    "Sensitivity",
    "adopt",
    "calibrate",
    "check",
    "export",
    "layer_names",
    "lint",
    "open_bundle",
    "parameter_groups",
    "places_of",
    "prepare",
    "quantizers",
    "replay",
    "sensitivity",
    "verify",
]

__version__ = VERSION

# ONNX Runtime 1.32 for Linux keeps a device id and a database of events in the user's cache, and looks up a host of its
# maker, unless this is set before it is imported. Whatever imports it here, and every process that it starts, comes by.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__getattr__ = attributes_of(
    __name__,
    {
        "Bundle": "lsq_export.bundle.directory",
        "Lint": "lsq_export.linting.lint_file",
        "Parity": "lsq_export.verification.parity",
        "ParityWarning": "calib.errors",
        "QATConfig": "lsq_export.qat.config",
        "QuantizationError": "calib.errors",
        "QuantizationWarning": "calib.errors",
        "Replay": "lsq_export.replaying.result",
        "Sensitivity": "lsq_export.ptq.one_by_one",
        "adopt": "lsq_export.adopting",
        "calibrate": "lsq_export.calibrating",
        "check": "lsq_export.rewrite.outlook",
        "export": "lsq_export.pipeline",
        "layer_names": "lsq_export.qat.prepare_model",
        "lint": "lsq_export.linting.lint_file",
        "open_bundle": "lsq_export.bundle.directory",
        "parameter_groups": "lsq_export.qat.groups",
        "places_of": "lsq_export.checkpoints.prepared_places",
        "prepare": "lsq_export.qat.prepare_model",
        "quantizers": "lsq_export.qat.prepare_model",
        "replay": "lsq_export.replaying.replaying",
        "sensitivity": "lsq_export.ptq.one_by_one",
        "verify": "lsq_export.pipeline",
    },
)
