"""The training side of the pipeline as one job: data -> float model -> prepare -> initialize -> QAT -> checkpoint.

    job = Job("resnet18", "digits", QATConfig(weight_bits=4, activation_bits=4))
    data = job.load_data()
    float_phase = train_float(job, data)
    low_bit = train_low_bit(job, data, float_phase.model, out=Path("r18.safetensors"))
    low_bit.accuracy, low_bit.initialized_accuracy

With a `training.run.Run` both phases can be interrupted at any moment and resumed to the same bits.
"""

from __future__ import annotations

from .float_phase import FloatPhase, train_float
from .job_settings import Job
from .low_bit_phase import LowBitPhase, train_low_bit
from .phase import FLOAT, LOW_BIT, RECORDED

__all__ = ["FLOAT", "LOW_BIT", "RECORDED", "FloatPhase", "Job", "LowBitPhase", "train_float", "train_low_bit"]
