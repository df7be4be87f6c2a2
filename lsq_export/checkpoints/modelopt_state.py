"""What `modelopt.torch.opt.save` keeps beside a model: bits and signedness of its quantizers, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def states_of(content: Any) -> dict[str, dict[str, Any]]:
    """{quantizer: bits, signed, narrow, floats, disabled}; nothing for any other file."""
    state = content.get("modelopt_state") if isinstance(content, Mapping) else None
    modes = state.get("modelopt_state_dict") if isinstance(state, Mapping) else None
    found: dict[str, dict[str, Any]] = {}
    for mode in modes if isinstance(modes, (list, tuple)) else ():
        given = mode[1] if isinstance(mode, (list, tuple)) and len(mode) == 2 else {}
        metadata = given.get("metadata") if isinstance(given, Mapping) else None
        quantizers = metadata.get("quantizer_state") if isinstance(metadata, Mapping) else None
        for name, entry in quantizers.items() if isinstance(quantizers, Mapping) else ():
            if isinstance(entry, Mapping):
                found[str(name)] = _entry(entry)
    return found


def _entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    bits, unsigned = entry.get("_num_bits"), entry.get("_unsigned")
    return {
        "bits": bits if isinstance(bits, int) and not isinstance(bits, bool) else None,
        "floats": isinstance(bits, (list, tuple)),
        "signed": None if unsigned is None else not unsigned,
        "narrow": bool(entry.get("_narrow_range", False)),
        "disabled": bool(entry.get("_disabled", False)),
    }
