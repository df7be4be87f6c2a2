"""Where torchao put its quantizers, from the prepared model itself: [places] of a mapping, with nothing guessed.

    prepared = prepare_qat_pt2e(torch.export.export(net, (x,)).module(), quantizer)
    json.dump({"places": places_of(prepared)}, file)        # {"activation_post_process_4": "b.2/relu/0.output", …}

a.0.weight                 the weight of a layer
a.2/relu/0.output          behind the first relu of module a.2, for all of its readers; x.output: behind an input
c/conv2d/0.input           in front of that call alone; several calls are separated by commas
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from torch import fx, nn

from calib.errors import QuantizationError

from .assigning import BETWEEN

QUANTIZER = re.compile(r"(?:.*\.)?activation_post_process_\d+")
OF_TORCH = "torch.nn.modules."


def places_of(prepared: nn.Module) -> dict[str, str]:
    """{quantizer of a model that torchao's `prepare_qat_pt2e` made: its place}, for `places` of a mapping.

    Errors (QuantizationError): a model without such quantizers; one whose place has no name in the float network.
    """
    if not isinstance(prepared, fx.GraphModule):
        raise QuantizationError(
            f"a {type(prepared).__name__} has no graph: give the model that prepare_qat_pt2e returned, before convert"
        )
    found = _Graph(prepared.graph)
    quantizers = [node for node in prepared.graph.nodes if _is_quantizer(node)]
    if not quantizers:
        raise QuantizationError(
            "the model has no activation_post_process_N: give the one that prepare_qat_pt2e returned, before convert"
        )
    in_order = sorted(quantizers, key=lambda node: int(str(node.target).rpartition("_")[2]))
    return {str(node.target): found.place(node) for node in in_order}


def _is_quantizer(node: fx.Node) -> bool:
    return node.op == "call_module" and QUANTIZER.fullmatch(str(node.target)) is not None


class _Graph:
    """Names of calls: the module, the function, and which of its calls."""

    def __init__(self, graph: fx.Graph) -> None:
        self._data: set[fx.Node] = set()
        self._names: dict[fx.Node, str] = {}
        self._functions: dict[str, set[str]] = {}
        calls: Counter[str] = Counter()
        for node in graph.nodes:
            if node.op == "placeholder":
                self._names[node] = node.name
            if node.op == "placeholder" or any(source in self._data for source in node.all_input_nodes):
                self._data.add(node)
            if node.op == "call_function" and node in self._data and not self._is_of_training(node):
                function = str(getattr(node.target, "__name__", node.target)).partition(".")[0].rstrip("_")
                path, kind = _module_of(node)
                call = f"{path}/{function}"
                self._names[node] = f"{call}/{calls[call]}"
                calls[call] += 1
                if kind.startswith(OF_TORCH):
                    self._functions.setdefault(path, set()).add(function)

    def _is_of_training(self, node: fx.Node) -> bool:
        """What torchao puts between a layer and its batch norm: its other input is computed from parameters."""
        return any(source.op == "call_function" and source not in self._data for source in node.all_input_nodes)

    def place(self, quantizer: fx.Node) -> str:
        """Of one quantizer."""
        source = quantizer.all_input_nodes[0]
        if source not in self._data:
            return self._weight(quantizer, source)
        if not _is_quantizer(source) and [user for user in source.users if _reads(user)] == [quantizer]:
            return f"{self._name(source, quantizer)}.output"
        return BETWEEN.join(f"{self._name(user, quantizer)}.input" for user in quantizer.users if _reads(user))

    @staticmethod
    def _weight(quantizer: fx.Node, source: fx.Node) -> str:
        own = source if source.op == "get_attr" else next(iter(source.all_input_nodes), source)
        if own.op != "get_attr" or not str(own.target).endswith(".weight"):
            raise QuantizationError(
                f"{quantizer.target} is of {source.name}, which is no weight of a layer: leave it out (skip in a "
                "mapping file), or quantize layers alone"
            )
        return str(own.target)

    def _name(self, node: fx.Node, quantizer: fx.Node) -> str:
        name = self._names.get(node)
        if name is None or len(self._functions.get(name.partition("/")[0], ())) > 1:
            raise QuantizationError(
                f"{quantizer.target} is at {node.name}, inside of a module that is one operator in the float network: "
                "say where it is, in [places] of a mapping file, or leave it out (skip)"
            )
        return name


def _reads(node: fx.Node) -> bool:
    """torch.export's checks of its inputs read them as well, and compute nothing."""
    return node.op != "call_module" or _is_quantizer(node)


def _module_of(node: fx.Node) -> tuple[str, str]:
    """The path of the innermost module whose forward made a node, and its class."""
    stack: list[tuple[str, str]] = [
        (str(path), kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}")
        for path, kind in _stack(node)
    ]
    return stack[-1] if stack else ("", "")


def _stack(node: fx.Node) -> Iterator[tuple[str, type | str]]:
    yield from (node.meta.get("nn_module_stack") or {}).values()
