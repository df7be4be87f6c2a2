"""known_shapes: shapes that the exporter left open, or computes in the graph, become known.

    Reshape(x, Concat(Shape(x), …))     =>  Reshape(x, [-1, 8, 16])         one size varies with the batch: it is -1
    Expand(x, [3, 4])                   computed, but always the same       =>  a constant
    y: [None, None, None]               =>  y: [batch, 6, 16]

ONNX Runtime runs the graph on two batches, of two and three zeros: what differs between them depends on the batch.
What is left of the arithmetic of shapes stays as it is (the note FLOAT, SHAPES), and reads the batch of the network's
input. Nothing is done where sizes depend on the data (NonZero and the like), or where ONNX Runtime cannot run it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx_ir as ir

from lsq_export.graph.edit import clean, constant, copy, make, replace
from lsq_export.graph.kept_float import SHAPES
from lsq_export.graph.notes import FLOAT
from lsq_export.graph.read import array_of, is_float, is_marker
from lsq_export.graph.stock import run_graph, zeros_for
from lsq_export.rewrite.contract.passes import Keeps, Pass, stateless

BATCHES = (2, 3)
UNKNOWN_SIZES = ("Compress", "NonMaxSuppression", "NonZero", "StringSplit", "Unique")
FILLS = ("ConstantOfShape", "Expand")  # floats, but the same in every image
Run = Mapping[str, np.ndarray]


def know_shapes(model: ir.Model) -> None:
    graph = model.graph
    computed = _of_shapes(graph)
    if computed or any(_is_open(v) for node in graph for v in node.outputs):
        clean(model)  # unique names
        computed = _of_shapes(graph)
        runs = _runs(model, computed)
        if runs is not None:
            _note_shapes(graph, *runs)
            _to_constants(graph, computed, *runs)
            clean(model)
    left = _of_shapes(graph)
    for node in left:
        FLOAT.write(node, SHAPES)
        if node.op_type == "Shape":
            _read_input(graph, node)
    if left:
        clean(model)


def _of_shapes(graph: ir.Graph) -> dict[ir.Node, None]:
    """The nodes that compute integers and masks of shapes and constants alone, or repeat constants, in order."""
    found: dict[ir.Node, None] = {}
    for node in graph:
        makers = [v.producer() for v in node.inputs if v is not None and array_of(v) is None]
        of_shapes = node.op_type in ("Shape", "Size") or (
            not node.attributes.get("then_branch")
            and not node.attributes.get("body")
            and not any(v is not None and v in graph.inputs for v in node.inputs)
            and all(maker in found for maker in makers)
        )
        if of_shapes and (node.op_type in FILLS or not any(is_float(v) for v in node.outputs)):
            found[node] = None
    return found


def _is_open(value: ir.Value) -> bool:
    """A size other than the batch is not known."""
    shape = value.shape
    return shape is None or any(not isinstance(size, int) for size in shape[1:])


def _runs(model: ir.Model, computed: Mapping[ir.Node, None]) -> tuple[Run, Run] | None:
    """{value: array} of two batches, of all that is open or computed of shapes; None: there is no telling."""
    if any(node.op_type in UNKNOWN_SIZES for node in model.graph):
        return None
    plain = copy(model)
    for node in list(plain.graph):
        if is_marker(node):
            node.domain, node.op_type = "", "Identity"
            node.attributes.clear()
            node.resize_inputs(1)
    wanted = [str(v.name) for node in computed for v in node.outputs]
    wanted += [str(v.name) for node in model.graph for v in node.outputs if _is_open(v) and node not in computed]
    feeds = [zeros_for(model.graph, batch) for batch in BATCHES]
    found = [run_graph(plain, list(given.values()), wanted) if given is not None else None for given in feeds]
    return None if found[0] is None or found[1] is None else (found[0], found[1])


def _note_shapes(graph: ir.Graph, first: Run, second: Run) -> None:
    batch = graph.inputs[0].shape[0] if graph.inputs[0].shape is not None else None
    for value in (v for node in graph for v in node.outputs):
        a, b = first.get(str(value.name)), second.get(str(value.name))
        if a is None or b is None or not _is_open(value) or a.ndim != b.ndim:
            continue
        value.shape = ir.Shape([_size(i, j, batch) for i, j in zip(a.shape, b.shape, strict=True)])


def _size(first: int, second: int, batch: object) -> int | ir.SymbolicDim | None:
    if first == second:
        return first
    return batch if (first, second) == BATCHES and isinstance(batch, ir.SymbolicDim) else None


def _to_constants(graph: ir.Graph, computed: Mapping[ir.Node, None], first: Run, second: Run) -> None:
    """What is always the same becomes a constant, and so does the shape of a Reshape but for one size."""
    for value in (v for node in computed for v in node.outputs):
        a, b = first[str(value.name)], second[str(value.name)]
        if a.shape != b.shape:
            continue
        same = a == b
        if same.all():
            readers = [(use.node, use.idx) for use in value.uses()]
            always = constant(graph, f"{value.name}.always", a) if readers and not value.is_graph_output() else None
        elif a.ndim == 1 and (~same).sum() == 1:
            readers = [(use.node, use.idx) for use in value.uses() if use.node.op_type == "Reshape" and use.idx == 1]
            plain = readers and a.all() and (a[same] != -1).all()
            always = constant(graph, f"{value.name}.sizes", np.where(same, a, -1)) if plain else None
            if readers and not plain:
                _sizes_of_results(graph, [reader for reader, _ in readers])
        else:
            continue
        for reader, index in readers if always is not None else ():
            reader.replace_input_with(index, always)


def _sizes_of_results(graph: ir.Graph, reshapes: Iterable[ir.Node]) -> None:
    """Reshape(x, [N, -1, 8])  =>  Reshape(x, [-1, 6, 8]), where all sizes of the result but the batch are known."""
    for node in reshapes:
        shape = node.outputs[0].shape
        sizes = [size if isinstance(size, int) else -1 for size in shape or ()]
        if sizes.count(-1) == 1 and 0 not in sizes:
            node.replace_input_with(1, constant(graph, f"{node.outputs[0].name}.sizes", np.array(sizes)))


def _read_input(graph: ir.Graph, node: ir.Node) -> None:
    """Shape(x)  =>  Concat(Shape(input)[0:1], 6, 16): no tensor is read for its shape alone."""
    x, given = node.inputs[0], graph.inputs[0]
    if x is None or x is given or x.shape is None or given.shape is None:
        return
    start, end = (node.attributes[name].as_int() if name in node.attributes else None for name in ("start", "end"))
    sizes, batch = list(x.shape)[start:end], given.shape[0]
    if not isinstance(batch, ir.SymbolicDim) or not all(isinstance(size, int) or size == batch for size in sizes):
        return
    name, parts, made = str(node.outputs[0].name), list[ir.Value](), list[ir.Node]()
    for index, size in enumerate(sizes):
        if isinstance(size, int):
            parts.append(constant(graph, f"{name}.{index}", np.array([size])))
        else:
            made.append(make("Shape", [given], f"{name}.batch", shape=[1], start=0, end=1))
            parts.append(made[-1].outputs[0])
    if len(parts) > 1:
        made.append(make("Concat", parts, f"{name}.sizes", shape=[len(parts)], axis=0))
    for step in made:
        step.name, step.outputs[0].type = f"{node.name}.{step.op_type}", ir.TensorType(ir.DataType.INT64)
        FLOAT.write(step, SHAPES)
    graph.insert_before(node, made)
    replace(node.outputs[0], made[-1].outputs[0] if made else parts[0])


PASS = Pass("known_shapes", stateless(know_shapes), Keeps.VALUES)
