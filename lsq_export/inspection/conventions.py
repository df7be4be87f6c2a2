"""How libraries keep learned grids in a state_dict: one entry for each way, by the names of its tensors.

A quantizer is a prefix with the tensors that its way asks for. `grid` turns them into a scale and a zero point, in the
library's own parametrization: a step, a range, a largest value or a threshold. What a file does not say (mostly the bit
width) is None, and has to come from the user. Versions: torch 2.13, torchao 0.18, Brevitas 0.13.4, NNCF 3.4.0,
AIMET 2.42, ModelOpt 0.47.0, Quark 0.13, MCT 2.6.1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .observed import FIXED, FLOOR, HIGHEST, LOWEST, SWITCH
from .parametrizations import (
    RUNNING,
    Reading,
    aimet,
    brevitas,
    modelopt,
    nncf_maximum,
    nncf_range,
    step_and_offset,
    steps,
    threshold,
)


@dataclass(frozen=True, kw_only=True)
class Convention:
    """One way. name: of the library. needs: what the last parts of its tensors' names are, all of them; takes: what may
    be there as well. place: matches the prefix, its group `place` is the module (or operator) and `role` what is
    quantized there. stored: the parametrization in words. grid: what the tensors say. whole: a zero point that is
    no integer is rounded before it is used.
    """

    name: str
    stored: str
    place: re.Pattern[str]
    needs: tuple[str, ...]
    grid: Reading
    takes: tuple[str, ...] = ()
    whole: bool = False


ANY = r"(?P<place>.*?)"
LSQ_STEPS = ("s", "scale", "step", "step_size", "alpha", "act_alpha", "wgt_alpha", "w_alpha", "a_alpha")
LSQ_OFFSETS = ("beta", "act_beta", "offset", "a_beta", "w_beta")

CONVENTIONS: tuple[Convention, ...] = (
    Convention(
        name="lsq-export",
        stored="scale, offset",
        place=re.compile(ANY + r"\.?(?P<role>input_quantizer|parametrizations\.weight\.0|edges\..+)"),
        needs=("scale", "offset", "initialized"),
        grid=step_and_offset("scale", "offset"),
    ),
    Convention(
        name="torch.ao / torchao",
        stored="scale, zero point",
        place=re.compile(ANY + r"\.?(?P<role>weight_fake_quant|activation_post_process(_\d+)?)"),
        needs=("scale", "zero_point"),
        takes=(LOWEST, HIGHEST, FLOOR, SWITCH, FIXED),
        grid=steps("scale", "zero_point"),
        whole=True,
    ),
    Convention(
        name="MQBench",
        stored="scale, zero point",
        place=re.compile(r"(?P<place>.+)_(?P<role>post_act_fake_quantizer)"),
        needs=("scale", "zero_point"),
        takes=(LOWEST, HIGHEST, FLOOR),
        grid=steps("scale", "zero_point"),
        whole=True,
    ),
    Convention(
        name="torchao, converted",
        stored="scale, zero point",
        place=re.compile(r"(?P<place>_frozen_param\d+)(?P<role>)"),
        needs=("scale", "zero_point"),
        grid=steps("scale", "zero_point"),
    ),
    Convention(
        name="Brevitas",
        stored="range, minimum",
        place=re.compile(ANY + r"\.(?P<role>act_quant|weight_quant)(\.fused_activation_quant_proxy)?\.tensor_quant"),
        needs=("scaling_impl.value",),
        takes=("zero_point_impl.value",),
        grid=brevitas,
    ),
    Convention(
        name="Brevitas",
        stored="range, minimum",
        place=re.compile(ANY + r"\.(?P<role>act_quant)(\.fused_activation_quant_proxy)?\.tensor_quant"),
        needs=(RUNNING,),
        takes=("zero_point_impl.value",),
        grid=brevitas,
    ),
    Convention(
        name="NNCF",
        stored="input_low, input_range",
        place=re.compile(r"(?:.*\.)?__nncf_hooks\.(?P<role>post_hooks|pre_hooks)\.(?P<place>.+?)__\d+\.\d+"),
        needs=("input_low", "input_range"),
        takes=("_num_bits",),
        grid=nncf_range,
    ),
    Convention(
        name="NNCF",
        stored="maximum",
        place=re.compile(r"(?:.*\.)?__nncf_hooks\.(?P<role>post_hooks|pre_hooks)\.(?P<place>.+?)__\d+\.\d+"),
        needs=("scale", "signed_tensor"),
        takes=("_num_bits",),
        grid=nncf_maximum,
    ),
    Convention(
        name="AIMET",
        stored="min, max",
        place=re.compile(ANY + r"\.?(?P<role>(?:input|output|param)_quantizers\.\w+)"),
        needs=("min", "max"),
        takes=("_extra_state",),
        grid=aimet,
    ),
    Convention(
        name="ModelOpt",
        stored="amax",
        place=re.compile(ANY + r"\.?(?P<role>(?:input|output|weight|\w+_bmm)_quantizer)"),
        needs=("_amax",),
        takes=("_bias_value",),
        grid=modelopt,
    ),
    Convention(
        name="Quark",
        stored="scale, zero point",
        place=re.compile(ANY + r"\.?(?P<role>_(?:input|output|weight|bias)_quantizer|fake_quantizer_\d+)"),
        needs=("scale", "zero_point"),
        grid=steps("scale", "zero_point"),
    ),
    Convention(
        name="MCT",
        stored="threshold",
        place=re.compile(r"(?P<place>.+?)_activation_holder_quantizer(?P<role>)"),
        needs=("activation_holder_quantizer_out",),
        grid=threshold,
    ),
    Convention(
        name="MCT",
        stored="threshold",
        place=re.compile(r"(?P<place>.+)(?P<role>)"),
        needs=("weight_ptq_threshold_tensor",),
        grid=threshold,
    ),
    *(
        Convention(
            name="LSQ+",
            stored=f"{step}, {offset}",
            place=re.compile(ANY + r"\.?(?P<role>\w*)"),
            needs=(step, offset),
            grid=step_and_offset(step, offset),
        )
        for step in LSQ_STEPS
        for offset in LSQ_OFFSETS
    ),
    *(
        Convention(
            name="LSQ",
            stored=step,
            place=re.compile(r"(?P<place>.*?)\.?(?P<role>\w*(?:quant|lsq|fq)\w*(?:\.\w+)?)"),
            needs=(step,),
            grid=steps(step, ""),
        )
        for step in LSQ_STEPS
    ),
)
