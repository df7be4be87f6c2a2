"""The exported files in ONNX Runtime, held against every promise."""
