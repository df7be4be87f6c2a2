"""torch.fx's view of a model, or a line that says why there is none and where in the user's code."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.fx._symbolic_trace import _assert_is_none

from calib.errors import QuantizationError, one_line
from calib.samples import Input, absent_from

from .by_example import NoGraph, graph_by_example
from .layer_types import FLOAT_LAYERS
from .layer_types import QUANTIZED_LAYERS as LAYERS
from .lengths import lengths_as_sizes
from .modes import Training, in_eval, warn_of_branches
from .plain import copied

DROPOUTS = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d)
LIBRARIES = (Path(torch.__file__).parent, Path(__file__))
ADVICE = "give an example (prepare(model, config, example=x)), along which its forward is watched, or"


class Untraceable(QuantizationError):
    """A model that torch.fx cannot trace, or that tracing would change. why: in one sentence, without an end."""

    def __init__(self, why: str, advice: str) -> None:
        super().__init__(
            f"edges='trained' needs a model that torch.fx can trace: {why}; {advice}, or use edges='calibrated'"
        )
        self.why = why


class Traced(fx.GraphModule):
    """A graph whose copies keep the configuration of the original, while torch copies only what the graph calls."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Traced:
        copied: Traced = super().__deepcopy__(memo)  # type: ignore[assignment]
        if "qat_config" in self.__dict__:
            copied.qat_config = self.qat_config
        return copied

    def recompile(self) -> Any:
        """Errors are raised, as those of any module; torch.fx would also print them."""
        code = super().recompile()
        type(self).__call__ = nn.Module.__call__  # type: ignore[method-assign]
        return code


class _Tracer(fx.Tracer):
    """A tracer that keeps layers of the user's own classes whole, and the lines of the user's code.

    opens: modules of torch with quantized layers in them (nn.TransformerEncoder) are traced through: they have edges.
    absent: arguments that are None, as `if labels is not None` has to see; another value is an error of the graph.
    """

    record_stack_traces = True

    def __init__(self, opens: bool, absent: Iterable[str] = ()) -> None:
        super().__init__()
        self._opens = opens
        self._absent = frozenset(absent)

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list[Any]]:
        function, arguments = super().create_args_for_root(root_fn, is_module, concrete_args)
        absent = [argument for argument in arguments if self._is_absent(argument)]
        for argument in absent:
            said = f"the model was prepared without {argument.node.target}: prepare it with an example that has it"
            self.create_proxy("call_function", _assert_is_none, (argument, said), {})
        return function, [None if self._is_absent(argument) else argument for argument in arguments]

    def _is_absent(self, argument: Any) -> bool:
        return isinstance(argument, fx.Proxy) and argument.node.target in self._absent

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        whole = bool(super().is_leaf_module(m, module_qualified_name))
        return isinstance(m, LAYERS) or (whole and not (self._opens and has_edges_inside(m)))


def has_edges_inside(module: nn.Module) -> bool:
    """A module of torch's own with quantized layers in it, that a trace would take as a whole."""
    of_torch = type(module).__module__.startswith("torch.nn")
    return of_torch and not isinstance(module, (nn.Sequential, *LAYERS, *FLOAT_LAYERS)) and _has_layers(module)


def _has_layers(module: nn.Module) -> bool:
    return any(isinstance(part, LAYERS) for part in module.modules())


def trace(model: nn.Module, layers: Iterable[str], example: Input | None = None) -> Traced:
    """The model as a graph; names of parameters stay. layers: those that its forward has to use.

    example: inputs [N, …] of the model, along which a forward is watched that torch.fx cannot trace.

    Errors (Untraceable): a model that torch.fx cannot trace, or that tracing would change, without an example; one that
    computes something else for other inputs; a layer that its forward does not use.
    """
    if isinstance(model, LAYERS):
        raise Untraceable("it is a single layer", "wrap it in torch.nn.Sequential")
    model, graph = _graph(model, example)
    traced = Traced(model, graph, type(model).__name__)
    used = dict(traced.named_modules())
    for name in layers:
        if name in used:
            continue
        if example is None:
            raise Untraceable(f"layer {name} is not used by the model's forward", f"{ADVICE} remove it")
        traced.add_submodule(name, model.get_submodule(name))  # a head of training alone, or one that is left out
    return traced


def _graph(model: nn.Module, example: Input | None) -> tuple[nn.Module, fx.Graph]:
    """(the model or a copy of it, its graph)"""
    absent = [] if example is None else absent_from(model, example)
    closed = any(map(has_edges_inside, model.modules()))
    source = copied(model) if closed or example is not None else model  # a trace that fails leaves its values behind
    try:
        return model, _symbolic(model, opens=True, absent=absent)
    except Untraceable as error:
        why = error
    if example is not None:
        model = copied(source) if closed else source
        try:
            return model, graph_by_example(model, example)
        except NoGraph as other:
            why = Untraceable(f"{why.why}; along the example, {other}", "change its forward")
    if not closed:
        raise why
    return source, _symbolic(source, opens=False, absent=absent)


def _symbolic(model: nn.Module, *, opens: bool, absent: Iterable[str] = ()) -> fx.Graph:
    """torch.fx's own graph of any input. opens, absent: as `_Tracer` has it."""
    asked: set[str] = set()
    try:
        with lengths_as_sizes(model), in_eval(model, asked):
            graph = _Tracer(opens, absent).trace(model)
    except Exception as error:  # whatever the model's forward raises on a symbolic input
        where = _where(model, error)
        why = f"its forward fails{where} ({one_line(error)})"
        raise Untraceable(why, f"{ADVICE} change {'that line' if where else 'its forward'}") from error
    frozen = next((node for node in graph.nodes if node.target in DROPOUTS or _takes_mode(node)), None)
    if frozen is not None:
        name = getattr(frozen.target, "__name__", str(frozen.target))
        why = f"a trace would freeze torch.nn.functional.{name} in one mode"
        raise Untraceable(why, f"{ADVICE} use {'torch.nn.Dropout' if frozen.target in DROPOUTS else 'a module'}")
    warn_of_branches(asked)
    return graph


def _takes_mode(node: fx.Node) -> bool:
    """Whether a function is told that the model is not training."""
    return any(isinstance(given, Training) for given in (*node.args, *node.kwargs.values()))


def _where(model: nn.Module, error: BaseException) -> str:
    """Module, file and line of the model's own code that raised; nothing if no such code is known."""
    found: tuple[FrameType, int] | None = None
    traceback = error.__traceback__
    while traceback is not None:
        path = Path(traceback.tb_frame.f_code.co_filename)
        if not any(path.is_relative_to(library) for library in LIBRARIES):
            found = traceback.tb_frame, traceback.tb_lineno
        traceback = traceback.tb_next
    if found is None:
        return ""
    frame, line = found
    owner = next((frame.f_locals.get(first) for first in frame.f_code.co_varnames[:1]), None)
    names = [name for name, module in model.named_modules() if module is owner]
    module = f" in {names[0] or 'the model'} ({type(owner).__name__})," if names else " at"
    return f"{module} {Path(frame.f_code.co_filename).name}:{line}"
