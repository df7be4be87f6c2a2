"""The paragraphs of RESULTS.md around its tables."""

from __future__ import annotations

import textwrap

from .plan import TABLE_2, TABLE_3

WIDTH = 149  # columns of RESULTS.md


def _wrapped(*parts: str) -> str:
    """One paragraph, wrapped anew to the width of RESULTS.md. Each part begins a line."""
    lines = (textwrap.fill(" ".join(part.split()), WIDTH, break_on_hyphens=False) for part in parts)
    return "\n".join(lines)


INTRODUCTION = _wrapped("""
    The paper (arXiv:2004.09576) trains on ImageNet for 90 epochs. These are other data and much shorter runs, which two
    cores can do in hours: the numbers are not comparable with the paper's, only what they say about configurations and
    initializations is. Accuracy is top-1 on the test images in percent.
""")

CLAIMS = _wrapped("""
    *Holds* and *does not reproduce* need the whole 95 % confidence interval (Student's t, differences paired by seed)
    on one side of zero, or p < 0.05; everything else is *undecided*, also what compares networks that do not beat
    guessing (10 % on digits). The interval is that of the training seed (order and shifts of the images, calibration
    images) for one float model and one set of test images. Many claims are tested, without a correction for that.
""")

TABLE_1 = _wrapped("""
    Mean ± standard deviation over seeds [number of runs], and the mean difference to the float model in points. Weights
    are symmetric, one scale a tensor; the first and the last layer have 8 bits. Configuration 1 is LSQ, with LSQ's
    initialization; 2 to 4 start from LSQ+'s. In configuration 1 *every* layer has unsigned codes, also those after a
    linear bottleneck, whose inputs are negative about half the time; what the paper's LSQ does there is not known here.
    1s is LSQ with signed codes in these layers (those whose calibration inputs go below -0.2785, the least value of
    Swish): the stronger baseline. ResNet-18 has no such layer.
""")

TABLE_2_TEXT = _wrapped(f"""
    Configuration {TABLE_2[0]} at W{TABLE_2[1]}A{TABLE_2[1]}; only scales and offsets of activations start differently.
""")

TABLE_3_TEXT = _wrapped(
    f"""
    In table 1 configurations 2 to 4 differ from LSQ in two things, the grid of activations and where it starts. Here
    each of these grids starts both ways at W{TABLE_3[1]}A{TABLE_3[1]}: a row shows what the initialization does, a
    column what the grid does. LSQ has no offset: from its
    """,
    """
    initialization asymmetric grids start at β = 0, where unsigned codes (configuration 4) lose all negative values
    until training has moved β. The
    """,
    """
    difference is paired by seed, with its 95 % interval.
    """,
)

FIRST_GRIDS = _wrapped("""
    What these grids do before any training, to the calibration images of seed 0 in the float model: the step s in units
    of the tensor's σ, the squared error of x̂ in units of its variance, and constant channels: those that vary in float
    and have one code only. Means over all layers with inputs of four dimensions, the first one (8 bits) and those of
    squeeze-and-excitation (one value a channel and image) included. A grid belongs to a whole tensor: the least squared
    error is mostly that of the channels with large values, and a channel with small ones may end up on one code.
""")

COMMANDS = f"""\
    {"make paper-tables":<75} # hours; goes on where it was interrupted
    {"python -m models.first_grids --out models/results/first-grids.json":<75} # minutes
    {"python -m models.paper_tables --render --record models/results/runs.jsonl":<75} # this file again, from the \
committed record"""

TRAINING = _wrapped("""
    Accuracy is that after the last epoch, not of the best one. Each network has one float model, from which all its
    runs start, and one low-bit training for all configurations and initializations, which also has the safeguards of
    `FINETUNE` in `lsq_export/training/recipe.py`. On images below 64 pixels EfficientNet-B0 and MixNet-S have half
    their width and a stem of stride 1; ResNet-18 is as published.
""")

TRIALS = _wrapped(
    """
    The committed settings were found by trial on seed 0, judged by test images, too: ResNet-18's rate on configurations
    1 and 4 at W2A2 (the higher
    """,
    """
    of two was better for both), those of the Swish networks on configuration 4 of EfficientNet-B0, some fifteen trials,
    until W4A4 learned. At W2A2
    """,
    """
    none of these trials on configuration 4 got beyond guessing (up to 25 epochs, rates of 0.03 to 0.15, also with 8-bit
    weights). This favors
    """,
    """
    configuration 4, if anything.
    """,
)

ORIGIN = "\n\n".join([COMMANDS, TRAINING, TRIALS])
