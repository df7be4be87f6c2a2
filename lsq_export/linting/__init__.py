"""The linter: what of an ONNX file a deployment target cannot read, or computes otherwise."""
