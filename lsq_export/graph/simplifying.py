"""What torch's exporter wrote becomes simpler, by the passes of `torch.onnx.export(optimize=True)`.

Without one rule of theirs, which joins two Slices to a Split: for every node it walks through all others, which takes
minutes in a network of hundreds of branches, and a Split becomes Slices again (rewrite/normalizing/split_to_slices.py).
Source: onnxscript.optimizer.optimize_ir of onnxscript 0.7.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

LEFT_OUT = "SlicesSplit"
ROUNDS = 2  # of folding and rewriting, the second one only if the first one changed something


def simplify(model: ir.Model) -> None:
    """Inline functions, fold constants, apply onnxscript's general rules, drop what is unused or there twice."""
    import onnx_ir.passes.common as passes
    from onnxscript import optimizer, rewriter

    rewriting = rewriter.RewritePass(rules())
    passes.InlinePass()(model)
    for _ in range(ROUNDS):
        folded = optimizer.fold_constants_ir(model, onnx_shape_inference=True)
        rewritten = rewriting(model)
        unused = ir.passes.Sequential(
            passes.RemoveUnusedNodesPass(), passes.RemoveUnusedFunctionsPass(), passes.RemoveUnusedOpsetsPass()
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


def rules() -> Sequence[Any]:
    """Those of onnxscript that are applied."""
    from onnxscript import rewriter

    return [rule for rule in rewriter._DEFAULT_REWRITE_RULES if rule.name != LEFT_OUT]
