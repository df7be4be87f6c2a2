#!/usr/bin/env bash
# onnx-ir 1.1.0, onnx 1.23.2: ClearMetadataAndDocStringPass empties metadata and doc strings of nodes, and leaves those of
# values: what torch's exporter notes on inputs, outputs and inner tensors stays in the file as value metadata.
# Expected: a pass of that name clears the metadata of everything in the model.
# Seen: node metadata {} and doc string None; input, inner tensor and output keep theirs.
# The script fails if that changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check onnx-ir==1.1.0 onnx==1.23.2
"$work/env/bin/python" - <<'PYTHON'
import onnx_ir as ir
import onnx_ir.passes.common as passes

x = ir.val("x", dtype=ir.DataType.FLOAT, shape=[1])
relu = ir.node("Relu", [x], outputs=[ir.val("h", dtype=ir.DataType.FLOAT, shape=[1])], name="relu")
neg = ir.node("Neg", [relu.outputs[0]], outputs=[ir.val("y", dtype=ir.DataType.FLOAT, shape=[1])], name="neg")
graph = ir.Graph([x], neg.outputs, nodes=[relu, neg], opset_imports={"": 20}, name="g")
model = ir.Model(graph, ir_version=10)
subjects = {"node": relu, "input": x, "inner tensor": relu.outputs[0], "output": neg.outputs[0]}
for subject in subjects.values():
    subject.metadata_props["note"] = "of the exporter"
    subject.doc_string = "text"
passes.ClearMetadataAndDocStringPass()(model)
seen = {what: (dict(subject.metadata_props), subject.doc_string) for what, subject in subjects.items()}
for what, found in seen.items():
    print(what, found)
assert seen["node"][0] == {}
for what in ("input", "inner tensor", "output"):
    assert seen[what][0] == {"note": "of the exporter"}, f"{what} changed: {seen[what]}"
print("as described: values keep their metadata")
PYTHON
