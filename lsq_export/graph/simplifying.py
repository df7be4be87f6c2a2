"""What torch's exporter wrote becomes simpler, by the passes of `torch.onnx.export(optimize=True)`.

Without one rule of theirs, which joins two Slices to a Split: for every node it walks through all others, which takes
minutes in a network of hundreds of branches, and a Split becomes Slices again (rewrite/normalizing/split_to_slices.py).
Source: onnxscript.optimizer.optimize_ir of onnxscript 0.7.2.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import count
from typing import Any

import onnx_ir as ir

LEFT_OUT = "SlicesSplit"
ROUNDS = 2  # of folding and rewriting, the second one only if the first one changed something


def simplify(model: ir.Model) -> None:
    """Inline functions, fold constants, apply onnxscript's general rules, drop what is unused or there twice."""
    import onnx_ir.passes.common as passes
    from onnxscript import optimizer, rewriter

    passes.InlinePass()(model)
    for _ in range(ROUNDS):
        folded = optimizer.fold_constants_ir(model, onnx_shape_inference=True)
        rewritten = rewriter.RewritePass(rules(model.graph))(model)
        keep_constants(model.graph)
        unused = ir.passes.Sequential(
            passes.RemoveUnusedNodesPass(),
            passes.RemoveUnusedFunctionsPass(),  # type: ignore[no-untyped-call]
            passes.RemoveUnusedOpsetsPass(),
        )(model)
        if not (folded.modified or rewritten.modified or unused.modified):
            break
    ir.passes.Sequential(
        passes.RemoveUnusedNodesPass(),
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.LiftSubgraphInitializersToMainGraphPass(),
        passes.DeduplicateInitializersPass(),
        passes.CommonSubexpressionEliminationPass(),
        passes.OutputFixPass(),
        passes.NameFixPass(),
    )(model)


def keep_constants(graph: ir.Graph) -> None:
    """Constants that nodes read, and that the graph lost, get names of their own.

    Some of the rules call two of them by one name, where they read one tensor twice (two Clips after two Clips, two
    Flattens), and the graph then has the last one alone.
    """
    for value in dict.fromkeys(value for node in graph for value in node.inputs if value is not None):
        lost = value.const_value is not None and value.producer() is None and not value.is_graph_input()
        if lost and graph.initializers.get(str(value.name)) is not value:
            name = next(name for i in count(1) if (name := f"{value.name}_{i}") not in graph.initializers)
            value.name = name
            graph.register_initializer(value)


def rules(graph: ir.Graph) -> Sequence[Any]:
    """Those of onnxscript that are applied: each is tried at every node, so only those that can be about one."""
    from onnxscript import rewriter

    there = {node.op_type for node in graph.all_nodes()}
    return [rule for rule in rewriter._DEFAULT_REWRITE_RULES if rule.name != LEFT_OUT and _may_match(rule, there)]


def _may_match(rule: Any, there: Collection[str]) -> bool:
    """Whether one of these operators can be the last one of what a rule replaces."""
    pattern = getattr(rule, "_target_pattern", None)
    if pattern is None or not pattern.has_single_output_node:
        return True
    operator = pattern.output_node.op_identifier()
    return operator is None or operator[1] in there
